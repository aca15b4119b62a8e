"""No dependency keeps an identity of the machine or reports on its use.

Where the system allows it, commands run in a network namespace without any network. The kernel
counts each packet that leaves and each address that something wanted to reach, whatever the
language of the library.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
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


@pytest.fixture(scope="module", autouse=True)
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Watched | None"]:
    """A process that does nothing for half a minute, while the other tests of this file run."""
    if not can_count():
        yield None
        return
    watched = watch(tmp_path_factory.mktemp("idle") / "ours", IDLE, 35)
    yield watched
    if watched.process.poll() is None:
        os.killpg(watched.process.pid, signal.SIGKILL)
        watched.process.communicate()


@pytest.mark.parametrize(
    "modules",
    ["headstart.inference.predict", "headstart.backbones.onnx, headstart.api.fit"],
)
def test_a_home_folder_stays_empty(modules: str, tmp_path: Path) -> None:
    run(f"import {modules}", tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_every_switch_is_off_and_the_user_has_the_last_word(tmp_path: Path) -> None:
    show = f"import headstart, os; print(*(os.environ[name] for name in {SWITCHES}))"
    assert run(show, tmp_path) == "1 0 1"
    assert run(show, tmp_path, RAY_USAGE_STATS_ENABLED="1") == "1 1 1"


def test_threads_that_wait_soon_sleep_unless_the_user_says_how_they_wait(tmp_path: Path) -> None:
    show = "import headstart, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    kept = {name: os.environ.pop(name, None) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    try:
        assert run(show, tmp_path) == "3000"
        assert run(show, tmp_path, GOMP_SPINCOUNT="7") == "7"
        assert run(show, tmp_path, OMP_WAIT_POLICY="active") == "None"
    finally:
        os.environ.update({name: value for name, value in kept.items() if value is not None})


COMMANDS = """
import sys
from headstart.cli.main import main
images, run = sys.argv[1:]
image = f"{images}/checks/000.png"
small = ["--set", "backbone.name=test_efficientnet", "--set", "backbone.weights=random"]
for command in (
    ["check", images],
    ["fit", images, "--epochs", "1", "--seed", "1", "--out", run, *small],
    ["predict", run, image, "--json"],
    ["embed", run, image, "--out", f"{run}.csv"],
    ["similar", run, image],
    ["report", run],
    ["diff", run, run],
    ["suspects", run, "--out", f"{run}-suspects.csv"],
    ["show", images, "--out", f"{run}-pictures", *small],
    ["backbones", "efficientnet", "--download"],
    ["methods"],
):
    sys.argv = ["headstart", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{command} ended with {end.code}")
"""

IDLE = """
import sys, time
import headstart.backbones.onnx
time.sleep(float(sys.argv[1]))
"""


@dataclass(frozen=True)
class Seen:
    """What a program left behind: files in its home folder, and attempts to reach the network."""

    files: tuple[str, ...]
    attempts: int | None


@dataclass(frozen=True)
class Watched:
    """A program that runs in a home folder of its own."""

    home: Path
    counted: bool
    process: subprocess.Popen[str]

    def seen(self) -> Seen:
        """Waits for its end; `attempts` is None where they cannot be counted."""
        out, errors = self.process.communicate()
        assert self.process.returncode == 0, errors
        found = (path for path in self.home.rglob("*") if path.is_file())
        files = sorted(str(path.relative_to(self.home)) for path in found)
        return Seen(tuple(files), attempts(out) if self.counted else None)


def watch(home: Path, code: str, *arguments: object) -> Watched:
    """Starts a program in an empty home folder."""
    home.mkdir()
    dropped = ("XDG_", "MPL", "HEADSTART_", "TORCH_HOME", "HF_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in SWITCHES and not name.startswith(dropped)
    }
    command = [sys.executable, "-c", code, *map(str, arguments)]
    counted = can_count()
    if counted:
        counters = "cat /proc/net/snmp /proc/net/snmp6 >&3"
        shell = f'"$@" >/dev/null; code=$?; {counters}; exit $code'
        command = ["unshare", "-rn", "sh", "-c", f"exec 3>&1; {shell}", "sh", *command]
    process = subprocess.Popen(
        command, env={**kept, "HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    return Watched(home, counted, process)


def attempts(counters: str) -> int:
    """Packets that left, and addresses that were not reached, of IPv4 and IPv6."""
    lines = [line.split() for line in counters.splitlines()]
    names, values = (line for line in lines if line[0] == "Ip:")
    ip4 = dict(zip(names, values, strict=True))
    ip6 = {line[0]: line[1] for line in lines if len(line) == 2}
    found = [ip4["OutRequests"], ip4["OutNoRoutes"]]
    return sum(map(int, [*found, ip6["Ip6OutRequests"], ip6["Ip6OutNoRoutes"]]))


@cache
def can_count() -> bool:
    return shutil.which("unshare") is not None and (
        subprocess.run(
            ["unshare", "-rn", "cat", "/proc/net/snmp", "/proc/net/snmp6"],
            capture_output=True, check=False,
        ).returncode == 0
    )  # fmt: skip


CALLS = {
    "a name": "import socket\ntry: socket.getaddrinfo('example.org', 80)\nexcept OSError: pass",
    "an address": "import socket\nsocket.socket().connect_ex(('192.0.2.1', 80))",
    "a datagram": (
        "import socket\ntry: socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))\n"
        "except OSError: pass"
    ),
}


@pytest.mark.skipif(not can_count(), reason="the system allows no network namespace")
@pytest.mark.parametrize("call", CALLS)
def test_attempts_are_seen(call: str, tmp_path: Path) -> None:
    seen = watch(tmp_path / "home", CALLS[call]).seen()
    assert seen.attempts is not None and seen.attempts > 0
    assert watch(tmp_path / "other", "import socket").seen().attempts == 0


@pytest.mark.slow
def test_commands_leave_no_file_but_ours_and_reach_for_nothing(
    pictures: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    seen = watch(home, COMMANDS, pictures, tmp_path / "run").seen()
    assert (tmp_path / "run" / "report.html").exists()
    # Matplotlib keeps the list of the fonts of this machine, as for every program that draws.
    known = (".cache/headstart/", ".cache/matplotlib/fontlist-")
    assert [name for name in seen.files if not name.startswith(known)] == []
    assert any(name.startswith(".cache/headstart/pixels/") for name in seen.files)
    assert seen.attempts in {0, None}


@pytest.mark.slow
@pytest.mark.skipif(not can_count(), reason="the system allows no network namespace")
def test_a_process_that_is_idle_for_half_a_minute_reaches_for_nothing(idle: Watched) -> None:
    assert idle.seen() == Seen((), 0)
