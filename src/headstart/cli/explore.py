"""The commands that need no run: check, suspects, show, backbones and methods."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli.app import AsJson, Source, app, begin, reporting_errors
from headstart.cli.options import given, takes_options
from headstart.cli.output import (
    print_audit,
    print_backbones,
    print_json,
    print_methods,
    print_model,
    print_table,
    say,
)
from headstart.errors import DataError
from headstart.progress import for_stream
from headstart.recipes.keywords import parse_options
from headstart.recipes.options import SourceOptions
from headstart.text import counted, listed


@app.command()
@takes_options(SourceOptions)
def check(context: typer.Context, source: Source, as_json: AsJson = False, **values: Any) -> None:
    """Find problems of a data set: broken files, duplicates, leaks, unusual classes."""
    with reporting_errors(context):
        from headstart.api.check import check as run_check

        options = parse_options(SourceOptions, given(values))
        found = run_check(source, options, progress=for_stream(sys.stderr))
        if as_json:
            print_model(found)
        else:
            print_audit(found)
        if found.problem:
            raise DataError(found.problem)


@app.command()
@takes_options(SourceOptions)
def suspects(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="Folder or manifest as for `fit`, or a run folder.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="CSV file for the whole list. Default: suspects.csv.", show_default=False
        ),
    ] = Path("suspects.csv"),
    as_json: AsJson = False,
    **values: Any,
) -> None:
    """Find suspicious images: possible label errors, copies and outliers."""
    with reporting_errors(context):
        begin(source)
        from headstart.api.suspects import suspects as find
        from headstart.artifacts.files import check_writable
        from headstart.diagnose.reasons import write_suspects_csv

        check_writable(out)
        options = parse_options(SourceOptions, given(values))
        found = find(source, options, progress=for_stream(sys.stderr))
        write_suspects_csv(out, found.suspects, found.unjudged is not None)
        if as_json:
            print_json(_without_none(asdict(found)))
            return
        first = found.suspects[:20]
        rows = [(f"{s.score:.2f}", s.kind, s.path, s.label, s.suggested, s.why) for s in first]
        print_table(("score", "kind", "image", "label", "suggested", "why"), rows)
        sealed = ""
        if found.sealed:
            sealed = f" The {counted(found.sealed, 'test image')} stayed sealed."
        checked = counted(found.images, "image")
        verb = "is" if len(found.suspects) == 1 else "are"
        say(f"{len(found.suspects):,} of {checked} {verb} suspicious; see {out}.{sealed}")
        if found.unjudged:
            shown = listed([repr(name) for name in found.unjudged])
            say(f"note: Too few images have, or lack, {shown} to say where it is missing or wrong.")


def _without_none(value: Any) -> Any:
    """Returns nested data without what is None, which one label an image does not have."""
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, tuple) else value


@app.command()
def backbones(
    context: typer.Context,
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name, or a pattern with *.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List all models of timm.")] = False,
    download: Annotated[
        bool,
        typer.Option(
            "--download",
            help="List what `fit --download` would look at. Nothing is downloaded here.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List pretrained backbones, where their weights are, and which of them a search looks at."""
    with reporting_errors(context):
        begin("timm's list of networks")
        from headstart.api.backbones import backbones as list_backbones

        found = list_backbones(pattern, all=everything, download=download)
        if as_json:
            print_json([asdict(info) for info in found])
        else:
            print_backbones(found)


@app.command()
def methods(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Name of a method or of a family of methods.")
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Describe the methods: what they do, their source, and when they help."""
    with reporting_errors(context):
        from headstart.recipes.reference import as_markdown, method_pages

        pages = method_pages(name)
        if as_json:
            print_json([page.model_dump() for page in pages])
        elif markdown:
            print(as_markdown(pages), end="")
        elif name is None:
            rows = [(page.family, page.name, page.what) for page in pages]
            print_table(("family", "method", "description"), rows)
        else:
            print_methods(pages)


@app.command()
@takes_options(SourceOptions)
def show(
    context: typer.Context,
    source: Source,
    out: Annotated[
        Path,
        typer.Option(help="Folder for the pictures. Default: pictures.", show_default=False),
    ] = Path("pictures"),
    image: Annotated[
        Path | None, typer.Option(help="Image to draw; by default the first readable image.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Recipe whose augmentation is drawn first. Default: default.", show_default=False
        ),
    ] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one value of the recipe, as for `fit`."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed for augmentation and mixing. Default: 0.", show_default=False
        ),
    ] = 0,
    **values: Any,
) -> None:
    """Draw augmentations, mixing, schedules and activations from your own images."""
    with reporting_errors(context):
        begin(source)
        from headstart.api.show import show as draw

        options = parse_options(SourceOptions, given(values))
        files = draw(
            source, options, out=out, image=image, recipe=recipe, settings=settings or [], seed=seed
        )
        for file in files:
            say(file)
