"""The steps of an ablation from the naive recipe to a chosen one, and their gains."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from headstart.ablation.record import LedgerRow
from headstart.ablation.set_gains import HeldSets, precision_fields
from headstart.artifacts.journal import Trial
from headstart.artifacts.records import Acted
from headstart.evaluation.intervals import share_interval
from headstart.evaluation.metrics import flags_of
from headstart.evaluation.paired import Cell, paired_difference, sign_test
from headstart.evaluation.statistics import holm
from headstart.methods.criterion import BinaryCrossEntropy
from headstart.recipes.parsing import NAMED
from headstart.recipes.recipe import Recipe, broken_rules
from headstart.search.leaderboard import shown
from headstart.text import percent

ORDER = (
    "optimizer", "schedule", "augmentation", "batch_mixing", "criterion", "freezing", "head",
    "activation", "metric_loss", "averaging",
)  # fmt: skip
"""Order in which families are added: optimization, then data and loss, then the network."""

LAST = (("feature_flip",), ("blend",), ("train_resolution", "retrain_head"), ("test_time_flip",))
"""Fields of no family, most of which act after training; they are added last, in this order."""

FIELDS = (*ORDER, *(field for together in LAST for field in together))
"""All fields in which the recipes of an ablation may differ."""

_BY_GRADIENT = tuple(family for family in ORDER if family not in {"freezing", "head"})

TRAINING = ("training",)
"""Pseudo-family of the row that compares a search's first recipe with its initial head."""


@dataclass(frozen=True)
class LedgerStep:
    """A recipe of the ledger.

    Attributes:
        part: Part of the ledger.
        families: Families in which the recipe differs from its baseline.
        recipe: The recipe.
    """

    part: Literal["ladder", "left_out"]
    families: tuple[str, ...]
    recipe: Recipe


def endpoints(chosen: Recipe, epochs: int) -> tuple[Recipe, Recipe]:
    """Returns the naive and the chosen recipe with equal backbone, batch size, views and seed.

    If the head is solved in closed form, families that act only by gradient descent are those of
    the naive recipe, because they have no effect.

    Args:
        chosen: Recipe whose methods are evaluated.
        epochs: Length of both schedules.
    """
    naive = NAMED["naive"]
    if chosen.criterion.for_sets:
        naive = naive.model_copy(update={"criterion": BinaryCrossEntropy()})
    if chosen.closed_form:
        after = (*_BY_GRADIENT, "feature_flip", "blend", "retrain_head")
        plain = {field: getattr(naive, field) for field in after}
        chosen = chosen.model_copy(update=plain)
    if chosen.head.init == "random" and chosen.head.features == "auto":  # which is the last then
        head = chosen.head.model_copy(update={"features": "last"})
        chosen = chosen.model_copy(update={"head": head})
    fields = ("backbone", "views", "batch_size", "seed")
    common = {field: getattr(chosen, field) for field in fields}
    naive = naive.model_copy(update={**common, "epochs": epochs})
    return naive, chosen.model_copy(update={"epochs": epochs})


def ladder(naive: Recipe, chosen: Recipe) -> list[LedgerStep]:
    """Returns the steps from one recipe to another, each with one more family.

    If a family alone would give an invalid recipe, another one is added first; if no single family
    gives a valid recipe, the smallest set that does is added at once.

    Args:
        naive: First recipe; a row of its own, without families.
        chosen: Last recipe.

    Example:
        >>> steps = ladder(*endpoints(NAMED["default"], epochs=3))
        >>> steps[0].families, steps[-1].recipe == endpoints(NAMED["default"], epochs=3)[1]
        ((), True)
    """
    steps = [LedgerStep("ladder", (), naive)]
    for families in (ORDER, *LAST):
        left = [f for f in families if getattr(naive, f) != getattr(chosen, f)]
        while left:
            taken = _fewest(steps[-1].recipe, chosen, left)
            steps.append(LedgerStep("ladder", taken, _with(steps[-1].recipe, chosen, taken)))
            left = [family for family in left if family not in taken]
    return steps


def left_out(naive: Recipe, chosen: Recipe) -> list[LedgerStep]:
    """Returns the chosen recipe with each of its methods replaced by that of the naive recipe.

    If the result would be invalid, the smallest set of other methods is replaced with it.
    """
    differ = _differing(naive, chosen)
    found: dict[tuple[str, ...], LedgerStep] = {}
    for family in differ:
        taken = _fewest(chosen, naive, differ, family)
        found.setdefault(taken, LedgerStep("left_out", taken, _with(chosen, naive, taken)))
    return list(found.values())


def _fewest(
    here: Recipe, there: Recipe, families: Sequence[str], needed: str = ""
) -> tuple[str, ...]:
    """Returns the smallest set of families whose adoption from another recipe is valid."""
    for size in range(1, len(families) + 1):
        for taken in combinations(families, size):
            if (not needed or needed in taken) and not broken_rules(_with(here, there, taken)):
                return taken
    return tuple(families)


def _with(here: Recipe, there: Recipe, families: Sequence[str]) -> Recipe:
    return here.model_copy(update={family: getattr(there, family) for family in families})


def _differing(one: Recipe, other: Recipe) -> tuple[str, ...]:
    return tuple(f for f in FIELDS if getattr(one, f) != getattr(other, f))


def with_seed(recipe: Recipe, offset: int) -> Recipe:
    """Returns the recipe with its seed increased by an offset."""
    return recipe.model_copy(update={"seed": recipe.seed + offset})


def change_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Returns the differences between two recipes as text.

    Args:
        before: First recipe, as plain data; what an older version did not know may be missing.
        after: Second recipe, as plain data.
    """
    changes, unset = [], Recipe()
    for family in FIELDS:
        old, new = (each.get(family, getattr(unset, family)) for each in (before, after))
        if old == new:
            continue
        name = family.replace("_", " ")
        if not isinstance(old, dict):
            changes.append(f"{name}: {shown(old)} → {shown(new)}")
        elif old["name"] != new["name"]:
            changes.append(f"{name}: {old['name']} → {new['name']}")
        else:
            fields = [f"{k} {shown(old[k])} → {shown(new[k])}" for k in new if old[k] != new[k]]
            changes.append(f"{name}: {', '.join(fields)}")
    return "; ".join(changes)


def ledger_rows(
    steps: Sequence[LedgerStep],
    trials: Sequence[Trial],
    seeds: int,
    held: HeldSets | None = None,
) -> list[LedgerRow]:
    """Returns a row for each measured step, with its gain and p-values corrected over all rows.

    If the predecessor of a ladder step was not measured or failed, the step is compared with the
    last one that was, and its row lists all changes between them.

    Args:
        steps: The ladder, then the steps without one method; the ladder ends at the chosen recipe.
        trials: Trials, each with the recipe of a step for one of the seeds.
        seeds: Number of seeds, counted from the seed of the recipes.
        held: What the trials say of held-out images, where they have any number of labels.
    """
    known = [(trial.recipe, trial) for trial in trials]

    def measured(step: LedgerStep) -> dict[int, Trial]:
        wanted = {n: with_seed(step.recipe, n).model_dump(mode="json") for n in range(seeds)}
        return {n: trial for n, data in wanted.items() for recipe, trial in known if recipe == data}

    climb = [step for step in steps if step.part == "ladder"]
    whole = measured(climb[-1])
    rows: list[LedgerRow] = []
    last: tuple[Recipe, dict[int, Trial]] | None = None
    for step in steps:
        own = measured(step)
        if not own:
            continue
        if step.part == "left_out":
            change = change_between(_data(climb[-1].recipe), _data(step.recipe))
            rows.append(_row(step, step.families, change, own, (own, whole), held))
            continue
        before, old = last or (climb[0].recipe, {})
        change = change_between(_data(before), _data(step.recipe)) or "the naive recipe"
        families = _differing(before, step.recipe) if old else step.families
        if last is None and step is not climb[0]:
            change = f"the naive recipe with {change}"
        rows.append(_row(step, families, change, own, (old, own), held))
        if _done(own):
            last = step.recipe, own
    return corrected(rows)


def _row(
    step: LedgerStep,
    families: tuple[str, ...],
    change: str,
    own: Mapping[int, Trial],
    sides: tuple[Mapping[int, Trial], Mapping[int, Trial]],
    held: HeldSets | None,
) -> LedgerRow:
    """Returns a row: the results of the recipe, and the gain with its methods over without them."""
    (without, having), good = sides, _done(own)
    failed = "" if good else next(iter(own.values())).cause
    base = LedgerRow(
        part=step.part, families=families, change=change,
        epochs=step.recipe.epochs, failed=failed, seeds=len(good),
        seconds=float(np.mean([trial.seconds for trial in own.values()])),
    )  # fmt: skip
    if not good:
        return base
    trials = list(good.values())
    figures = {
        "images": trials[0].val_images,
        "accuracy": float(np.mean([trial.val_right / trial.val_images for trial in trials])),
        "accuracy_interval": share_interval(
            np.mean([flags_of(trial.val_bits) for trial in trials], axis=0), trials[0].groups
        ),
        "loss": float(np.mean([trial.val_loss for trial in trials])),
    }
    shared = sorted(_done(without).keys() & _done(having).keys())
    gain = gain_of([without[n] for n in shared], [having[n] for n in shared])
    if held is not None:
        before, after = ([_key(side[n]) for n in shared] for side in (without, having))
        keys = [_key(trial) for trial in trials]
        gain |= precision_fields(held, keys, before, after, trials[0].groups)
    shows = _done(having if step.part == "left_out" else own)
    acted = acted_of(next(iter(shows.values())), families) if shows else ()
    return base.model_copy(update={**figures, **gain, "acted": acted})


def _key(trial: Trial) -> str:
    return json.dumps(trial.recipe)


def gain_of(without: Sequence[Trial], having: Sequence[Trial]) -> dict[str, Any]:
    """Returns the gain of some trials over others on the same images, as fields of a row.

    Args:
        without: Baseline trials, one per seed.
        having: Trials with the change, with the same seeds in the same order.
    """
    if not without:
        return {}
    pairs = [
        (flags_of(a.val_bits), flags_of(b.val_bits)) for a, b in zip(without, having, strict=True)
    ]
    groups = having[0].groups
    gain, interval = paired_difference([Cell("held out", a, b, groups) for a, b in pairs])
    losses = [a.val_loss - b.val_loss for a, b in zip(without, having, strict=True)
              if a.val_loss is not None and b.val_loss is not None]  # fmt: skip
    return {
        "gain": gain, "interval": interval, "loss_gain": float(np.mean(losses)),
        "p": sign_test(pairs, groups),
    }  # fmt: skip


def corrected(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """Returns the rows with p-values corrected for multiple comparisons (Holm 1979)."""
    at = [number for number, row in enumerate(rows) if row.p is not None]
    adjusted = holm([rows[number].p or 0.0 for number in at]) if at else []
    by_row = dict(zip(at, adjusted, strict=True))
    return [row.model_copy(update={"p_holm": by_row.get(n)}) for n, row in enumerate(rows)]


def acted_of(trial: Trial, families: Sequence[str]) -> tuple[Acted, ...]:
    """Returns the observed effects of some families in a trial."""
    found = [acted for acted in trial.acted if acted.family in families]
    blend = trial.recipe["blend"]
    if "blend" in families and blend < 1:
        evidence = f"weights blended: {percent(blend, 0)} fine-tuned, the rest initial"
        found.append(Acted(family="blend", method="blend", state="acted", evidence=evidence))
    if "retrain_head" in families and trial.recipe.get("retrain_head"):
        evidence = "the head was solved again on the fine-tuned features"
        found.append(
            Acted(family="retrain_head", method="solved", state="acted", evidence=evidence)
        )
    return tuple(found)


def rows_of_trials(trials: Sequence[Trial], base: Mapping[str, Any]) -> list[LedgerRow]:
    """Returns the effects of single methods in the trials of a search, without any training.

    Trials that differ from the first recipe of the search in one family are compared with it on the
    same images, in the last rung that both reached. Blending and flips do not count as differences:
    every trial chooses its own on the held-out images. The first row compares training itself with
    the initial head of the first recipe.

    Args:
        trials: Trials of the journal.
        base: Recipe that the search started from, as plain data.
    """
    done = [trial for trial in trials if trial.state == "done"]
    first = {trial.rung: trial for trial in done if not _otherwise(trial.recipe, base)}
    rows = []
    if first:
        start = first[max(first)]
        if start.start_bits and start.start_loss is not None:
            head = start.model_copy(
                update={"val_bits": start.start_bits, "val_loss": start.start_loss}
            )
            rows.append(_trial_row(head, start, TRAINING, "the head alone → trained"))
    judged: dict[int, LedgerRow] = {}
    for trial in sorted(done, key=lambda trial: trial.rung):
        families = _otherwise(trial.recipe, base)
        other = first.get(trial.rung)
        if len(families) == 1 and other is not None and len(other.val_bits) == len(trial.val_bits):
            same = {**base, families[0]: trial.recipe[families[0]]}
            judged[trial.number] = _trial_row(other, trial, families, change_between(base, same))
    order = {family: place for place, family in enumerate(ORDER)}
    rows += sorted(judged.values(), key=lambda row: order.get(row.families[0], len(order)))
    return corrected(rows)


def _trial_row(without: Trial, having: Trial, families: tuple[str, ...], change: str) -> LedgerRow:
    acted = having.acted if families == TRAINING else acted_of(having, families)
    if families == TRAINING:
        acted = tuple(each for each in acted if each.family in {"optimizer", "freezing"})
    return LedgerRow(
        part="trial", families=families, change=change, epochs=having.epochs,
        images=having.val_images, accuracy=having.val_right / having.val_images,
        accuracy_interval=having.interval,
        loss=having.val_loss, seconds=having.seconds, acted=acted, seeds=1,
        **gain_of([without], [having]),
    )  # fmt: skip


def _otherwise(recipe: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the families in which a recipe differs, except those that each trial chooses."""
    return tuple(
        field
        for field in base
        if field not in FIELDS[len(ORDER) :] and recipe.get(field) != base[field]
    )


def _done(trials: Mapping[int, Trial]) -> dict[int, Trial]:
    return {number: trial for number, trial in trials.items() if trial.state == "done"}


def _data(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json")
