"""Fingerprints: the observed effect of each method. A method without any effect is an error."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from headstart.artifacts.records import Acted, State
from headstart.errors import HeadstartError
from headstart.recipes.recipe import Recipe
from headstart.text import counted, percent
from headstart.training.batches import RowsReader

_COMPARED = 64
"""Number of images whose views are compared to detect the augmentation."""

_FEW_VIEWS = 32

_SURELY = 1e-6
"""Probability below which a method without an effect is broken, not unlucky."""


@dataclass
class Observed:
    """Observations of the training loop, collected step by step."""

    steps: int = 0
    rates: list[float] = field(default_factory=list)
    moved: tuple[int, int, float] | None = None
    moved_at: int = 0
    syncs: int = 0
    clipped: int = 0
    clipped_at: int | None = None
    offered: int = 0
    mirrored: int = 0
    mirrored_at: int | None = None
    drawn: int = 0
    mixed: int = 0
    mixed_at: int | None = None
    mixed_share: float = 1.0
    criterion: tuple[float, float] | None = None
    class_weights: tuple[float, float] | None = None
    metric_pairs: int = 0
    metric_positive: int = 0
    metric_at: int | None = None
    metric_first: float = 0.0
    views_changed: float | None = None
    views_compared: int = 0
    woken: list[tuple[int, int]] = field(default_factory=list)
    sleeping: int = 0
    rates_by_block: tuple[float, float] = (0.0, 0.0)
    trained: int = 0
    frozen: int = 0
    statistics_moved: int | None = None
    averaged: float | None = None
    averaged_steps: int = 0
    averaged_at: int | None = None
    ingredients: list[int] = field(default_factory=list)


def digests(tensors: Mapping[str, torch.Tensor]) -> dict[str, bytes]:
    """Returns a hash of every tensor's bytes, by name."""
    return {
        name: hashlib.blake2b(
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        ).digest()
        for name, tensor in tensors.items()
    }


def check_frozen(before: Mapping[str, bytes], tensors: Mapping[str, torch.Tensor]) -> None:
    """Checks that tensors have not changed.

    Raises:
        HeadstartError: If one of them changed.
    """
    now = digests(tensors)
    changed = [name for name, digest in before.items() if now[name] != digest]
    if changed:
        raise HeadstartError(
            f"Training changed {counted(len(changed), 'frozen tensor')}, such as {changed[0]!r}. "
            "This is a bug in headstart: please report it with the recipe."
        )


def compare_views(seen: Observed, views: Sequence[RowsReader], plain: RowsReader) -> None:
    """Records the share of images with a cached view that differs from the evaluation view."""
    some = min(_COMPARED, len(plain))
    changed = [
        any(not np.array_equal(view[row], plain[row]) for view in views) for row in range(some)
    ]
    seen.views_changed, seen.views_compared = float(np.mean(changed)), some * len(views)


def fingerprints(recipe: Recipe, seen: Observed) -> tuple[Acted, ...]:
    """Returns the observed effect of each method that `train` applies.

    Raises:
        HeadstartError: If a method had no effect although it was due.
    """
    return tuple(found for judge in _JUDGES for found in judge(recipe, seen))


def untrained(recipe: Recipe, why: str) -> list[Acted]:
    """Returns, for each method that only acts in training, that nothing was trained."""
    families = (
        "augmentation", "batch_mixing", "optimizer", "schedule", "criterion", "metric_loss",
        "averaging",
    )  # fmt: skip
    named = [family for family in families if not getattr(recipe, family).absent]
    return [_not_due(family, recipe, f"nothing was trained ({why})") for family in named]


def _augmentation(recipe: Recipe, seen: Observed) -> list[Acted]:
    if recipe.augmentation.absent or seen.views_changed is None:
        return []
    if not seen.views_changed:
        evidence = f"none of {counted(seen.views_compared, 'cached view')} differs from its image"
        if recipe.augmentation.may_spare_views or seen.views_compared < _FEW_VIEWS:  # may be chance
            return [_not_due("augmentation", recipe, evidence)]
        raise _dead("augmentation", recipe, evidence)
    return [
        _acted(
            "augmentation",
            recipe,
            f"the views of {percent(seen.views_changed, 0)} of images differ from the image",
        )
    ]


def _feature_flip(recipe: Recipe, seen: Observed) -> list[Acted]:
    if not recipe.feature_flip:
        return []
    evidence = f"{seen.mirrored:,} of {counted(seen.offered, 'feature map')} mirrored"
    state: State = "acted"
    if seen.mirrored_at is None:
        if seen.mirrored >= _FEW_VIEWS or seen.offered >= 2 * _FEW_VIEWS:
            raise HeadstartError(
                f"feature_flip had no effect: {evidence}, and each equals its mirror image. Turn "
                "it off or choose an earlier boundary."
            )
        state = "not due"
    at = seen.mirrored_at
    found = Acted(
        family="feature_flip", method="flip", state=state, evidence=evidence, first_step=at
    )
    return [found]


def _batch_mixing(recipe: Recipe, seen: Observed) -> list[Acted]:
    method = recipe.batch_mixing
    if method.absent:
        return []
    batches = counted(seen.steps, "batch", "batches")
    if seen.mixed_at is None:
        if not seen.drawn and (1 - method.mixed_share) ** seen.steps < _SURELY:
            raise _dead(
                "batch_mixing",
                recipe,
                f"none of {batches} was mixed",
            )
        evidence = f"{seen.drawn} of {batches} drawn, none visibly mixed"
        return [_not_due("batch_mixing", recipe, evidence)]
    evidence = (
        f"{seen.mixed} of {batches} mixed; in the first, each example kept "
        f"{percent(seen.mixed_share, 0)} of itself"
    )
    return [_acted("batch_mixing", recipe, evidence, seen.mixed_at)]


def _optimizer(recipe: Recipe, seen: Observed) -> list[Acted]:
    method = recipe.optimizer
    if seen.moved is None:
        return [_not_due("optimizer", recipe, "the learning rate was close to 0 at every step")]
    count, total, largest = seen.moved
    if not count:
        raise _dead("optimizer", recipe, "the first step after warm-up changed no parameter")
    evidence = (
        f"the first step after warm-up changed {count} of {counted(total, 'tensor')}, by up to "
        f"{largest:.2g}"
    )
    found = [_acted("optimizer", recipe, evidence, seen.moved_at)]
    if method.lookahead_steps:
        if seen.syncs != seen.steps // method.lookahead_steps:
            raise _dead("optimizer", recipe, f"Lookahead synced {counted(seen.syncs, 'time')}")
        due = seen.syncs > 0
        evidence = (
            f"Lookahead synced {counted(seen.syncs, 'time')}, every {method.lookahead_steps} steps"
        )
        state: State = "acted" if due else "not due"
        first = method.lookahead_steps if due else None
        found.append(_acted("optimizer", recipe, evidence, first, state))
    if method.clip_norm:
        steps = counted(seen.steps, "step")
        evidence = f"gradients clipped to norm {method.clip_norm:g} in {seen.clipped} of {steps}"
        state = "acted" if seen.clipped else "idle"
        found.append(_acted("optimizer", recipe, evidence, seen.clipped_at, state))
    return found


def _schedule(recipe: Recipe, seen: Observed) -> list[Acted]:
    if recipe.schedule.is_baseline:
        return []
    low, high = min(seen.rates), max(seen.rates)
    if low == high:
        if seen.steps > 2:
            raise _dead("schedule", recipe, f"the learning rate was {high:.2g} at every step")
        return [_not_due("schedule", recipe, f"only {counted(seen.steps, 'step')} taken")]
    change = next(n for n, rate in enumerate(seen.rates, start=1) if rate != seen.rates[0])
    return [_acted("schedule", recipe, f"learning rate between {low:.2g} and {high:.2g}", change)]


def _criterion(recipe: Recipe, seen: Observed) -> list[Acted]:
    method = recipe.criterion
    if seen.criterion is None:
        evidence = "not used: the head has no trainable logits, so only the metric loss is trained"
        return [_acted("criterion", recipe, evidence, None, "idle")]
    value, plain = seen.criterion
    found = []
    if not method.is_baseline:
        # If every prediction is already perfect, both are 0.
        if value == plain and plain > _SURELY and not method.is_neutral:
            raise _dead("criterion", recipe, "its value equals plain cross-entropy")
        evidence = f"{value:.4g} on the first batch, where plain cross-entropy is {plain:.4g}"
        state: State = "idle" if value == plain else "acted"
        found.append(_acted("criterion", recipe, evidence, 1, state))
    if seen.class_weights is not None:
        low, high = seen.class_weights
        state = "idle" if low == high else "acted"
        evidence = f"class weights from {low:.3g} to {high:.3g}"
        found.append(_acted("criterion", recipe, evidence, 1, state))
    return found


def _metric_loss(recipe: Recipe, seen: Observed) -> list[Acted]:
    if recipe.metric_loss.absent:
        return []
    if not seen.metric_pairs:
        raise _dead("metric_loss", recipe, "no batch held two images of one class")
    steps = counted(seen.steps, "step")
    if seen.metric_at is None:
        evidence = f"0 in each of {steps}: no pair or triplet that it compares violates the margin"
        return [_acted("metric_loss", recipe, evidence, None, "idle")]
    evidence = (
        f"above 0 in {seen.metric_positive} of {steps}, {seen.metric_first:.3g} in "
        f"the first; {counted(seen.metric_pairs, 'pair')} of one class in all"
    )
    return [_acted("metric_loss", recipe, evidence, seen.metric_at)]


def _freezing(recipe: Recipe, seen: Observed) -> list[Acted]:
    evidence = (
        f"{counted(seen.trained, 'tensor')} trained, {seen.frozen} frozen and verified unchanged"
    )
    found = [_acted("freezing", recipe, evidence, 1)]
    if seen.woken:
        steps = ", ".join(str(step) for step, _ in seen.woken)
        evidence = f"{counted(sum(n for _, n in seen.woken), 'tensor')} unfrozen, at steps {steps}"
        found.append(_acted("freezing", recipe, evidence, seen.woken[0][0]))
    if seen.sleeping:
        evidence = f"{counted(seen.sleeping, 'tensor')} still frozen at the end"
        found.append(_not_due("freezing", recipe, evidence))
    if recipe.freezing.decays_by_layer:
        low, high = seen.rates_by_block
        state: State = "idle" if low == high else "acted"
        evidence = (
            f"peak learning rates from {low:.2g} at the boundary to {high:.2g} before the head"
        )
        found.append(_acted("freezing", recipe, evidence, 1, state))
    if seen.statistics_moved is not None:
        state = "acted" if seen.statistics_moved else "idle"
        evidence = f"{counted(seen.statistics_moved, 'BatchNorm statistic')} changed"
        found.append(_acted("freezing", recipe, evidence, 1, state))
    return found


def _averaging(recipe: Recipe, seen: Observed) -> list[Acted]:
    method = recipe.averaging
    if method.absent:
        return []
    if method.chooses_by_validation:
        numbers = ", ".join(str(number + 1) for number in sorted(seen.ingredients))
        state: State = "acted" if len(seen.ingredients) > 1 else "idle"
        return [_acted("averaging", recipe, f"the mean of epochs {numbers}", seen.steps, state)]
    if seen.averaged_steps < 2 or seen.averaged is None:
        return [_not_due("averaging", recipe, f"{counted(seen.averaged_steps, 'step')} to average")]
    if not seen.averaged and seen.moved is not None:
        raise _dead("averaging", recipe, "the average equals the weights of the last step")
    evidence = (
        f"averaged over {counted(seen.averaged_steps, 'step')}; differs from the last weights by "
        f"up to {seen.averaged:.2g}"
    )
    return [_acted("averaging", recipe, evidence, seen.averaged_at)]


_JUDGES: tuple[Callable[[Recipe, Observed], list[Acted]], ...] = (
    _augmentation,
    _feature_flip,
    _batch_mixing,
    _optimizer,
    _schedule,
    _criterion,
    _metric_loss,
    _freezing,
    _averaging,
)


def _acted(
    family: str, recipe: Recipe, evidence: str, step: int | None = None, state: State = "acted"
) -> Acted:
    method = getattr(recipe, family).name
    return Acted(family=family, method=method, state=state, evidence=evidence, first_step=step)


def _not_due(family: str, recipe: Recipe, evidence: str) -> Acted:
    return _acted(family, recipe, evidence, None, "not due")


def _dead(family: str, recipe: Recipe, why: str) -> HeadstartError:
    name = getattr(recipe, family).name
    return HeadstartError(
        f"{family} = {name} had no effect: {why}. Remove it from the recipe or change its values."
    )
