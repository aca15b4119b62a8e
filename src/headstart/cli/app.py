"""The application, the options that commands share, and how errors are shown."""

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from headstart import __version__
from headstart.cli.commands import COMMANDS
from headstart.cli.output import say
from headstart.errors import HeadstartError, InputError, OutputError
from headstart.progress import format_duration
from headstart.text import shortened


class Commands(TyperGroup):
    """The group of all commands: a command is imported when it is called.

    Until then, a command without options stands in its place.
    """

    def __init__(self, **settings: Any) -> None:
        """Takes the settings of typer's group."""
        super().__init__(**settings)
        listed = {name: TyperCommand(name, help=what) for name, (_, what) in COMMANDS.items()}
        self.commands = {**listed, **self.commands}
        for each in (self, *self.commands.values()):
            _without_value(each.params)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the command that arguments begin with, with all of its options."""
        if args[0] in COMMANDS:
            self.commands = declared(args[0])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that arguments begin with."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            # What pydantic, by which typer reads values, writes before a sentence that is whole.
            error.message = error.message.removeprefix("Value error, ")
            raise


def _without_value(parameters: list[Any]) -> None:
    """Lets the help show a switch such as `--json` without the type that typer writes behind it."""
    for each in parameters:
        if getattr(each, "is_flag", False) and each.metavar is None:
            each.metavar = ""


app = typer.Typer(
    name="headstart",
    cls=Commands,
    help="Train, test and ship an image classifier from a small folder of labelled images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_UNSUPPORTED = (
    "Its file system does not support this. Choose a folder on another one with --out and "
    "HEADSTART_CACHE."
)
_ASK_DEBUG = "Run the command with `headstart --debug`"
_WAYS_OUT = {
    errno.EACCES: "Check its permissions.",
    errno.EPERM: "Check its permissions.",
    errno.EROFS: "Choose another folder with --out, or set HEADSTART_CACHE to one for the cache.",
    errno.ENOENT: "Check the path; something may have been moved while the command ran.",
    errno.ENOTDIR: "Check the path: a part of it is a file.",
    errno.EISDIR: "Give the path of a file.",
    errno.ENAMETOOLONG: "Use a shorter name.",
    errno.EMFILE: "Raise the limit on open files with `ulimit -n`, or give fewer --workers.",
    errno.EIO: "Check the disk or the connection to it.",
    errno.ESTALE: "Check the connection to the network disk, and run the command again.",
    errno.ENOSYS: _UNSUPPORTED,
    errno.EOPNOTSUPP: _UNSUPPORTED,
    errno.ENODEV: _UNSUPPORTED,
}


Source = Annotated[
    str,
    typer.Argument(
        help="Folder with one folder per class, export of an annotation tool, ZIP or tar archive, "
        "manifest (CSV, TSV, JSON, Parquet), or demo:solar."
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Train, test and ship an image classifier from a small folder of labelled images."""
    context.obj = debug
    if version:
        say(f"headstart {__version__}")
        raise typer.Exit


def declared(name: str) -> Any:
    """Returns the commands by their names, after the import of the module that declares one."""
    import_module(f"headstart.cli.{COMMANDS[name][0]}")
    group: Any = typer.main.get_command(app)
    return group.commands


@contextmanager
def reporting_errors(context: typer.Context) -> Iterator[None]:
    """Turns errors into one line and an exit code; `--debug` shows their tracebacks instead."""
    if context.obj:  # --debug
        yield
        return
    try:
        yield
    except OutputError:
        raise  # for `main`, which also sees what is written after the command
    except HeadstartError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("Interrupted.", 130)
    except MemoryError:
        _fail(f"The machine ran out of memory. {_less_memory(context)}", 1)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            _fail("No space is left on the disk. Free some and run the command again.", 1)
        _fail(_explained(error), 2)
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        what = shortened(f"{type(error).__name__}: {error}", 200)
        _fail(f"This is a bug of headstart ({what}). {_ASK_DEBUG} and report what it prints.", 1)


def _less_memory(context: typer.Context) -> str:
    """Returns what to do where memory ran out, with an option that the command has."""
    options = {name for option in context.command.params for name in option.opts}
    if "--set" in options:
        return "Try a smaller --set batch_size."
    if "--workers" in options:
        return "Try --workers 1, or close other programs."
    return "Close other programs, or give fewer images at a time."


def _explained(error: OSError) -> str:
    """Returns an error of the system in words, with a way out.

    Example:
        >>> _explained(OSError(errno.EACCES, "Permission denied", "out/run.json"))
        'Cannot use out/run.json: Permission denied. Check its permissions.'
    """
    what = "The system refused an operation" if error.filename is None else "Cannot use "
    name = "" if error.filename is None else str(error.filename)
    reason = error.strerror or str(error) or type(error).__name__
    way_out = _WAYS_OUT.get(error.errno or 0, f"{_ASK_DEBUG} for more.")
    return f"{what}{name}: {reason}. {way_out}"


def one_format(as_json: bool, as_csv: bool) -> None:
    """Checks that not both JSON and CSV are requested."""
    if as_json and as_csv:
        raise InputError("Give --json or --csv, not both.")


def _fail(message: str, code: int) -> None:
    say(f"error: {message}", error=True)
    raise typer.Exit(code)


def process_start() -> float:
    """Returns the start of this process on `time.monotonic`: the budget includes imports."""
    import psutil

    age: float = time.time() - psutil.Process().create_time()
    return time.monotonic() - age


def begin(source: object, budget_s: float | None = None) -> None:
    """Says at once that work begins: PyTorch takes seconds to load."""
    limit = "" if budget_s is None else f"; results within {format_duration(budget_s)}"
    say(f"reading {source}{limit}", error=True)


def command_line() -> str:
    """Returns the command line of this process, quoted for a shell."""
    import shlex

    return shlex.join(["headstart", *sys.argv[1:]])
