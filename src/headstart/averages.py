"""The path of the weights through training, and the weights that are kept of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from headstart.fingerprints import Observed
from headstart.methods.averaging import AveragingMethod
from headstart.methods.head import Head

Weights = list[torch.Tensor]


@dataclass
class WeightPath:
    """Where the weights are, and their average.

    Attributes:
        method: How they are averaged.
        weights: The parameters and floating-point buffers themselves.
        average: As many tensors.
        raw: A copy of the weights of the last step while the average is in their place.
        epochs: The weights after each epoch, off the GPU, and their validation loss, for a soup.
    """

    method: AveragingMethod
    weights: Weights
    average: Weights
    raw: Weights = field(default_factory=list)
    epochs: list[tuple[float, Weights]] = field(default_factory=list)


def begin_path(method: AveragingMethod, suffix: nn.Module, head: Head) -> WeightPath:
    """Starts at the weights as they are. What a head remembers of images is no weight."""
    # BatchNorm's statistics move with the weights.
    buffers = [buffer for buffer in suffix.buffers() if buffer.is_floating_point()]
    weights = [*(p.data for p in (*suffix.parameters(), *head.parameters())), *buffers]
    return WeightPath(method, weights, _copies(weights))


def follow(path: WeightPath, progress: float, total_steps: int, seen: Observed) -> None:
    """Takes the weights after a step into the average, where it has begun."""
    if progress < path.method.begins_at:
        return
    decay = path.method.decay(seen.averaged_steps, total_steps)
    with torch.no_grad():
        for mean, value in zip(path.average, path.weights, strict=True):
            mean.lerp_(value, 1 - decay)
    seen.averaged_steps += 1
    seen.averaged_at = seen.averaged_at or seen.steps


def use_average(path: WeightPath, seen: Observed) -> None:
    """Puts the average in the place of the weights, once it has begun."""
    path.raw = _copies(path.weights)
    if seen.averaged_steps:
        _copy(path.average, path.weights)


def keep_epoch(path: WeightPath, loss: float) -> None:
    """Keeps the weights of the last step as an ingredient, with their validation loss."""
    path.epochs.append((loss, [tensor.cpu() for tensor in path.raw]))


def go_on(path: WeightPath) -> None:
    """Puts the weights of the last step back."""
    _copy(path.raw, path.weights)


def finish_path(path: WeightPath, validate: Callable[[], float], seen: Observed) -> None:
    """Leaves in place what is kept in the end.

    Args:
        path: The average is in place.
        validate: Returns the validation loss of what is in place.
        seen: Where it is noted what the averaging did.
    """
    if path.method.chooses_by_validation:
        seen.ingredients = _cook(path, validate)
    pairs = zip(path.weights, path.raw, strict=True)
    seen.averaged = max(float((a - b).abs().max()) for a, b in pairs if a.numel())


def blend(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Returns weights between those before and after training (WiSE-FT, Wortsman et al. 2022).

    Args:
        before: By name.
        after: By name; what is no floating-point tensor of the same shape is taken from here.
        share: Of the trained ones, in [0, 1].
    """
    return {
        name: torch.lerp(before[name], tensor, share)
        if tensor.is_floating_point() and tensor.shape == before[name].shape
        else tensor
        for name, tensor in after.items()
    }


def _cook(path: WeightPath, validate: Callable[[], float]) -> list[int]:
    def mean(numbers: Sequence[int]) -> Weights:
        each = [path.epochs[number][1] for number in numbers]
        return [_mean(tensors) for tensors in zip(*each, strict=True)]

    def loss(weights: Weights) -> float:
        _copy(weights, path.weights)
        return validate()

    cooked = path.method.cook([value for value, _ in path.epochs], mean, loss)
    assert cooked is not None
    soup, chosen = cooked
    _copy(soup, path.weights)
    return chosen


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns the mean; that of equal tensors is they themselves, to the last bit."""
    first, *others = tensors
    if all(torch.equal(first, other) for other in others):
        return first
    return torch.stack(list(tensors)).mean(0)


def _copies(tensors: Weights) -> Weights:
    return [tensor.detach().clone() for tensor in tensors]


def _copy(source: Weights, target: Weights) -> None:
    with torch.no_grad():
        for old, new in zip(target, source, strict=True):
            old.copy_(new)
