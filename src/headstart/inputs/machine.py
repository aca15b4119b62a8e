"""What a machine offers, whatever its system."""

import os
import sys


def wrong_system() -> str:
    """Returns why headstart does not run on this system, as a sentence; empty if it does.

    Windows cannot lock, map and replace files as headstart does.
    """
    if sys.platform.startswith("win"):
        return (
            "headstart runs on Linux and macOS, and not on Windows itself. Install it in WSL, the "
            "Linux of Windows: `wsl --install`."
        )
    return ""


def available_cores() -> int:
    """Returns the cores that this process may use; those of the machine where none says (macOS)."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1
