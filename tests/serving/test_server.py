"""The command: it listens, says where, and ends in order when it is told to."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from headstart.inference.run import Run


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end(head_run: "Run", ending: int) -> None:
    command = [sys.executable, "-m", "headstart", "serve", str(head_run.folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found is not None, said
        with urllib.request.urlopen(f"{found[0]}/healthz") as answer:
            assert answer.status == 200
        process.send_signal(ending)
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["before it starts", "while it starts"])
def test_who_is_told_to_end_before_it_serves_ends(
    ending: int, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as by a supervisor that stops it at once; the signal was lost between two handlers."""
    import uvicorn
    from fastapi import FastAPI

    from headstart.serving.options import ServeOptions
    from headstart.serving.server import http_server, listening, run_until_told

    @asynccontextmanager
    async def starting(_: FastAPI) -> AsyncIterator[None]:
        if moment == "while it starts":
            os.kill(os.getpid(), ending)
        yield

    options = ServeOptions(port=0)
    server = http_server(FastAPI(lifespan=starting), options)
    run = uvicorn.Server.run

    def late(*given: Any, **more: Any) -> None:
        if moment == "before it starts":
            os.kill(os.getpid(), ending)
        run(*given, **more)

    monkeypatch.setattr(uvicorn.Server, "run", late)
    watchdog = threading.Timer(20, lambda: setattr(server, "should_exit", True))
    watchdog.start()
    with listening(options) as listener:
        run_until_told(server, listener)
    assert watchdog.is_alive()
    watchdog.cancel()


def test_a_port_in_use_and_an_address_that_is_none_are_misuse(
    headstart: Callable[..., Any], head_run: "Run"
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = headstart("serve", head_run.folder, "--port", port)
    assert done.returncode == 2 and "Give another --port" in done.stderr
    done = headstart("serve", head_run.folder, "--host", "no such address")
    assert done.returncode == 2 and "--host is not an address" in done.stderr
    done = headstart("serve", head_run.folder, "--host", "256.1.1.1")
    assert done.returncode == 2 and "--host 256.1.1.1" in done.stderr


def test_what_is_no_run_is_misuse(headstart: Callable[..., Any], tmp_path: Path) -> None:
    done = headstart("serve", tmp_path)
    assert done.returncode == 2 and "not a bundle" in done.stderr


def test_an_open_service_is_warned_about(head_run: "Run") -> None:
    """With a key there is no warning."""
    command = [sys.executable, "-m", "headstart", "serve", str(head_run.folder)]
    command += ["--port", "0", "--host", "0.0.0.0"]
    for key, warned in (("", True), ("0123456789abcdef", False)):
        known = {name: value for name, value in os.environ.items() if name != "HEADSTART_API_KEY"}
        environment = {**known, "HEADSTART_API_KEY": key} if key else known
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("warning: everybody") is warned
            process.terminate()
