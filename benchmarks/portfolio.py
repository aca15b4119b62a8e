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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
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
from headstart.search.portfolio import Task, parsed
from headstart.search.sampler import Asking, ask
from headstart.search.trial import Fold, TrialContext, TrialJob, run_trial, solve_heads
from headstart.training.experiment import Experiment, SplitChoice, prepare
from headstart.training.run_context import Resources
from measure import write_whole
from portfolio_page import STRATEGIES, draw, page
from records import BENCH, DATA, DOCS, read_lines

SETS = (
    "flowers17", "hymenoptera", "clothing10", "sign_digits",
    "magnetic_tile", "rice_leaf", "neu_steel", "stanford_cars_crops",
)  # fmt: skip
SIZES = (15, 5, 0)
"""Training images of each class; 0 stands for as many as `MOST_IMAGES` allow."""
MOST_IMAGES, MOST_TESTED, MOST_CLASSES = 300, 300, 20
BOUNDARY, EPOCHS, VIEWS = "blocks.5", 8, 2
DRAWN = 10
"""Random recipes, besides the known good ones."""
SHUFFLES = 500
TABLE = Path(__file__).parents[1] / "src" / "headstart" / "search" / "portfolio.json"
RATES = (2.0, 4.0, 10.0)
"""Factors of the learning rate, each with plain cross-entropy."""


@dataclass(frozen=True)
class Drawn:
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
    parser.add_argument("--learn", action="store_true", help="only write the table and the page")
    args = parser.parse_args()
    if args.learn:
        learn(read_lines(args.results))
        return
    known = {(each["task"], json.dumps(each["recipe"])) for each in read_lines(args.results)}
    tasks = [Drawn(name, size) for size in args.sizes for name in args.only]
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


def learn(records: Sequence[dict[str, Any]]) -> None:
    """Writes the table that the search starts from, the page and its picture."""
    table = table_of(records)
    rows = [json.dumps(each) for each in table["recipes"]]
    tasks = [json.dumps(each) for each in table["tasks"]]
    text = '{\n"recipes": [\n%s\n],\n"tasks": [\n%s\n]\n}\n'
    TABLE.write_text(text % (",\n".join(rows), ",\n".join(tasks)), encoding="utf-8")
    regrets = left_out(table)
    draw(regrets, DOCS / "pictures" / "portfolio.svg")
    how = (
        f"{EPOCHS} epochs behind `{BOUNDARY}` of `tf_efficientnet_lite0`, {VIEWS} views, measured "
        f"on up to {MOST_TESTED} other images"
    )
    write_whole(DOCS / "portfolio.md", page(table, regrets, how))


def table_of(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the table of all recipes that were trained on every task, rounded."""
    found = {(each["task"], json.dumps(each["recipe"])): each for each in records}
    tasks = sorted({each["task"] for each in records})
    names = [json.dumps(each) for each in recipes()]
    whole = [name for name in names if all((task, name) in found for task in tasks)]
    first = {task: found[task, whole[0]] for task in tasks}

    def cost(name: str) -> float:
        shares = [
            found[task, name]["train_s"] / first[task]["train_s"]
            for task in tasks
            if "failed" not in found[task, name]
        ]
        return round(median(shares), 2) if shares else 1.0

    return {
        "recipes": [{"changes": json.loads(name), "cost": cost(name)} for name in whole],
        "tasks": [
            {
                "data": task,
                "images": first[task]["images"],
                "classes": first[task]["classes"],
                "head_loss": first[task]["start_loss"],
                "gains": [gain(found[task, name]) for name in whole],
            }
            for task in tasks
        ],
    }


def gain(record: dict[str, Any]) -> float:
    """Returns the share of the head's log loss that training saved, at least -1."""
    if "failed" in record:
        return -1.0
    return round(max(-1.0, 1 - record["loss"] / record["start_loss"]), 3)


def left_out(table: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Returns regrets (T, R) by strategy: of each task after each number of trials.

    The regret is the share of the head's log loss that the best of all recipes saves, or the head
    itself, less what the best of the tried ones saves. The portfolio for a task knows nothing of
    its data set.
    """
    gains = np.array([each["gains"] for each in table["tasks"]])
    sets = [each["data"].split("/")[0] for each in table["tasks"]]
    hand = len(hand_written(base_recipe()))
    known = hand + len(faster(base_recipe()))
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in STRATEGIES}
    dice = np.random.default_rng(0)
    for number, task in enumerate(table["tasks"]):
        others = [
            each for each, name in zip(table["tasks"], sets, strict=True) if name != sets[number]
        ]
        learnt = parsed({**table, "tasks": others})
        here = Task(task["images"], task["classes"], task["head_loss"])
        orders = {
            "portfolio": [learnt.order(here)],
            "hand-written": [list(range(hand))],
            "random": [known + dice.permutation(gains.shape[1] - known) for _ in range(SHUFFLES)],
        }
        for name, several in orders.items():
            reached = [
                np.maximum.accumulate(np.maximum(gains[number, order], 0)) for order in several
            ]
            best = max(0.0, float(gains[number].max()))
            found[name].append(best - np.mean(reached, axis=0))
    return {name: np.array(each) for name, each in found.items()}


def recipes() -> list[dict[str, Any]]:
    """Returns what each recipe changes in the default recipe, the known good ones first."""
    base = base_recipe()
    drawn = [ask(Asking(base, "random"), (), number) for number in range(DRAWN)]
    return [changes(recipe, base) for recipe in (*hand_written(base), *faster(base), *drawn)]


def hand_written(base: Recipe) -> list[Recipe]:
    """Returns the recipes that a search began with before it had a portfolio."""
    fields = base.optimizer.model_dump()
    decayed = {**base.freezing.model_dump(), "layer_decay": 0.8}

    def rate(factor: float) -> dict[str, Any]:
        return {**fields, "lr": fields["lr"] * factor}

    changed: list[dict[str, Any]] = [
        {},
        {"optimizer": rate(2.0)},
        {"optimizer": rate(0.4)},
        {"optimizer": rate(2.0), "freezing": decayed},
        {"optimizer": SGD().model_dump()},
        {"criterion": CrossEntropy().model_dump()},
    ]
    return [parse_recipe({**base.model_dump(), **each}) for each in changed]


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


def trained(task: Drawn, changed: dict[str, Any], data: Path) -> dict[str, Any]:
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
def context_of(task: Drawn, data: Path) -> TrialContext:
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
