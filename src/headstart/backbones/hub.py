"""The Hugging Face cache and hub: which weights lie here whole, and how others are fetched.

Nothing heavy is imported here, because `fetch` runs this module in a process of its own.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, get_session
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from safetensors import SafetensorError, safe_open

from headstart.errors import BackboneError
from headstart.text import shortened

SAFE_FILES = ("model.safetensors",)
HUB_FILES = (*SAFE_FILES, "pytorch_model.bin")
HUB_TIMEOUT_S = 5.0

NOT_REACHED = "the Hugging Face hub cannot be reached"


class UnavailableError(BackboneError):
    """Weights are not on this machine and cannot be fetched; the message is a clause only."""


def cached_file(hub_id: str, files: Sequence[str] = HUB_FILES) -> Path | None:
    """Returns the weights file of a repository in the local Hugging Face cache, or None."""
    repository, _, revision = hub_id.partition("@")
    for file in files:
        try:
            path = huggingface_hub.try_to_load_from_cache(
                repository, file, revision=revision or None
            )
        except HFValidationError:  # a folder of the cache that is no repository
            return None
        if isinstance(path, str):
            return Path(path)
    return None


def cached_repositories() -> list[str]:
    """Returns the ids of timm repositories with weights in the local Hugging Face cache."""
    return [hub_id for hub_id in _known_to_cache() if cached_file(hub_id) is not None]


def unfinished_repositories() -> list[str]:
    """Returns the ids of timm repositories of which the local cache holds no weights file."""
    return [hub_id for hub_id in _known_to_cache() if cached_file(hub_id) is None]


def damage(file: Path) -> str:
    """Returns what is wrong with a safetensors file, as a clause; empty if it is whole.

    Only its header is read: a file that is too short or too long for it is damaged.
    """
    try:
        with safe_open(file, framework="numpy") as tensors:
            return "" if tensors.keys() else "its file holds no tensors"
    except (SafetensorError, OSError) as error:
        return f"its file is damaged ({shortened(error)})"


def why_out_of_reach() -> str:
    """Returns why the hub cannot be asked, as a clause; empty if it answers."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        # A download that fails is tried again for most of a minute.
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception:  # the HTTP library depends on the version of huggingface_hub
        return NOT_REACHED
    return ""


def hub_file(hub_id: str, files: Sequence[str] = HUB_FILES) -> Path:
    """Returns the weights file of a repository, from the local cache or the Hugging Face hub.

    Args:
        hub_id: Repository, with `@` and a revision if it is not the newest.
        files: Names of the file, the best first.

    Raises:
        UnavailableError: If it is not in the cache, and the hub is unreachable or does not have it.
    """
    cached = cached_file(hub_id, files)
    if cached is not None:
        return cached
    if reason := why_out_of_reach():
        raise UnavailableError(reason)
    repository, _, revision = hub_id.partition("@")
    for file in files:
        try:
            path = huggingface_hub.hf_hub_download(repository, file, revision=revision or None)
        except LocalEntryNotFoundError as error:
            raise UnavailableError(NOT_REACHED) from error
        except EntryNotFoundError:
            continue
        except OSError as error:  # includes every HTTP error of huggingface_hub
            raise UnavailableError(
                f"the Hugging Face hub refuses access to {repository}"
            ) from error
        return Path(path)
    raise UnavailableError(f"{repository} on the Hugging Face hub has no weights for PyTorch")


def fetch(hub_id: str, seconds: float | None = None) -> None:
    """Downloads the safetensors file of a repository into the local Hugging Face cache.

    A process of its own does it, because a download cannot be stopped otherwise. What has arrived
    by then stays in the cache, and the next download continues there.

    Args:
        hub_id: Repository.
        seconds: Time after which it is given up; None for no limit.

    Raises:
        UnavailableError: If the file did not arrive.
    """
    command = [sys.executable, "-m", "headstart.backbones.hub", hub_id]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"it did not arrive within {seconds:.0f} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise UnavailableError(shortened(lines[-1] if lines else "its download ended early", 200))


def _known_to_cache() -> list[str]:
    folders = sorted(Path(constants.HF_HUB_CACHE).glob("models--timm--*"))
    return [folder.name.removeprefix("models--").replace("--", "/", 1) for folder in folders]


if __name__ == "__main__":
    try:
        hub_file(sys.argv[1], SAFE_FILES)
    except UnavailableError as unavailable:
        sys.exit(str(unavailable))
