"""The search: recipes are tried on cached activations, journalled, and the best one is returned."""

from dataclasses import replace
from pathlib import Path

from headstart.artifacts.journal import Trial, append_trial, read_trials
from headstart.artifacts.run import PlanStep, RunRecord, write_recipe
from headstart.backbones.cut import FEATURES, trace
from headstart.errors import RecipeError
from headstart.methods.head import MLP
from headstart.preparing import Prepared, backbone_of
from headstart.progress import SILENT, Progress, format_duration
from headstart.recipe import Recipe
from headstart.search.material import Material
from headstart.search.plan import TARGET_EPOCHS, views_for
from headstart.search.stages import (
    Solved,
    blocks_of,
    boundary_without_clock,
    check_head_alone,
    frozen_of,
    solved_by,
    start_from,
    training_data,
)
from headstart.search.study import (
    SEARCH_RECIPE,
    Rung,
    Score,
    differences,
    plan_rungs,
    ranked,
    search,
    shown,
)
from headstart.train import calibrated_score, train, validation_logits

NOTHING_TO_TRAIN = (
    "a search tries ways to train, and here the head is solved in closed form and nothing else "
    "trains; choose another freezing, or leave --trials out."
)


def searchable(recipe: Recipe) -> Recipe:
    """Returns the recipe that a search starts from: epochs and views are fixed for all trials.

    Raises:
        RecipeError: If nothing is trained by gradient.
    """
    if recipe.closed_form:
        raise RecipeError(NOTHING_TO_TRAIN)
    epochs = recipe.epochs or TARGET_EPOCHS
    return recipe.model_copy(update={"epochs": epochs, "views": recipe.views or views_for(epochs)})


def find_recipe(
    ready: Prepared,
    base: Recipe,
    trials: int,
    folder: Path,
    record: RunRecord,
    progress: Progress,
) -> Recipe:
    """Tries `trials` recipes and returns the best; what the journal holds is not tried again.

    Args:
        ready: The data and the backbone.
        base: From `searchable`.
        trials: Recipes in the first rung.
        folder: Of the run; the journal lies there.
        record: Of the run; it learns what was planned and what became of it.
        progress: Where progress is shown.

    Raises:
        HeadstartError: If every trial failed.
    """
    boundary = boundary_without_clock(ready.material, base)
    check_head_alone(base, boundary)
    if boundary == FEATURES and base.head.init == "probe" and not isinstance(base.head, MLP):
        raise RecipeError(NOTHING_TO_TRAIN)
    write_recipe(folder, base, SEARCH_RECIPE)
    rungs = plan_rungs(trials, base.epochs)
    known = read_trials(folder)
    planned = ", then ".join(f"{rung.trials} recipes for {rung.epochs} epochs" for rung in rungs)
    progress.say(f"search: {planned}" + (f"; {len(known)} are known" if known else ""))
    heads: list[Solved | None] = []
    finished = list(known)

    def evaluate(recipe: Recipe, epochs: int) -> Score:
        if not heads:
            heads.append(_solved_head(ready, base))
        return _evaluate(ready, recipe, epochs, heads[0])

    def journal(trial: Trial) -> None:
        append_trial(folder, trial)
        finished.append(trial)
        progress.say(_describe(trial, base, finished, rungs))

    best = search(base, rungs, known, evaluate, journal)
    at_first = next((t for t in finished if (t.rung, t.number) == (0, 0)), None)
    changes = differences(best.model_dump(), base.model_dump())
    chosen = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    failed = sum(trial.state == "failed" for trial in finished)
    happened = f"kept {chosen or 'the recipe that it started from'}"
    if at_first is not None and at_first.val_loss is not None:
        happened += f"; it had a validation log loss of {at_first.val_loss:.3f} in the first rung"
    if failed:
        happened += f"; {failed} trials failed"
    seconds = sum(trial.seconds for trial in finished)
    record.plan.append(
        PlanStep(stage="search", planned=planned, happened=happened, seconds=seconds)
    )
    progress.say(f"search: {happened}")
    write_recipe(folder, best)
    return best


def _solved_head(ready: Prepared, base: Recipe) -> Solved | None:
    """Solves the head once for all trials: they differ in how they train only."""
    material = _fresh(ready, base)
    return solved_by(start_from(material, base, boundary_without_clock(material, base)))


def _evaluate(ready: Prepared, recipe: Recipe, epochs: int, head: Solved | None) -> Score:
    """Trains a recipe from the pretrained backbone and scores it at its best temperature."""
    material = _fresh(ready, recipe)
    start = start_from(material, recipe, boundary_without_clock(material, recipe), head)
    data = training_data(material, recipe, start, epochs)
    blocks, frozen = blocks_of(material, start), frozen_of(material, start)
    for _ in train(
        start.suffix, start.head, data, recipe, epochs, None, material.device, blocks, frozen
    ):
        pass
    logits = validation_logits(start.model, data, material.device)
    loss, accuracy = calibrated_score(logits, data.val_labels)
    return Score(loss, round(accuracy * len(data.val_labels)), len(data.val_labels))


def _fresh(ready: Prepared, recipe: Recipe) -> Material:
    """Returns the material with a backbone as it was loaded: a trial changes the one it has."""
    backbone = backbone_of(recipe)
    traced = trace(backbone.model, backbone.preprocessing.resolution)
    return replace(ready.material, backbone=backbone, traced=traced, progress=SILENT)


def _describe(trial: Trial, base: Recipe, finished: list[Trial], rungs: list[Rung]) -> str:
    """Returns a line on a trial, the best so far in its rung, and the time left."""
    name = f"trial {trial.number + 1}, {trial.epochs} epochs"
    changes = differences(trial.recipe, base.model_dump(mode="json"))
    what = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    left = _seconds_left(finished, rungs)
    ending = f"about {format_duration(left)} left"
    if trial.val_loss is None:
        return f"{name}: failed ({trial.cause}); {ending}"
    best = ranked([each for each in finished if each.rung == trial.rung])[0]
    return (
        f"{name}: log loss {trial.val_loss:.3f}, {trial.val_right} of {trial.val_images} right "
        f"({what or 'as given'}); best so far {best.val_loss:.3f}; {ending}"
    )


def _seconds_left(finished: list[Trial], rungs: list[Rung]) -> float:
    """Returns what the trials that are left take, at the speed so far."""
    epochs = sum(trial.epochs for trial in finished)
    planned = sum(rung.trials * rung.epochs for rung in rungs)
    return sum(trial.seconds for trial in finished) / epochs * max(0, planned - epochs)
