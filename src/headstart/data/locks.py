"""Locks between processes: of the system, or a file where the file system has none."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from platform import uname

import psutil

from headstart.inputs.regular_files import read_text


def this_process() -> str:
    """Returns a name of this process that is unique on all machines that share the cache."""
    return f"{hashlib.sha256(uname().node.encode()).hexdigest()[:8]}-{os.getpid()}"


def lock_file(path: Path) -> Path:
    """Returns the file that locks a path where the system cannot.

    Example:
        >>> lock_file(Path("pixels/abc.lock")).as_posix()
        'pixels/abc.lock.held'
    """
    return path / ".lock" if path.is_dir() else path.with_name(f"{path.name}.held")


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Locks a file or folder against other processes, and yields whether it was free.

    The system holds the lock and releases it when the process ends. File systems without such
    locks, as some NFS and FUSE mounts, get a file that names the process that holds the lock.

    Args:
        path: A folder, or a file that is created if it is missing.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o644)
    try:
        free = True
        has_locks = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError:
            has_locks = False
        if has_locks:
            yield free
        else:
            with _try_file(lock_file(path)) as free:
                yield free
    finally:
        os.close(descriptor)  # this releases the lock of the system


@contextmanager
def _try_file(path: Path) -> Iterator[bool]:
    """Holds a lock that is a file, and yields whether it was free."""
    if _is_left(path):
        path.unlink(missing_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        yield False
        return
    with suppress(OSError):  # an unnamed lock is never taken for that of a dead process
        os.write(descriptor, f"{this_process()}-{_started(os.getpid())}".encode())
    os.close(descriptor)
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    """Returns whether a process of this machine that has ended left a lock file."""
    try:
        machine, process, started = read_text(path).split("-")
    except (OSError, ValueError):  # missing, or being written
        return False
    here = machine == this_process().partition("-")[0]
    return here and _started(int(process)) != started


def _started(process: int) -> str:
    """Returns when a process of this machine began; empty if it has ended."""
    try:
        return str(int(psutil.Process(process).create_time()))
    except psutil.Error:
        return ""


def unsupported(error: OSError) -> bool:
    """Returns whether a file system lacks an operation.

    Example:
        >>> unsupported(OSError(errno.ENOSYS, "")), unsupported(OSError(errno.ENOSPC, ""))
        (True, False)
    """
    return error.errno in {errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV}
