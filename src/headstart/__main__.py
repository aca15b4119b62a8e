"""The `headstart` command."""

import sys

from headstart.errors import InputError
from headstart.inputs.machine import wrong_system


def main() -> None:
    """Runs the command line, on a system that it can run on."""
    if why := wrong_system():
        sys.stderr.write(f"error: {why}\n")
        sys.exit(InputError.exit_code)
    from headstart.cli.main import main as run  # noqa: PLC0415 - it loads what Windows lacks

    run()


if __name__ == "__main__":
    main()
