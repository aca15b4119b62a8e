"""An earlier classifier beside the one that continues it, on the same sealed test images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.continued import Continued, Retested
from headstart.artifacts.fingerprint import DIGITS
from headstart.artifacts.records import TestPrediction
from headstart.errors import DataError
from headstart.evaluation.intervals import Groups
from headstart.evaluation.paired import Cell, paired_difference, sign_test
from headstart.inference.bundle import load_bundle
from headstart.inference.run_bundle import run_bundle
from headstart.progress import Progress
from headstart.training.earlier_run import EarlierRun
from headstart.training.experiment import Experiment


def retest(
    earlier: EarlierRun,
    experiment: Experiment,
    predictions: Sequence[TestPrediction],
    progress: Progress,
) -> Continued:
    """Runs the earlier classifier on the test images, after the present one was tested.

    Args:
        earlier: The run that is continued.
        experiment: The present images and their split.
        predictions: Those of the present classifier, in the order of its test images.
        progress: Progress display.

    Raises:
        DataError: If a test image can no longer be read.
    """
    rows = [int(row) for row in experiment.audited.kept[experiment.split.test]]
    items = [experiment.dataset.items[row] for row in rows]
    facts = [experiment.pixels.facts[row] for row in rows]
    bundle = load_bundle(earlier.folder / "bundle")
    outputs = run_bundle(
        bundle, [item.path for item in items], [item.box for item in items], progress, "earlier run"
    )
    for row, why in outputs.failed.items():
        raise DataError(f"{items[row].path} can no longer be read: {why}")
    said = outputs.logits.argmax(1)
    before = np.array(
        [bundle.spec.classes[said[row]] == item.label for row, item in enumerate(items)], bool
    )
    now = np.array([each.prediction == each.label for each in predictions], bool)
    known = earlier.known(experiment.pixels.facts)
    parts = [known.get(fact.pixels) for fact in facts]
    # Copies in other files were never tested there.
    sealed = np.array([earlier.parts.get(fact.sha256[:DIGITS]) == "test" for fact in facts], bool)
    unseen = np.array([part in {None, "test"} for part in parts], bool)
    groups = experiment.audited.groups[experiment.split.test]
    relabelled = sum(
        earlier.labels.get(fact.sha256[:DIGITS], item.label) != item.label
        for fact, item in zip(facts, items, strict=True)
    )
    return Continued(
        run=earlier.folder.resolve().name,
        sealed=sum(part == "test" for part in earlier.parts.values()),
        found=len({fact.sha256 for fact, old in zip(facts, sealed, strict=True) if old}),
        relabelled=relabelled,
        gained=retested(before, now, groups, unseen),
        forgotten=retested(before, now, groups, sealed),
    )


def retested(
    before: NDArray[np.bool_], now: NDArray[np.bool_], groups: Groups, which: NDArray[np.bool_]
) -> Retested | None:
    """Returns the comparison of two classifiers on some of the images; None if there are none.

    Args:
        before: Whether the earlier one is right on each image, shape (n,).
        now: Whether the present one is right on each image, shape (n,).
        groups: Group number of each image, shape (n,).
        which: Images that count, shape (n,).

    Example:
        >>> never, always = np.zeros(6, bool), np.ones(6, bool)
        >>> found = retested(never, always, np.arange(6), np.arange(6) < 4)
        >>> found.images, found.only_now, found.difference, found.p_value
        (4, 4, 1.0, 0.125)
    """
    if not which.any():
        return None
    before, now, groups = before[which], now[which], groups[which]
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
    )
