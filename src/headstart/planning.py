"""The first stages of a search: a backbone, a head, and what the time allows after them."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.journal import HeadRecord, SearchPlan, write_heads
from headstart.artifacts.run import PlanStep, Request, RunRecord
from headstart.backbones.boundaries import FEATURES
from headstart.calibration import set_thresholds
from headstart.diagnose.suspects import (
    SUSPECTS,
    find_suspects,
    without_sealed,
    write_suspects_csv,
)
from headstart.errors import RecipeError
from headstart.evaluate import fit_temperature, softmax
from headstart.finetuning import affordable_boundary, check_affordable, seconds_for_training
from headstart.methods.freezing import HeadOnly
from headstart.methods.head import Cosine, Linear
from headstart.preparing import Prepared, change_backbone, unsealed
from headstart.progress import Progress
from headstart.recipe import Recipe, parse_recipe
from headstart.screening import candidates, clearly_better, screen, with_backbone
from headstart.search.clock import Clock
from headstart.search.heads import search_heads
from headstart.search.material import activations, features_of, open_prefix
from headstart.search.measuring import disk_for_views, measure_speeds
from headstart.search.plan import TARGET_EPOCHS, Speed, candidate_boundaries, views_for
from headstart.search.shape import SearchLimits, SearchShape, folds_for, least_search, shape_search
from headstart.search.stages import (
    boundary_without_clock,
    check_head_alone,
    fixed_boundary,
    stages_behind,
)
from headstart.search.study import drawn_families, plan_rungs, shown

NOTHING_TO_TRY = (
    "--trials tries ways to train, and here the head is solved in closed form and nothing else "
    "trains; choose another freezing, or leave --trials out."
)
HEADS_SHARE = 0.06
"""Share of the time up to which heads are tried."""


def plan_search(
    ready: Prepared,
    base: Recipe,
    request: Request,
    clock: Clock,
    folder: Path,
    record: RunRecord,
    workers: int | None,
    progress: Progress,
) -> tuple[Prepared, Recipe, SearchPlan | None]:
    """Screens backbones, searches heads and plans the trials.

    Args:
        ready: The data and the backbone of the recipe.
        base: Gives what is not searched.
        request: What was asked for.
        clock: The budget.
        folder: Of the run; the heads that were tried are written there.
        record: Of the run; it learns what was found.
        workers: Processes that decode images.
        progress: Where progress is shown.

    Returns:
        The data for the backbone that was chosen, the recipe that trials start from, and the plan:
        None where there is one recipe to train only.

    Raises:
        RecipeError: If there is nothing to search with `request.trials`.
        BudgetError: If the recipe needs more than a head and there is no time for it.
    """
    speeds: dict[str, Speed] = {}
    networks = request.ensemble
    if request.trials is None:
        speeds = _speeds(ready, base)
        shape = _shape(ready, base, clock, speeds, networks, heads_too=True)
        if shape is None and (
            not _searches_heads(base, request)
            or affordable_boundary(ready, base, clock, 0.0) != FEATURES
        ):
            record.notes.append("The budget allows one recipe: nothing was searched.")
            return ready, base, None
    own = base.backbone
    ready, base = _with_best_backbone(ready, base, request, clock, workers, record, progress)
    if request.trials is None:
        speeds = speeds if base.backbone == own else _speeds(ready, base)
        shape = _shape(ready, base, clock, speeds, networks, heads_too=True, last_resort=True)
        # Another backbone may leave no time but for a head; without a search of heads there is
        # nothing else to do than to train what can be trained.
        boundary = shape.boundary if shape else FEATURES
        if shape is None and not _searches_heads(base, request):
            boundary = list(speeds)[-1]
        check_affordable(base, boundary, by_clock=fixed_boundary(ready.material, base) is None)
    else:
        boundary = boundary_without_clock(ready.material, base)
        check_head_alone(base, boundary)
        base = base.model_copy(update={"epochs": base.epochs or TARGET_EPOCHS})
    base = at_boundary(base, boundary)
    base, plan = _with_best_head(ready, base, boundary, request, clock, folder, record, progress)
    trainable = boundary != FEATURES or base.head.init == "random" or base.head.has_hidden_layer
    if request.trials is not None:
        if not trainable:
            raise RecipeError(NOTHING_TO_TRY)
        rungs = plan_rungs(request.trials, base.epochs, networks)
        folds_used = folds_for(len(unsealed(ready).rows))
        return ready, base, plan.model_copy(
            update={"rungs": tuple(rungs), "folds": folds_used, "epochs": base.epochs}
        )  # fmt: skip
    if boundary not in speeds or not trainable:
        return ready, base, None if plan.head_loss is None else plan
    speed = speeds[boundary]
    # It did fit before the heads were searched; the winner's schedule is cut to the time there is.
    shape = _shape(
        ready, base, clock, {boundary: speed}, networks, last_resort=True
    ) or least_search(boundary, base.epochs, fixed_views=base.views)
    views = base.views or (shape.views if shape.views < views_for(shape.epochs) else 0)
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
    last_resort: bool = False,
) -> SearchShape | None:
    """Returns the search that fits into what is left of the budget, after heads where they are."""
    images = len(unsealed(ready).rows)
    seconds = seconds_for_training(ready, base, clock)
    if heads_too:
        seconds = (1 - HEADS_SHARE) * seconds - 1.5 * images * ready.features_s
    disk = disk_for_views(ready.material)
    limits = SearchLimits(speeds, images, seconds, disk, networks, base.epochs, base.views)
    return shape_search(limits, last_resort)


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
    images = len(unsealed(ready).rows)
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


def _searches_heads(base: Recipe, request: Request) -> bool:
    """Returns whether the head is to be searched: nothing of it was set by hand."""
    return base.head.open_to_search and bool(drawn_families(request.settings, ("head",)))


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
    if not _searches_heads(base, request):
        return base, nothing
    began = time.monotonic()
    left = clock.left()
    until = None if left is None else began + HEADS_SHARE * left
    plain = unsealed(ready)
    features = _features(ready, boundary, plain.rows)
    pooled = features["last"]
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
        told = softmax(held, temperature)
        _note_suspects(ready, plain.rows[tested], told, pooled[tested], folder)
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


def _note_suspects(
    ready: Prepared,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    features: NDArray[np.float32],
    folder: Path,
) -> None:
    """Writes which images deserve a look: the best head was judged by images it had not seen."""
    sealed = {ready.dataset.key(int(row)) for row in ready.audited.kept[ready.split.test]}
    findings = without_sealed(ready.audited.audit.findings, sealed)
    classes = ready.material.classes
    found = find_suspects(ready.dataset, rows, classes, probabilities, features, findings)
    write_suspects_csv(folder / SUSPECTS, found)


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


def at_boundary(base: Recipe, boundary: str) -> Recipe:
    """Returns the recipe with the boundary that was chosen, so that it is chosen no more."""
    if boundary == FEATURES:
        if base.freezing.head_alone:
            return base
        return parse_recipe({**base.model_dump(), "freezing": HeadOnly().model_dump()})
    if base.freezing.leaves_boundary_open:
        freezing = {**base.freezing.model_dump(), "boundary": boundary}
        return parse_recipe({**base.model_dump(), "freezing": freezing})
    return base


def _describe_head(head: Linear | Cosine) -> str:
    fields = {k: v for k, v in vars(head).items() if k not in {"name", "init", "dropout"}}
    return f"{head.name} ({', '.join(f'{k} = {shown(v)}' for k, v in fields.items())})"
