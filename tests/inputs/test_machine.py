"""Systems other than Linux: what they lack is done otherwise, or refused at once."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headstart import fit
from headstart.backbones.sessions import thread_count
from headstart.inputs.machine import available_cores
from headstart.search.executors.processes import private_memory

if TYPE_CHECKING:
    from headstart.inference.run import Run


def like_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away what the system of macOS lacks."""
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.delattr(os, "sched_getaffinity")


def test_cores_are_those_of_the_machine_where_a_process_has_none_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    like_macos(monkeypatch)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores() == thread_count() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def test_memory_is_counted_where_shared_memory_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import psutil

    class Memory:
        rss = 1000

    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: Memory())
    assert private_memory(os.getpid()) == 1000


def test_a_run_is_the_same_without_what_macos_lacks(
    head_run: "Run", pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache of its own, so that everything is decoded and reserved."""
    like_macos(monkeypatch)
    run = fit(
        pictures, strategy="head", epochs=0, settings=["backbone.resolution=64"],
        out=tmp_path / "run", cache_dir=tmp_path / "cache", progress=False,
    )  # fmt: skip
    name = "predictions.csv"
    assert (run.folder / name).read_bytes() == (head_run.folder / name).read_bytes()


WINDOWS = """
import sys
sys.platform = "win32"
sys.modules["fcntl"] = None
import headstart
"""


def test_windows_is_refused_at_the_start_of_the_command() -> None:
    code = WINDOWS + "from headstart.__main__ import main; main()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: headstart runs on Linux and macOS")
    assert "wsl --install" in done.stderr and done.stderr.count("\n") == 1


def test_windows_is_refused_at_the_first_use_of_the_library() -> None:
    code = (
        WINDOWS
        + """
try:
    headstart.fit
except headstart.InputError as error:
    print(error)
"""
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Install it in WSL" in done.stdout
