"""The forecast of a certificate: the accuracy to expect from more labels."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.places import FEATURES
from headstart.certificate.labels import LabelForecast
from headstart.certificate.learning_curve import (
    classifiers_of_full_size,
    measure_curve,
    nested_order,
)
from headstart.certificate.record import read_forecast, write_forecast
from headstart.certificate.verdicts import KNOWN, describe_test, judge_labels
from headstart.errors import DataError
from headstart.features.extractor import activations, open_prefix
from headstart.features.probe import fit_probe
from headstart.training.budget import Clock
from headstart.training.experiment import Experiment, development_set
from headstart.training.run_context import Resources

LABELS_SHARE = 0.15
"""Largest share of the budget for the forecast."""


def forecast_labels(
    folder: Path, experiment: Experiment, seed: int, resources: Resources
) -> LabelForecast | None:
    """Returns the forecast for more labels; None if there are too few images."""
    clock, progress = resources.clock, resources.progress
    known = read_forecast(folder)
    if known is not None:
        return known
    extractor = experiment.extractor
    all_of = development_set(experiment)
    rows, labels, groups = all_of.rows, all_of.labels, all_of.groups
    everything = replace(extractor, rows={"all": rows}, labels={"all": labels})
    features = np.asarray(
        activations(everything, open_prefix(extractor, FEATURES), "all"), np.float32
    )
    keep = np.arange(len(rows))
    most = _affordable_rows(features, labels, len(extractor.classes), clock)
    if most < len(rows):
        keep = nested_order(labels, np.random.default_rng(seed))[:most]
        progress.say(f"forecast: from {most} of {len(rows)} images, to fit the budget")
    data = (features[keep], labels[keep], groups[keep], len(extractor.classes))
    try:
        curve = measure_curve(*data, seed=seed, progress=progress)
        tested = measure_curve(*data, known=KNOWN, seed=seed + 1, progress=progress)
    except DataError as error:
        progress.say(f"no forecast: {error}")
        return None
    found = judge_labels(curve, tested, seed, groups[keep])
    write_forecast(folder, found)
    progress.say(f"more labels: {found.answer}: {found.why}")
    progress.say(describe_test(found.test))
    return found


def _affordable_rows(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, clock: Clock
) -> int:
    """Returns the number of images whose forecast fits its share of the budget."""
    left = clock.left()
    if left is None:
        return len(labels)
    some = np.linspace(0, len(labels) - 1, max(16, len(labels) // 8)).astype(int)
    began = time.monotonic()
    fit_probe(features[some], labels[some], classes, 1e-4)
    # With fewer images than features, the work grows with the square of the images.
    whole_s = (time.monotonic() - began) * (len(labels) / len(some)) ** 1.5
    probes = classifiers_of_full_size() + classifiers_of_full_size(KNOWN)
    return int(len(labels) * min(1.0, LABELS_SHARE * left / (whole_s * probes)) ** (1 / 1.5))
