"""What must not move in training: frozen for good or until its turn, and proved to have been."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.fingerprints import Observed, check_frozen, digests

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Sleeping:
    """Parameters that do not train yet.

    Attributes:
        until: Progress at which they begin to.
        parameters: They themselves.
        tensors: They and the BatchNorm statistics that belong to them, by name.
        before: Hashes of these tensors.
    """

    until: float
    parameters: list[nn.Parameter]
    tensors: Tensors
    before: dict[str, bytes]


@dataclass
class Guard:
    """What is frozen, with hashes of what it was.

    Attributes:
        statistics: Running statistics of the suffix's BatchNorm layers, by name.
        statistics_before: Their hashes.
        freeze_statistics: Whether they must not move.
        still: All that must never change, by name.
        still_before: Its hashes.
        sleeping: What begins to train later.
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
    """Freezes the parameter groups whose `start` lies ahead and hashes all that is frozen.

    Args:
        suffix: What is trained.
        outside: What must not change besides, by name.
        freeze_statistics: Whether the suffix's BatchNorm statistics must not.
        groups: The optimizer's.
    """
    statistics = _batchnorm_statistics(suffix)
    still = {**outside, **(statistics if freeze_statistics else {})}
    sleeping = [_put_to_sleep(suffix, group) for group in groups if group["start"] > 0]
    return Guard(
        statistics, digests(statistics), freeze_statistics, still, digests(still), sleeping
    )


def wake(guard: Guard, progress: float, seen: Observed) -> bool:
    """Unfreezes what is due and returns whether anything was.

    Raises:
        HeadstartError: If a tensor changed in its sleep.
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
    """Sets training mode, but for the BatchNorm layers whose statistics must not move."""
    model.train()
    asleep = {id(parameter) for each in guard.sleeping for parameter in each.parameters}
    for module in model.modules():
        if isinstance(module, _BatchNorm) and (guard.freeze_statistics or _owned(module, asleep)):
            module.eval()


def retake_statistics(model: nn.Module, guard: Guard, inputs: Iterable[torch.Tensor]) -> None:
    """Takes the BatchNorm statistics that may move anew, as plain means over batches of inputs.

    torch's `update_bn` would take those of sleeping blocks, too.
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
    """Checks at the end that nothing moved that must not, and notes what did.

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
