"""Removal of augmentations that change the class of an image, before a search."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.artifacts.records import CheckedOperation
from headstart.diagnose.safety import (
    MOST,
    Operation,
    OperationVerdict,
    check_operations,
    unsafe_fields,
)
from headstart.errors import RecipeError
from headstart.methods.augmentation import FlipCrop
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.recipes.space import drawn_families
from headstart.text import counted, listed
from headstart.training.budget import Clock
from headstart.training.experiment import Experiment
from headstart.training.reserve import solve_s
from headstart.training.run_context import RunContext

_SHARE = 0.05
"""Largest share of the time for checking operations."""

_EXPORT_S = 3.0
"""Seconds to load the checked part of the network, before any image."""

_SOLVES = 4
"""Heads that are solved to judge the first operation: three folds and the whole."""

_FEWEST = 8
"""Fewest validation images that can tell an effect from chance."""

_BY_WEIGHT: tuple[Operation, ...] = (
    "flip", "crop", "rotate_30", "rotate_90", "grey", "vertical_flip",
)  # fmt: skip
"""Order of the checks: flips first, because almost every policy has one."""


def without_unsafe(run: RunContext, experiment: Experiment, base: Recipe) -> Recipe:
    """Returns the recipe without the operations that change the class of images.

    Under a budget, checks take at most about a twentieth of the time and start with the most used
    operations. An augmentation that the user set stays unchanged.

    Args:
        run: Run context, which records the findings.
        experiment: Experiment with data and backbone.
        base: Recipe to check.
    """
    used = used_operations(base)
    if not used or not drawn_families(run.options.by_hand, ("augmentation",)):
        return base
    held, left_s = len(experiment.extractor.rows["val"]), run.clock.left()
    until = None if left_s is None else time.monotonic() + _SHARE * left_s
    checked = used[: _affordable(experiment, run.clock)] if held >= _FEWEST else ()
    planned = f"check whether {listed(_named(used), 'or')} changes the class of validation images"
    with run.step("augmentations", planned) as step:
        if held < _FEWEST:
            step.happened(f"{counted(held, 'validation image')}: too few to tell")
        elif not checked:
            step.happened("no time to check")
        if not checked:
            return base
        verdicts = check_operations(experiment.extractor, checked, seed=base.seed, until=until)
        run.record.operations = [
            CheckedOperation(operation=v.operation, safe=v.safe, evidence=v.evidence)
            for v in verdicts
        ]  # fmt: skip
        unfinished = [each.operation for each in verdicts if each.unfinished]
        left = [*unfinished, *used[len(checked) :]]
        step.happened(
            _happened(verdicts) + (f"; no time for {listed(_named(left))}" if left else "")
        )
    return _avoiding(base, unsafe_fields(verdicts))


def used_operations(base: Recipe) -> tuple[Operation, ...]:
    """Returns the operations of the recipe's augmentation, the most used first."""
    changes = base.augmentation.changes
    if base.feature_flip or base.test_time_flip:
        changes = changes | {"flip"}
    return tuple(operation for operation in _BY_WEIGHT if operation in changes)


def _avoiding(base: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Returns the recipe with new values by path; a new policy keeps the fields it shares."""
    data = base.model_dump()
    policy = data["augmentation"]
    name = settings.get("augmentation", policy["name"])
    if name != policy["name"]:
        policy = {k: v for k, v in policy.items() if k in FlipCrop.model_fields} | {"name": name}
    for path, value in settings.items():
        family, _, field = path.partition(".")
        if not field and family != "augmentation":
            data[family] = value
        elif field in policy:
            policy[field] = value
    try:
        return parse_recipe({**data, "augmentation": policy})
    except RecipeError:  # a policy without any operation left
        return parse_recipe({**data, "augmentation": {"name": "none"}})


def _affordable(experiment: Experiment, clock: Clock) -> int:
    """Returns how many operations can be checked in a small share of the remaining time."""
    left = clock.left()
    if left is None:
        return len(_BY_WEIGHT)
    extractor, rows = experiment.extractor, experiment.extractor.rows
    train, val = (min(MOST[part], len(rows[part])) for part in ("train", "val"))
    features_s = experiment.features_s * clock.pace.now
    heads_s = _SOLVES * solve_s(train, extractor.backbone.features, len(extractor.classes))
    seconds = _SHARE * left - _EXPORT_S * clock.pace.contention
    seconds -= (train + val) * features_s + heads_s * clock.pace.now
    return max(0, int(seconds / max(val * features_s, 1e-9)))


def _named(operations: Sequence[Operation]) -> list[str]:
    return [each.replace("_", " ") for each in operations]


def _happened(verdicts: tuple[OperationVerdict, ...]) -> str:
    unsafe = [verdict.operation for verdict in verdicts if not verdict.safe]
    if not unsafe:
        return "no operation was found to change the class"
    return f"{listed(_named(unsafe))}: removed from the recipe, see the report"
