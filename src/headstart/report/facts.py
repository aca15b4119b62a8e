"""The figures and facts of the report, as text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.artifacts.journal import Trial
from headstart.artifacts.records import EpochRecord, RunRecord
from headstart.backbones.places import FEATURES, INPUT
from headstart.evaluation.intervals import basis
from headstart.evaluation.metrics import ClassMetrics, Metrics, flags_of
from headstart.evaluation.statistics import Interval, optimism_of_best
from headstart.progress import format_duration
from headstart.text import counted, percent, percent_range


@dataclass(frozen=True)
class Figure:
    """A row of the table of test results: name, value, interval and meaning."""

    name: str
    value: str
    interval: str
    meaning: str


def headline(metrics: Metrics) -> str:
    """Returns the title of the report: how often the classifier is right on new images."""
    share = percent(metrics.accuracy, decimals(metrics.n))
    return f"Correct on {share} of new images like these ({interval(metrics)})"


def interval(metrics: Metrics) -> str:
    """Returns the interval of the accuracy, and from how many groups it is, in words."""
    ends = percent_range(metrics.accuracy_interval, decimals(metrics.n))
    return f"95% interval {ends}{basis(metrics.groups, metrics.n)}"


def decimals(n: int) -> int:
    """Returns how many decimals of a percentage n images can distinguish."""
    return 0 if n < 100 else 1


def standing(metrics: Metrics) -> str:
    """Returns a sentence that compares the accuracy with that of the most frequent class."""
    largest = max(metrics.classes, key=lambda c: c.n)
    share = percent(largest.n / metrics.n, decimals(metrics.n))
    return (
        f"{metrics.correct} of {counted(metrics.n, 'test image')} were classified correctly. No "
        f"choice was made on these images. Always answering “{largest.name}” would be right on "
        f"{share} of them."
    )


def what_was_done(record: RunRecord, epochs: Sequence[EpochRecord]) -> list[tuple[str, str]]:
    """Returns what was done as (term, text); terms that do not apply are left out."""
    several = record.task == "multilabel"
    kind = ("label", "labels") if several else ("class", "classes")
    images = (
        f"{record.n_train:,} for training, {record.n_val:,} for validation, "
        f"{record.n_test:,} sealed for the test; {counted(len(record.classes), *kind)}"
    )
    trained = {
        "": "",
        FEATURES: "the head only; the backbone is frozen",
        INPUT: "the whole network",
    }.get(
        FEATURES if record.head_alone else record.boundary,
        f"everything after {record.boundary}; the layers before it are frozen",
    )
    validation = [
        f"{'at the start' if e.epoch == 0 else f'after epoch {e.epoch}'} {percent(e.val_accuracy)}"
        for e in dict.fromkeys([*epochs[:1], *epochs[-1:]])
        if e.val_accuracy is not None
    ]
    took = format_duration(record.seconds)
    if record.budget_s is not None:
        took += f" of a budget of {format_duration(record.budget_s)}"
    found = [
        ("Images", images),
        ("Licence of the images", record.licence or ""),
        ("Backbone", f"{record.backbone}, weights: {record.backbone_source}"),
        ("Trained part", trained),
        ("Augmented views of each image", str(record.views) if record.views else ""),
        ("Epochs", str(record.epochs) if record.epochs else ""),
        ("Kept", record.chosen),
        ("Temperature", "" if record.calibration is None else record.calibration.described),
        ("Why training ended", record.stop_reason),
        (f"Validation {'mAP' if several else 'accuracy'}", ", ".join(validation)),
        (f"{'mAP' if several else 'Accuracy'} on training images", _view_gap(record)),
        ("Test set opened", _opened(record)),
        *(record.continued.lines if record.continued else ()),
        *(record.unlabelled.lines if record.unlabelled else ()),
        ("Time", took),
    ]
    return [(term, text) for term, text in found if text]


def _opened(record: RunRecord) -> str:
    """Returns when the sealed test set was opened, including by an earlier, stopped session."""
    if not record.test_opened_at:
        return ""
    if not record.test_opened_before:
        return f"once, at {record.test_opened_at}"
    before = ", ".join(record.test_opened_before)
    return (
        f"at {record.test_opened_at}, and before that at {before}, when the run was stopped during "
        "the test. No choice was based on the first opening: the resumed run followed the same plan"
    )


def _view_gap(record: RunRecord) -> str:
    """Returns the accuracy on views used in training and on new views of the same images."""
    cached, fresh = record.cached_view_accuracy, record.fresh_view_accuracy
    if cached is None or fresh is None:
        return ""
    return f"{percent(cached)} in a view that was used in training, {percent(fresh)} in a new view"


def optimism(trials: Sequence[Trial]) -> str:
    """Returns by how much the choice among the trials overstates accuracy, as a sentence.

    Only trials of the first rung are compared: all recipes were tried in it, on the same images
    and with schedules of the same length. Empty where there are fewer than two.
    """
    first = [trial for trial in trials if trial.rung == 0 and trial.val_bits]
    if len(first) < 2:
        return ""
    gap = 100 * optimism_of_best(np.array([flags_of(trial.val_bits) for trial in first]))
    return (
        f"Choosing the most accurate of {len(first)} trials of "
        f"{counted(first[0].epochs, 'epoch')} overstates accuracy by about {gap:.1f} percentage "
        "points (bootstrap bias-corrected estimate, Tsamardinos et al. 2018)."
    )


def test_results(metrics: Metrics) -> list[Figure]:
    """Returns the rows of the table of test results."""
    digits, before = decimals(metrics.n), metrics.log_loss_uncalibrated

    def share(name: str, value: float, interval: Interval, meaning: str) -> Figure:
        return Figure(name, percent(value, digits), percent_range(interval, digits), meaning)

    return [
        share(
            "Accuracy",
            metrics.accuracy,
            metrics.accuracy_interval,
            "share of test images that are classified correctly",
        ),
        share(
            "Balanced accuracy",
            metrics.balanced_accuracy,
            metrics.balanced_accuracy_interval,
            "mean recall over the classes: every class counts equally",
        ),
        share(
            "Macro F1",
            metrics.macro_f1,
            metrics.macro_f1_interval,
            "mean F1 over the classes: the balance of precision and recall",
        ),
        Figure(
            "Log loss",
            f"{metrics.log_loss:.3f}",
            "",
            "penalty for being sure and wrong; 0 is best"
            + _before(metrics, "" if before is None else f"{before:.3f}"),
        ),
        Figure(
            "Calibration error",
            percent(metrics.ece),
            "",
            "mean gap between the stated probability and how often it was right"
            + _by_chance(metrics)
            + _before(metrics, percent(metrics.ece_uncalibrated)),
        ),
        *_retrieval_figures(metrics),
    ]


def _by_chance(metrics: Metrics) -> str:
    """Returns the calibration error that is to be expected of as few images; empty in old runs."""
    if metrics.ece_by_chance is None:
        return ""
    return f"; right probabilities have about {percent(metrics.ece_by_chance)} on as few images"


def _before(metrics: Metrics, value: str) -> str:
    """Returns a figure without the temperature; empty if a run has none or did not keep it."""
    if metrics.temperature == 1 or not value:
        return ""
    return f"; {value} without the temperature ({metrics.temperature:.2f})"


def _retrieval_figures(metrics: Metrics) -> list[Figure]:
    if metrics.retrieval is None:
        return []
    recalls = [
        Figure(
            f"Recall@{k}",
            percent(share),
            "",
            "share of test images that have an image of the same class "
            + (
                "as the nearest training image"
                if k == 1
                else f"among the {k} nearest training images"
            ),
        )
        for k, share in metrics.retrieval.recall_at.items()
    ]
    precision = Figure(
        "MAP@R",
        percent(metrics.retrieval.map_at_r),
        "",
        "how consistently training images of the same class rank above all others",
    )
    return [*recalls, precision]


def tiles(record: RunRecord, metrics: Metrics) -> list[tuple[str, str, str]]:
    """Returns what the top of the page shows in large figures, as (figure, name, remark)."""
    low, high = metrics.balanced_accuracy_interval
    digits = decimals(metrics.n)
    took = format_duration(record.seconds)
    limit = "" if record.budget_s is None else f"of a budget of {format_duration(record.budget_s)}"
    wrong = metrics.n - metrics.correct
    images = record.n_train + record.n_val
    return [
        (f"{wrong:,}", "mistake" if wrong == 1 else "mistakes", f"on {metrics.n:,} sealed images"),
        (
            percent(metrics.balanced_accuracy, digits),
            "balanced accuracy",
            f"95% interval {percent_range((low, high), digits)}",
        ),
        (
            percent(metrics.ece),
            "calibration error",
            "mean gap between the stated probability and how often it was right",
        ),
        (f"{images:,}", "images to learn from", counted(len(record.classes), "class", "classes")),
        (took, "from start to report", limit),
    ]


def by_recall(classes: Sequence[ClassMetrics]) -> list[ClassMetrics]:
    """Returns the classes, the weakest first and those without test images last."""
    return sorted(classes, key=lambda c: (c.recall is None, c.recall or 0, -c.n, c.name))
