"""One training step: mixing, criterion, metric term, clipping and update, with observations."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from headstart.backbones.folding import folded
from headstart.methods.batch_mixing import apply_mix
from headstart.methods.criterion import CriterionFunction, CrossEntropy
from headstart.methods.metric_loss import MetricTerm
from headstart.recipes.recipe import Recipe
from headstart.training.activity import Observed
from headstart.training.network import TrainableNetwork

_SEEN_FROM = 0.01


@dataclass
class Stepper:
    """The state of the training steps.

    Attributes:
        network: Maps activations to features, embeddings and logits.
        recipe: Recipe with mixing, clipping and the weight of the metric term.
        optimizer: Optimizer of all trained parameters.
        criterion: None if the head has no logits to train.
        term: Metric loss, or None.
        classes: Number of classes C.
        space: Dimensions of height and width of a batch.
        random: Random generator for the mixing.
        seen: Observations of the training.
        norms: Lengths of the gradients of steps that were not looked at yet.
    """

    network: TrainableNetwork
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    criterion: "CriterionFunction | None"
    term: MetricTerm | None
    classes: int
    space: tuple[int, ...]
    random: np.random.Generator
    seen: Observed
    norms: list[torch.Tensor] = field(default_factory=list)


def make_stepper(
    network: TrainableNetwork,
    counts: NDArray[np.int64],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    term: MetricTerm | None,
    space: tuple[int, ...],
    seen: Observed,
) -> Stepper:
    """Returns a stepper with a criterion for classes of `counts` (C,) images."""
    layer = next(network.head.out.parameters(), None)
    criterion = None
    if layer is not None:
        criterion = recipe.criterion.build(torch.from_numpy(counts).to(layer.device))
        if recipe.criterion.class_weights == "balanced":
            weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
            seen.class_weights = float(weights.min()), float(weights.max())
    random = np.random.default_rng([recipe.seed, 1])
    network = replace(network, suffix=folded(network.suffix))
    return Stepper(network, recipe, optimizer, criterion, term, len(counts), space, random, seen)


def take_step(work: Stepper, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Takes one step and returns the loss before it, a scalar.

    Once the first steps are observed, a step reads nothing back from the device that it runs on, so
    a GPU does not wait for this process. A metric loss counts its pairs in every step, and does.

    Args:
        work: State of the training steps.
        inputs: Activations or views (B, ...).
        labels: Class numbers (B,), or 1 where an image has a label, (B, C).
    """
    seen = work.seen
    seen.steps += 1
    on_gpu = inputs.device.type == "cuda"
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=on_gpu):
        loss = _loss(work, inputs, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    if work.recipe.optimizer.clip_norm:
        _clip(work)
    before = None
    if seen.moved is None and _has_warmed_up(work.optimizer):
        before = _copies(work.optimizer)
    work.optimizer.step()
    if before is not None:
        _note_movement(work, before)
    work.optimizer.zero_grad()
    seen.rates.append(work.optimizer.param_groups[-1]["lr"])
    seen.syncs = work.optimizer.param_groups[0].get("lookahead_syncs", 0)
    return loss.detach()


def _loss(work: Stepper, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    targets = labels.float() if labels.ndim == 2 else F.one_hot(labels, work.classes).float()
    if work.recipe.feature_flip:
        inputs = _mirrored(work, inputs)
    mix = work.recipe.batch_mixing.draw(len(labels), work.random)
    mixed = inputs
    if mix is not None:
        work.seen.drawn += 1
        mixed, targets, share = apply_mix(inputs, targets, mix, work.space)
        if share < 1:
            _note_mixing(work.seen, share)
    suffix, head = work.network.suffix, work.network.head
    embeddings = head.embed(suffix(mixed))
    loss: torch.Tensor = embeddings.new_zeros(())
    if work.criterion is not None:
        logits = head.out(embeddings)
        loss = work.criterion(logits, targets)
        if work.seen.criterion is None:
            _note_criterion(work.seen, work.recipe.criterion, logits.detach(), targets)
    if work.term is not None:
        # Pairs need plain labels, which mixed examples do not have.
        unmixed = embeddings if mix is None else head.embed(suffix(inputs))
        with torch.autocast(inputs.device.type, enabled=False):  # angles need full precision
            value, pairs = work.term.loss(unmixed.float(), labels)
        _note_metric(work.seen, float(value.detach()), pairs)
        loss = value if work.criterion is None else loss + work.recipe.metric_loss.weight * value
    return loss


def _mirrored(work: Stepper, inputs: torch.Tensor) -> torch.Tensor:
    """Returns the batch with the maps of each example mirrored with probability 1/2."""
    seen, chosen = work.seen, work.random.random(len(inputs)) < 0.5
    seen.offered += len(chosen)
    seen.mirrored += int(chosen.sum())
    some = torch.from_numpy(chosen).to(inputs.device).view(-1, *[1] * (inputs.ndim - 1))
    mirrored = torch.where(some, inputs.flip(work.space[1]), inputs)
    if seen.mirrored_at is None and not torch.equal(mirrored, inputs):
        seen.mirrored_at = seen.steps
    return mirrored


def note_clipping(work: Stepper) -> None:
    """Counts the steps since the last call whose gradients were clipped."""
    if work.norms:
        first = work.seen.steps - len(work.norms) + 1
        longest = work.recipe.optimizer.clip_norm
        clipped = np.flatnonzero(torch.stack(work.norms).double().cpu().numpy() > longest)
        if len(clipped):
            work.seen.clipped += len(clipped)
            work.seen.clipped_at = work.seen.clipped_at or first + int(clipped[0])
        work.norms.clear()


def _clip(work: Stepper) -> None:
    longest = work.recipe.optimizer.clip_norm
    norm = nn.utils.clip_grad_norm_(_parameters(work.optimizer), longest)
    work.norms.append(norm.detach())


def _note_mixing(seen: Observed, share: float) -> None:
    seen.mixed += 1
    if seen.mixed_at is None:
        seen.mixed_at, seen.mixed_share = seen.steps, share


def _note_criterion(
    seen: Observed, method: Any, logits: torch.Tensor, targets: torch.Tensor
) -> None:
    """Records the criterion and plain cross-entropy, both without class weights."""
    counts = torch.ones(targets.shape[1], device=logits.device)
    value = method.model_copy(update={"class_weights": "none"}).build(counts)(logits, targets)
    seen.criterion = float(value), float(CrossEntropy().build(counts)(logits, targets))


def _note_metric(seen: Observed, value: float, pairs: int) -> None:
    seen.metric_pairs += pairs
    if value > 0:
        seen.metric_positive += 1
        if seen.metric_at is None:
            seen.metric_at, seen.metric_first = seen.steps, value


def _note_movement(work: Stepper, before: list[torch.Tensor]) -> None:
    steps = [
        float((now.detach() - old).abs().max())
        for now, old in zip(_parameters(work.optimizer), before, strict=True)
    ]
    pushed = any(p.grad is not None and bool(p.grad.any()) for p in _parameters(work.optimizer))
    if pushed or max(steps) > 0:  # without a gradient, the next step decides
        work.seen.moved = sum(step > 0 for step in steps), len(steps), max(steps)
        work.seen.moved_at = work.seen.steps


def _has_warmed_up(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the learning rate is high enough for a visible step; warm-up starts near zero."""
    return any(group["lr"] >= _SEEN_FROM * group["full_lr"] for group in optimizer.param_groups)


def _copies(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in _parameters(optimizer)]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Any]:
    groups: Iterable[dict[str, Any]] = optimizer.param_groups
    return [parameter for group in groups for parameter in group["params"]]
