"""Standard output and error of the command: lost output is an error, a lost message is not."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

from headstart.errors import OutputError


class _Output(io.FileIO):
    """Standard output, whose failures are told apart from those of files."""

    def write(self, content: Any) -> int:
        """Writes bytes.

        Raises:
            OutputError: If they cannot be written.
        """
        try:
            return super().write(content) or 0
        except OSError as error:
            raise OutputError(
                f"Cannot write to standard output: {error.strerror}.",
                closed=error.errno == errno.EPIPE,
            ) from None


class _Messages(io.FileIO):
    """Standard error: a run does not end because nobody can read its progress."""

    def write(self, content: Any) -> int:
        """Writes bytes, or drops them if they cannot be written."""
        try:
            return super().write(content) or 0
        except OSError:
            return len(content)


def open_streams() -> None:
    """Replaces `sys.stdout` and `sys.stderr` of the process; those of a caller stay.

    A closed stream is opened: the next file would get its number, and what libraries print.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:  # Nothing can be written to a file that is open for reading.
        sys.stdout = _text(_Output(os.open(os.devnull, os.O_RDONLY), "w"), "utf-8")
    elif _is(sys.stdout, 1):
        sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout.encoding)
    if sys.stderr is None:
        sys.stderr = _text(_Messages(os.open(os.devnull, os.O_WRONLY), "w"), "utf-8")
    elif _is(sys.stderr, 2):
        sys.stderr = _text(_Messages(2, "w", closefd=False), sys.stderr.encoding)


def abandon_output() -> None:
    """Drops what is left to write to standard output, which Python would try again at exit."""
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def _is(stream: Any, descriptor: int) -> bool:
    return isinstance(stream, io.TextIOWrapper) and stream.fileno() == descriptor


def _text(raw: io.FileIO, encoding: str) -> io.TextIOWrapper:
    # File names may be invalid Unicode, and must be printed anyway.
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding,
        errors="backslashreplace",
        line_buffering=raw.isatty() or isinstance(raw, _Messages),
    )
