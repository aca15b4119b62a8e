"""The service does what its OpenAPI description says: schemathesis finds nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOOKS = Path(__file__).parent / "schemathesis_hooks.py"
KEY = "a-key-of-24-characters-x"


@pytest.mark.slow
@pytest.mark.parametrize(("run", "key"), [("head_run", None), ("labels_run", KEY)])
def test_schemathesis_finds_nothing(
    start: Callable[..., Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    run: str,
    key: str | None,
) -> None:
    """With all of its checks, on requests that keep to the description and others."""
    service = start(request.getfixturevalue(run).folder, key, max_images=3, max_megabytes=0.5)
    sent = {"Authorization": f"Bearer {key}"} if key else {}
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", "--no-color", "--max-examples", "8"),
        *("--generation-deterministic", "--continue-on-failure"),
        *(part for name, value in sent.items() for part in ("-H", f"{name}: {value}")),
        f"http://127.0.0.1:{service.port}/openapi.json",
    ]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counted = service.ask("/metrics", headers=sent).body.decode()
    for path in ("/v1/predict", "/v1/explain"):
        for status in (200, 405, 415):
            assert f'requests_total{{path="{path}",status="{status}"}}' in counted
    refused = 'requests_total{path="/v1/model",status="401"}'
    assert (refused in counted) == (key is not None)
