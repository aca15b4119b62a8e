"""The entry point of the command line."""

import sys
from io import TextIOWrapper

from headstart.cli import explore, fit, runs  # noqa: F401 - importing registers the commands
from headstart.cli.app import app


def main() -> None:
    """Runs the command line."""
    # File names may be invalid Unicode, and must be printed anyway.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
