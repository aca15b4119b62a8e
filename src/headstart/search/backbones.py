"""Stage 1 of a search: which backbone, by cross-validated probes on its frozen features."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.catalog import config_of
from headstart.backbones.cut import trace
from headstart.backbones.hub import UnavailableError, fetch, why_out_of_reach
from headstart.backbones.listing import BackboneInfo, for_screening
from headstart.backbones.places import FEATURES
from headstart.data.decode import decode_dataset
from headstart.errors import BackboneError
from headstart.evaluation.metrics import calibrated_losses, right_bits
from headstart.features.extractor import activations, backbone_of, open_prefix
from headstart.features.layout import LAST, STAGES, FeatureTable, layout_behind
from headstart.features.probe import STRENGTHS, LabelledFeatures, out_of_fold
from headstart.progress import SILENT
from headstart.recipes.recipe import Recipe
from headstart.recipes.space import drawn_families
from headstart.search.leaderboard import right_words
from headstart.search.lineup import Affordable, lineup, times, with_backbone
from headstart.text import listed
from headstart.training.experiment import (
    DevelopmentSet,
    Experiment,
    change_backbone,
    development_set,
)
from headstart.training.run_context import Resources, RunContext

MOST_IMAGES = 500

SHARE = 0.25
"""Largest share of the time for screening."""


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


@dataclass
class Screening:
    """The result of a comparison of backbones.

    Attributes:
        found: Scores, that of the recipe's backbone first.
        late: Backbones for which there was no time.
        failed: Why others have no score, by their name.
    """

    found: list[Screened] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def screen(
    experiment: Experiment, base: Recipe, backbones: Sequence[BackboneInfo], resources: Resources
) -> Screening:
    """Scores backbones on the same images of the development set.

    Args:
        experiment: Experiment with the backbone of the recipe.
        base: Starting recipe.
        backbones: That of the recipe first, then others, the cheapest first.
        resources: Decode workers and progress display.

    Raises:
        BackboneError: If that of the recipe cannot be used.
    """
    some = _some_of(development_set(experiment), base.seed)
    classes = len(experiment.extractor.classes)
    left = resources.clock.left()
    until = math.inf if left is None else time.monotonic() + SHARE * left
    own, unit_s = backbones[0], len(some.rows) * experiment.features_s * resources.clock.pace.now
    unreachable = why_out_of_reach() if any(each.weights == "hub" for each in backbones) else ""
    result, before, before_s = Screening(), own, 0.0
    for each in resources.progress.track(backbones, "screening backbones", len(backbones)):
        # To load, export and probe takes about the same for each; but the features of the recipe's
        # backbone may have been in the cache.
        more_s = unit_s * (times(each, own) - times(before, own))
        expected_s = max(before_s + more_s, unit_s * times(each, own))
        time_left = until - time.monotonic() - expected_s
        if each is not own and time_left < 0:
            result.late.append(each.name)
            continue
        try:
            if each.weights == "hub":
                _fetch(each.name, unreachable, time_left)
            began = time.monotonic()
            table = _features(experiment, with_backbone(base, each.name), some.rows, resources)
            losses, right = _score(table, some, classes, base.seed)
        except BackboneError as error:
            if each is own:
                raise
            result.failed[each.name] = str(error).rstrip(".")
            continue
        before, before_s = each, time.monotonic() - began
        result.found.append(Screened(each.name, losses, right, before_s))
    return result


def _some_of(everything: DevelopmentSet, seed: int) -> DevelopmentSet:
    order = np.random.default_rng(seed).permutation(len(everything.rows))
    some = np.sort(order[:MOST_IMAGES])
    return DevelopmentSet(everything.rows[some], everything.labels[some], everything.groups[some])


def _fetch(name: str, unreachable: str, seconds: float) -> None:
    """Downloads the weights of a backbone in the time that is left.

    Raises:
        UnavailableError: If they did not arrive.
    """
    hub_id = config_of(name).hf_hub_id
    if unreachable or not hub_id:
        raise UnavailableError(unreachable or "timm has no weights for it")
    fetch(hub_id, None if math.isinf(seconds) else seconds)


def _score(
    table: FeatureTable, some: DevelopmentSet, classes: int, seed: int
) -> tuple[NDArray[np.float64], int]:
    """Returns the log losses (M,) of the best probe, and how many images it has right."""
    each = []
    for which in sorted({LAST, STAGES}.intersection(table.layout.choices)):
        data = LabelledFeatures(table.of(which), some.labels, classes, some.groups)
        for logits in out_of_fold(data, STRENGTHS, seed=seed):
            tested = np.isfinite(logits[:, 0])
            held, truth = logits[tested], some.labels[tested]
            each.append((calibrated_losses(held, truth), right_bits(held, truth).count("1")))
    return min(each, key=lambda pair: float(pair[0].mean()))


def clearly_better(screened: Sequence[Screened]) -> Screened:
    """Returns the best backbone, or the first if none is better by more than chance."""
    own, *others = screened
    best = own
    for other in others:
        gain = own.losses - other.losses
        if gain.mean() > gain.std() / len(gain) ** 0.5 and other.loss < best.loss:
            best = other
    return best


def _features(
    experiment: Experiment, recipe: Recipe, rows: NDArray[np.int64], resources: Resources
) -> FeatureTable:
    """Returns all features (N, F).

    Raises:
        BackboneError: If the backbone cannot be loaded, or gives features that are not finite.
    """
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
    array = np.asarray(activations(extractor, prefix, "train"), np.float32)
    if not np.isfinite(array).all():
        raise BackboneError(f"{recipe.backbone.name} gives features that are not finite.")
    return FeatureTable(array, layout)


def with_best_backbone(
    run: RunContext, experiment: Experiment, base: Recipe
) -> tuple[Experiment, Recipe]:
    """Stage 1: returns the data and the recipe for the backbone with the best frozen features."""
    options = run.options
    if not drawn_families(options.by_hand, ("backbone",)):
        return experiment, base
    known = for_screening(options.download)
    if options.executor == "ray" and options.address:
        # The other machines of a cluster have what the dependencies ship.
        known = [each for each in known if each.weights == "shipped"]
    images = len(development_set(experiment).rows)
    features_s = experiment.features_s * run.clock.pace.now
    lined = lineup(base, known, Affordable(images, features_s, run.clock.left()))
    if options.download and not lined.backbones:
        run.note("--download had no effect, because the recipe names its backbone.")
    _say_unusable(run, lined.unusable)
    if len(lined.backbones) < 2:
        return experiment, base
    planned = f"cross-validate a probe on {len(lined.backbones)} backbones"
    with run.step("backbones", planned) as step:
        screening = screen(experiment, base, lined.backbones, run.resources)
        best = clearly_better(screening.found)
        images = len(best.losses)
        scores = "; ".join(
            f"{each.name}: log loss {each.loss:.3f}, {each.right} of {images} {right_words(base)}"
            for each in screening.found
        )
        missing = [*screening.late, *lined.too_slow]
        late = f"; no time for {listed(missing)}" if missing else ""
        step.happened(f"{scores}{late}; chosen: {best.name}")
    _say_unusable(run, screening.failed)
    if best.name == base.backbone.name:
        return experiment, base
    base = with_backbone(base, best.name)
    experiment = change_backbone(experiment, base, run.resources)
    network = experiment.extractor.backbone
    run.record.backbone, run.record.backbone_source = network.name, network.source
    return experiment, base


def _say_unusable(run: RunContext, reasons: Mapping[str, str]) -> None:
    """Notes which backbones were not looked at, and why."""
    for name, why in reasons.items():
        run.note(f"The backbone {name} was not looked at: {why}.")
        run.say(f"note: the backbone {name} was not looked at: {why}")
