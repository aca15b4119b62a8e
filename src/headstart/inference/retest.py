"""An earlier classifier beside the one that continues it, on the same sealed test images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_spec import BundleSpec
from headstart.artifacts.continued import Continued, PrecisionChange, Retested
from headstart.artifacts.fingerprint import DIGITS
from headstart.artifacts.records import TestPrediction
from headstart.artifacts.run import read_predictions
from headstart.artifacts.set_results import SetPrediction, read_set_predictions
from headstart.data.stratify import indicators
from headstart.errors import DataError
from headstart.evaluation.intervals import Groups
from headstart.evaluation.label_paired import mean_precision_difference
from headstart.evaluation.label_rules import decided, probabilities_of
from headstart.evaluation.label_scores import Floats, Marks, mean_average_precision
from headstart.evaluation.paired import Cell, paired_difference, sign_test
from headstart.inference.bundle import load_bundle
from headstart.inference.run_bundle import run_bundle
from headstart.progress import Progress
from headstart.training.earlier_run import EarlierRun
from headstart.training.experiment import Experiment


def retest(
    earlier: EarlierRun,
    experiment: Experiment,
    run: Path,
    progress: Progress,
) -> Continued:
    """Runs the earlier classifier on the test images, after the present one was tested.

    Args:
        earlier: The run that is continued.
        experiment: The present images and their split.
        run: Folder of the present run, with the predictions of its test.
        progress: Progress display.

    Raises:
        DataError: If a test image can no longer be read.
    """
    rows = [int(row) for row in experiment.audited.kept[experiment.split.test]]
    items = [experiment.dataset.items[row] for row in rows]
    facts = [experiment.pixels.facts[row] for row in rows]
    bundle = load_bundle(earlier.folder / "bundle", multilabel=experiment.multilabel)
    outputs = run_bundle(
        bundle, [item.path for item in items], [item.box for item in items], progress, "earlier run"
    )
    for row, why in outputs.failed.items():
        raise DataError(f"{items[row].path} can no longer be read: {why}")
    groups = experiment.audited.groups[experiment.split.test]
    if experiment.multilabel:
        both = _of_sets(bundle.spec, outputs.logits, read_set_predictions(run), experiment, groups)
    else:
        both = _of_classes(bundle.spec, outputs.logits, read_predictions(run), groups)
    known = earlier.known(experiment.pixels.facts)
    parts = [known.get(fact.pixels) for fact in facts]
    # Copies in other files were never tested there.
    sealed = np.array([earlier.parts.get(fact.sha256[:DIGITS]) == "test" for fact in facts], bool)
    unseen = np.array([part in {None, "test"} for part in parts], bool)
    relabelled = sum(
        earlier.labels.get(fact.sha256[:DIGITS], item.label) != item.label
        for fact, item in zip(facts, items, strict=True)
    )
    return Continued(
        run=earlier.folder.resolve().name,
        sealed=sum(part == "test" for part in earlier.parts.values()),
        found=len({fact.sha256 for fact, old in zip(facts, sealed, strict=True) if old}),
        relabelled=relabelled,
        gained=retested(both, unseen),
        forgotten=retested(both, sealed),
    )


@dataclass(frozen=True)
class Both:
    """Two classifiers on the same images.

    Attributes:
        before: Whether the earlier one is right on each image, shape (n,).
        now: Whether the present one is right on each image, shape (n,).
        groups: Group number of each image, shape (n,).
        scores: Where images have several labels, probabilities (n, k) before and now, of the
            labels that both know.
        marks: 1 where an image has one of them, (n, k).
    """

    before: NDArray[np.bool_]
    now: NDArray[np.bool_]
    groups: Groups
    scores: tuple[Floats, Floats] | None = None
    marks: Marks | None = None


def _of_classes(
    spec: BundleSpec,
    logits: NDArray[np.floating],
    predictions: Sequence[TestPrediction],
    groups: Groups,
) -> Both:
    """Returns which classes the earlier classifier with these logits, and the present one, get."""
    said = logits.argmax(1)
    before = [spec.classes[one] == each.label for one, each in zip(said, predictions, strict=True)]
    now = [each.prediction == each.label for each in predictions]
    return Both(np.array(before, bool), np.array(now, bool), groups)


def _of_sets(
    spec: BundleSpec,
    logits: NDArray[np.floating],
    predictions: Sequence[SetPrediction],
    experiment: Experiment,
    groups: Groups,
) -> Both:
    """Returns the same of sets of labels; what is no label any more does not count."""
    learned = experiment.extractor.classes
    told = probabilities_of(logits, spec.labels)
    given = decided(told, spec.labels)
    before = [
        {spec.classes[k] for k in np.flatnonzero(row)} & {*learned} == {*each.labels}
        for row, each in zip(given, predictions, strict=True)
    ]
    now = [{*each.given} == {*each.labels} for each in predictions]
    common = [name for name in spec.classes if name in learned]
    theirs = told[:, [spec.classes.index(name) for name in common]]
    ours = np.array([each.probabilities for each in predictions])
    ours = ours[:, [learned.index(name) for name in common]]
    marks = indicators([each.labels for each in predictions], common)
    return Both(np.array(before, bool), np.array(now, bool), groups, (theirs, ours), marks)


def retested(both: Both, which: NDArray[np.bool_]) -> Retested | None:
    """Returns the comparison of two classifiers on some of the images; None if there are none.

    Args:
        both: What both say of all images.
        which: Images that count, shape (n,).

    Example:
        >>> both = Both(np.zeros(6, bool), np.ones(6, bool), np.arange(6))
        >>> found = retested(both, np.arange(6) < 4)
        >>> found.images, found.only_now, found.difference, found.p_value
        (4, 4, 1.0, 0.125)
    """
    if not which.any():
        return None
    before, now, groups = both.before[which], both.now[which], both.groups[which]
    difference, interval = paired_difference([Cell("test", before, now, groups)])
    return Retested(
        images=len(now),
        right_before=int(before.sum()),
        right_now=int(now.sum()),
        only_before=int((before & ~now).sum()),
        only_now=int((now & ~before).sum()),
        difference=difference,
        interval=interval,
        p_value=sign_test([(before, now)], groups),
        mean_average_precision=_precision_change(both, which),
    )


def _precision_change(both: Both, which: NDArray[np.bool_]) -> PrecisionChange | None:
    """Returns the change of the mean average precision; None of one label an image, or of none."""
    if both.scores is None or both.marks is None or not both.marks[which].any():
        return None
    before, now = (scores[which] for scores in both.scores)
    marks = both.marks[which]
    difference, interval = mean_precision_difference(now, before, marks, both.groups[which])
    return PrecisionChange(
        labels=int(marks.any(0).sum()),
        before=mean_average_precision(before, marks),
        now=mean_average_precision(now, marks),
        difference=difference,
        interval=interval,
    )
