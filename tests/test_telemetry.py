"""No dependency keeps an identity of the machine or reports on its use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SWITCHES = ("ORT_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED", "HF_HUB_DISABLE_TELEMETRY")


def run(code: str, home: Path, **more: str) -> str:
    """Runs Python in a home folder of its own, without what this process has set."""
    kept = {k: v for k, v in os.environ.items() if k not in SWITCHES and not k.startswith("XDG_")}
    environment = {**kept, "HOME": str(home), **more}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", ["headstart.backbones.onnx", "headstart.inference.predict", "headstart.api.fit"]
)
def test_a_home_folder_stays_empty(module: str, tmp_path: Path) -> None:
    run(f"import {module}", tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_every_switch_is_off_and_the_user_has_the_last_word(tmp_path: Path) -> None:
    show = f"import headstart, os; print(*(os.environ[name] for name in {SWITCHES}))"
    assert run(show, tmp_path) == "1 0 1"
    assert run(show, tmp_path, RAY_USAGE_STATS_ENABLED="1") == "1 1 1"
