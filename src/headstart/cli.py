"""The commands: each calls the function of the same name and prints what it returns."""

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from headstart import __version__
from headstart.cli_options import given, takes_options
from headstart.errors import HeadstartError, InputError, RecipeError
from headstart.options import BenefitOptions, CompareOptions, FitOptions, parse_options
from headstart.printing import (
    print_importance,
    print_json,
    print_leaderboard,
    print_ledger,
    print_methods,
    print_predictions,
    print_run,
    print_table,
)
from headstart.progress import for_stream

app = typer.Typer(
    name="headstart",
    help="From a small folder of labelled images to a proven, shippable classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Boxes(StrEnum):
    """What is done with boxes that the data set gives."""

    crop = "crop"
    keep = "keep"


Source = Annotated[
    str, typer.Argument(help="A folder of class folders, a CSV or Parquet file, or demo:solar.")
]
BoxesOption = Annotated[Boxes, typer.Option(help="Crop images to the data set's boxes, or not.")]
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


@app.command()
@takes_options(FitOptions)
def fit(context: typer.Context, source: Source, **values: Any) -> None:
    """Find, train, prove and ship the best classifier that the budget allows."""
    with _errors(context):
        from headstart.fitting import fit as run_fit

        options = parse_options(FitOptions, given(values))
        run = run_fit(
            source,
            options,
            progress=for_stream(sys.stderr),
            command=_command_line(),
            started=_process_start(),
        )
        print_run(run)


@app.command()
def resume(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder of an interrupted search.")],
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
) -> None:
    """Resume an interrupted search."""
    with _errors(context):
        from headstart.fitting import resume as resume_run

        resumed = resume_run(
            run, workers=workers, progress=for_stream(sys.stderr), started=_process_start()
        )
        print_run(resumed)


@app.command()
def leaderboard(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="The folder of a search.")],
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    importance: Annotated[
        bool, typer.Option("--importance", help="Say which choices mattered instead.")
    ] = False,
) -> None:
    """Rank the recipes that a search tried."""
    with _errors(context):
        _one_format(as_json, as_csv)
        if importance:
            from headstart.search.importance import importance_of

            print_importance(importance_of(run), as_json, as_csv)
            return
        from headstart.search.study import leaderboard_of

        print_leaderboard(leaderboard_of(run), as_json, as_csv)


@app.command()
def report(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
) -> None:
    """Draw a run's report anew, from its folder alone."""
    with _errors(context):
        from headstart.report.page import write_report

        print(write_report(run))


@app.command()
def diff(
    context: typer.Context,
    a: Annotated[Path, typer.Argument(help="The folder of a run.")],
    b: Annotated[Path, typer.Argument(help="The folder of another.")],
    as_json: AsJson = False,
) -> None:
    """Say what differs between two runs, and whether one is really more accurate."""
    with _errors(context):
        from headstart.diffing import diff as run_diff

        found = run_diff(a, b)
        if as_json:
            print(found.model_dump_json(indent=1))
            return
        for warning in found.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        rows = [
            (part, change.what, *("–" if v is None else str(v) for v in (change.a, change.b)))
            for part in ("recipe", "data", "backbone", "budget", "software")
            for change in getattr(found, part)
        ]
        print_table(("part", "what", f"A: {a}", f"B: {b}"), rows)
        print(found.accuracy.verdict)


@app.command()
@takes_options(CompareOptions)
def compare(
    context: typer.Context,
    source: Annotated[
        str | None, typer.Argument(help="The images, as for `fit`. Those of --run by default.")
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    **values: Any,
) -> None:
    """Measure what each method brings: add one at a time, and leave one out."""
    with _errors(context):
        _one_format(as_json, as_csv)
        from headstart.ledger import compare as run_compare

        options = parse_options(CompareOptions, given(values))
        ledger = run_compare(
            source, options, progress=for_stream(sys.stderr), started=_process_start()
        )
        print_ledger(ledger, as_json, as_csv)
        if options.run is not None:
            print(f"report: {options.run / 'report.html'}", file=sys.stderr)


@app.command()
def predict(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder or its bundle.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    set_coverage: Annotated[
        float | None,
        typer.Option(help="Say sets of classes that hold the true one so often: 0.9, 0.95, …"),
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Say which class is on each image, and how sure that is."""
    with _errors(context):
        _one_format(as_json, as_csv)
        from headstart.predict import open_bundle, predict_images

        predictions = predict_images(open_bundle(run), images, for_stream(sys.stderr), set_coverage)
        print_predictions(predictions, as_json, as_csv)
        if any(prediction.error for prediction in predictions):
            raise typer.Exit(1)


@app.command()
def check(
    context: typer.Context,
    source: Source,
    as_json: AsJson = False,
    boxes: BoxesOption = Boxes.crop,
) -> None:
    """Find what is wrong with a data set: broken files, duplicates, leaks, odd classes."""
    with _errors(context):
        from headstart.checking import check as run_check
        from headstart.data.audit import summary_rows

        found = run_check(source, boxes=boxes.value, progress=for_stream(sys.stderr))
        if as_json:
            print(found.model_dump_json(indent=1))
            return
        print_table(("what", "severity", "finding"), summary_rows(found))


@app.command()
def suspects(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A folder or manifest as in `fit`, or a run.")],
    out: Annotated[Path, typer.Option(help="A .csv file for all of them.")] = Path("suspects.csv"),
    as_json: AsJson = False,
    boxes: BoxesOption = Boxes.crop,
) -> None:
    """Find images that deserve a look: labels that may be wrong, copies, outliers."""
    with _errors(context):
        from headstart.artifacts.files import check_writable
        from headstart.diagnose.suspects import write_suspects_csv
        from headstart.suspecting import suspects as find

        check_writable(out)
        found = find(source, boxes=boxes.value, progress=for_stream(sys.stderr))
        write_suspects_csv(out, found.suspects)
        if as_json:
            print_json(asdict(found))
            return
        first = found.suspects[:20]
        rows = [(f"{s.score:.2f}", s.kind, s.path, s.label, s.suggested, s.why) for s in first]
        print_table(("score", "kind", "image", "label", "perhaps", "why"), rows)
        sealed = f"; {found.sealed} test images stay sealed" if found.sealed else ""
        print(f"{len(found.suspects)} of {found.images} images deserve a look{sealed}: {out}")


@app.command()
def backbones(
    context: typer.Context,
    pattern: Annotated[str | None, typer.Argument(help="Part of a name, or a * pattern.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of timm's models.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the pretrained networks and say whose weights are on this machine."""
    with _errors(context):
        from headstart.backbones.catalog import known_backbones

        known = known_backbones(pattern, all=everything)
        if as_json:
            print_json([asdict(info) for info in known])
            return
        rows = [
            (
                info.name,
                f"{info.parameters / 1e6:.1f} M" if info.parameters else "?",
                str(info.resolution),
                info.licence,
                info.weights,
            )
            for info in known
        ]
        print_table(("backbone", "parameters", "pixels", "licence", "weights"), rows)


@app.command()
def methods(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A method or a family.")] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/methods.md.")] = False,
) -> None:
    """Say what each method does, where it comes from, and when it helps."""
    with _errors(context):
        from headstart.method_pages import as_markdown, method_pages

        pages = method_pages(name)
        if as_json:
            print_json([page.model_dump() for page in pages])
        elif markdown:
            print(as_markdown(pages), end="")
        elif name is None:
            rows = [(page.family, page.name, page.what) for page in pages]
            print_table(("family", "method", "what"), rows)
        else:
            print_methods(pages)


@app.command()
def show(
    context: typer.Context,
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("pictures"),
    image: Annotated[Path | None, typer.Option(help="The image to draw with.")] = None,
    recipe: Annotated[str, typer.Option(help="Whose augmentation is drawn first.")] = "default",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe, as in `fit`.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")] = 0,
) -> None:
    """Draw augmentations, mixing, schedules and activations from your own images."""
    with _errors(context):
        from headstart.showing import show as draw

        files = draw(
            source, out=out, image=image, recipe=recipe, settings=settings or [], seed=seed
        )
        for file in files:
            print(file)


@app.command()
@takes_options(BenefitOptions)
def benefit(context: typer.Context, source: Source, as_json: AsJson = False, **values: Any) -> None:
    """Measure what transfer brings over training from scratch, and what more labels would."""
    with _errors(context):
        from headstart.benefit import benefit as run_benefit
        from headstart.benefit_verdicts import answers

        shares = _shares(values.pop("fractions"))
        options = parse_options(BenefitOptions, given({**values, "fractions": shares}))
        folder, certificate = run_benefit(
            source,
            options,
            progress=for_stream(sys.stderr),
            command=_command_line(),
            started=_process_start(),
        )
        if as_json:
            print(certificate.model_dump_json(indent=1))
            return
        print_table(("question", "answer", "why"), answers(certificate))
        for note in certificate.notes:
            print(f"note: {note}")
        print(f"certificate: {folder / 'certificate.html'}")


@app.command()
def embed(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder or its bundle.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="A .csv, .npz or .safetensors file.")],
) -> None:
    """Write the embeddings of images: vectors that are alike where the images are."""
    with _errors(context):
        from headstart.artifacts.embeddings import check_exportable, export_embeddings
        from headstart.data.folders import images_in
        from headstart.predict import embed_images, open_bundle

        check_exportable(out)
        files = images_in(images)
        vectors, failed = embed_images(open_bundle(run), files, for_stream(sys.stderr))
        good = [row for row in range(len(files)) if row not in failed]
        export_embeddings(out, [str(files[row]) for row in good], vectors[good])
        for row, why in failed.items():
            print(f"left out: {files[row]}: {why}", file=sys.stderr)
        print(f"{len(good)} embeddings of {vectors.shape[1]} numbers: {out}")
        if failed:
            raise typer.Exit(1)


@app.command()
def similar(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    image: Annotated[Path, typer.Argument(help="An image file.")],
    k: Annotated[int, typer.Option("-k", help="How many.")] = 5,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="A .png file to draw them in.")] = None,
) -> None:
    """Find the training images that are most like an image."""
    with _errors(context):
        from headstart.artifacts.files import check_writable
        from headstart.predict import Run

        if out is not None:
            check_writable(out)
        opened = Run.open(run)
        found = opened.similar(image, k)
        if out is not None:
            from headstart.showing import show_similar

            show_similar(opened, image, found, out)
        if as_json:
            print_json([each.model_dump() for each in found])
            return
        rows = [(each.image, each.label, f"{each.similarity:.3f}") for each in found]
        print_table(("training image", "class", "similarity"), rows)


def main() -> None:
    """Runs the command line."""
    # File names need not be valid Unicode, and are printed all the same.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()


@contextmanager
def _errors(context: typer.Context) -> Iterator[None]:
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


def _one_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise InputError("Give --json or --csv, not both.")


def _shares(percentages: str | None) -> tuple[float, ...] | None:
    """Reads percentages such as `10,25,100` as shares.

    Raises:
        RecipeError: If they are none.
    """
    if percentages is None:
        return None
    try:
        return tuple(float(part.strip().removesuffix("%")) / 100 for part in percentages.split(","))
    except ValueError:
        raise RecipeError(
            f"--fractions {percentages}: these are not percentages. Write them like 10,25,100."
        ) from None


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


def _process_start() -> float:
    """Returns when this process began, on `time.monotonic`: imports are paid from the budget."""
    import psutil

    age: float = time.time() - psutil.Process().create_time()
    return time.monotonic() - age


def _command_line() -> str:
    import shlex

    return shlex.join(["headstart", *sys.argv[1:]])
