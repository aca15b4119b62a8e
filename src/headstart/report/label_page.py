"""What the report shows of a run with any number of labels an image."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from headstart.artifacts.set_results import (
    SetPrediction,
    read_set_metrics,
    read_set_predictions,
)
from headstart.evaluation.intervals import basis
from headstart.evaluation.label_metrics import SetMetrics
from headstart.evaluation.statistics import Interval
from headstart.report.images import Album
from headstart.report.label_figures import precision_svg, reliability_svg
from headstart.report.shared import MATRIX_AS_TABLE
from headstart.text import counted, percent, percent_range

WORST_SHOWN = 24
PAIRS_SHOWN = 20
CURVES_SHOWN = 6

SECTIONS = {
    "figures": "Test results",
    "labels": "Label by label",
    "together": "Labels that come together",
    "worst": "Worst images",
    "suspects": "Images to check",
    "brought": "Effect of each method",
    "training": "Training",
    "done": "What was done",
    "audit": "The data",
    "use": "How to use it",
    "environment": "Environment",
}
"""Titles of the sections in their order, by their anchors."""


def worst_images(predictions: Sequence[SetPrediction]) -> list[SetPrediction]:
    """Returns the images with the highest log loss, at most `WORST_SHOWN`."""
    return sorted(predictions, key=lambda each: (-each.log_loss, each.path))[:WORST_SHOWN]


def label_values(folder: Path, album: Album) -> dict[str, Any]:
    """Returns what the report shows of a run with any number of labels an image."""
    metrics, predictions = read_set_metrics(folder), read_set_predictions(folder)
    names = metrics.class_names
    weakest = sorted(
        metrics.labels, key=lambda each: (each.average_precision is None, each.average_precision)
    )
    curves = [each for each in weakest if each.average_precision is not None][:CURVES_SHOWN]
    told = np.array([each.probabilities for each in predictions])
    marks = np.array([[name in each.labels for name in names] for each in predictions])

    def probability(each: SetPrediction, name: str) -> str:
        return percent(each.probabilities[names.index(name)], 0)

    return {
        "metrics": metrics,
        "headline": headline(metrics),
        "standing": _standing(metrics),
        "figures": figures(metrics),
        "labels": weakest,
        "reliability_svg": reliability_svg(told, marks),
        "curves_svg": precision_svg(
            {
                each.name: (told[:, place], marks[:, place], each.threshold)
                for each in curves
                for place in [names.index(each.name)]
            }
        ),
        "shown_curves": len(curves),
        "pairs": pairs(metrics),
        "matrix": len(names) <= MATRIX_AS_TABLE,
        "worst": [(each, album.photograph(each.path)) for each in worst_images(predictions)],
        "told": probability,
        "sections": SECTIONS,
    }


def headline(metrics: SetMetrics) -> str:
    """Returns the title of the report."""
    return (
        f"Mean average precision of {percent(metrics.mean_average_precision)} on new images like "
        f"these (95% interval {percent_range(metrics.mean_average_precision_interval)}"
        f"{basis(metrics.groups, metrics.n)})"
    )


def _standing(metrics: SetMetrics) -> str:
    return (
        f"{percent(metrics.exact)} of {counted(metrics.n, 'test image')} get exactly their labels, "
        f"and the decisions for single labels have a micro-averaged F1 of "
        f"{percent(metrics.micro_f1)}. No choice was made on these images."
    )


def figures(metrics: SetMetrics) -> list[tuple[str, str, str, str]]:
    """Returns the test results as name, value, 95% interval and meaning."""

    def share(name: str, value: float, interval: Interval, meaning: str) -> tuple[str, ...]:
        return name, percent(value), percent_range(interval), meaning

    m = metrics
    rows = [
        share(
            "Mean average precision (mAP)",
            m.mean_average_precision,
            m.mean_average_precision_interval,
            "mean over the labels of their average precision: how far images with a label rank "
            "before the others, whatever the threshold",
        ),
        share("Micro F1", m.micro_f1, m.micro_f1_interval, "balance of precision and recall over "
              "all decisions: frequent labels count more"),
        share("Macro F1", m.macro_f1, m.macro_f1_interval, "mean F1 over the labels: every label "
              "counts equally"),
        share("Exactly right", m.exact, m.exact_interval, "share of test images that get all their "
              "labels and no other"),
        ("Log loss", f"{m.log_loss:.4f}", "", "mean penalty of a label for being sure and wrong; 0 "
         f"is best; {m.log_loss_uncalibrated:.4f} before calibration"),
        ("Calibration error", percent(m.ece), "", "mean over the labels of the gap between the "
         "stated probability and how often the label was there"),
    ]  # fmt: skip
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def pairs(metrics: SetMetrics) -> list[tuple[str, str, int, int]]:
    """Returns pairs of labels with the numbers of images that have both and that get both."""
    names, have, get = metrics.class_names, metrics.together, metrics.given_together
    found = [
        (names[i], names[j], have[i][j], get[i][j])
        for i, j in combinations(range(len(names)), 2)
        if have[i][j] or get[i][j]
    ]
    frequent = sorted(found, key=lambda each: (-max(each[2:]), each))[:PAIRS_SHOWN]
    off = sorted(found, key=lambda each: (-abs(each[2] - each[3]), each))[: PAIRS_SHOWN // 2]
    return list(dict.fromkeys([*frequent, *off]))[: PAIRS_SHOWN + PAIRS_SHOWN // 2]
