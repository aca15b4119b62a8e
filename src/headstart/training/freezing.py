"""Frozen tensors: parameters and statistics that must not change, with hashes as proof."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.training.activity import Observed, check_frozen, digests

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Sleeping:
    """Parameters that are frozen until a certain progress.

    Attributes:
        until: Progress at which they are unfrozen.
        parameters: The parameters.
        tensors: The parameters and their BatchNorm statistics, by name.
        before: Hashes of these tensors.
    """

    until: float
    parameters: list[nn.Parameter]
    tensors: Tensors
    before: dict[str, bytes]


@dataclass
class Guard:
    """The frozen tensors with hashes of their values.

    Attributes:
        statistics: Running statistics of the BatchNorm layers of the suffix, by name.
        statistics_before: Hashes of the statistics.
        freeze_statistics: Whether the statistics must not change.
        still: Tensors that must never change, by name.
        still_before: Hashes of these tensors.
        sleeping: Parameters that are unfrozen later.
    """

    statistics: Tensors
    statistics_before: dict[str, bytes]
    freeze_statistics: bool
    still: Tensors
    still_before: dict[str, bytes]
    sleeping: list[Sleeping]


def put_under_guard(
    suffix: nn.Module,
    outside: Mapping[str, torch.Tensor],
    freeze_statistics: bool,
    groups: Iterable[dict[str, Any]],
) -> Guard:
    """Freezes the parameter groups with a later `start`, and hashes all frozen tensors.

    Args:
        suffix: Trained part of the backbone.
        outside: Other tensors that must not change, by name.
        freeze_statistics: Whether the BatchNorm statistics of the suffix must not change.
        groups: Parameter groups of the optimizer.
    """
    statistics = _batchnorm_statistics(suffix)
    still = {**outside, **(statistics if freeze_statistics else {})}
    sleeping = [_put_to_sleep(suffix, group) for group in groups if group["start"] > 0]
    return Guard(
        statistics, digests(statistics), freeze_statistics, still, digests(still), sleeping
    )


def wake(guard: Guard, progress: float, seen: Observed) -> bool:
    """Unfreezes parameters that are due, and returns whether there were any.

    Raises:
        HeadstartError: If a tensor changed while it was frozen.
    """
    due = [each for each in guard.sleeping if each.until <= progress]
    for each in due:
        check_frozen(each.before, each.tensors)
        for parameter in each.parameters:
            parameter.requires_grad_(True)
    if due:
        guard.sleeping = [each for each in guard.sleeping if each.until > progress]
        seen.woken.append((seen.steps + 1, sum(len(each.parameters) for each in due)))
    return bool(due)


def train_mode(model: nn.Module, guard: Guard) -> None:
    """Sets training mode, except for BatchNorm layers with frozen statistics."""
    model.train()
    asleep = {id(parameter) for each in guard.sleeping for parameter in each.parameters}
    for module in model.modules():
        if isinstance(module, _BatchNorm) and (guard.freeze_statistics or _owned(module, asleep)):
            module.eval()


def retake_statistics(model: nn.Module, guard: Guard, inputs: Iterable[torch.Tensor]) -> None:
    """Recomputes the BatchNorm statistics that may change, as plain means over batches of inputs.

    `update_bn` of torch would also change those of frozen blocks.
    """
    train_mode(model, guard)
    moving = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [module.momentum for module in moving]
    for module in moving:
        module.reset_running_stats()
        module.momentum = None
    with torch.no_grad():
        for batch in inputs:
            model(batch)
    for module, momentum in zip(moving, momenta, strict=True):
        module.momentum = momentum


def inspect(guard: Guard, seen: Observed) -> None:
    """Checks at the end that no frozen tensor changed, and records changed statistics.

    Raises:
        HeadstartError: If a frozen tensor changed.
    """
    check_frozen(guard.still_before, guard.still)
    for each in guard.sleeping:
        check_frozen(each.before, each.tensors)
        seen.sleeping += len(each.parameters)
    if not guard.freeze_statistics:
        now = digests(guard.statistics)
        seen.statistics_moved = sum(now[name] != guard.statistics_before[name] for name in now)


def _put_to_sleep(suffix: nn.Module, group: dict[str, Any]) -> Sleeping:
    parameters = list(group["params"])
    asleep = {id(parameter) for parameter in parameters}
    tensors: Tensors = {name: p for name, p in suffix.named_parameters() if id(p) in asleep}
    for path, module in suffix.named_modules():
        if isinstance(module, _BatchNorm) and _owned(module, asleep):
            own = module.named_buffers(recurse=False)
            tensors |= {f"{path}.{name}": buffer for name, buffer in own}
    for parameter in parameters:
        parameter.requires_grad_(False)
    return Sleeping(group["start"], parameters, tensors, digests(tensors))


def _batchnorm_statistics(model: nn.Module) -> Tensors:
    return {
        f"{path}.{name}": buffer
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for name, buffer in module.named_buffers(recurse=False)
    }


def _owned(module: nn.Module, parameters: set[int]) -> bool:
    return any(id(parameter) in parameters for parameter in module.parameters(recurse=False))
