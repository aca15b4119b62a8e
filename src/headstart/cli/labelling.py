"""The command that chooses images to label, and the page on which they get their labels."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli.app import AsJson, app, reporting_errors
from headstart.cli.options import given, takes_options
from headstart.cli.output import print_model, print_table, say
from headstart.progress import for_stream
from headstart.recipes.keywords import parse_options
from headstart.recipes.label_options import LabelNextOptions
from headstart.text import counted, percent

_SHOWN = 10


@app.command("label-next")
@takes_options(LabelNextOptions)
def label_next(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    images: Annotated[
        list[str],
        typer.Argument(help="Unlabelled images: files, folders of images, or patterns."),
    ],
    as_json: AsJson = False,
    **values: Any,
) -> None:
    """Choose the unlabelled images that are worth a label next, and label them on a page."""
    with reporting_errors(context):
        from headstart.api.label_next import label_next as choose

        options = parse_options(LabelNextOptions, given(values))
        if options.page:
            from headstart.serving.server import check_extra

            check_extra()
        found = choose(run, images, options, progress=for_stream(sys.stderr))
        if as_json:
            print_model(found)
        else:
            rows = [
                (str(e.rank), e.image, e.prediction, percent(e.probability), f"{e.margin:.3f}")
                for e in found.images
            ]
            print_table(("rank", "image", "prediction", "probability", "margin"), rows)
        for each in found.left_out[:_SHOWN]:
            say(f"left out: {each.image}: {each.why}", error=True)
        if len(found.left_out) > _SHOWN:
            say(f"left out: {len(found.left_out) - _SHOWN:,} more (see --json)", error=True)
        before = f"; {found.labelled:,} have a label already" if found.labelled else ""
        chosen = f"{len(found.images):,} of {counted(found.candidates, 'unlabelled image')} chosen"
        say(f"{chosen}{before}", error=True)
        for path in filter(None, (options.out, options.links)):
            say(f"written: {path}", error=True)
        if options.page:
            from headstart.serving.labelling import serve_labelling

            serve_labelling(run, found, options, lambda line: say(line, error=True))
