"""The command that classifies images."""

import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli.app import AsCsv, AsJson, app, reporting_errors
from headstart.cli.options import given as chosen
from headstart.cli.options import takes_options
from headstart.cli.output import print_model, print_predictions, print_rows, say, warn_of
from headstart.errors import InputError
from headstart.progress import for_stream, format_duration
from headstart.recipes.keywords import parse_options
from headstart.recipes.predict_options import PredictOptions
from headstart.text import counted

if TYPE_CHECKING:
    from headstart.inference.predict import Prediction
    from headstart.inference.prediction_rows import Form


@app.command()
@takes_options(PredictOptions)
def predict(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders of images, or patterns; - reads such names from standard "
            "input, one a line."
        ),
    ],
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    as_lines: Annotated[
        bool, typer.Option("--jsonl", help="Print JSON, one image a line, as results come.")
    ] = False,
    **values: Any,
) -> None:
    """Classify images with calibrated probabilities."""
    with reporting_errors(context):
        if as_json + as_csv + as_lines > 1:
            raise InputError("Give only one of --json, --csv and --jsonl.")
        given: list[str] | Iterator[str] = _given(images) if "-" in images else images
        options = parse_options(PredictOptions, chosen(values))
        if options.out is None:
            form: Form | None = "csv" if as_csv else "jsonl" if as_lines else None
            failed = _printed(run, given, options, as_json, form)
        elif as_csv or as_lines:
            raise InputError(
                f"The name of {options.out} says its form. Leave --csv and --jsonl out."
            )
        else:
            failed = _written(run, given, options, as_json)
        if failed:
            raise typer.Exit(1)


def _given(images: list[str]) -> Iterator[str]:
    """Yields names of images, and those on standard input in the place of `-`."""
    for each in images:
        if each != "-":
            yield each
            continue
        for line in sys.stdin.buffer:
            name = os.fsdecode(line.rstrip(b"\r\n"))
            if name:
                yield name


def _printed(
    run: Path,
    images: list[str] | Iterator[str],
    options: PredictOptions,
    as_json: bool,
    form: "Form | None",
) -> int:
    """Prints predictions, in rows as they come; returns how many images could not be read."""
    from headstart.inference.bundle import open_bundle

    with ThreadPoolExecutor(1) as thread:  # the network is opened while the rest is imported
        opening = thread.submit(open_bundle, run, many=form is not None, multilabel=True)
        from headstart.inference.predict import (
            Tally,
            check_coverage,
            predict_batches,
            predict_images,
        )
        from headstart.inference.rejection import check_rejection, rejecting
    bundle, progress = opening.result(), for_stream(sys.stderr)
    if options.reject:
        check_rejection(bundle)
    set_coverage = options.set_coverage
    if form is None:
        predictions = predict_images(bundle, images, progress, set_coverage)
        predictions = list(rejecting(predictions)) if options.reject else predictions
        print_predictions(predictions, as_json)
        return sum(bool(each.error) for each in predictions)
    from headstart.inference.image_inputs import count_inputs, each_input
    from headstart.inference.prediction_rows import header

    check_coverage(bundle, set_coverage)
    if bundle.note:
        progress.say(bundle.note)
    classes, tally, total = bundle.spec.classes, Tally(), count_inputs(images)
    found = predict_batches(bundle, each_input(images), set_coverage)
    batches = (list(rejecting(batch)) if options.reject else batch for batch in found)
    print_rows(header(classes, form, bundle.spec.multilabel))
    for each in progress.track(_shown(batches, classes, form), "predicting", total):
        tally.count(each)
    warn_of(tally.images, tally.other_depth, tally.out_of_distribution, rejected=options.reject)
    return tally.failed


def _shown(
    batches: "Iterable[list[Prediction]]", classes: tuple[str, ...], form: "Form"
) -> "Iterator[Prediction]":
    """Yields predictions when they are printed."""
    from headstart.inference.prediction_rows import rows

    for batch in batches:
        print_rows(rows(batch, classes, form))
        yield from batch


def _written(
    run: Path, images: list[str] | Iterator[str], options: PredictOptions, as_json: bool
) -> int:
    """Writes predictions into a file; returns how many images could not be read."""
    from headstart.api.predict import predict as write

    try:
        done = write(run, images, options, progress=for_stream(sys.stderr))
    except KeyboardInterrupt:
        say(f"note: the same command with --resume continues {options.out}.", error=True)
        raise
    if as_json:
        print_model(done)
        return done.failed
    parts = [f"{counted(done.images, 'image')} in {format_duration(done.seconds)}"]
    if done.before:
        parts.append(f"{done.before:,} were there already")
    if done.failed:
        parts.append(f"{done.failed:,} could not be read (see the column `error`)")
    if done.not_listed:
        parts.append(f"{counted(done.not_listed, 'row')} for images that are not in the list")
    say(f"{done.out}: {'; '.join(parts)}.")
    warn_of(done.images, done.other_depth, done.out_of_distribution, rejected=options.reject)
    return done.failed
