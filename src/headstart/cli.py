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
from typing import Annotated

import typer

from headstart import __version__
from headstart.errors import HeadstartError, InputError
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


class Strategy(StrEnum):
    """What is trained."""

    head = "head"
    finetune = "finetune"


class Sampler(StrEnum):
    """What draws the recipes of a search."""

    tpe = "tpe"
    random = "random"


class Engine(StrEnum):
    """Where the trials of a search run."""

    here = "here"
    processes = "processes"
    ray = "ray"


class Boxes(StrEnum):
    """What is done with boxes that the data set gives."""

    crop = "crop"
    keep = "keep"


Source = Annotated[
    str, typer.Argument(help="A folder of class folders, a CSV or Parquet file, or demo:solar.")
]
BoxesOption = Annotated[Boxes, typer.Option(help="Crop images to the data set's boxes, or not.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
def fit(
    context: typer.Context,
    source: Source,
    budget: Annotated[
        str | None, typer.Option(help="Ceiling on the wall time: 90s, 10m, 1.5h. [default: 10m]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs instead of a budget; repeats bit by bit.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Recipes to try, instead of a budget; repeats bit by bit."),
    ] = None,
    sampler: Annotated[
        Sampler, typer.Option(help="What draws recipes; random is for comparison.")
    ] = Sampler.tpe,
    engine: Annotated[
        Engine, typer.Option(help="Where trials run: here, in processes, on a Ray cluster.")
    ] = Engine.here,
    jobs: Annotated[int, typer.Option(help="Trials that run at a time.")] = 1,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster that runs already: auto, or HOST:PORT.")
    ] = None,
    ensemble: Annotated[
        int, typer.Option(help="Average so many of the best; their frozen part runs once.")
    ] = 1,
    trial_memory: Annotated[
        float | None, typer.Option(help="GB that a trial may take, with --engine processes.")
    ] = None,
    strategy: Annotated[
        Strategy | None, typer.Option(help="Train the head alone, or the last blocks too.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Name of a timm model; see `headstart backbones`.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="pretrained, random (from scratch), or a local file.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Train this one: default, probe, naive, or a .toml or .json file."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: optimizer=sgd, optimizer.lr=3e-4, …"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. [default: runs/NAME-TIME]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is drawn in training.")] = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    split: Annotated[
        Path | None, typer.Option(help="A split to use: the split.csv of another run.")
    ] = None,
    boxes: BoxesOption = Boxes.crop,
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
) -> None:
    """Find, train, prove and ship the best classifier that the budget allows."""
    with _errors(context):
        from headstart.fitting import fit as run_fit

        run = run_fit(
            source,
            budget=budget,
            epochs=epochs,
            trials=trials,
            sampler=sampler.value,
            engine=engine.value,
            jobs=jobs,
            address=address,
            trial_memory=trial_memory,
            ensemble=ensemble,
            recipe=recipe,
            strategy=strategy.value if strategy else None,
            backbone=backbone,
            weights=weights,
            settings=settings or [],
            out=out,
            seed=seed,
            split_seed=split_seed,
            split=split,
            boxes=boxes.value,
            workers=workers,
            progress=for_stream(sys.stderr),
            command=_command_line(),
            started=_process_start(),
        )
        print_run(run)


@app.command()
def resume(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="The folder of a search that was stopped.")],
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
) -> None:
    """Go on with a search that was stopped, however it was."""
    with _errors(context):
        from headstart.fitting import resume as go_on

        done = go_on(
            run, workers=workers, progress=for_stream(sys.stderr), started=_process_start()
        )
        print_run(done)


@app.command()
def leaderboard(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="The folder of a search.")],
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    importance: Annotated[
        bool, typer.Option("--importance", help="Say which choices mattered instead.")
    ] = False,
) -> None:
    """Rank the recipes that a search tried."""
    with _errors(context):
        if as_json and as_csv:
            raise InputError("give --json or --csv, not both.")
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
def compare(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(help="The images, as for `fit`. [default: those of --run]"),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="The recipe to take apart. [default: default]")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="A finished run: take its recipe, write into it, redraw its report."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Length of every row's schedule.")] = 6,
    seeds: Annotated[int, typer.Option(help="Trainings of each row.")] = 1,
    budget: Annotated[
        str, typer.Option(help="Ceiling on the wall time: rows that do not fit are left out.")
    ] = "10m",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe, as in `fit`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the ledger; run again, it goes on.")
    ] = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    boxes: BoxesOption = Boxes.crop,
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Measure what each method brings, from the naive recipe on and with one left out."""
    with _errors(context):
        if as_json and as_csv:
            raise InputError("give --json or --csv, not both.")
        from headstart.ledger import compare as run_compare

        ledger = run_compare(
            source, recipe=recipe, run=run, epochs=epochs, seeds=seeds, budget=budget,
            settings=settings or [], out=out, split_seed=split_seed, boxes=boxes.value,
            workers=workers, progress=for_stream(sys.stderr), started=_process_start(),
        )  # fmt: skip
        print_ledger(ledger, as_json, as_csv)
        if run is not None:
            print(f"report: {run / 'report.html'}", file=sys.stderr)


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
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Say which class is on each image, and how sure that is."""
    with _errors(context):
        if as_json and as_csv:
            raise InputError("give --json or --csv, not both.")
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
def benefit(
    context: typer.Context,
    source: Source,
    budget: Annotated[
        str | None, typer.Option(help="Ceiling on the wall time: 10m, 1.5h. [default: 10m]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every network, instead of a budget.")
    ] = None,
    fractions: Annotated[
        str | None,
        typer.Option(help="Percentages of the data. [default: 25,100; on a GPU 10,25,50,100]"),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Networks of each kind. [default: 2; on a GPU 3]")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Name of a timm model.")] = None,
    resolution: Annotated[int, typer.Option(help="Side of a view in pixels.")] = 112,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe of both: augmentation.flip=false, …"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder; one begun is gone on with. [default: runs/NAME-benefit-TIME]"),
    ] = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    split: Annotated[
        Path | None, typer.Option(help="A run's split.csv: its test images are left alone.")
    ] = None,
    boxes: BoxesOption = Boxes.crop,
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
    as_json: AsJson = False,
) -> None:
    """Certify what transfer brings, against training from scratch, and what more labels would."""
    with _errors(context):
        from headstart.benefit import benefit as run_benefit
        from headstart.benefit import percentages

        folder, certificate = run_benefit(
            source,
            budget=budget,
            epochs=epochs,
            fractions=percentages(fractions),
            seeds=seeds,
            backbone=backbone,
            resolution=resolution,
            settings=settings or [],
            out=out,
            split_seed=split_seed,
            split=split,
            boxes=boxes.value,
            workers=workers,
            progress=for_stream(sys.stderr),
            command=_command_line(),
            started=_process_start(),
        )
        if as_json:
            print(certificate.model_dump_json(indent=1))
            return
        from headstart.benefit_verdicts import answers

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
