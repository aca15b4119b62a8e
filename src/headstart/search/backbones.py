"""Stage 1 of a search: which backbone, by cross-validated probes on its frozen features."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.boundaries import FEATURES
from headstart.backbones.cut import trace
from headstart.data.decode import decode_dataset
from headstart.evaluation.metrics import calibrated_losses
from headstart.features.extractor import activations, backbone_of, open_prefix
from headstart.features.layout import LAST, STAGES, FeatureTable, layout_behind
from headstart.features.probe import STRENGTHS, LabelledFeatures, out_of_fold
from headstart.progress import SILENT
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.recipes.space import drawn_families
from headstart.text import listed
from headstart.training.experiment import Experiment, change_backbone, development_set
from headstart.training.run_context import Resources, RunContext

MULTIPLY_ADDS = {
    "tf_efficientnet_lite0": 407e6,
    "tf_efficientnet_lite1": 631e6,
    "tf_efficientnet_lite2": 899e6,
}
"""Candidates that need no download, with their cost per image (from their authors' README)."""

MOST_IMAGES = 500

SHARE = 0.25
"""Largest share of the time for screening."""

PASSES = 24
"""Passes over all images that must fit into the remaining time to screen a candidate."""


@dataclass(frozen=True)
class Screened:
    """The score of the frozen features of a backbone.

    Attributes:
        name: Name of the backbone.
        losses: Cross-validated log loss (M,) of each image, in nats at the best temperature.
        right: Number of correctly classified images.
        seconds: Duration of the scoring.
    """

    name: str
    losses: NDArray[np.float64]
    right: int
    seconds: float

    @property
    def loss(self) -> float:
        """Mean log loss in nats."""
        return float(self.losses.mean())


def candidates(base: Recipe, features_s: float, images: int, seconds: float | None) -> list[str]:
    """Returns the backbones to screen, that of the recipe first.

    Args:
        base: Starting recipe.
        features_s: Seconds per image of its backbone.
        images: Number of images in the development set.
        seconds: Remaining time; None without a budget.
    """
    own = base.backbone.name
    if own not in MULTIPLY_ADDS:  # chosen by hand or by an earlier run
        return [own]
    names = [own, *(name for name in MULTIPLY_ADDS if name != own)]
    if seconds is None:
        return names
    unit_s = features_s / MULTIPLY_ADDS[own]
    fits = {
        name: PASSES * images * unit_s * cost <= seconds for name, cost in MULTIPLY_ADDS.items()
    }
    return [name for name in names if name == own or fits[name]]


def screen(
    experiment: Experiment, base: Recipe, names: Sequence[str], resources: Resources
) -> list[Screened]:
    """Scores backbones on the same images of the development set.

    Args:
        experiment: Experiment with the backbone of the recipe.
        base: Starting recipe.
        names: Names of the backbones.
        resources: Decode workers and progress display.
    """
    all_of = development_set(experiment)
    rows, labels, groups = all_of.rows, all_of.labels, all_of.groups
    random = np.random.default_rng(base.seed)
    some = np.sort(random.permutation(len(rows))[:MOST_IMAGES])
    left = resources.clock.left()
    until = math.inf if left is None else time.monotonic() + SHARE * left
    found: list[Screened] = []
    for name in resources.progress.track(names, "screening backbones", len(names)):
        began = time.monotonic()
        if found and began + expected_seconds(found[-1], name) > until:
            break  # the next ones cost more
        table = _features(experiment, with_backbone(base, name), rows[some], resources)
        labels_here, groups_here = labels[some], groups[some]
        classes = len(experiment.extractor.classes)
        each = []
        for which in sorted({LAST, STAGES}.intersection(table.layout.choices)):
            data = LabelledFeatures(table.of(which), labels_here, classes, groups_here)
            for logits in out_of_fold(data, STRENGTHS, seed=base.seed):
                tested = np.isfinite(logits[:, 0])
                held, truth = logits[tested], labels_here[tested]
                right = int((held.argmax(1) == truth).sum())
                each.append((calibrated_losses(held, truth), right))
        losses, right = min(each, key=lambda pair: float(pair[0].mean()))
        found.append(Screened(name, losses, right, time.monotonic() - began))
    return found


def expected_seconds(before: Screened, name: str) -> float:
    """Returns how long scoring a backbone takes, from the one before it and their cost."""
    return before.seconds * MULTIPLY_ADDS[name] / MULTIPLY_ADDS[before.name]


def clearly_better(screened: Sequence[Screened]) -> Screened:
    """Returns the best backbone, or the first if none is better by more than chance."""
    own, *others = screened
    best = own
    for other in others:
        gain = own.losses - other.losses
        if gain.mean() > gain.std() / len(gain) ** 0.5 and other.loss < best.loss:
            best = other
    return best


def with_backbone(recipe: Recipe, name: str) -> Recipe:
    """Returns the recipe with another backbone."""
    if recipe.backbone.name == name:
        return recipe
    return parse_recipe({**recipe.model_dump(), "backbone": {"name": name}})


def _features(
    experiment: Experiment, recipe: Recipe, rows: NDArray[np.int64], resources: Resources
) -> FeatureTable:
    """Returns all features (N, F)."""
    extractor = replace(experiment.extractor, progress=SILENT, pool=None, rows={"train": rows})
    if recipe.backbone.name != extractor.backbone.name:
        network = backbone_of(recipe)
        preprocessing = network.preprocessing
        items = [experiment.dataset.items[int(row)] for row in rows]
        cache: Path = extractor.cache_dir
        extractor = replace(
            extractor,
            backbone=network,
            traced=trace(network.model, preprocessing.resolution),
            pixels=decode_dataset(
                items,
                preprocessing.resize,
                cache,
                workers=resources.workers,
                reading=experiment.dataset.reading,
            ),
            rows={"train": np.arange(len(rows))},
        )
    layout = layout_behind(extractor.traced, FEATURES, extractor.backbone.features)
    prefix = open_prefix(extractor, FEATURES, layout.taps)
    return FeatureTable(np.asarray(activations(extractor, prefix, "train"), np.float32), layout)


def with_best_backbone(
    run: RunContext, experiment: Experiment, base: Recipe
) -> tuple[Experiment, Recipe]:
    """Stage 1: returns the data and the recipe for the backbone with the best frozen features."""
    families = drawn_families(run.options.by_hand, ("backbone",))
    images = len(development_set(experiment).rows)
    features_s = experiment.features_s * run.clock.pace.now
    names = candidates(base, features_s, images, run.clock.left()) if families else []
    if len(names) < 2 or base.backbone != type(base.backbone)(name=base.backbone.name):
        return experiment, base
    with run.step("backbones", f"cross-validate a probe on {len(names)} backbones") as step:
        screened = screen(experiment, base, names, run.resources)
        best = clearly_better(screened)
        images = len(best.losses)
        scores = "; ".join(
            f"{each.name}: log loss {each.loss:.3f}, {each.right} of {images} correct"
            for each in screened
        )
        missing = names[len(screened) :]
        late = f"; no time for {listed(missing)}" if missing else ""
        step.happened(f"{scores}{late}; chosen: {best.name}")
    if best.name == base.backbone.name:
        return experiment, base
    base = with_backbone(base, best.name)
    experiment = change_backbone(experiment, base, run.resources)
    network = experiment.extractor.backbone
    run.record.backbone, run.record.backbone_source = network.name, network.source
    return experiment, base
