"""Silence: what image libraries warn of is either found by us, or of no use to a reader."""

import threading
import warnings


class _Quiet:
    """Silences warnings while any thread is inside; `warnings.catch_warnings` alone is for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


quiet = _Quiet()
"""`with quiet:` silences warnings in all threads."""
