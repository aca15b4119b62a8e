"""The entry point of the command line."""

import sys
from collections.abc import Sequence
from importlib import import_module

from headstart.cli.app import app
from headstart.cli.output import say
from headstart.cli.streams import abandon_output, open_streams
from headstart.errors import OutputError

MODULES = {
    "explore": ("check", "suspects", "backbones", "methods", "show"),
    "fit": ("fit", "resume", "compare", "benefit"),
    "export": ("export",),
    "runs": ("leaderboard", "report", "diff", "embed", "similar"),
    "predict": ("predict",),
    "labelling": ("label-next",),
    "serving": ("serve",),
}
"""Commands by the module that declares them."""


def register(arguments: Sequence[str]) -> None:
    """Imports the module of a command, which registers it; all modules for help and typing errors.

    So a command does not wait for what others import.

    Args:
        arguments: Those of the command line.
    """
    command = next((each for each in arguments if not each.startswith("-")), "")
    homes = [home for home, names in MODULES.items() if command in names]
    for home in homes or MODULES:
        import_module(f"headstart.cli.{home}")


def main() -> None:
    """Runs the command line.

    Exit codes: 0 is success; 1 is a failure of the machine, the work or the output, or that some
    images could not be read; 2 is an input that cannot be used; 130 is an interruption; 141 is an
    output that nobody reads any more, as behind `| head -1`.
    """
    open_streams()
    code: object = 0
    try:
        try:
            register(sys.argv[1:])
            app()
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
    except OutputError as error:
        abandon_output()
        code = error.exit_code
        if not error.closed:
            say(f"error: {error}", error=True)
    except KeyboardInterrupt:  # between the command and the end of the process
        code = 130
        say("error: Interrupted.", error=True)
    sys.exit(code)  # type: ignore[arg-type]
