"""Stores the visual evidence of a report in the run while the images are available."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.artifacts.evidence import (
    AUGMENTATIONS,
    PICTURES,
    TILES,
    Evidence,
    FeatureMap,
    Neighbour,
    Point,
    write_evidence,
    write_jpeg,
    write_pictures,
)
from headstart.artifacts.records import TestPrediction
from headstart.artifacts.run import read_predictions
from headstart.artifacts.set_results import read_set_predictions
from headstart.data.eval_view import eval_view
from headstart.diagnose.heat import HeatError, heat_maps
from headstart.diagnose.projection import FEWEST, project
from headstart.diagnose.reasons import SUSPECTS, read_suspects_csv
from headstart.errors import DiskFullError
from headstart.evaluation.retrieval import nearest
from headstart.inference.sealed_test import Proof
from headstart.recipes.recipe import Recipe
from headstart.report.heat_colours import in_colour
from headstart.report.images import (
    NEIGHBOURS_SHOWN,
    SUSPECTS_SHOWN,
    shown_mistakes,
    surest_mistakes,
)
from headstart.report.label_page import worst_images
from headstart.report.pictures import Subject, draw_augmentations
from headstart.text import counted
from headstart.training.budget import Clock
from headstart.training.experiment import Experiment
from headstart.training.finetune import FittedClassifier
from headstart.training.run_context import RunContext

_SIDE = 160
"""Shorter side of a photograph in pixels."""

_TILE = 48

_ON_MAP = 600
"""Largest number of test images on the map, and of training images."""

_DRAWING_S = 1.5
"""Seconds reserved for drawing the report."""

_LEAST_S = 2.5
"""Seconds used even if the budget is spent; its limit allows for them."""

_MAP_S = 0.006
"""Seconds per image on the map, measured on a slow machine."""


def keep_evidence(run: RunContext, fitted: FittedClassifier, proof: Proof) -> None:
    """Stores photographs, heat maps, neighbours and the feature map of a tested run.

    If time is short, slow parts are left out with a note.

    Args:
        run: The run.
        fitted: The trained classifier.
        proof: Result of the sealed test.
    """
    experiment, recipe, folder = fitted.experiment, fitted.recipe, run.folder
    if experiment.multilabel:
        _keep_worst(folder, experiment)
        return
    until = _until(run.clock)
    tested, known = proof.tested, proof.known
    keys = [experiment.dataset.key(row) for row in range(len(experiment.dataset.items))]
    row_of = {key: row for row, key in enumerate(keys)}
    test_rows = experiment.audited.kept[experiment.split.test]
    train_rows = experiment.extractor.rows["train"]
    predictions = read_predictions(folder)
    (folder / PICTURES).mkdir(exist_ok=True)

    wrong = shown_mistakes(predictions)
    place = {keys[int(row)]: number for number, row in enumerate(test_rows)}
    neighbours = _neighbours(experiment, wrong, tested[[place[p.path] for p in wrong]], known)
    right = right_beside(predictions, wrong, tested, place)
    suspects = [row["path"] for row in read_suspects_csv(folder / SUSPECTS)[:SUSPECTS_SHOWN]]
    near = [each.image for found in neighbours.values() for each in found]
    beside = [each.image for each in right.values()]
    names = dict.fromkeys([*(p.path for p in wrong), *near, *beside, *suspects])
    photographs = ((name, _small(experiment, row_of[name])) for name in names if name in row_of)
    write_pictures(folder, "photograph", photographs)
    notes: list[str] = []
    feature_map, places = None, None
    points, vectors = _points(experiment, predictions, (test_rows, tested), (train_rows, known))
    with ThreadPoolExecutor(1) as aside:
        if len(points) >= FEWEST:
            map_s = _MAP_S * len(points) * run.clock.pace.contention
            if until is not None and time.monotonic() + map_s > until:
                notes.append("The time budget did not allow a map of the images.")
            else:
                with _at_leisure(notes, "map of the images"):
                    # Before the thread, which must not import what is imported here meanwhile.
                    import sklearn.manifold  # noqa: F401, PLC0415

                    places = aside.submit(project, vectors, recipe.seed)
        with _at_leisure(notes, "sheet of augmented views"):
            _draw_views(experiment, recipe, folder)
        with _at_leisure(notes, "heat maps"):
            sure = surest_mistakes(predictions)
            others = {right[each.path].image for each in sure if each.path in right}
            looked_at = [*sure, *(each for each in predictions if each.path in others)]
            made = _keep_heat(experiment, proof, looked_at, row_of, folder, until)
            if made < len(sure):
                mistakes = counted(len(sure), "mistake")
                notes.append(f"The time budget allowed heat maps for {made} of {mistakes}.")
        if places is not None:
            with _at_leisure(notes, "map of the images"):
                feature_map = _draw_map(experiment, points, places.result(), row_of, folder)
    evidence = Evidence(neighbours=neighbours, right=right, map=feature_map, notes=tuple(notes))
    write_evidence(folder, evidence)


def _keep_worst(folder: Path, experiment: Experiment) -> None:
    """Stores small pictures of what a multi-label run predicts worst, and of suspicious images."""
    dataset = experiment.dataset
    row_of = {dataset.key(row): row for row in range(len(dataset.items))}
    worst = [each.path for each in worst_images(read_set_predictions(folder))]
    suspects = [row["path"] for row in read_suspects_csv(folder / SUSPECTS)[:SUSPECTS_SHOWN]]
    names = [name for name in dict.fromkeys([*worst, *suspects]) if name in row_of]
    drawn = ((name, _small(experiment, row_of[name])) for name in names)
    write_pictures(folder, "photograph", drawn)
    write_evidence(folder, Evidence())


def _until(clock: Clock) -> float | None:
    """Returns when drawing the report must begin; None without a budget."""
    left = clock.left()
    if left is None:
        return None
    # The limit of a budget allows for a little more, but only once.
    least = _LEAST_S if left > -_LEAST_S else 0.0
    return time.monotonic() + max(left - _DRAWING_S * clock.pace.contention, least)


@contextmanager
def _at_leisure(notes: list[str], what: str) -> Iterator[None]:
    """Turns an error into a note, because a finished run must not fail due to its pictures."""
    try:
        yield
    except DiskFullError:
        raise
    except HeatError as error:
        notes.append(f"No {what}: {error}.")
    except Exception as error:
        notes.append(f"No {what}: {type(error).__name__}: {error}.")


def _neighbours(
    experiment: Experiment,
    wrong: Sequence[TestPrediction],
    vectors: NDArray[np.float32],
    known: NDArray[np.float32],
) -> dict[str, tuple[Neighbour, ...]]:
    """Returns the most similar training images of each wrongly classified image."""
    if not wrong:
        return {}
    rows, cosines = nearest(vectors, known, NEIGHBOURS_SHOWN)
    train = experiment.extractor.rows["train"]
    return {
        each.path: tuple(
            Neighbour(
                image=experiment.dataset.key(int(train[row])),
                label=experiment.dataset.items[int(train[row])].label,
                similarity=float(cosine),
            )
            for row, cosine in zip(rows[number], cosines[number], strict=True)
        )
        for number, each in enumerate(wrong)
    }


def _small(experiment: Experiment, row: int) -> Image.Image:
    image = Image.fromarray(experiment.pixels.image(row))
    image.thumbnail((2 * _SIDE, 2 * _SIDE))
    shorter = min(image.size)
    if shorter > _SIDE:
        scale = _SIDE / shorter
        image = image.resize((round(image.width * scale), round(image.height * scale)))
    return image


def _draw_views(experiment: Experiment, recipe: Recipe, folder: Path) -> None:
    if recipe.augmentation.absent:
        return
    row = int(experiment.extractor.rows["train"][0])
    subject = Subject(Image.fromarray(experiment.pixels.image(row)), "a training image")
    policies = {recipe.augmentation.name: recipe.augmentation}
    preprocessing = experiment.extractor.backbone.preprocessing
    draw_augmentations(
        folder / PICTURES / AUGMENTATIONS, subject, policies, preprocessing, recipe.seed
    )


def right_beside(
    predictions: Sequence[TestPrediction],
    wrong: Sequence[TestPrediction],
    vectors: NDArray[np.float32],
    place: Mapping[str, int],
) -> dict[str, Neighbour]:
    """Returns the most similar test image of the same class that was classified correctly.

    Args:
        predictions: All predictions for the test images.
        wrong: Those to find another one for.
        vectors: Embeddings (N, D) of the test images.
        place: Row in `vectors`, by the name of the image.

    Returns:
        The other images, by the name of the image; without those of classes that are never right.
    """
    found = {}
    for each in wrong:
        label = each.label
        right = [p for p in predictions if p.label == label == p.prediction]
        if not right:
            continue
        known = vectors[[place[p.path] for p in right]]
        rows, cosines = nearest(vectors[[place[each.path]]], known, 1)
        image = right[int(rows[0, 0])].path
        found[each.path] = Neighbour(image=image, label=label, similarity=float(cosines[0, 0]))
    return found


def _keep_heat(
    experiment: Experiment,
    proof: Proof,
    answers: Sequence[TestPrediction],
    row_of: dict[str, int],
    folder: Path,
    until: float | None,
) -> int:
    """Stores a heat map for each prediction, in this order, and returns how many time allowed."""
    if not answers or (until is not None and time.monotonic() > until):
        return 0
    preprocessing = proof.spec.preprocessing
    rows = [row_of[each.path] for each in answers]
    views = np.stack(
        [eval_view(Image.fromarray(experiment.pixels.image(row)), preprocessing) for row in rows]
    )
    classes = [proof.spec.classes.index(each.prediction) for each in answers]
    heat = heat_maps(proof.network, views, classes, until)

    def coloured() -> Iterator[tuple[str, Image.Image]]:
        for each, view, seen in zip(answers, views, heat, strict=False):
            picture = Image.fromarray(in_colour(view, seen))
            picture.thumbnail((_SIDE, _SIDE))
            yield each.path, picture

    write_pictures(folder, "colour", coloured())
    return len(heat)


def _points(
    experiment: Experiment,
    predictions: Sequence[TestPrediction],
    *parts: tuple[NDArray[np.int64], NDArray[np.float32]],
) -> tuple[list[Point], NDArray[np.float32]]:
    """Returns points for the map, all at its centre, and their embeddings.

    Args:
        experiment: Data and backbone.
        predictions: Predictions for the test images.
        parts: Rows and embeddings of the test images and of the training images.
    """
    said = {each.path: each.prediction for each in predictions}
    rng = np.random.default_rng(0)
    points, vectors = [], []
    for rows, embeddings in parts:
        some = np.sort(rng.permutation(len(rows))[:_ON_MAP])
        vectors.append(embeddings[some])
        for row in rows[some]:
            key, label = experiment.dataset.key(int(row)), experiment.dataset.items[int(row)].label
            points.append(Point(image=key, label=label, prediction=said.get(key, ""), x=0.5, y=0.5))
    return points, np.concatenate(vectors)


def _draw_map(
    experiment: Experiment,
    points: Sequence[Point],
    places: NDArray[np.float64],
    row_of: dict[str, int],
    folder: Path,
) -> FeatureMap:
    """Puts the points at their places (N, 2), and stores their tiles."""
    columns = ceil(len(points) ** 0.5)
    sheet = Image.new("RGB", (columns * _TILE, ceil(len(points) / columns) * _TILE))
    for number, point in enumerate(points):
        image = Image.fromarray(experiment.pixels.image(row_of[point.image]))
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        tile = image.resize((_TILE, _TILE), box=(left, top, left + side, top + side))
        sheet.paste(tile, (number % columns * _TILE, number // columns * _TILE))
    write_jpeg(folder / PICTURES / TILES, sheet)
    placed = [
        point.model_copy(update={"x": round(float(x), 4), "y": round(float(y), 4)})
        for point, (x, y) in zip(points, places, strict=True)
    ]
    return FeatureMap(method="t-SNE", points=tuple(placed), tile=_TILE, columns=columns)
