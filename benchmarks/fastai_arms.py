"""The arms of `vs_fastai.py`: ways to get a classifier, each a process."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _arm import read_examples

HERE = Path(__file__).resolve().parent

Run = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What every arm is given."""

    data: Path
    split: Path
    split_given: bool
    split_seed: int
    weights: Path
    fastai_python: str
    epochs: int
    budget: str
    work: Path


@dataclass(frozen=True)
class Job:
    """One process: its command, the file whose appearance ends it, and how to read the outcome."""

    command: list[str]
    ends_with: Path
    read: Callable[[], Run]


@dataclass(frozen=True)
class Arm:
    """One way to get a classifier.

    Attributes:
        title: How the table calls it, with `{epochs}` and `{budget}` to be filled in.
        job: Makes the process from the plan, a seed and an empty folder.
        settings: The parts of the plan on which its result depends besides the split.
    """

    title: str
    job: Callable[[Plan, int, Path], Job]
    settings: tuple[str, ...] = ()


def _script_job(command: list[str], plan: Plan, seed: int, folder: Path) -> Job:
    result = folder / "result.json"
    common = {"data": plan.data, "split": plan.split, "weights": plan.weights, "seed": seed}
    options = [part for name, value in common.items() for part in (f"--{name}", str(value))]
    return Job(
        [*command, *options, "--result", str(result)],
        ends_with=result,
        read=lambda: json.loads(result.read_text()),
    )


def _fastai(way: str) -> Callable[[Plan, int, Path], Job]:
    def job(plan: Plan, seed: int, folder: Path) -> Job:
        script = [plan.fastai_python, str(HERE / "_fastai_arm.py")]
        command = [*script, "--way", way, "--epochs", str(plan.epochs)]
        return _script_job(command, plan, seed, folder)

    return job


def _sklearn(plan: Plan, seed: int, folder: Path) -> Job:
    return _script_job([sys.executable, str(HERE / "_sklearn_arm.py")], plan, seed, folder)


def _headstart(strategy: str) -> Callable[[Plan, int, Path], Job]:
    def job(plan: Plan, seed: int, folder: Path) -> Job:
        run = folder / "run"
        budget = ["--budget", plan.budget] if strategy == "finetune" else []
        command = fit_command(plan.data, run, strategy=strategy, seed=seed, more=budget)
        # Unless a split was given, headstart finds the near-duplicates and splits on its own time.
        how = ["--split", str(plan.split)] if plan.split_given else split_options(plan.split_seed)
        return Job([*command, *how], run / "metrics.json", lambda: _read_headstart(run, plan.split))

    return job


def fit_command(
    data: Path, run: Path, *, strategy: str, seed: int, more: Sequence[str] = ()
) -> list[str]:
    fit = [sys.executable, "-m", "headstart", "fit", str(data), "--strategy", strategy]
    return [*fit, "--seed", str(seed), "--out", str(run), *more]


def split_options(seed: int) -> list[str]:
    return ["--split-seed", str(seed)]


def _read_headstart(run: Path, split: Path) -> Run:
    from headstart.artifacts.run import read_predictions, read_record
    from headstart.artifacts.run_start import EPOCHS

    if parts_of(run / "split.csv") != parts_of(split):
        raise ValueError(f"{run} was trained on another split than {split}.")
    predictions = read_predictions(run)
    record = read_record(run)
    how, images_per_s = f"kept the {record.chosen} head; {record.stop_reason}", None
    speeds = [epoch.images_per_s for epoch in EPOCHS.read(run) if epoch.images_per_s]
    if speeds:
        trained = record.n_train * len(speeds)
        suffix_s = sum(record.n_train / speed for speed in speeds)
        views_s = sum(step.seconds or 0 for step in record.plan if step.stage == "views")
        images_per_s = trained / suffix_s
        how = (
            f"kept the {record.chosen} weights; boundary `{record.boundary}`, {record.views} "
            f"cached views, {len(speeds)} epochs of the suffix; {record.stop_reason}; "
            f"{trained / (suffix_s + views_s):.1f} images/s with the making of the views counted in"
        )
    return {
        "wrong": [p.path for p in predictions if p.prediction != p.label],
        "n": len(predictions),
        "images_per_s": images_per_s,
        "how": how,
    }


def parts_of(split: Path) -> dict[str, str]:
    return {example.path: example.part for example in read_examples(split)}


ARMS = {
    "fastai-frozen": Arm(
        "fastai `fit_one_cycle({epochs})`, frozen body", _fastai("frozen"), ("epochs",)
    ),
    "fastai-frozen-bn": Arm(
        "fastai `fit_one_cycle({epochs})`, frozen body, `train_bn=False`",
        _fastai("frozen-bn"),
        ("epochs",),
    ),
    "fastai-fine-tune": Arm("fastai `fine_tune({epochs})`", _fastai("fine-tune"), ("epochs",)),
    "sklearn": Arm("timm features, scikit-learn `LogisticRegression`", _sklearn),
    "headstart-head": Arm("`headstart fit --strategy head`", _headstart("head")),
    "headstart-finetune": Arm(
        "`headstart fit --strategy finetune --budget {budget}`", _headstart("finetune"), ("budget",)
    ),
}
