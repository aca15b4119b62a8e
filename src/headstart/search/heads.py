"""The search of heads: closed-form heads on cached features, scored by cross-validation."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.journal import HEADS, HeadRecord, SearchPlan
from headstart.backbones.boundaries import FEATURES
from headstart.diagnose.suspects import SUSPECTS, find_suspects, without_sealed, write_suspects_csv
from headstart.evaluation.calibration import calibrated_score, softmax
from headstart.evaluation.trust import Calibration, fit_calibration
from headstart.features.extractor import activations, features_of, open_prefix
from headstart.features.probe import (
    STRENGTHS,
    LabelledFeatures,
    affordable_folds,
    out_of_fold,
    parted,
)
from headstart.methods.head import Cosine, Linear
from headstart.progress import SILENT, Progress
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.recipes.space import drawn_families
from headstart.search.leaderboard import shown
from headstart.text import counted
from headstart.training.experiment import Experiment, development_set
from headstart.training.run_context import RunContext
from headstart.training.transfer import stages_behind

PENALTIES: tuple[float, ...] = tuple(float(10 ** (-exponent / 4)) for exponent in range(4, 21))
"""L2 penalties from 0.1 to 0.00001, four to a decade."""

SMOOTHINGS = (0.0, 0.1, 0.2)

REPEATS_BELOW = ((300, 3), (600, 2))
"""Number of images below which cross-validation is repeated, and how often, with new folds."""

HEADS_SHARE = 0.06
"""Largest share of the time for trying heads."""


@dataclass(frozen=True)
class HeadTrial:
    """One tried head.

    Attributes:
        head: Head method with its choice of features.
        loss: Cross-validated log loss in nats at the best temperature.
        right: Number of correctly classified images.
        images: Number of tested images.
    """

    head: Linear | Cosine
    loss: float
    right: int
    images: int


@dataclass(frozen=True)
class HeadSearch:
    """The result of a search of heads.

    Attributes:
        trials: Tried heads, the best first.
        logits: Out-of-fold logits (N, C) of the best; NaN for an image that was not tested.
    """

    trials: tuple[HeadTrial, ...]
    logits: NDArray[np.float32]


def search_heads(
    features: dict[str, NDArray[np.float32]],
    labels: NDArray[np.int64],
    classes: int,
    groups: NDArray[np.int64],
    seed: int = 0,
    until: float | None = None,
    progress: Progress = SILENT,
) -> HeadSearch:
    """Tries heads on cached features and ranks them by cross-validated log loss.

    All penalties of a kind come from one path of fits, each from the one before it.

    Args:
        features: Features (N, F) by name, `last` or `stages`.
        labels: Class numbers (N,), in 0 … C-1.
        classes: Number of classes C.
        groups: Group numbers (N,); a group stays within one fold.
        seed: Seed for the folds.
        until: Time on the clock of `time.monotonic` after which no further path is started.
        progress: Progress display.
    """
    tried: list[HeadTrial] = []
    best: NDArray[np.float32] | None = None
    kinds = _kinds(features, classes)
    for which, smoothing in progress.track(kinds, "searching heads", len(kinds)):
        if tried and until is not None and time.monotonic() > until:
            continue
        for head, logits in _out_of_fold(
            LabelledFeatures(features[which], labels, classes, groups), which, smoothing, seed
        ):
            tested = np.isfinite(logits[:, 0])
            if not tested.any():
                continue
            loss, accuracy = calibrated_score(logits[tested], labels[tested])
            images = int(tested.sum())
            if best is None or loss < min(trial.loss for trial in tried):
                best = logits
            tried.append(HeadTrial(head, loss, round(accuracy * images), images))
    if best is None:  # no fold leaves two classes to learn from, so nothing can be compared
        best = np.full((len(labels), classes), np.nan, np.float32)
        tried = [HeadTrial(Linear(features="last", penalty=STRENGTHS[0]), 0.0, 0, 0)]
    return HeadSearch(tuple(sorted(tried, key=lambda trial: trial.loss)), best)


def repeats(images: int) -> int:
    """Returns how often cross-validation is repeated for a number of images."""
    return next((number for limit, number in REPEATS_BELOW if images < limit), 1)


def _kinds(
    features: dict[str, NDArray[np.float32]], classes: int
) -> list[tuple[str, float | None]]:
    """Returns features with a smoothing, or None for a cosine head; few where one costs much."""
    widest = max(array.shape[1] for array in features.values())
    rows = len(next(iter(features.values())))
    if affordable_folds(rows, widest, classes) == 1:
        return [(which, 0.0) for which in features]
    smoothings = (
        SMOOTHINGS[0],
        None,
        *SMOOTHINGS[1:],
    )  # best first: time may run out
    return [(which, smoothing) for smoothing in smoothings for which in features]


def _out_of_fold(
    data: LabelledFeatures, which: str, smoothing: float | None, seed: int
) -> Iterator[tuple[Linear | Cosine, NDArray[np.float32]]]:
    """Yields heads with their out-of-fold logits (N, C), the mean of all repeats."""
    times = repeats(len(data.labels))
    seeds = range(seed, seed + times)
    if smoothing is None:
        each = [_cosines(data, at) for at in seeds]
        yield Cosine.model_validate({"features": which}), np.mean(each, axis=0)
        return
    rows, width = data.features.shape
    cheap = affordable_folds(rows, width, data.classes) > 1
    strengths: Sequence[float] = PENALTIES if cheap else STRENGTHS
    paths = [out_of_fold(data, strengths, smoothing, at) for at in seeds]
    for position, logits in enumerate(np.mean(paths, axis=0)):
        fields = {"features": which, "penalty": strengths[position], "smoothing": smoothing}
        yield Linear.model_validate(fields), logits


def _cosines(data: LabelledFeatures, seed: int) -> NDArray[np.float32]:
    """Returns the out-of-fold logits (N, C) of heads that point at each class's mean direction."""
    columns, labels, classes = data.features, data.labels, data.classes
    n_folds = affordable_folds(len(columns), columns.shape[1], classes)
    fold_of = parted(labels, data.groups, n_folds, seed)
    directions = columns / np.maximum(np.linalg.norm(columns, axis=1, keepdims=True), 1e-12)
    logits = np.zeros((len(labels), classes), np.float32)
    for fold in np.unique(fold_of):
        held = fold_of == fold
        for number in range(classes):
            rows = ~held & (labels == number)
            centre = directions[rows].mean(0) if rows.any() else np.zeros(columns.shape[1])
            length = max(float(np.linalg.norm(centre)), 1e-12)
            logits[held, number] = Cosine().scale * directions[held] @ (centre / length)
    return logits


def searches_heads(run: RunContext, base: Recipe) -> bool:
    """Returns whether to search the head: no part of it was set by hand."""
    return base.head.open_to_search and bool(drawn_families(run.options.by_hand, ("head",)))


def with_best_head(
    run: RunContext, experiment: Experiment, base: Recipe, boundary: str
) -> tuple[Recipe, SearchPlan]:
    """Stage 2: returns the recipe with the best head on frozen features, and its score."""
    nothing = SearchPlan(rungs=(), folds=1, epochs=0)
    head = base.head
    if not searches_heads(run, base):
        return base, nothing
    left = run.clock.left()
    until = None if left is None else time.monotonic() + HEADS_SHARE * left
    plain = development_set(experiment)
    with run.step("frozen prefix", f"run the frozen part up to {boundary!r} once on every image"):
        features = _head_features(experiment, boundary, plain.rows)
    pooled = features["last"]
    if head.features != "auto":
        features = {head.features: features[head.features]}
    with run.step("heads", "cross-validate heads on cached features") as step:
        began = time.monotonic()
        found = search_heads(
            features,
            plain.labels,
            len(experiment.extractor.classes),
            plain.groups,
            base.seed,
            until,
            run.progress,
        )
        step.seconds = time.monotonic() - began
        best = found.trials[0]
        step.happened(
            f"{counted(len(found.trials), 'head')} in {step.seconds:.1f} s; best: "
            f"{_describe_head(best.head)}, log loss {best.loss:.3f}, "
            f"{best.right} of {best.images} correct"
        )
        HEADS.write(
            run.folder,
            [
                HeadRecord(
                    head=trial.head.model_dump(mode="json"),
                    loss=trial.loss, right=trial.right, images=trial.images,
                )
                for trial in found.trials
            ],
        )  # fmt: skip
        chosen = best.head.model_copy(update={"dropout": head.dropout})
        tested = np.isfinite(found.logits[:, 0])
        calibration = Calibration()
        if tested.any():
            held, labels = found.logits[tested], plain.labels[tested]
            calibration = fit_calibration(
                held, labels, "cross-validation of the head", groups=plain.groups[tested]
            )
            told = softmax(held, calibration.temperature)
            _note_suspects(run, experiment, plain.rows[tested], told, pooled[tested])
    plan = nothing.model_copy(
        update={
            "head_loss": best.loss, "head_right": best.right, "head_images": best.images,
            "head_calibration": calibration,
        }
    )  # fmt: skip
    return parse_recipe({**base.model_dump(), "head": chosen.model_dump()}), plan


def _note_suspects(
    run: RunContext,
    experiment: Experiment,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    features: NDArray[np.float32],
) -> None:
    """Writes the suspect images, by out-of-fold probabilities of the best head."""
    sealed = {
        experiment.dataset.key(int(row)) for row in experiment.audited.kept[experiment.split.test]
    }
    findings = without_sealed(experiment.audited.audit.findings, sealed)
    classes = experiment.extractor.classes
    found = find_suspects(experiment.dataset, rows, classes, probabilities, features, findings)
    write_suspects_csv(run.folder / SUSPECTS, found)


def _head_features(
    experiment: Experiment, boundary: str, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Returns the features (N, F) that a head may see behind a boundary, by the field's name."""
    extractor = replace(experiment.extractor, rows={"train": rows}, pool=rows)
    stages = stages_behind(extractor, boundary)
    prefix = open_prefix(extractor, boundary, stages if boundary == FEATURES else ())
    cached = activations(extractor, prefix, "train")
    features = features_of(extractor, prefix, cached, stages)
    found = {"last": features[:, -extractor.backbone.features :]}
    return {"stages": features, **found} if stages else found


def _describe_head(head: Linear | Cosine) -> str:
    fields = {k: v for k, v in vars(head).items() if k not in {"name", "init", "dropout"}}
    return f"{head.name} ({', '.join(f'{k} = {shown(v)}' for k, v in fields.items())})"
