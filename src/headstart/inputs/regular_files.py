"""Opening paths that users give: regular files, and nothing that waits or never ends.

Reading a named pipe, a socket or a device waits for a writer, or returns bytes for ever. So each
path from outside is opened here, and a path that is something else is an `OSError`.
"""

import errno
import io
import os
import stat
from pathlib import Path
from typing import TextIO

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: Path) -> None:
    """Checks that a path is a regular file, without opening it.

    Raises:
        OSError: If it is missing or something else; `strerror` says what.
    """
    try:
        status = path.stat()  # before any opening: opening a device can act on it
    except ValueError:
        raise OSError(errno.EINVAL, "the name holds a NUL character", str(path)) from None
    _check(status.st_mode, path)


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file to read its bytes.

    Raises:
        OSError: As `check_regular`, or if it cannot be opened.
    """
    check_regular(path)
    # Whatever has replaced it since is not waited for. Readers ask the file for its name.
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - Path has no opener
    try:
        _check(os.fstat(file.fileno()).st_mode, path)
    except OSError:
        file.close()
        raise
    return file


def open_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> TextIO:
    """Opens a regular file to read its text with the line ends that it has, as `csv` needs it.

    Raises:
        OSError: As `open_regular`.
    """
    return io.TextIOWrapper(open_regular(path), encoding, errors, newline="")


def read_bytes(path: Path) -> bytes:
    """Returns the bytes of a regular file.

    Raises:
        OSError: As `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Returns the text of a regular file; each of its line ends becomes a newline.

    Raises:
        OSError: As `open_regular`.
        UnicodeDecodeError: If it is not text in this encoding.
    """
    with io.TextIOWrapper(open_regular(path), encoding) as file:
        return file.read()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _check(mode: int, path: Path) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(code, f"it is {kind}, not a regular file", str(path))
