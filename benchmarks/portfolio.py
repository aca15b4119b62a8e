"""What recipes gain over the head that they start from, on many small tasks.

    python benchmarks/portfolio.py

draws tasks from the shared data sets: 5 or 15 training images of each class, or 300 in all, groups
kept together, and up to 400 other images to measure on. On each task it fine-tunes the known good
recipes, then random ones, for a short schedule behind a late boundary, exactly as a trial of a
search does, so that a training takes seconds. Every training is kept as a line of JSON as soon as
it ends; started again, the script does only what is missing, and it can be stopped at any time.

    python benchmarks/portfolio.py --learn

writes the table that the search starts from, `src/headstart/search/portfolio.json`, and the page
`docs/portfolio.md` with the regret on data sets that were left out.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.sources import load_dataset
from headstart.errors import HeadstartError
from headstart.methods.averaging import NoAveraging
from headstart.methods.batch_mixing import CutMix, MixUp
from headstart.methods.criterion import CrossEntropy
from headstart.methods.optimizer import SGD
from headstart.recipes.parsing import load_recipe, parse_recipe
from headstart.recipes.recipe import SEARCHED, Recipe
from headstart.search.sampler import ask, prior_recipes
from headstart.search.trial import Fold, TrialContext, TrialJob, run_trial, solve_heads
from headstart.training.experiment import Experiment, SplitChoice, prepare
from headstart.training.run_context import Resources
from records import BENCH, DATA, read_lines

SETS = (
    "flowers17", "hymenoptera", "clothing10", "sign_digits",
    "magnetic_tile", "rice_leaf", "neu_steel", "stanford_cars_crops",
)  # fmt: skip
SIZES = (5, 15, 0)
"""Training images of each class; 0 stands for as many as `MOST_IMAGES` allow."""
MOST_IMAGES, MOST_TESTED, MOST_CLASSES = 300, 300, 20
BOUNDARY, EPOCHS, VIEWS = "blocks.5", 8, 2
DRAWN = 24
"""Random recipes, besides the known good ones."""
RATES = (2.0, 4.0, 10.0)
"""Factors of the learning rate, each with plain cross-entropy."""


@dataclass(frozen=True)
class Task:
    """A task: some training images of a data set, and others to measure on."""

    data: str
    size: int

    @property
    def key(self) -> str:
        """Its name in the table."""
        return f"{self.data}/{self.size or 'most'}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    parser.add_argument("--only", nargs="+", default=SETS, help="data sets")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="images of each class")
    parser.add_argument("--results", type=Path, default=BENCH / "portfolio.jsonl")
    args = parser.parse_args()
    known = {(each["task"], json.dumps(each["recipe"])) for each in read_lines(args.results)}
    tasks = [Task(name, size) for size in args.sizes for name in args.only]
    for changed in recipes():
        for task in tasks:
            if (task.key, json.dumps(changed)) in known:
                continue
            record = trained(task, changed, args.data)
            with args.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            print(f"{task.key}: {told(record)}, {changed}", flush=True)


def told(record: dict[str, Any]) -> str:
    """Returns a few words about a record."""
    if "failed" in record:
        return str(record["failed"])
    return f"{record['start_loss'] - record['loss']:+.3f} of {record['start_loss']:.3f}"


def recipes() -> list[dict[str, Any]]:
    """Returns what each recipe changes in the default recipe, the known good ones first."""
    base = base_recipe()
    drawn = [ask(base, (), number, "random") for number in range(DRAWN)]
    known = [changes(recipe, base) for recipe in (*prior_recipes(base), *faster(base))]
    return [*known, *(changes(recipe, base) for recipe in drawn)]


def faster(base: Recipe) -> list[Recipe]:
    """Returns recipes with plain cross-entropy and higher learning rates, and some with more."""
    plain = {"criterion": CrossEntropy().model_dump()}
    fields = base.optimizer.model_dump()
    rates = {factor: {"optimizer": {**fields, "lr": factor * fields["lr"]}} for factor in RATES}
    middle = {**plain, **rates[4.0]}
    decayed = {**base.freezing.model_dump(), "layer_decay": 0.7}
    changed: list[dict[str, Any]] = [{**plain, **rate} for rate in rates.values()]
    changed += [
        {**middle, "freezing": decayed},
        {**middle, "batch_mixing": MixUp().model_dump()},
        {**middle, "batch_mixing": CutMix().model_dump()},
        {**middle, "averaging": NoAveraging().model_dump()},
        {**plain, "optimizer": SGD().model_dump()},
        {**plain, "optimizer": SGD(lr=4 * SGD().lr).model_dump()},
    ]
    return [parse_recipe({**base.model_dump(), **each}) for each in changed]


def changes(recipe: Recipe, base: Recipe) -> dict[str, Any]:
    """Returns the searched families in which a recipe differs from another."""
    both = recipe.model_dump(mode="json"), base.model_dump(mode="json")
    return {name: both[0][name] for name in SEARCHED if both[0][name] != both[1][name]}


def base_recipe() -> Recipe:
    """Returns the recipe that all others change."""
    recipe = load_recipe("default").model_dump()
    recipe["freezing"] = {**recipe["freezing"], "boundary": BOUNDARY}
    return parse_recipe({**recipe, "views": VIEWS, "epochs": EPOCHS})


def trained(task: Task, changed: dict[str, Any], data: Path) -> dict[str, Any]:
    """Trains a recipe on a task; returns its record."""
    context = context_of(task, data)
    recipe = {**base_recipe().model_dump(mode="json"), **changed}
    began = time.monotonic()
    try:
        score = run_trial(context, TrialJob(0, 0, recipe, EPOCHS))
    except HeadstartError as error:  # such as a training that diverges: it gains nothing
        return {"task": task.key, "recipe": changed, "failed": str(error)}
    tested = len(score.val_bits)
    return {
        "task": task.key,
        "recipe": changed,
        "classes": len(context.classes),
        "images": len(context.folds[0][0].train),
        "start_loss": round(score.start_loss, 4),
        "loss": round(score.val_loss, 4),
        "start_right": round(score.start_bits.count("1") / tested, 4),
        "right": round(score.val_bits.count("1") / tested, 4),
        "noise": round(score.gain_noise, 4),
        "blend": score.blend,
        "train_s": round(score.train_s, 5),
        "seconds": round(time.monotonic() - began, 2),
    }


@lru_cache(maxsize=32)
def context_of(task: Task, data: Path) -> TrialContext:
    """Returns the context in which all recipes of a task are trained, with its solved head."""
    found = experiment_of(data / task.data)
    train, held, labels, groups, names = drawn_images(found, task.size)
    order = np.argsort(np.concatenate([train, held]))
    rows = np.concatenate([train, held])[order]
    context = TrialContext(
        cache_dir=found.extractor.cache_dir,
        pixels=found.pixels.key,
        source=found.source,
        rows=rows,
        labels=labels[order],
        groups=groups[order],
        classes=names,
        boundary=BOUNDARY,
        folds=((Fold(train, held),),),
    )
    return replace(context, heads=solve_heads(context, base_recipe()))


@lru_cache(maxsize=1)
def experiment_of(folder: Path) -> Experiment:
    """Returns a data set with its decoded images."""
    resources = Resources(cache_dir=BENCH / "portfolio", workers=1)
    return prepare(load_dataset(folder), base_recipe(), SplitChoice(), resources)


def drawn_images(
    found: Experiment, size: int
) -> tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], tuple[str, ...]
]:
    """Returns rows to train on and to measure on, and the labels and groups of both."""
    kept, all_groups = found.audited.kept, found.audited.groups
    names = [found.dataset.items[int(row)].label for row in kept]
    classes = tuple(sorted(set(names)))[:MOST_CLASSES]
    labels = np.array([classes.index(name) if name in classes else -1 for name in names])
    dice = np.random.default_rng(0)
    each = size or MOST_IMAGES // len(classes)
    train = np.zeros(len(kept), bool)
    for number in range(len(classes)):
        of_class = labels == number
        for group in dice.permutation(np.unique(all_groups[of_class])):
            if (train & of_class).sum() >= min(each, of_class.sum() // 2):
                break
            train |= all_groups == group
    train &= labels >= 0
    held = dice.permutation(np.flatnonzero(~train & (labels >= 0)))[:MOST_TESTED]
    used = np.concatenate([np.flatnonzero(train), held])
    return (
        kept[train].astype(np.int64), kept[held].astype(np.int64),
        labels[used].astype(np.int64), all_groups[used].astype(np.int64), classes,
    )  # fmt: skip


if __name__ == "__main__":
    main()
