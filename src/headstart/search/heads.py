"""The search of heads: closed-form heads on cached features, scored by cross-validation."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.journal import HEADS, HeadRecord, SearchPlan
from headstart.backbones.places import FEATURES
from headstart.diagnose.label_suspects import find_label_suspects
from headstart.diagnose.reasons import SUSPECTS, without_sealed, write_suspects_csv
from headstart.diagnose.suspects import find_suspects
from headstart.evaluation.calibration import calibrated_score, softmax
from headstart.evaluation.label_rules import fit_rules, probabilities_of
from headstart.evaluation.label_scores import right_sets
from headstart.evaluation.trust import Calibration, fit_calibration
from headstart.features.extractor import activations, features_of, open_prefix
from headstart.features.layout import LAST, FeatureLayout, FeatureTable, layout_behind
from headstart.features.probe import (
    FEW_STRENGTHS,
    FOLDS_BY_WORK,
    STRENGTHS,
    LabelledFeatures,
    affordable_folds,
    out_of_fold,
    parted,
)
from headstart.methods.head import Cosine, HeadUnion, Linear
from headstart.progress import SILENT, Progress
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.recipes.space import drawn_families
from headstart.search.head_average import HeldOut, mean_head
from headstart.search.leaderboard import right_words, shown
from headstart.text import counted, listed
from headstart.training.experiment import Experiment, development_set
from headstart.training.run_context import RunContext
from headstart.training.solving import seen_by

PENALTIES: tuple[float, ...] = tuple(float(10 ** (-exponent / 2)) for exponent in range(13))
"""L2 penalties from 1 to 0.000001, two to a decade."""

LINEAR = (
    ("stages+covariance", "unit"),
    ("last", "none"),
    ("stages", "none"),
    ("last+covariance", "unit"),
    ("stages", "unit"),
)
"""What linear heads may see and how it is scaled, the likeliest first: time may run out."""

COSINES = (("stages+covariance", "unit"), ("last", "none"), ("stages", "none"))
"""The same for heads of class means."""

SMOOTHED = 2
"""Number of linear kinds, the best ones, that are tried with label smoothing."""

SMOOTHINGS = (0.1, 0.2)

REPEATS_BELOW = ((300, 3), (600, 2))
"""Number of images below which cross-validation is repeated, and how often, with new folds."""

_UNTOLD = {"name", "init", "dropout", "mean_of"}

HEADS_SHARE = 0.06
"""Largest share of the time for trying heads, besides the time of the frozen prefix."""


@dataclass(frozen=True)
class HeadTrial:
    """One tried head.

    Attributes:
        head: Head method with its choice of features.
        loss: Cross-validated log loss in nats at the best temperature.
        right: Number of correctly classified images; of sets of labels, those that get exactly
            theirs at a probability of 50%.
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
        trials: Tried heads by their loss, but for the mean of several: where that is worth more
            than the best, it comes first.
        logits: Out-of-fold logits (N, C) of the best; NaN for an image that was not tested.
    """

    trials: tuple[HeadTrial, ...]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class _Kind:
    """What heads that are tried together have in common; without smoothing, cosine heads."""

    features: str
    normalize: str
    smoothing: float | None = 0.0


def search_heads(
    whole: LabelledFeatures,
    layout: FeatureLayout,
    given: HeadUnion | None = None,
    seed: int = 0,
    until: float | None = None,
    progress: Progress = SILENT,
    averages: bool = True,
) -> HeadSearch:
    """Tries heads on cached features and ranks them by cross-validated log loss.

    All penalties of a kind come from one path of fits, each from the one before it. The best kinds
    are then tried with label smoothing, and in the end the mean of those that can be added.

    Args:
        whole: Features (N, F) with labels and groups.
        layout: Layout of the features.
        given: Head whose fields `features` and `normalize` hold where they are not `auto`.
        seed: Seed for the folds.
        until: Time on the clock of `time.monotonic` after which no further path is started.
        progress: Progress display.
        averages: Whether to try the mean of heads, too; only with few images, where it pays and
            takes no time.
    """
    tried: list[HeadTrial] = []
    best: NDArray[np.float32] | None = None
    best_of: dict[_Kind, float] = {}
    addable: dict[_Kind, HeldOut] = {}
    table = FeatureTable(np.asarray(whole.features, np.float32), layout)
    kinds = _kinds(whole, layout, given or Linear())
    steps = iter(progress.track(range(most := _most(kinds)), "searching heads", most))
    while kinds:
        kind = kinds.pop(0)
        next(steps, None)
        if tried and until is not None and time.monotonic() > until:
            break
        columns = seen(table, kind.features, kind.normalize)
        data = replace(whole, features=columns, one_scale=kind.normalize == "unit")
        for head, logits in _out_of_fold(data, kind, seed):
            tested = np.isfinite(logits[:, 0])
            if not tested.any():
                continue
            held, truth = logits[tested], whole.labels[tested]
            loss, accuracy = calibrated_score(held, truth)
            images = int(tested.sum())
            if truth.ndim == 2:
                accuracy = float(right_sets(held, truth).mean())
            if best is None or loss < min(trial.loss for trial in tried):
                best = logits
            tried.append(HeadTrial(head, loss, round(accuracy * images), images))
            if loss < best_of.get(kind, np.inf):
                best_of[kind] = loss
                if kind.normalize == "unit" and kind.smoothing is not None:
                    addable[kind] = HeldOut(head, logits)
        if not kinds and kind.smoothing is None:
            kinds = _smoothed(best_of)
    for _ in steps:
        pass
    if best is None:  # no fold leaves two classes to learn from, so nothing can be compared
        best = np.full((len(whole.labels), whole.classes), np.nan, np.float32)
        tried = [HeadTrial(Linear(features="last", penalty=STRENGTHS[0]), 0.0, 0, 0)]
    found = HeadSearch(tuple(sorted(tried, key=lambda trial: trial.loss)), best)
    few = affordable_folds(len(whole.labels), layout.width, whole.classes) == FOLDS_BY_WORK[0][0]
    if averages and few and whole.labels.ndim == 1:
        return _with_mean(found, list(addable.values()), whole.labels)
    return found


def _with_mean(
    found: HeadSearch, heads: Sequence[HeldOut], labels: NDArray[np.int64]
) -> HeadSearch:
    """Returns the search with the mean of heads as the first trial, where it is worth more."""
    tested = np.isfinite(found.logits[:, 0])
    truth = labels[tested]
    mean = mean_head(
        [replace(each, logits=each.logits[tested]) for each in heads], truth, found.logits[tested]
    )
    if mean is None:
        return found
    loss, accuracy = calibrated_score(mean.logits, truth)
    logits = np.full_like(found.logits, np.nan)
    logits[tested] = mean.logits
    trial = HeadTrial(mean.head, loss, round(accuracy * len(truth)), len(truth))
    return HeadSearch((trial, *found.trials), logits)


def seen(table: FeatureTable, features: str, normalize: str) -> NDArray[np.float32]:
    """Returns what the last layer of a head sees (N, F)."""
    method = Linear.model_validate({"features": features, "normalize": normalize})
    return seen_by(method, table.layout.only(features), table.of(features))


def repeats(images: int) -> int:
    """Returns how often cross-validation is repeated for a number of images."""
    return next((number for limit, number in REPEATS_BELOW if images < limit), 1)


def _kinds(whole: LabelledFeatures, layout: FeatureLayout, given: HeadUnion) -> list[_Kind]:
    """Returns the kinds to begin with, cosine heads last; few where one costs much."""

    def fitting(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        return [
            (features, normalize)
            for features, normalize in pairs
            if features in layout.choices
            and given.features in {"auto", features}
            and given.normalize in {"auto", normalize}
        ]

    linear = [_Kind(*each) for each in fitting(LINEAR)]
    if not linear:  # such as those of the last features alone at unit length
        linear = [_Kind(given.features.replace("auto", LAST), given.normalize)]
    several = whole.labels.ndim == 2  # a class mean is that of images with no other label
    if several or affordable_folds(len(whole.labels), layout.width, whole.classes) == 1:
        return linear
    return [*linear, *(_Kind(*each, smoothing=None) for each in fitting(COSINES))]


def _smoothed(best_of: Mapping[_Kind, float]) -> list[_Kind]:
    """Returns the best linear kinds with label smoothing."""
    linear = sorted(
        (loss, n) for n, (kind, loss) in enumerate(best_of.items()) if kind.smoothing == 0
    )
    kinds = list(best_of)
    best = [kinds[n] for _, n in linear[:SMOOTHED]]
    return [replace(kind, smoothing=smoothing) for smoothing in SMOOTHINGS for kind in best]


def _most(kinds: Sequence[_Kind]) -> int:
    """Returns how many kinds are tried at most."""
    linear = sum(kind.smoothing == 0 for kind in kinds)
    both = linear < len(kinds)
    return len(kinds) + both * len(SMOOTHINGS) * min(SMOOTHED, linear)


def _out_of_fold(
    data: LabelledFeatures, kind: _Kind, seed: int
) -> Iterator[tuple[Linear | Cosine, NDArray[np.float32]]]:
    """Yields heads with their out-of-fold logits (N, C), the mean of all repeats."""
    times = repeats(len(data.labels))
    seeds = range(seed, seed + times)
    fields = {"features": kind.features, "normalize": kind.normalize}
    if kind.smoothing is None:
        each = [_cosines(data, at) for at in seeds]
        yield Cosine.model_validate(fields), np.mean(each, axis=0)
        return
    rows, width = data.features.shape
    cheap = affordable_folds(rows, width, data.classes) > 1
    strengths: Sequence[float] = PENALTIES if cheap else FEW_STRENGTHS
    paths = [out_of_fold(data, strengths, kind.smoothing, at) for at in seeds]
    for position, logits in enumerate(np.mean(paths, axis=0)):
        more = {"penalty": strengths[position], "smoothing": kind.smoothing}
        yield Linear.model_validate({**fields, **more}), logits


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
    plain = development_set(experiment)
    with run.step("frozen prefix", f"run the frozen part up to {boundary!r} once on every image"):
        table = _head_features(experiment, boundary, plain.rows)
    pooled = table.of(LAST)
    with run.step("heads", "cross-validate heads on cached features") as step:
        began = time.monotonic()
        until = None if left is None else began + HEADS_SHARE * left
        classes = len(experiment.extractor.classes)
        data = LabelledFeatures(table.array, plain.labels, classes, plain.groups)
        # Unlabelled images serve a head that is solved once.
        alone = experiment.unlabelled is None
        found = search_heads(data, table.layout, head, base.seed, until, run.progress, alone)
        step.seconds = time.monotonic() - began
        best = found.trials[0]
        step.happened(
            f"{counted(len(found.trials), 'head')} in {step.seconds:.1f} s; best: "
            f"{_describe_head(best.head)}, log loss {best.loss:.3f}, "
            f"{best.right} of {best.images} {right_words(base)}"
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
        calibration, rules = Calibration(), None
        if tested.any() and experiment.multilabel:
            held, marks = found.logits[tested], plain.labels[tested]
            rules = fit_rules(held, marks, plain.groups[tested], run.record.precision)
            told = probabilities_of(held, rules.rules)
            _note_suspects(run, experiment, tested, told, pooled[tested])
        elif tested.any():
            held, labels = found.logits[tested], plain.labels[tested]
            calibration = fit_calibration(
                held, labels, "cross-validation of the head", groups=plain.groups[tested]
            )
            told = softmax(held, calibration.temperature)
            _note_suspects(run, experiment, tested, told, pooled[tested])
    plan = nothing.model_copy(
        update={
            "head_loss": best.loss, "head_right": best.right, "head_images": best.images,
            "head_calibration": calibration, "head_rules": rules,
        }
    )  # fmt: skip
    return parse_recipe({**base.model_dump(), "head": chosen.model_dump()}), plan


def _note_suspects(
    run: RunContext,
    experiment: Experiment,
    tested: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    features: NDArray[np.float32],
) -> None:
    """Writes the suspect images, by out-of-fold probabilities of the best head.

    Args:
        run: The run.
        experiment: Its images.
        tested: Which images of the development set have such probabilities.
        probabilities: Their probabilities (N, C), calibrated.
        features: Their features (N, F).
    """
    sealed = {
        experiment.dataset.key(int(row)) for row in experiment.audited.kept[experiment.split.test]
    }
    findings = without_sealed(experiment.audited.audit.findings, sealed)
    dataset, classes = experiment.dataset, experiment.extractor.classes
    plain = development_set(experiment)
    rows, groups = plain.rows[tested], plain.groups[tested]
    if experiment.multilabel:
        found = find_label_suspects(
            dataset, rows, classes, probabilities, features, groups, findings
        )
    else:
        found = find_suspects(dataset, rows, classes, probabilities, features, findings)
    write_suspects_csv(run.folder / SUSPECTS, found, experiment.multilabel)


def _head_features(experiment: Experiment, boundary: str, rows: NDArray[np.int64]) -> FeatureTable:
    """Returns the features that a head may see behind a boundary."""
    extractor = replace(experiment.extractor, rows={"train": rows}, pool=rows)
    layout = layout_behind(extractor.traced, boundary, extractor.backbone.features)
    prefix = open_prefix(extractor, boundary, layout.taps if boundary == FEATURES else ())
    cached = activations(extractor, prefix, "train")
    return FeatureTable(features_of(extractor, prefix, cached, layout.taps), layout)


def _describe_head(head: Linear | Cosine) -> str:
    if head.solutions:
        kinds = list(dict.fromkeys(each.features for each in head.solutions))
        return f"the mean of {len(head.solutions)} linear heads on {listed(kinds)} features"
    fields = {k: v for k, v in vars(head).items() if k not in _UNTOLD}
    return f"{head.name} ({', '.join(f'{k} = {shown(v)}' for k, v in fields.items())})"
