"""Differences between two runs, and a test of the difference in accuracy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from headstart.api.set_diff import PrecisionComparison, as_names, precision_comparison
from headstart.artifacts.records import RunRecord, TestPrediction
from headstart.artifacts.run import read_predictions, read_record, read_split_parts
from headstart.artifacts.run_start import read_audit
from headstart.artifacts.set_results import read_set_predictions
from headstart.errors import RunError
from headstart.evaluation.intervals import Groups, basis, joined
from headstart.evaluation.paired import Cell, paired_difference, sign_test
from headstart.evaluation.statistics import Interval
from headstart.recipes.parsing import load_recipe
from headstart.text import counted

REAL = 0.05
"""Significance level: p-value up to which a difference counts as real."""


class Change(BaseModel):
    """One difference between two runs.

    Attributes:
        what: Name of the value; for recipes a path such as `optimizer.lr`.
        a: Value in the first run; None if it has none.
        b: Value in the second run; None if it has none.
    """

    model_config = ConfigDict(frozen=True)

    what: str
    a: Any = None
    b: Any = None


class Comparison(BaseModel):
    """The accuracy of two classifiers on the test images that both runs label alike.

    Where an image may have several labels, it is correct if it gets exactly its labels.

    Attributes:
        shared: Number of shared test images.
        right_a: Number of images that A classifies correctly.
        right_b: Number of images that B classifies correctly.
        only_a: Number of images that only A classifies correctly.
        only_b: Number of images that only B classifies correctly.
        difference: Accuracy of B minus accuracy of A.
        interval: 95% interval of the difference, paired on the images.
        groups: Number of independent groups of shared images; None if neither run recorded them.
        p_value: p-value of McNemar's exact test, two-sided, in which each group counts once.
        verdict: The result in words.
        mean_average_precision: The same images by mean average precision, where an image may have
            several labels; else None.
    """

    model_config = ConfigDict(frozen=True)

    shared: int
    right_a: int
    right_b: int
    only_a: int
    only_b: int
    difference: float
    interval: Interval
    groups: int | None
    p_value: float
    verdict: str
    mean_average_precision: PrecisionComparison | None = Field(
        None, exclude_if=lambda known: known is None
    )


class RunDiff(BaseModel):
    """The differences between two runs.

    Attributes:
        a: Folder of the first run.
        b: Folder of the second run.
        recipe: Differences in the recipe.
        data: Differences in images, classes and split.
        backbone: Differences in the pretrained network and its boundary.
        budget: Differences in time, epochs and search.
        software: Differences in versions and machine.
        accuracy: Comparison on the shared test images.
        warnings: Caveats of the comparison.
    """

    model_config = ConfigDict(frozen=True)

    a: str
    b: str
    recipe: tuple[Change, ...]
    data: tuple[Change, ...]
    backbone: tuple[Change, ...]
    budget: tuple[Change, ...]
    software: tuple[Change, ...]
    accuracy: Comparison
    warnings: tuple[str, ...]


def diff(a: str | Path, b: str | Path) -> RunDiff:
    """Returns the differences between two finished runs, and tests which is more accurate.

    Accuracy is compared on the test images that both runs share, matched by path, with McNemar's
    exact test (McNemar 1947) and the score interval of Tango (1998); see `evaluation.paired`.
    Classifiers of any number of labels an image are also compared by mean average precision.

    Args:
        a: Folder of the first run.
        b: Folder of the second run.

    Raises:
        RunError: If a folder is not a finished run, the runs share no test image, or only one of
            them gives an image any number of labels.

    Example:
        >>> import headstart
        >>> found = headstart.diff("runs/a", "runs/b")  # doctest: +SKIP
        >>> print(found.accuracy.verdict)  # doctest: +SKIP
        B classifies 2.1 percentage points more of 290 shared test images correctly (95% interval
        0.4 to 3.9; p = 0.03).
    """
    first, second = Path(a), Path(b)
    records = read_record(first), read_record(second)
    accuracy, warnings = _compared(first, second, *records)
    if records[0].data_root != records[1].data_root:
        warnings = (
            f"The images are in {records[0].data_root} and {records[1].data_root}. Images with the "
            "same relative path are treated as identical.",
            *warnings,
        )
    recipes = [load_recipe(str(folder / "recipe.toml")) for folder in (first, second)]
    return RunDiff(
        a=str(first),
        b=str(second),
        recipe=_changes(*(flat(recipe.model_dump(mode="json")) for recipe in recipes)),
        data=_data_changes(first, second, *records),
        backbone=_changes(*map(_backbone, records)),
        budget=_changes(*map(_budget, records)),
        software=_changes(*({**each.versions, "machine": each.machine} for each in records)),
        accuracy=accuracy,
        warnings=warnings,
    )


def _compared(
    first: Path, second: Path, a: RunRecord, b: RunRecord
) -> tuple[Comparison, tuple[str, ...]]:
    """Compares the predictions of two runs, and returns caveats with it.

    Raises:
        RunError: If they cannot be compared.
    """
    names = str(first), str(second)
    if a.task != b.task:
        several, one = names if a.task == "multilabel" else names[::-1]
        raise RunError(
            f"{several} gives an image any number of labels (multi-label) and {one} gives it one "
            "class, so they cannot be compared. Fit one of them again, with --task as for the "
            "other."
        )
    if a.task == "single":
        return compare(read_predictions(first), read_predictions(second), names)
    ours, theirs = read_set_predictions(first), read_set_predictions(second)
    told, warnings = compare(as_names(ours), as_names(theirs), names, sets=True)
    found = precision_comparison((ours, theirs), (a.classes, b.classes))
    update = {"mean_average_precision": found, "verdict": f"{found.verdict} {told.verdict}"}
    return told.model_copy(update=update), warnings


def compare(
    a: list[TestPrediction],
    b: list[TestPrediction],
    names: tuple[str, str] = ("A", "B"),
    sets: bool = False,
) -> tuple[Comparison, tuple[str, ...]]:
    """Compares two classifiers on their shared test images, and returns caveats with it.

    Images that the runs label differently are left out: it is not known which label is right.

    Args:
        a: Test predictions of the first run.
        b: Test predictions of the second run.
        names: Names of both runs for messages.
        sets: Whether each label stands for a whole set of labels.

    Raises:
        RunError: If they share no image with the same label.
    """
    by_path = {prediction.path: prediction for prediction in a}
    both = [(by_path[each.path], each) for each in b if each.path in by_path]
    pairs = [(one, other) for one, other in both if one.label == other.label]
    if not pairs:
        shared = f"all {len(both):,} test images" if len(both) > 1 else "the only test image"
        why = f"label {shared} that they share differently" if both else "share no test image"
        raise RunError(
            f"{names[0]} and {names[1]} {why}, so they cannot be compared. Fit one of them again "
            "on the same data with --split and the split.csv of the other."
        )
    warnings = []
    if len(both) < max(len(a), len(b)):
        warnings.append(
            f"The runs share only {counted(len(both), 'test image')}, of {len(a):,} in A and "
            f"{len(b):,} in B. The comparison ignores the others."
        )
    if len(pairs) < len(both):
        example = next(one for one, other in both if one.label != other.label)
        relabelled = counted(len(both) - len(pairs), "test image")
        warnings.append(
            f"The comparison leaves out {relabelled} with another label in B than in A, such as "
            f"{example.path}."
        )
    right_a = np.array([one.prediction == one.label for one, _ in pairs])
    right_b = np.array([other.prediction == other.label for _, other in pairs])
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    groups = joined(_groups(ours), _groups(theirs), len(pairs))
    if groups is None:
        warnings.append(
            "Neither run recorded which test images belong together. The interval and p take all "
            "of them as independent."
        )
    difference, interval = paired_difference([Cell("shared", right_a, right_b, groups)])
    p_value = sign_test([(right_a, right_b)], groups)
    n_groups = None if groups is None else len(np.unique(groups))
    compared = Comparison(
        shared=len(pairs),
        right_a=int(right_a.sum()),
        right_b=int(right_b.sum()),
        only_a=int((right_a & ~right_b).sum()),
        only_b=int((right_b & ~right_a).sum()),
        difference=difference,
        interval=interval,
        groups=n_groups,
        p_value=p_value,
        verdict="",
    )
    compared = compared.model_copy(update={"verdict": _verdict(compared, sets)})
    return compared, tuple(warnings)


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested mappings as one mapping, with keys such as `optimizer.lr`.

    Example:
        >>> flat({"optimizer": {"name": "sgd", "lr": 0.1}, "seed": 0})
        {'optimizer.name': 'sgd', 'optimizer.lr': 0.1, 'seed': 0}
    """
    found: dict[str, Any] = {}
    for key, value in data.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        found |= {f"{prefix}{key}": value} if inner is None else inner
    return found


def _groups(predictions: Sequence[TestPrediction]) -> Groups | None:
    """Returns the group number of each prediction, or None for a run that did not record them."""
    numbers = [each.group for each in predictions if each.group != ""]
    return np.array(numbers, np.int64) if len(numbers) == len(predictions) else None


def _verdict(compared: Comparison, sets: bool) -> str:
    low, high = (100 * end for end in compared.interval)
    better = "B" if compared.difference >= 0 else "A"
    if compared.difference < 0:
        low, high = -high, -low
    p = compared.p_value
    tail = f"{basis(compared.groups, compared.shared)}; p = " + (
        f"{p:.2f}" if p >= 0.01 else f"{p:.1g}"
    )
    images = counted(compared.shared, "shared test image")
    how = "with exactly their labels" if sets else "correctly"
    what = (
        f"{better} classifies {abs(100 * compared.difference):.1f} percentage points more of "
        f"{images} {how} (95% interval {low:z.1f} to {high:z.1f}{tail})"
    )
    if compared.difference == 0:
        what = (
            f"both classify equally many of {images} {how} (95% interval of B minus A "
            f"{low:z.1f} to {high:z.1f} percentage points{tail})"
        )
    return f"{what}." if p <= REAL else f"No significant difference: {what}."


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """Returns the differences, in the order of the first, then those only in the second."""
    keys = dict.fromkeys([*a, *b])
    return tuple(
        Change(what=key, a=a.get(key), b=b.get(key)) for key in keys if a.get(key) != b.get(key)
    )


def _data_changes(first: Path, second: Path, a: RunRecord, b: RunRecord) -> tuple[Change, ...]:
    """Returns the differences in images, classes and split."""
    parts = [read_split_parts(folder) for folder in (first, second)]
    both = parts[0].keys() & parts[1].keys()
    moved = sum(parts[0][key] != parts[1][key] for key in both)
    facts = [
        {
            "name": record.data_name,
            "folder": record.data_root,
            "licence": record.licence,
            "training images": record.n_train,
            "validation images": record.n_val,
            "test images": record.n_test,
            "images that the other run lacks": len(mine.keys() - both),
            "classes": len(record.classes),
            "classes that the other run lacks": sorted({*record.classes} - {*other.classes}),
        }
        for record, other, mine in ((a, b, parts[0]), (b, a, parts[1]))
    ]
    counts = [
        {f"images of class {name!r}": n for name, n in read_audit(folder).classes.items()}
        for folder in (first, second)
    ]
    found = [*_changes(*facts), *_changes(*counts)]
    if moved:
        what = f"split: {moved} of {len(both)} images that both have"
        found.append(Change(what=what, a="in one part", b="in another"))
    return tuple(found)


def _backbone(record: RunRecord) -> dict[str, Any]:
    return {
        "backbone": record.backbone,
        "weights": record.backbone_source,
        "boundary": record.boundary,
        "kept": record.chosen,
    }


def _budget(record: RunRecord) -> dict[str, Any]:
    options = record.request.options if record.request else None
    return {
        "budget in seconds": record.budget_s,
        "search": "yes" if record.searched else "no",
        "trials requested": options.trials if options else None,
        "sampler": options.sampler if options else None,
        "epochs trained": record.epochs,
        "views": record.views,
        "seconds": round(record.seconds, 1),
        "ended because": record.stop_reason,
    }
