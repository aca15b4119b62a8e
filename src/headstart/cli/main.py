"""The entry point of the command line."""

import sys
from io import TextIOWrapper

from headstart.cli import explore, fit, runs  # noqa: F401 - they register their commands
from headstart.cli.app import app


def main() -> None:
    """Runs the command line."""
    # File names need not be valid Unicode, and are printed all the same.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
