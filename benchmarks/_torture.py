"""What `torture.py` stands on: commands in forked children, small disks, and pictures."""

import importlib
import io
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

MARK = "HEADSTART_TORTURE"
MOUNTS = "HEADSTART_TORTURE_MOUNTS"
CLASSES = ("checks", "rings", "stripes")


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is negative after a signal and None if it hung."""

    code: int | None
    out: str
    err: str
    seconds: float

    def problems(self, *allowed: int) -> list[str]:
        """What is wrong with it, apart from its exit code if that is one of `allowed`."""
        if self.code is None:
            return [f"hung for {self.seconds:.0f} s"]
        found = []
        if "Traceback (most recent" in self.err:
            found.append("traceback: " + self.err.strip().splitlines()[-1])
        if self.code not in allowed:
            last = (self.err.strip().splitlines() or [""])[-1]
            found.append(f"exit code {self.code}: {last}")
        return found


IMPORTED = (
    "matplotlib.figure",
    "onnxruntime",
    "optuna",
    "sklearn.linear_model",
    "sklearn.manifold",
    "timm",
    "torchvision",
    "headstart.api.benefit",
    "headstart.api.check",
    "headstart.api.compare",
    "headstart.api.fit",
    "headstart.api.resume",
    "headstart.cli.main",
)
"""Modules that every command imports."""


def preload() -> None:
    """Imports once what every command imports; the children are forks and save it."""
    for name in IMPORTED:
        importlib.import_module(name)


class Command:
    """A command of headstart in a process group of its own.

    Args:
        arguments: Command line after `headstart`.
        environment: Variables that are set.
        largest: Bytes that a file may have; writing more fails.
    """

    def __init__(
        self, arguments: list[str], environment: dict[str, str], largest: int | None = None
    ) -> None:
        self.arguments = arguments
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(environment, largest)

    def _become(self, environment: dict[str, str], largest: int | None) -> None:
        code = 70
        try:
            os.setsid()
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # A shell in the background leaves SIGINT ignored.
                handler = signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL
                signal.signal(name, handler)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(self._out.fileno(), 1)
            os.dup2(self._err.fileno(), 2)
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8")
            sys.stderr = io.TextIOWrapper(
                io.FileIO(2, "w", closefd=False), "utf-8", write_through=True
            )
            os.environ.update(environment)
            tempfile.tempdir = None
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
            sys.argv = ["headstart", *self.arguments]
            from headstart.cli.main import main

            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            code = 1
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def running(self) -> bool:
        """Whether it has not ended; it stays to be waited for."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is None

    def kill(self, name: signal.Signals) -> None:
        """Sends a signal to the command itself."""
        os.kill(self.pid, name)

    def ended(self, timeout: float) -> Ended:
        """Waits for its end; what hangs is killed with all its processes."""
        deadline = time.monotonic() + timeout
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.02)
        hung = self.running()
        if hung:
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        text = []
        for file in (self._out, self._err):
            file.seek(0)
            text.append(file.read().decode(errors="replace"))
            file.close()
        code = None if hung else os.waitstatus_to_exitcode(status)
        return Ended(code, text[0], text[1], time.monotonic() - self._began)


def strays(mark: str, patience: float = 15) -> list[psutil.Process]:
    """Processes of ended commands that are still there after a while."""
    deadline = time.monotonic() + patience
    while True:
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(MARK) == mark and process.pid != os.getpid()
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def begin(root: Path) -> None:
    """Restarts this program where all that it starts is marked, and mounts go with its end.

    Args:
        root: Folder of everything, and the mark.
    """
    options = "-m" if os.geteuid() == 0 else "-rm"
    probe = ["unshare", options, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]
    try:
        may = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except OSError:
        may = False
    os.environ[MARK], os.environ[MOUNTS] = str(root), "yes" if may else ""
    program = [sys.executable, *sys.argv]
    os.execvp(*(("unshare", ["unshare", options, *program]) if may else (program[0], program)))


def small_disk(place: Path, size: int, files: int = 100_000) -> None:
    """Mounts a disk of a size, or gives another size to one that is there."""
    place.mkdir(parents=True, exist_ok=True)
    options = f"size={max(4096, size)},nr_inodes={files}"
    again = ["-o", "remount," + options] if place.is_mount() else ["-t", "tmpfs", "-o", options]
    subprocess.run(["mount", *again, "tmpfs", str(place)], check=True)


def read_only(place: Path) -> None:
    """Mounts a folder over itself, so that nothing can be written to it."""
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)


def unmount(place: Path) -> None:
    subprocess.run(["umount", "-l", str(place)], check=False)


def picture(kind: str, seed: int, side: int = 64) -> Image.Image:
    """A noisy pattern whose class is easy to see."""
    rng = np.random.default_rng([CLASSES.index(kind), seed])
    y, x = np.mgrid[:side, :side] / rng.uniform(1, 2)
    wave = {
        "checks": np.sin(x) * np.sin(y),
        "rings": np.sin(np.hypot(x - rng.uniform(10, 30), y - rng.uniform(10, 30))),
        "stripes": np.sin(y),
    }[kind]
    values = 120 + wave[..., None] * rng.uniform(50, 90, 3) + rng.normal(0, 20, (side, side, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path, each: int) -> Path:
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for seed in range(each):
            picture(kind, seed).save(folder / kind / f"good_{seed:03}.png")
    return folder


FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "TIFF float", "PNG 16")


def encoded(image: Image.Image, name: str) -> tuple[bytes, str]:
    stream = io.BytesIO()
    if name == "TIFF float":
        Image.fromarray(np.asarray(image.convert("L"), np.float32) / 3).save(stream, "TIFF")
    elif name == "PNG 16":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(stream, "PNG")
    else:
        image.save(stream, name)
    return stream.getvalue(), "." + name.split(maxsplit=1)[0].lower()


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Damages a file as disks, transfers and strangers do."""
    changed = bytearray(data)
    place = dice.randrange(len(changed))
    match dice.randrange(6):
        case 0:
            for _ in range(dice.randint(1, 20)):
                changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        case 1:
            del changed[place:]
        case 2:
            changed[place : place + 512] = bytes(min(512, len(changed) - place))
        case 3:
            changed[place:place] = changed[: dice.randint(1, 256)]
        case 4:  # a length or a size in a header
            spot = dice.randrange(min(64, len(changed)))
            changed[spot : spot + 4] = dice.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)])
        case _:
            changed = bytearray(dice.randbytes(dice.randint(0, 300)))
    return bytes(changed)
