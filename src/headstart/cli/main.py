"""The entry point of the command line."""

import gc
import sys

from headstart.cli.app import app
from headstart.cli.output import say
from headstart.cli.streams import abandon_output, open_streams
from headstart.errors import OutputError


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
    gc.freeze()  # at its end, the process does not look for garbage among all that it imported
    sys.exit(code)  # type: ignore[arg-type]
