"""The command that serves a classifier over HTTP."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli.app import app, reporting_errors
from headstart.cli.options import given, takes_options
from headstart.progress import for_stream
from headstart.recipes.keywords import parse_options
from headstart.serving.options import ServeOptions


@app.command()
@takes_options(ServeOptions)
def serve(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    **values: Any,
) -> None:
    """Serve a classifier over HTTP, with a page to try it."""
    with reporting_errors(context):
        options = parse_options(ServeOptions, given(values))
        from headstart.api.serve import serve as serve_run

        serve_run(run, options, progress=for_stream(sys.stderr))
