"""Weight averaging over the course of training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from headstart.methods.averaging import AveragingMethod
from headstart.methods.head_layers import Head
from headstart.training.activity import Observed

Weights = list[torch.Tensor]


@dataclass
class WeightPath:
    """The weights during training and their average.

    Attributes:
        method: Averaging method.
        weights: The parameters and floating-point buffers of the model.
        average: The average of each of these tensors.
        raw: A copy of the weights of the last step while the model holds the average.
        epochs: Validation loss and weights (on the CPU) after each epoch, for a soup.
    """

    method: AveragingMethod
    weights: Weights
    average: Weights
    raw: Weights = field(default_factory=list)
    epochs: list[tuple[float, Weights]] = field(default_factory=list)


def begin_path(method: AveragingMethod, suffix: nn.Module, head: Head) -> WeightPath:
    """Returns a path that starts at the current weights, without images that a head stores."""
    # BatchNorm statistics change together with the weights.
    buffers = [buffer for buffer in suffix.buffers() if buffer.is_floating_point()]
    weights = [*(p.data for p in (*suffix.parameters(), *head.parameters())), *buffers]
    return WeightPath(method, weights, _copies(weights))


def follow(path: WeightPath, progress: float, total_steps: int, seen: Observed) -> None:
    """Adds the weights after a step to the average, if averaging has started."""
    if progress < path.method.begins_at:
        return
    decay = path.method.decay(seen.averaged_steps, total_steps)
    with torch.no_grad():
        for mean, value in zip(path.average, path.weights, strict=True):
            mean.lerp_(value, 1 - decay)
    seen.averaged_steps += 1
    seen.averaged_at = seen.averaged_at or seen.steps


def use_average(path: WeightPath, seen: Observed) -> None:
    """Loads the average into the model, if averaging has started."""
    path.raw = _copies(path.weights)
    if seen.averaged_steps:
        _copy(path.average, path.weights)


def keep_epoch(path: WeightPath, loss: float) -> None:
    """Stores the weights of the last step and their validation loss as an ingredient."""
    path.epochs.append((loss, [tensor.cpu() for tensor in path.raw]))


def go_on(path: WeightPath) -> None:
    """Loads the weights of the last step back into the model."""
    _copy(path.raw, path.weights)


def finish_path(path: WeightPath, validate: Callable[[], float], seen: Observed) -> None:
    """Loads the final weights into the model.

    Args:
        path: Path whose average is loaded in the model.
        validate: Returns the validation loss of the model.
        seen: Observations of the training.
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
        before: Tensors before training, by name.
        after: Tensors after training, by name. Tensors that are not floating-point or have another
            shape are returned from here.
        share: Share of the trained weights, in [0, 1].

    Example:
        >>> blend({"w": torch.tensor([0.0])}, {"w": torch.tensor([1.0])}, share=0.25)
        {'w': tensor([0.2500])}
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
    """Returns the mean of tensors; equal tensors are returned unchanged, bit by bit."""
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
