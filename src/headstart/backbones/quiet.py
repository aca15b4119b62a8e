"""Standard output kept free of what other libraries print. Nothing here imports torch."""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

_PRINTING = threading.Lock()


@contextmanager
def off_standard_output() -> Iterator[None]:
    """Keeps what is printed in the block off standard output, which belongs to the caller.

    The TorchScript exporter writes the whole graph to file descriptor 1 if it fails, thousands of
    lines that are of no use. What Python prints goes to standard error.
    """
    c_library = ctypes.CDLL(None)
    with _PRINTING:
        with suppress(Exception):  # whoever prints next meets the error again
            sys.stdout.flush()
        try:
            kept = os.dup(1)
        except OSError:  # it is closed
            yield
            return
        c_library.fflush(None)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        try:
            with redirect_stdout(sys.stderr):
                yield
        finally:
            c_library.fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
