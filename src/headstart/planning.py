"""The first stages of a search: a backbone, a head, and what the time allows after them."""

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.journal import HEADS, HeadRecord, SearchPlan
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
from headstart.options import NOTHING_TO_TRY
from headstart.preparing import Prepared, change_backbone, unsealed
from headstart.recipe import Recipe, parse_recipe
from headstart.run_context import RunContext
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
from headstart.text import counted

HEADS_SHARE = 0.06
"""Share of the time up to which heads are tried."""


def plan_search(
    run: RunContext, ready: Prepared, base: Recipe
) -> tuple[Prepared, Recipe, SearchPlan | None]:
    """Screens backbones, searches heads and plans the trials.

    Args:
        run: The run; what was found is recorded there, and the heads are written to its folder.
        ready: The data and the backbone of the recipe.
        base: Gives what is not searched.

    Returns:
        The data for the chosen backbone, the recipe that trials start from, and the plan: None
        where there is one recipe to train only.

    Raises:
        RecipeError: If there is nothing to search with the number of trials.
        BudgetError: If the recipe needs more than a head and there is no time for it.
    """
    options, clock = run.options, run.clock
    speeds: dict[str, Speed] = {}
    networks = options.ensemble
    if options.trials is None:
        speeds = _speeds(ready, base)
        shape = _shape(ready, base, clock, speeds, networks, heads_too=True)
        if shape is None and (
            not _searches_heads(run, base)
            or affordable_boundary(ready, base, clock, 0.0) != FEATURES
        ):
            run.note("The budget allows one recipe, so nothing was searched.")
            return ready, base, None
    own = base.backbone
    ready, base = _with_best_backbone(run, ready, base)
    if options.trials is None:
        speeds = speeds if base.backbone == own else _speeds(ready, base)
        shape = _shape(ready, base, clock, speeds, networks, heads_too=True, last_resort=True)
        # Another backbone may leave no time but for a head; without a search of heads there is
        # nothing else to do than to train what can be trained.
        boundary = shape.boundary if shape else FEATURES
        if shape is None and not _searches_heads(run, base):
            boundary = list(speeds)[-1]
        check_affordable(base, boundary, by_clock=fixed_boundary(ready.material, base) is None)
    else:
        boundary = boundary_without_clock(ready.material, base)
        check_head_alone(base, boundary)
        base = base.model_copy(update={"epochs": base.epochs or TARGET_EPOCHS})
    base = at_boundary(base, boundary)
    base, plan = _with_best_head(run, ready, base, boundary)
    trainable = boundary != FEATURES or base.head.init == "random" or base.head.has_hidden_layer
    if options.trials is not None:
        if not trainable:
            raise RecipeError(NOTHING_TO_TRY)
        rungs = plan_rungs(options.trials, base.epochs, networks)
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


def _with_best_backbone(run: RunContext, ready: Prepared, base: Recipe) -> tuple[Prepared, Recipe]:
    """Stage 1: returns the data and the recipe for the backbone with the best frozen features."""
    families = drawn_families(run.options.by_hand, ("backbone",))
    images = len(unsealed(ready).rows)
    names = candidates(base, ready.features_s, images, run.clock.left()) if families else []
    if len(names) < 2 or base.backbone != type(base.backbone)(name=base.backbone.name):
        return ready, base
    with run.step("backbones", f"cross-validate a probe on {len(names)} backbones") as step:
        screened = screen(ready, base, names, run.resources)
        best = clearly_better(screened)
        images = len(best.losses)
        scores = "; ".join(
            f"{each.name}: log loss {each.loss:.3f}, {each.right} of {images} right"
            for each in screened
        )
        step.happened(f"{scores}; chosen: {best.name}")
    if best.name == base.backbone.name:
        return ready, base
    base = with_backbone(base, best.name)
    ready = change_backbone(ready, base, run.resources)
    network = ready.material.backbone
    run.record.backbone, run.record.backbone_source = network.name, network.source
    return ready, base


def _searches_heads(run: RunContext, base: Recipe) -> bool:
    """Returns whether the head is to be searched: nothing of it was set by hand."""
    return base.head.open_to_search and bool(drawn_families(run.options.by_hand, ("head",)))


def _with_best_head(
    run: RunContext, ready: Prepared, base: Recipe, boundary: str
) -> tuple[Recipe, SearchPlan]:
    """Stage 2: returns the recipe with the best head on frozen features, and what it scored."""
    nothing = SearchPlan(rungs=(), folds=1, epochs=0)
    head = base.head
    if not _searches_heads(run, base):
        return base, nothing
    left = run.clock.left()
    until = None if left is None else time.monotonic() + HEADS_SHARE * left
    plain = unsealed(ready)
    with run.step("frozen prefix", f"run the frozen part up to {boundary!r} once on every image"):
        features = _features(ready, boundary, plain.rows)
    pooled = features["last"]
    if head.features != "auto":
        features = {head.features: features[head.features]}
    with run.step("heads", "cross-validate heads on cached features") as step:
        began = time.monotonic()
        found = search_heads(
            features, plain.labels, len(ready.material.classes), plain.groups, base.seed, until,
            run.progress,
        )  # fmt: skip
        step.seconds = time.monotonic() - began
        best = found.trials[0]
        step.happened(
            f"{counted(len(found.trials), 'head')} in {step.seconds:.1f} s; best: "
            f"{_describe_head(best.head)}, log loss {best.loss:.3f}, "
            f"{best.right} of {best.images} right"
        )
        HEADS.write(
            run.folder,
            [
                HeadRecord(
                    head=trial.head.model_dump(mode="json"),
                    loss=trial.loss, right=trial.right, images=trial.images,
                )
                for trial in found.trials
            ],
        )  # fmt: skip
        chosen = best.head.model_copy(update={"dropout": head.dropout})
        tested = np.isfinite(found.logits[:, 0])
        temperature, sets = 1.0, tuple[float, ...]()
        if tested.any():
            held, labels = found.logits[tested], plain.labels[tested]
            temperature = fit_temperature(held, labels)
            sets = set_thresholds(held, labels, temperature)
            told = softmax(held, temperature)
            _note_suspects(run, ready, plain.rows[tested], told, pooled[tested])
    plan = nothing.model_copy(
        update={
            "head_loss": best.loss, "head_right": best.right, "head_images": best.images,
            "head_temperature": temperature, "head_sets": sets,
        }
    )  # fmt: skip
    return parse_recipe({**base.model_dump(), "head": chosen.model_dump()}), plan


def _note_suspects(
    run: RunContext,
    ready: Prepared,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    features: NDArray[np.float32],
) -> None:
    """Writes which images deserve a look, by out-of-fold probabilities of the best head."""
    sealed = {ready.dataset.key(int(row)) for row in ready.audited.kept[ready.split.test]}
    findings = without_sealed(ready.audited.audit.findings, sealed)
    classes = ready.material.classes
    found = find_suspects(ready.dataset, rows, classes, probabilities, features, findings)
    write_suspects_csv(run.folder / SUSPECTS, found)


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
