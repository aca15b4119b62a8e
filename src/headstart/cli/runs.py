"""The commands that use a run: embed, similar, report, leaderboard and diff; see also `predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from headstart.cli.app import AsCsv, AsJson, app, one_format, reporting_errors
from headstart.cli.output import (
    print_importance,
    print_json,
    print_leaderboard,
    print_model,
    print_table,
    say,
)
from headstart.progress import for_stream
from headstart.text import counted

Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder that the names of the images start from, for pictures that the run does not "
        "keep. What the run says about its place is not followed."
    ),
]


@app.command()
def leaderboard(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder of a search.")],
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    importance: Annotated[
        bool, typer.Option("--importance", help="Print the importance of each choice instead.")
    ] = False,
) -> None:
    """Rank the recipes that a search tried."""
    with reporting_errors(context):
        one_format(as_json, as_csv)
        if importance:
            from headstart.search.leaderboard import importance_of

            print_importance(importance_of(run), as_json, as_csv)
            return
        from headstart.api.leaderboard import leaderboard as ranked

        print_leaderboard(ranked(run), as_json, as_csv)


@app.command()
def report(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Data = None,
) -> None:
    """Draw the report of a run again from its folder."""
    with reporting_errors(context):
        from headstart.api.report import report as draw

        say(draw(run, data, progress=for_stream(sys.stderr)))


@app.command()
def diff(
    context: typer.Context,
    a: Annotated[Path, typer.Argument(help="Folder of the first run.")],
    b: Annotated[Path, typer.Argument(help="Folder of the second run.")],
    as_json: AsJson = False,
) -> None:
    """Show the differences between two runs, and test which is more accurate."""
    with reporting_errors(context):
        from headstart.api.diff import diff as run_diff

        found = run_diff(a, b)
        if as_json:
            print_model(found)
            return
        for warning in found.warnings:
            say(f"warning: {warning}", error=True)
        rows = [
            (part, change.what, *("–" if v is None else str(v) for v in (change.a, change.b)))
            for part in ("recipe", "data", "backbone", "budget", "software")
            for change in getattr(found, part)
        ]
        print_table(("part", "value", f"A: {a}", f"B: {b}"), rows)
        say(found.accuracy.verdict)


@app.command()
def embed(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    images: Annotated[
        list[str], typer.Argument(help="Image files, folders of images, or patterns.")
    ],
    out: Annotated[Path, typer.Option(help="Output file: .csv, .npz or .safetensors.")],
) -> None:
    """Write the embeddings of images: vectors that are close for similar images."""
    with reporting_errors(context):
        from headstart.artifacts.embeddings import check_exportable, export_embeddings
        from headstart.inference.bundle import open_bundle
        from headstart.inference.image_inputs import image_inputs
        from headstart.inference.predict import embed_images

        check_exportable(out)
        files = image_inputs(images)
        bundle = open_bundle(run, multilabel=True)
        vectors, failed = embed_images(bundle, files, for_stream(sys.stderr))
        good = [row for row in range(len(files)) if row not in failed]
        export_embeddings(out, [files[row].name for row in good], vectors[good])
        for row, why in failed.items():
            say(f"left out: {files[row].name}: {why}", error=True)
        written = counted(len(good), "embedding")
        say(f"{written} of dimension {vectors.shape[1]}: {out}")
        if failed:
            raise typer.Exit(1)


@app.command()
def similar(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    image: Annotated[Path, typer.Argument(help="Image file.")],
    k: Annotated[
        int,
        typer.Option("-k", help="Number of images to find. Default: 5.", show_default=False),
    ] = 5,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="PNG file for a picture of them.")] = None,
    data: Data = None,
) -> None:
    """Find the training images that are most similar to an image."""
    with reporting_errors(context):
        from headstart.artifacts.files import check_writable
        from headstart.inference.run import Run

        if out is not None:
            check_writable(out)
        opened = Run.open(run)
        found = opened.similar(image, k)
        if out is not None:
            from headstart.api.show_similar import show_similar

            absent = show_similar(opened, image, found, out, data)
            if absent:
                way_out = "" if data else " Give the folder of the images with --data."
                say(
                    f"note: {out} lacks {counted(len(absent), 'training image')}: the run keeps no "
                    f"copy, and they were not found or have changed.{way_out}",
                    error=True,
                )
        if as_json:
            print_json([each.model_dump() for each in found])
            return
        rows = [(each.image, each.label, f"{each.similarity:.3f}") for each in found]
        print_table(("training image", "class", "similarity"), rows)
