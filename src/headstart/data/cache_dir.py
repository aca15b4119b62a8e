"""The cache folder: where decoded images, activations and unpacked archives lie."""

import os
from pathlib import Path

from headstart.errors import InputError


def default_cache_dir() -> Path:
    """Returns `$HEADSTART_CACHE`, or `headstart` in the user's cache folder.

    Raises:
        InputError: If the user has no home folder.
    """
    if chosen := os.environ.get("HEADSTART_CACHE"):
        return Path(chosen)
    if users := os.environ.get("XDG_CACHE_HOME"):
        return Path(users) / "headstart"
    try:
        return Path.home() / ".cache" / "headstart"
    except RuntimeError:
        raise InputError(
            "There is no home folder for the cache. Set HEADSTART_CACHE to a folder."
        ) from None
