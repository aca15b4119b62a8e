"""The search: a backbone, a head, then ways to train, each on what is cached; the winner is kept.

Cheapest first: backbones are screened by probes, heads are solved on cached features, and recipes
are tried on short schedules. All of it is journalled, so that a search that was killed goes on.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.journal import (
    HeadRecord,
    SearchPlan,
    Trial,
    append_trial,
    read_plan,
    read_trials,
    write_heads,
    write_plan,
)
from headstart.artifacts.run import PlanStep, Request, RunRecord, write_recipe, write_record
from headstart.backbones.cut import FEATURES
from headstart.calibration import set_thresholds
from headstart.errors import RecipeError
from headstart.evaluate import fit_temperature
from headstart.finetuning import affordable_boundary, check_affordable, seconds_for_training
from headstart.finishing import Finished, finish
from headstart.inference_stats import wilson_interval
from headstart.methods.freezing import HeadOnly
from headstart.methods.head import MLP, Linear
from headstart.preparing import Prepared, change_backbone
from headstart.probe import parted
from headstart.progress import Progress, format_duration
from headstart.recipe import Recipe, parse_recipe
from headstart.screening import candidates, clearly_better, screen, with_backbone
from headstart.search.clock import Clock
from headstart.search.executors import Executor, open_executor
from headstart.search.heads import search_heads
from headstart.search.material import Picked, activations, features_of, open_prefix
from headstart.search.measuring import disk_for_views, measure_speeds
from headstart.search.parcel import pack, run_sent_trial
from headstart.search.plan import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    TARGET_EPOCHS,
    Speed,
    candidate_boundaries,
    choose_epochs,
    views_for,
)
from headstart.search.rungs import Asking, run_rungs
from headstart.search.shape import SearchShape, folds_for, least_search, shape_search
from headstart.search.stages import (
    boundary_without_clock,
    check_head_alone,
    fixed_boundary,
    stages_behind,
    start_from,
    training_data,
)
from headstart.search.study import (
    SEARCH_RECIPE,
    differences,
    drawn_families,
    enough,
    pays,
    plan_rungs,
    ranked,
    shown,
    trial_epochs,
)
from headstart.search.trial import (
    Fold,
    Job,
    Score,
    Setting,
    fresh_material,
    run_trial,
    solve_heads,
)

NOTHING_TO_TRY = (
    "--trials tries ways to train, and here the head is solved in closed form and nothing else "
    "trains; choose another freezing, or leave --trials out."
)
HEADS_SHARE = 0.06
"""Share of the time up to which heads are tried."""


@dataclass(frozen=True)
class Plain:
    """What is not sealed, in one array each: rows of the pixels, class and group numbers (N,)."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


def search(
    ready: Prepared,
    base: Recipe,
    request: Request,
    clock: Clock,
    folder: Path,
    record: RunRecord,
    workers: int | None,
    progress: Progress,
) -> Finished | None:
    """Finds and trains the best recipe that the budget or the number of trials allows.

    Args:
        ready: The data and the backbone of the recipe.
        base: Gives what is not searched.
        request: What was asked for.
        clock: The budget.
        folder: Of the run; the journal lies there.
        record: Of the run; it learns what was planned and what became of it.
        workers: Processes that decode images.
        progress: Where progress is shown.

    Returns:
        What is proven; None where the time allows one recipe only.

    Raises:
        HeadstartError: If every trial failed.
        RecipeError: If there is nothing to search with `request.trials`.
    """
    plan, base_epochs = read_plan(folder), base.epochs
    if plan is None:
        planned = _plan(ready, base, request, clock, folder, record, workers, progress)
        if planned is None:
            return None
        ready, base, plan = planned
        write_recipe(folder, base, SEARCH_RECIPE)
        write_plan(folder, plan)
        write_record(folder, record)  # what was found so far is told by a resumed run, too
    setting = shared_setting(ready, base, plan)
    _say_disk(ready, base, plan, record, progress)
    ranking: list[Trial] = []
    if plan.rungs:
        setting = replace(setting, heads=solve_heads(setting, base))
        entries = _cache_views(setting, base, plan, record, progress)
        ranking, plan = _try_recipes(
            setting, entries, base, plan, request, clock, ready, folder, progress
        )
        record.plan.append(_describe_trials(base, plan, read_trials(folder), ranking[0]))
        progress.say(f"search: {record.plan[-1].happened}")
        if clock.budget_s is not None and not base_epochs:
            left = seconds_for_training(ready, base, clock)
            networks = min(request.ensemble, len(ranking))
            trials, images = read_trials(folder), len(setting.rows)
            plan = _fitted(plan, trials, left, images, base.views, networks)
        write_plan(folder, plan)
    record.stop_reason = record.stop_reason or _why_ended(plan, ranking[0] if ranking else None)
    best = ranking[: request.ensemble]
    done = finish(ready, setting, base, plan, best, clock, folder, record, progress)
    write_recipe(folder, done.recipe)
    return done


def _plan(
    ready: Prepared,
    base: Recipe,
    request: Request,
    clock: Clock,
    folder: Path,
    record: RunRecord,
    workers: int | None,
    progress: Progress,
) -> tuple[Prepared, Recipe, SearchPlan] | None:
    """Screens backbones, searches heads and plans the trials; None where there is no time."""
    speeds: dict[str, Speed] = {}
    networks = request.ensemble
    if request.trials is None:
        speeds = _speeds(ready, base)
        shape = _shape(ready, base, clock, speeds, networks, heads_too=True)
        if shape is None and affordable_boundary(ready, base, clock, 0.0) != FEATURES:
            record.notes.append("The budget allows one recipe: nothing was searched.")
            return None
    own = base.backbone
    ready, base = _with_best_backbone(ready, base, request, clock, workers, record, progress)
    if request.trials is None:
        speeds = speeds if base.backbone == own else _speeds(ready, base)
        shape = _shape(ready, base, clock, speeds, networks, heads_too=True)
        boundary = shape.boundary if shape else FEATURES
        check_affordable(base, boundary, by_clock=fixed_boundary(ready.material, base) is None)
    else:
        boundary = boundary_without_clock(ready.material, base)
        check_head_alone(base, boundary)
        base = base.model_copy(update={"epochs": base.epochs or TARGET_EPOCHS})
    base = at_boundary(base, boundary)
    base, plan = _with_best_head(ready, base, boundary, request, clock, folder, record, progress)
    trainable = boundary != FEATURES or base.head.init == "random" or isinstance(base.head, MLP)
    if request.trials is not None:
        if not trainable:
            raise RecipeError(NOTHING_TO_TRY)
        rungs = plan_rungs(request.trials, base.epochs, networks)
        folds_used = folds_for(len(_unsealed(ready).rows))
        return ready, base, plan.model_copy(
            update={"rungs": tuple(rungs), "folds": folds_used, "epochs": base.epochs}
        )  # fmt: skip
    if boundary not in speeds or not trainable:
        if plan.head_loss is None:
            return None
        record.stop_reason = "the budget leaves no time to try more than heads"
        return ready, base, plan
    speed = speeds[boundary]
    # It did fit before the heads were searched; the winner's schedule is cut to the time there is.
    shape = _shape(ready, base, clock, {boundary: speed}, networks) or least_search(
        boundary, base.epochs
    )
    views = shape.views if shape.views < views_for(shape.epochs) else base.views
    base = base.model_copy(update={"views": views, "epochs": shape.epochs})
    update = {
        "rungs": tuple(plan_rungs(shape.trials, shape.epochs, networks)),
        "folds": shape.folds,
        "epochs": shape.epochs,
        "view_s": speed.prefix_s,
        "train_s": speed.train_s,
    }
    return ready, base, plan.model_copy(update=update)


def _speeds(ready: Prepared, base: Recipe) -> dict[str, Speed]:
    """Measures what an image costs at the boundaries that may be taken."""
    material = ready.material
    fixed = fixed_boundary(material, base)
    traced = material.traced
    bounds = [traced.boundary(fixed)] if fixed else candidate_boundaries(traced)
    return measure_speeds(material, base, bounds, ready.features_s)


def _shape(
    ready: Prepared,
    base: Recipe,
    clock: Clock,
    speeds: dict[str, Speed],
    networks: int,
    heads_too: bool = False,
) -> SearchShape | None:
    """Returns the search that fits into what is left of the budget, after heads where they are."""
    images = len(_unsealed(ready).rows)
    seconds = seconds_for_training(ready, base, clock)
    if heads_too:
        seconds = (1 - HEADS_SHARE) * seconds - 1.5 * images * ready.features_s
    disk = disk_for_views(ready.material)
    return shape_search(speeds, images, seconds, disk, trial_epochs, base.epochs, networks)


def _with_best_backbone(
    ready: Prepared,
    base: Recipe,
    request: Request,
    clock: Clock,
    workers: int | None,
    record: RunRecord,
    progress: Progress,
) -> tuple[Prepared, Recipe]:
    """Stage 1: returns the data and the recipe for the backbone with the best frozen features."""
    families = drawn_families(request.settings, ("backbone",))
    images = len(_unsealed(ready).rows)
    seconds = clock.left()
    names = candidates(base, ready.features_s, images, seconds) if families else []
    if len(names) < 2 or base.backbone != type(base.backbone)(name=base.backbone.name):
        return ready, base
    began = time.monotonic()
    screened = screen(ready, base, names, workers, progress)
    best = clearly_better(screened)
    images = len(best.losses)
    happened = "; ".join(
        f"{each.name}: log loss {each.loss:.3f}, {each.right} of {images} right"
        for each in screened
    )
    step = PlanStep(
        stage="backbones",
        planned=f"cross-validate a probe on {len(names)} backbones",
        happened=f"{happened}; taken: {best.name}",
        seconds=time.monotonic() - began,
    )
    record.plan.append(step)
    progress.say(f"{step.stage}: {step.happened}")
    if best.name == base.backbone.name:
        return ready, base
    base = with_backbone(base, best.name)
    ready = change_backbone(ready, base, clock, workers)
    record.backbone, record.backbone_source = (
        ready.material.backbone.name, ready.material.backbone.source,
    )  # fmt: skip
    return ready, base


def _with_best_head(
    ready: Prepared,
    base: Recipe,
    boundary: str,
    request: Request,
    clock: Clock,
    folder: Path,
    record: RunRecord,
    progress: Progress,
) -> tuple[Recipe, SearchPlan]:
    """Stage 2: returns the recipe with the best head on frozen features, and what it scored."""
    nothing = SearchPlan(rungs=(), folds=1, epochs=0)
    head = base.head
    if (
        not drawn_families(request.settings, ("head",))
        or not isinstance(head, Linear)
        or head.init != "probe"
        or head.penalty
    ):
        return base, nothing
    began = time.monotonic()
    left = clock.left()
    until = None if left is None else began + HEADS_SHARE * left
    plain = _unsealed(ready)
    features = _features(ready, boundary, plain.rows)
    if head.features != "auto":
        features = {head.features: features[head.features]}
    searched_from = time.monotonic()
    record.plan.append(
        PlanStep(
            stage="frozen prefix",
            planned=f"run the frozen part up to {boundary!r} once on every image",
            seconds=searched_from - began,
        )
    )
    found = search_heads(
        features, plain.labels, len(ready.material.classes), plain.groups, base.seed, until,
        progress,
    )  # fmt: skip
    seconds = time.monotonic() - searched_from
    write_heads(
        folder,
        [
            HeadRecord(
                head=trial.head.model_dump(mode="json"),
                loss=trial.loss, right=trial.right, images=trial.images,
            )
            for trial in found.trials
        ],
    )  # fmt: skip
    best = found.trials[0]
    chosen = best.head.model_copy(update={"dropout": head.dropout})
    tested = np.isfinite(found.logits[:, 0])
    temperature, sets = 1.0, tuple[float, ...]()
    if tested.any():
        held, labels = found.logits[tested], plain.labels[tested]
        temperature = fit_temperature(held, labels)
        sets = set_thresholds(held, labels, temperature)
    step = PlanStep(
        stage="heads",
        planned="cross-validate heads on cached features",
        happened=f"{len(found.trials)} heads in {seconds:.1f} s; {_describe_head(best.head)}: log "
        f"loss {best.loss:.3f}, {best.right} of {best.images} right",
        seconds=seconds,
    )
    record.plan.append(step)
    progress.say(f"{step.stage}: {step.happened}")
    plan = nothing.model_copy(
        update={
            "head_loss": best.loss, "head_right": best.right, "head_images": best.images,
            "head_temperature": temperature, "head_sets": sets,
        }
    )  # fmt: skip
    return parse_recipe({**base.model_dump(), "head": chosen.model_dump()}), plan


def _features(
    ready: Prepared, boundary: str, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Returns the features (N, F) that a head may see behind a boundary, by the field's name."""
    material = replace(ready.material, rows={"train": rows}, pool=rows)
    stages = stages_behind(material, boundary)
    prefix = open_prefix(material, boundary, stages if boundary == FEATURES else ())
    cached = activations(material, prefix, "train")
    features = features_of(material, prefix, cached, stages)
    found = {"last": features[:, -material.backbone.features :]}
    return {"stages": features, **found} if stages else found


def shared_setting(ready: Prepared, base: Recipe, plan: SearchPlan) -> Setting:
    """Returns what all trials share: every rung has folds of its own, or the validation images."""
    material, plain = ready.material, _unsealed(ready)
    parts: list[tuple[Fold, ...]] = []
    for number in range(len(plan.rungs)):
        if plan.folds == 1:
            parts.append((Fold(material.rows["train"], material.rows["val"]),))
            continue
        fold_of = parted(plain.labels, plain.groups, plan.folds, base.seed + number)
        parts.append(
            tuple(
                Fold(plain.rows[fold_of != fold], plain.rows[fold_of == fold])
                for fold in np.unique(fold_of)
            )
        )
    return Setting(
        cache_dir=material.cache_dir,
        pixels=ready.pixels.key,
        rows=plain.rows,
        labels=plain.labels,
        groups=plain.groups,
        classes=material.classes,
        boundary=boundary_without_clock(material, base),
        folds=tuple(parts),
        device=str(material.device),
    )


def _say_disk(
    ready: Prepared, base: Recipe, plan: SearchPlan, record: RunRecord, progress: Progress
) -> None:
    """Says how much of the disk the search takes at most, before it does."""
    shape = ready.material.traced.boundary(boundary_without_clock(ready.material, base)).shape
    views = (base.views or views_for(MOST_EPOCHS)) if plan.rungs else 0
    images = len(_unsealed(ready).rows)
    activations_bytes = images * (views + 2) * 2 * int(np.prod(shape))
    text = (
        f"The cache takes at most {(activations_bytes + ready.pixels.data.nbytes) / 1e6:,.0f} MB: "
        f"{images} images decoded, and activations of {views + 2} views of each."
    )
    record.notes.append(text)
    progress.say(f"disk: {text}")


def _cache_views(
    setting: Setting, base: Recipe, plan: SearchPlan, record: RunRecord, progress: Progress
) -> list[Path]:
    """Caches the views that the first trials need, so that trials take what training takes.

    Returns:
        The folders of the cache that trials read.
    """
    began = time.monotonic()
    material = replace(
        fresh_material(setting, base), rows={"train": setting.rows, "val": setting.rows},
        labels={"train": setting.labels, "val": setting.labels}, progress=progress,
    )  # fmt: skip
    start = start_from(material, base, setting.boundary, setting.heads[0][0])
    views = training_data(material, base, start, plan.rungs[0].epochs).views
    step = PlanStep(
        stage="views",
        planned=f"{len(views)} views for the first trials",
        seconds=time.monotonic() - began,
    )
    record.plan.append(step)
    arrays = [each.array for each in (*views, *start.cached.values()) if isinstance(each, Picked)]
    stored = [Path(str(array.filename)).parent for array in arrays if isinstance(array, np.memmap)]
    return list(dict.fromkeys([setting.cache_dir / "pixels" / setting.pixels, *stored]))


def _try_recipes(
    setting: Setting,
    entries: list[Path],
    base: Recipe,
    plan: SearchPlan,
    request: Request,
    clock: Clock,
    ready: Prepared,
    folder: Path,
    progress: Progress,
) -> tuple[list[Trial], SearchPlan]:
    """Stage 3: runs the rungs and returns the trials of the last one, and what was done."""
    known = read_trials(folder)
    progress.say(f"search: {_planned(plan)}" + (f"; {len(known)} are known" if known else ""))
    finished = list(known)
    asking = Asking(base, request.sampler, drawn_families(request.settings), request.ensemble)

    def journal(trial: Trial) -> None:
        append_trial(folder, trial)
        finished.append(trial)
        progress.say(_describe(trial, base, finished, plan))
        progress.board(_board(finished, plan))

    def why_stop(
        tried: Sequence[Trial], finished: Sequence[Trial], plan: SearchPlan, rung: int
    ) -> str:
        left = None if clock.budget_s is None else seconds_for_training(ready, base, clock)
        images = len(setting.rows)
        return _why_stop(tried, finished, plan, rung, left, images, base.views)

    progress.board(_board(finished, plan))
    try:
        with _open_executor(request, setting, entries) as executor:
            return run_rungs(asking, plan, known, executor, journal, why_stop)
    finally:
        progress.board(())


def _open_executor(
    request: Request, setting: Setting, entries: list[Path]
) -> AbstractContextManager[Executor[Job, Score]]:
    if request.engine == "ray":
        parcel = pack(setting, entries)
        address = request.address or None
        return open_executor(
            "ray", run_sent_trial, parcel, workers=request.workers, address=address
        )
    limit = request.trial_memory or None
    return open_executor(
        request.engine, run_trial, setting, workers=request.workers, memory_limit=limit
    )


def _why_stop(
    tried: Sequence[Trial],
    finished: Sequence[Trial],
    plan: SearchPlan,
    number: int,
    left: float | None,
    images: int,
    views: int,
) -> str:
    """Returns why no further trial of a rung is worth it; empty where one is."""
    rung = plan.rungs[number]
    reason = enough(tried, rung.trials - len(tried), plan.epochs) if number == 0 else ""
    if reason or left is None or not plan.train_s or not finished:
        return reason
    epoch_s = max(trial.seconds / trial.epochs for trial in finished)
    trials_s = epoch_s * sum(rung.epochs for rung in plan.rungs[number:])
    speed = _speed(plan, finished)
    if left < trials_s + speed.seconds(images, plan.epochs, _missing_views(plan, views)):
        return "the time for trials was used up"
    return ""


def _speed(plan: SearchPlan, trials: Sequence[Trial]) -> Speed:
    """Returns what an image costs, by what was measured and by what the trials took."""
    seen_s = [trial.train_s for trial in trials if trial.train_s]
    return Speed(plan.view_s, float(np.median(seen_s)) if seen_s else plan.train_s, 0)


def _missing_views(plan: SearchPlan, views: int) -> int:
    """Returns how many views the whole schedule needs beyond those of the first trials."""
    return max(0, (views or views_for(plan.epochs)) - (views or views_for(plan.rungs[0].epochs)))


def _fitted(
    plan: SearchPlan,
    trials: Sequence[Trial],
    left: float,
    images: int,
    views: int,
    networks: int,
) -> SearchPlan:
    """Returns the plan with as many epochs for the winner as the time that is left allows."""
    speed = _speed(plan, trials)
    more_views = _missing_views(plan, views)
    seconds = (left - more_views * images * speed.prefix_s) / networks
    epochs = choose_epochs(speed, images, seconds, views=0)
    return plan.model_copy(update={"epochs": max(FEWEST_EPOCHS, epochs)})


def _why_ended(plan: SearchPlan, best: Trial | None) -> str:
    if best is not None and not pays(best, plan.epochs):
        return "fine-tuning does not pay: no trial validates better than the head it began with"
    reasons = [rung.ended for rung in plan.rungs if rung.ended]
    return reasons[0] if reasons else "all planned trials were run"


def _planned(plan: SearchPlan) -> str:
    each = [f"{rung.trials} recipes for {rung.epochs} epochs" for rung in plan.rungs]
    return ", then ".join(each) + (
        f", each cross-validated in {plan.folds} parts" if plan.folds > 1 else ""
    )


def _describe_trials(
    base: Recipe, plan: SearchPlan, trials: Sequence[Trial], best: Trial
) -> PlanStep:
    """Returns what was planned and what became of it."""
    changes = differences(best.recipe, base.model_dump(mode="json"))
    chosen = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    happened = f"{len(trials)} trials; best: {chosen or 'the recipe that it started from'}"
    happened += f", log loss {best.val_loss:.3f}, {best.val_right} of {best.val_images} right"
    if best.start_loss is not None:
        happened += f" (before training {best.start_loss:.3f})"
    failed = sum(trial.state == "failed" for trial in trials)
    if failed:
        happened += f"; {failed} trials failed"
    ended = [rung.ended for rung in plan.rungs if rung.ended]
    if ended:
        happened += f"; ended because {ended[0]}"
    seconds = sum(trial.seconds for trial in trials)
    return PlanStep(stage="search", planned=_planned(plan), happened=happened, seconds=seconds)


def _unsealed(ready: Prepared) -> Plain:
    material, split, groups = ready.material, ready.split, ready.audited.groups
    return Plain(
        np.concatenate([material.rows["train"], material.rows["val"]]),
        np.concatenate([material.labels["train"], material.labels["val"]]),
        np.concatenate([groups[split.train], groups[split.val]]),
    )


def at_boundary(base: Recipe, boundary: str) -> Recipe:
    """Returns the recipe with the boundary that was chosen, so that it is chosen no more."""
    if boundary == FEATURES:
        if isinstance(base.freezing, HeadOnly):
            return base
        return parse_recipe({**base.model_dump(), "freezing": HeadOnly().model_dump()})
    if getattr(base.freezing, "boundary", "") == "auto" and not getattr(base.freezing, "blocks", 0):
        freezing = {**base.freezing.model_dump(), "boundary": boundary}
        return parse_recipe({**base.model_dump(), "freezing": freezing})
    return base


def _describe_head(head: Linear | object) -> str:
    fields = {k: v for k, v in vars(head).items() if k not in {"name", "init", "dropout"}}
    name = getattr(head, "name", "")
    return f"{name} ({', '.join(f'{k} = {shown(v)}' for k, v in fields.items())})"


def _describe(trial: Trial, base: Recipe, finished: Sequence[Trial], plan: SearchPlan) -> str:
    """Returns a line on a trial, the best so far in its rung, and the time left."""
    name = f"trial {trial.number + 1}, {trial.epochs} epochs"
    changes = differences(trial.recipe, base.model_dump(mode="json"))
    what = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    left = _seconds_left(finished, plan)
    ending = f"at most about {format_duration(left)} of trials left"
    if trial.val_loss is None:
        return f"{name}: failed ({trial.cause}); {ending}"
    best = ranked([each for each in finished if each.rung == trial.rung])[0]
    low, high = wilson_interval(best.val_right, best.val_images)
    return (
        f"{name}: log loss {trial.val_loss:.3f}, {trial.val_right} of {trial.val_images} right "
        f"({what or 'as given'}); best so far {best.val_loss:.3f} ({low:.1%} to {high:.1%} right); "
        f"{ending}"
    )


def _board(finished: Sequence[Trial], plan: SearchPlan) -> list[tuple[str, ...]]:
    """Returns a table of the rungs: how far each is, the best so far, and the time left."""
    rows: list[tuple[str, ...]] = [("stage", "trials", "best so far (95 %)", "time left at most")]
    for number, rung in enumerate(plan.rungs):
        here = [trial for trial in finished if trial.rung == number]
        good = [trial for trial in here if trial.val_loss is not None]
        best = "–"
        if good:
            first = ranked(good)[0]
            low, high = wilson_interval(first.val_right, first.val_images)
            share = first.val_right / first.val_images
            best = f"{share:.1%} ({low:.1%} to {high:.1%}), log loss {first.val_loss:.3f}"
        epochs = sum(trial.epochs for trial in finished)
        seconds = sum(trial.seconds for trial in finished) / max(1, epochs)
        left = max(0, rung.trials - len(here)) * rung.epochs * seconds
        shown_left = format_duration(left) if finished else "–"
        rows.append((f"{rung.epochs} epochs", f"{len(here)} of {rung.trials}", best, shown_left))
    return rows


def _seconds_left(finished: Sequence[Trial], plan: SearchPlan) -> float:
    """Returns what the trials that are left take, at the speed so far."""
    epochs = sum(trial.epochs for trial in finished)
    planned = sum(rung.trials * rung.epochs for rung in plan.rungs)
    return sum(trial.seconds for trial in finished) / epochs * max(0, planned - epochs)
