"""Locks between processes: of the system, or a file where the file system has none."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from platform import uname
from threading import RLock
from weakref import finalize

import psutil

from headstart.inputs.regular_files import read_text

_shares: dict[Path, "Share"] = {}

_guard = RLock()  # a finalizer may run in the thread that holds it


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


class Share:
    """A lock on a file that keeps other processes from having it alone (`try_alone`).

    It ends with `close`, or with the last object that it is kept for, or with the process.
    """

    def __init__(self, path: Path, descriptor: int, marker: Path | None) -> None:
        self.path = path
        self.marker = marker
        self.descriptor = descriptor
        self.users = 1

    def keep_for(self, owner: object) -> None:
        """Keeps the lock for as long as an object lives."""
        with _guard:
            self.users += 1
        finalize(owner, self.close)

    def close(self) -> None:
        """Ends one use; the last one ends the lock."""
        with _guard:
            self.users -= 1
            if self.users:
                return
            if _shares.get(self.path) is self:
                del _shares[self.path]
                if self.marker is not None:
                    with suppress(OSError):  # deleted with its folder
                        self.marker.unlink()
            os.close(self.descriptor)


def share(path: Path, renamed: Path | None = None) -> Share | None:
    """Locks a file that exists together with other processes.

    Where the system has no locks, a file beside it names this process. Nothing can be deleted
    where not even that can be written.

    Args:
        path: File.
        renamed: What its path will be, if its folder is about to be renamed.

    Returns:
        The lock; None if there is no such file, or another process has it alone.
    """
    place = renamed or path
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait
    except OSError:
        return None
    with _guard:
        known = _shares.get(place)
        if known is not None:
            known.users += 1  # first: a finalizer may end its last use at any moment
            if _same_file(known.descriptor, descriptor):
                os.close(descriptor)
                return known
            known.close()
        marker = None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            name = f"{path.name}.used-{this_process()}-{_started(os.getpid())}"
            with suppress(OSError):
                (path.parent / name).touch()
            marker = place.parent / name
        found = Share(place, descriptor, marker)
        _shares[place] = found
    try:
        is_there = os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        is_there = False
    if not is_there:  # another process deleted it before the lock
        found.close()
        return None
    return found


@contextmanager
def try_alone(path: Path) -> Iterator[bool]:
    """Locks a file against `share`, and yields whether no other process shares it.

    What this process itself shares does not count.
    """
    with _guard:
        own = _shares.get(path)
        if own is not None:
            own.users += 1
    if own is None or own.marker is not None:
        try:
            with try_lock(path) as free:
                yield free and not _is_shared(path)
        finally:
            if own is not None:
                own.close()
        return
    try:
        try:
            fcntl.flock(own.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield free
    finally:
        with suppress(OSError):
            fcntl.flock(own.descriptor, fcntl.LOCK_SH)
        own.close()


def _same_file(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def _is_shared(path: Path) -> bool:
    """Returns whether another living process has left its name beside a file."""
    prefix = f"{path.name}.used-"
    for marker in path.parent.glob(f"{prefix}*"):
        machine, process, started = marker.name.removeprefix(prefix).split("-")
        if machine != this_process().partition("-")[0]:
            return True  # nothing is known of it
        if int(process) != os.getpid() and _started(int(process)) == started:
            return True
    return False


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
    not_there = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}  # the last differ on macOS
    return error.errno in {*not_there, errno.EINVAL, errno.ENODEV}
