"""Predictions for many images, in a file that grows as they come and can be continued."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from headstart.backbones.sessions import thread_count
from headstart.errors import InputError
from headstart.inference.bundle import bundle_folder, open_bundle
from headstart.inference.image_inputs import ImageInput, count_inputs, each_input
from headstart.inference.on_cluster import ClassifyFiles, jobs_of, predictions_in
from headstart.inference.predict import Prediction, Tally, check_coverage, predict_batches
from headstart.inference.prediction_file import PredictionFile, made_by, open_predictions
from headstart.inference.rejection import check_rejection, rejecting
from headstart.progress import Shown, display
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.recipes.predict_options import PredictOptions
from headstart.text import counted


class Predicted(BaseModel):
    """What `predict` wrote.

    Attributes:
        out: The file.
        images: Images that were classified, or could not be read.
        before: Images that had a row already.
        failed: Images that could not be read.
        out_of_distribution: Images that are unlike the training images.
        other_depth: Images with values of a type that no training image had.
        not_listed: Rows in the file for images that are not in the list.
        seconds: Time that it took.

    Example:
        >>> Predicted(out=Path("found.csv"), images=20).failed
        0
    """

    model_config = ConfigDict(frozen=True)

    out: Path
    images: int
    before: int = 0
    failed: int = 0
    out_of_distribution: int = 0
    other_depth: int = 0
    not_listed: int = 0
    seconds: float = 0.0


@lists_fields(PredictOptions)
def predict(
    run: str | Path,
    images: Any,
    options: PredictOptions | None = None,
    *,
    progress: Shown = None,
    **keywords: Any,
) -> Predicted:
    """Classifies any number of images into a file, row by row as the results come.

    Images are decoded while the network runs, and nothing of those that are done is kept. An image
    that cannot be read is a row with the reason. `Run.predict` returns predictions instead.

    Args:
        run: Run folder or bundle.
        images: Paths, folders and patterns: one, several, or an iterator, which is taken one by
            one.
        options: The file, and how it is written.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.
        keywords: Fields of `PredictOptions` instead of `options`, such as `out="found.csv"`.

    Returns:
        How many images there were, and what was found.

    Raises:
        DataError: If a folder has no images, or cannot be read.
        InputError: If the file is there and is not to be continued, or the bundle is not
            calibrated for the coverage.
        RunError: If there is no classifier, or the file was made with another one.

    Example:
        >>> import headstart
        >>> done = headstart.predict("runs/flowers", "new", out="found.csv")  # doctest: +SKIP
        >>> done.images, done.failed  # doctest: +SKIP
        (20000, 3)
    """
    began, shown = time.monotonic(), display(progress)
    options = with_keywords(PredictOptions, options, keywords)
    target, coverage = options.out, options.set_coverage
    if target is None:
        raise InputError("Give a file for the predictions: out='NAME.csv'.")
    bundle = open_bundle(run, many=options.engine == "here", multilabel=True)
    check_coverage(bundle, coverage)
    if options.reject:
        check_rejection(bundle)
    listed = count_inputs(images)
    made = made_by(bundle_folder(run), bundle.spec, coverage, options.reject)
    with open_predictions(target, made, options.resume) as file:
        before = len(file.done)
        if file.repaired:
            shown.say(f"{target}: a row that was half written is removed and made again.")
        if before:
            shown.say(f"{target} has {counted(before, 'row')}; their images are passed over.")
        if bundle.note:
            shown.say(bundle.note)
        left = (each for each in each_input(images) if not file.done.take(each.name))
        if options.engine == "ray":
            batches = on_ray(run, left, coverage, options.address)
        else:
            batches = predict_batches(bundle, left, coverage)
        total = None if listed is None else max(0, listed - before)
        tally = Tally()
        for each in shown.track(_written(file, batches, options.reject), "predicting", total):
            tally.count(each)
        not_listed = file.done.left
    seconds = time.monotonic() - began
    return Predicted(
        out=target, before=before, not_listed=not_listed, seconds=seconds, **vars(tally)
    )


def _written(
    file: PredictionFile, batches: Iterable[list[Prediction]], reject: bool
) -> Iterator[Prediction]:
    """Yields predictions when they are in the file."""
    for found in batches:
        batch = list(rejecting(found)) if reject else found
        file.write(batch)
        yield from batch


def on_ray(
    run: str | Path,
    images: Iterable[ImageInput],
    set_coverage: float | None = None,
    address: str | None = None,
) -> Iterator[list[Prediction]]:
    """Yields predictions of a Ray cluster, some at a time, in no order.

    Args:
        run: Run folder or bundle.
        images: Images, which are files.
        set_coverage: Coverage of prediction sets.
        address: Running cluster; None starts Ray on this machine.

    Raises:
        InputError: If an image is no file, Ray is not installed, or there is no such cluster.
    """
    from headstart.search.executors.ray_data import map_on_ray  # noqa: PLC0415 - takes a second

    arguments = (str(bundle_folder(run).resolve()), str(Path.cwd()), set_coverage)
    jobs = jobs_of(images)
    for lines in map_on_ray(ClassifyFiles, arguments, jobs, thread_count(), address):
        yield predictions_in(lines)
