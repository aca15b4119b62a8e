"""Runs a command and measures it: wall time, and the peak anonymous memory of its process tree."""

import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY_S = 0.2
MEMORY_NOTE = (
    "Memory is the largest sum of `Pss_Anon` (`/proc/PID/smaps_rollup`) over the process tree, "
    f"polled every {EVERY_S} s: private memory, where a page that forked workers share counts once."
)


@dataclass(frozen=True)
class Measurement:
    """What one command took.

    Attributes:
        returncode: Its exit status, negative for a signal.
        started: When it was started, in seconds since the epoch.
        wall_s: Seconds from its start to its exit.
        peak_anon_mb: Largest sum of Pss_Anon over the process tree, in 10^6 bytes.
        peak_rss_anon_mb: The same of RssAnon, which counts a page once for each forked process
            that shares it, in 10^6 bytes.
        peak_rss_mb: The same of all resident pages, those of mapped files included, in 10^6 bytes.
    """

    returncode: int
    started: float
    wall_s: float
    peak_anon_mb: float
    peak_rss_anon_mb: float
    peak_rss_mb: float = 0.0


def run_measured(command: Sequence[str], log: Path, env: Mapping[str, str]) -> Measurement:
    """Runs `command` with its output in `log` and `env` added to the environment.

    The command is stopped with all its children if this process is interrupted.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    peaks = _Peaks()
    with log.open("wb") as output:
        started, clock = time.time(), time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            start_new_session=True,
        )
        try:
            while True:
                peaks.look(process.pid)
                try:
                    process.wait(timeout=EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    pass
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        wall_s = time.monotonic() - clock
    kept = (peaks.pss, peaks.rss, peaks.resident)
    return Measurement(process.returncode, started, wall_s, *(1024 * peak / 1e6 for peak in kept))


@dataclass
class _Peaks:
    """The largest sums over a process and all that it started so far, in kilobytes."""

    pss: int = 0
    rss: int = 0
    resident: int = 0

    def look(self, pid: int) -> None:
        """Reads how much memory is used now."""
        pids = _tree(pid)
        texts = [_text(Path(f"/proc/{each}/status")) for each in pids]
        rss = sum(_kilobytes(text, "RssAnon:") for text in texts)
        self.rss = max(self.rss, rss)
        self.resident = max(self.resident, sum(_kilobytes(text, "VmRSS:") for text in texts))
        # The kernel walks all pages for it, on the processor of what is measured: 40 ms for 1.5 GB.
        if rss > self.pss:  # which is never less than it
            rollups = [_text(Path(f"/proc/{each}/smaps_rollup")) for each in pids]
            self.pss = max(self.pss, sum(_kilobytes(text, "Pss_Anon:") for text in rollups))


def _tree(pid: int) -> list[int]:
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return ""


def _kilobytes(text: str, name: str) -> int:
    lines = text.splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def machine(device: str = "no GPU used") -> str:
    """Returns one line on the hardware and system that this runs on, and the GPU used if any."""
    info = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in info if "model name" in line), "CPU")
    flags = next((line.split() for line in info if line.startswith("flags")), [])
    vector = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "no AVX")
    memory = psutil.virtual_memory().total / 1e9
    system = f"{platform.system()} {platform.machine()}"
    count = len(os.sched_getaffinity(0))
    cores = f"{count} core{'s' * (count > 1)} ({vector})"
    return f"{model}, {cores}, {memory:.0f} GB memory, {device}, {system}"


def versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    """Returns the versions of Python and of `packages` that the interpreter `python` sees."""
    code = (
        "import json, platform, sys\n"
        "from importlib.metadata import version\n"
        "found = {name: version(name) for name in sys.argv[1:]}\n"
        "print(json.dumps({'python': platform.python_version(), **found}))"
    )
    answer = subprocess.run(
        [python, "-c", code, *packages], check=True, capture_output=True, text=True
    )
    found: dict[str, str] = json.loads(answer.stdout)
    return found


def commit(source: Path = Path(__file__).parents[1] / "src") -> str:
    """Returns the short git commit of a folder, with a `+` where its files differ from it."""
    git = ["git", "-C", str(source)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "."],
            check=True,
            capture_output=True,
            text=True,
        )
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def tail(log: Path, n_lines: int = 15) -> str:
    """Returns the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-n_lines:])


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that it is there wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["-"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
