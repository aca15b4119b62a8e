"""The hub is a stand-in on this machine."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from headstart.backbones.hub import (
    NOT_REACHED,
    UnavailableError,
    cached_file,
    damage,
    fetch,
    why_out_of_reach,
)

REPOSITORY = "timm/mobilenetv3_small_050.lamb_in1k"
CONTENT = save({"a": torch.arange(1000.0)})


def test_a_file_is_fetched_into_the_cache(serve_hub: Callable[..., Any]) -> None:
    server = serve_hub({REPOSITORY: CONTENT})
    assert why_out_of_reach() == ""
    assert cached_file(REPOSITORY) is None
    fetch(REPOSITORY)
    file = cached_file(REPOSITORY)
    assert file is not None
    assert file.read_bytes() == CONTENT
    assert damage(file) == ""
    path = f"/{REPOSITORY}/resolve/main/model.safetensors"
    assert set(server.asked) == {"HEAD /", f"HEAD {path}", f"GET {path}"}


def test_what_the_hub_lacks_or_what_does_not_arrive_is_told(serve_hub: Callable[..., Any]) -> None:
    serve_hub({REPOSITORY: CONTENT})
    with pytest.raises(UnavailableError, match=r"timm/none on the .* hub has no weights"):
        fetch("timm/none")
    serve_hub({REPOSITORY: CONTENT}, stalls=True)
    with pytest.raises(UnavailableError, match="it did not arrive within 3 s"):
        fetch(REPOSITORY, 3.0)
    assert cached_file(REPOSITORY) is None


def test_without_a_hub_nothing_is_waited_for(
    serve_hub: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve_hub({REPOSITORY: CONTENT})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert why_out_of_reach() == "HF_HUB_OFFLINE is set"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        assert why_out_of_reach() == NOT_REACHED
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(UnavailableError, match=NOT_REACHED):
            fetch(REPOSITORY)
    assert server.asked == []
