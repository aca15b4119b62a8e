"""The command that writes a run for another runtime."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli.app import AsJson, app, reporting_errors
from headstart.cli.options import given, takes_options
from headstart.cli.output import print_model
from headstart.progress import for_stream
from headstart.recipes.export_options import ExportOptions
from headstart.recipes.keywords import parse_options


@app.command()
@takes_options(ExportOptions)
def export(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    as_json: AsJson = False,
    **values: Any,
) -> None:
    """Write the classifier for another runtime, compared with the sealed test."""
    with reporting_errors(context):
        options = parse_options(ExportOptions, given(values))
        from headstart.api.export import export as export_run
        from headstart.cli.export_output import print_export

        done = export_run(run, options, progress=for_stream(sys.stderr))
        if as_json:
            print_model(done)
        else:
            print_export(done)
