"""The application, the options that commands share, and how errors are shown."""

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from headstart import __version__
from headstart.errors import HeadstartError, InputError

app = typer.Typer(
    name="headstart",
    help="From a small folder of labelled images to a proven, shippable classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Source = Annotated[
    str, typer.Argument(help="A folder of class folders, a CSV or Parquet file, or demo:solar.")
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """From a small folder of labelled images to a proven, shippable classifier."""
    context.obj = debug
    if version:
        print(f"headstart {__version__}")
        raise typer.Exit


@contextmanager
def reporting_errors(context: typer.Context) -> Iterator[None]:
    """Turns errors into one line and an exit code, unless `--debug` wants to see them."""
    debug = bool(context.obj)
    try:
        yield
    except HeadstartError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        _fail("interrupted.", 130)
    except MemoryError:
        if debug:
            raise
        _fail("the machine ran out of memory. Try a smaller --set batch_size.", 1)
    except OSError as error:
        if debug:
            raise
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            _fail("there is no space left on the disk. Free some and run the command again.", 1)
        if error.filename is None:
            raise
        _fail(f"cannot use {error.filename}: {error.strerror}.", 2)


def one_format(as_json: bool, as_csv: bool) -> None:
    """Refuses JSON and CSV at once."""
    if as_json and as_csv:
        raise InputError("Give --json or --csv, not both.")


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


def process_start() -> float:
    """Returns when this process began, on `time.monotonic`: imports are paid from the budget."""
    import psutil

    age: float = time.time() - psutil.Process().create_time()
    return time.monotonic() - age


def command_line() -> str:
    """Returns the command line of this process, as a shell reads it."""
    import shlex

    return shlex.join(["headstart", *sys.argv[1:]])
