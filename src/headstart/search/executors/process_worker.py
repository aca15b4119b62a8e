"""A process that runs pickled jobs and returns pickled outcomes until its driver ends.

Only this library's own processes talk through the pipe, which nobody else can open.
"""

import mmap
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from headstart.search.executors.outcome import attempt, use_threads

Work = tuple[Callable[[Any, Any], Any], Any]

_LOOK_S = 0.2


def main() -> None:
    """Answers every job with an `Outcome`, or with an error that is a bug.

    Its arguments are four numbers: the descriptors of the pipe and of the file that holds the work
    and what it shares, the threads to compute in, and the id of the driver's process.
    """
    pipe, file, threads, driver = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The driver decides what Ctrl-C means.
    Thread(target=_end_with, args=(driver,), daemon=True).start()
    with suppress(OSError):  # If memory runs out, this process should be killed first.
        Path("/proc/self/oom_score_adj").write_text("500")
    os.set_inheritable(pipe, False)
    with suppress(OSError):  # What libraries print does not belong to the command's output.
        os.dup2(2, 1)
    loaded: Work | None = None
    with Connection(pipe) as connection, suppress(EOFError, ConnectionError):
        while True:
            packed = connection.recv_bytes()
            try:
                if loaded is None:
                    loaded = _load(file)
                    use_threads(threads)
                answer = pickle.dumps(attempt(*loaded, pickle.loads(packed)))
            except Exception as error:
                answer = _pack(error)
            connection.send_bytes(answer)


def _end_with(driver: int) -> None:
    """Ends this process, and those it started, when the driver has ended: even within a job."""
    while os.getppid() == driver:
        time.sleep(_LOOK_S)
    os.killpg(os.getpid(), signal.SIGKILL)


def _load(file: int) -> Work:
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as packed:
        work: Work = pickle.loads(packed)
    os.close(file)
    return work


def _pack(error: Exception) -> bytes:
    """Pickles an error with its traceback, or only its message if it cannot be pickled."""
    text = traceback.format_exc()
    error.add_note(f"It was raised in another process:\n{text}")
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:  # Errors with custom arguments may fail to unpickle.
        return pickle.dumps(RuntimeError(text))
    return packed


if __name__ == "__main__":
    main()
