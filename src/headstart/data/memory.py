"""Memory for decoding: how much there is, and a gate that keeps what is decoded at once below it.

Nothing here imports torch: the processes that decode import this module.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Condition

from headstart.data.rasters import BadImageError
from headstart.errors import InputError

AT_ONCE = 2 * 2**30
"""Most bytes for images that are decoded at the same time; a larger image is decoded alone."""

_WORTH_IT = 64 << 20
"""Bytes from which on freed memory is given back."""

VARIABLE = "HEADSTART_DECODE_MEMORY_GB"
"""Environment variable that replaces `AT_ONCE`, and that no image may exceed."""


class MemoryGate:
    """Lets threads in as long as the bytes that they need fit together, in the order they came.

    A thread that needs more than all of it waits until nobody is inside, and goes in alone.

    Attributes:
        size: Bytes for all threads inside.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = Condition()

    @contextmanager
    def holding(self, needed: int) -> Iterator[None]:
        """Waits until `needed` bytes are free, and holds them.

        Args:
            needed: Bytes; more than `size` means alone.
        """
        held = min(needed, self.size)
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(
                    lambda: self._waiting[0] is ticket and self._held + held <= self.size
                )
                self._held += held
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held -= held
                self._changed.notify_all()


@cache
def decoding_gate() -> MemoryGate:
    """Returns the gate of this process for the decoding of images.

    Raises:
        InputError: If the environment variable is not a number.
    """
    return MemoryGate(_chosen() or min(AT_ONCE, max(1, free_memory() // 2)))


def check_memory(needed: int) -> None:
    """Refuses an image that takes more memory than there is even for one alone.

    Args:
        needed: Bytes that decoding it takes.

    Raises:
        BadImageError: If there is less.
        InputError: If the environment variable is not a number.
    """
    if needed <= decoding_gate().size or needed <= (most := most_for_an_image()):
        return
    raise BadImageError(
        "no_memory",
        f"decoding it takes about {_gigabytes(needed)} of memory and may take "
        f"{_gigabytes(most)}: set {VARIABLE} to more if the machine has it, or make the image "
        "smaller",
    )


def no_memory(needed: int) -> BadImageError:
    """Returns the error of an image for which the memory did not suffice.

    Args:
        needed: Bytes that decoding it takes.
    """
    about = f", which takes about {_gigabytes(needed)}" if needed else ""
    return BadImageError(
        "no_memory",
        f"there is not enough memory to decode it{about}: close other programs, or make the image "
        "smaller",
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2g} GB"


def give_back(freed: int) -> None:
    """Gives freed memory back to the system: glibc keeps it for the thread that had it.

    Args:
        freed: Bytes; few are not worth the call.
    """
    trim = _trim()
    if freed > _WORTH_IT and trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """Returns `malloc_trim` of the C library, if it has one."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


def most_for_an_image() -> int:
    """Returns the bytes that the decoding of one image may take.

    Raises:
        InputError: If the environment variable is not a number.
    """
    return _chosen() or free_memory()


def _chosen() -> int | None:
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    try:
        chosen = int(float(given) * 1e9)
    except (ValueError, OverflowError):
        chosen = 0
    if chosen < 1:
        raise InputError(f"{VARIABLE} is {given!r}. Set it to a number of gigabytes above 0.")
    return chosen


def free_memory() -> int:
    """Returns the bytes that this process may still take: of the machine, and of its groups."""
    return min([available_memory(), *left_in_groups()])


def available_memory(stated: Path = Path("/proc/meminfo")) -> int:
    """Returns the bytes that the machine can give without swapping.

    Linux states them in a file. psutil, which reads it, too, takes longer to import than an image
    to classify.
    """
    with suppress(OSError):
        for line in stated.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return 1024 * int(value.split()[0])
    import psutil  # noqa: PLC0415 - slow

    available: int = psutil.virtual_memory().available
    return available


def left_in_groups(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """Returns the memory that the control groups of this process have left, in bytes.

    Memory for cached files does not count, because the system can free it.

    Args:
        groups: File that names the groups.
        root: Folder of all groups.
    """
    found = []
    with suppress(OSError):
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in {"", "memory"}:
                continue
            # In a container the path may be that outside of it, and its own group is the root.
            folder = root / controllers / path.lstrip("/")
            for group in (folder, *folder.parents):
                if (left := _left_in(group)) is not None:
                    found.append(left)
                if group == root:
                    break
    return found


def _left_in(group: Path) -> int | None:
    for limit, usage, prefix in (
        ("memory.max", "memory.current", ""),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        if not (group / limit).exists() or (allowed := (group / limit).read_text()) == "max\n":
            continue
        used = int((group / usage).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
        counts = {name: int(count) for name, count in map(str.split, lines)}
        files = counts[f"{prefix}active_file"] + counts[f"{prefix}inactive_file"]
        return max(0, int(allowed) - used + files)
    return None
