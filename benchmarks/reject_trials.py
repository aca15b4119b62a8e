"""How `predict --reject` does on classes that a classifier was never shown, and how often it errs.

    python benchmarks/reject_trials.py --write docs/reject.md

A trial hides a class, or several, of a real data set. `fit --strategy head` gets the others, and
the whole way follows: split, head, calibration, sealed test, bundle. Then images of the hidden
classes are predicted. False alarms are counted on the sealed test, with an interval that knows its
groups. Each trial is made twice: alone, and with `--background`: images of five other data sets,
and of half of the hidden classes where more than one is hidden (these are not predicted then).
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from headstart.api.fit import fit
from headstart.artifacts.records import machine, versions
from headstart.artifacts.run import read_predictions
from headstart.data.images_in import images_in
from headstart.data.sources import load_dataset
from headstart.evaluation.intervals import share_interval
from headstart.inference.run import Run
from records import BENCH, DATA

START, END = "<!-- trials: begin -->", "<!-- trials: end -->"
FALSE_ALARM = 0.05
EACH = 60
"""Most images of a class that are trained on, and that are predicted."""


@dataclass(frozen=True)
class Trial:
    """A data set with the number of classes that are hidden, every so many-th one."""

    data: str
    hidden: int


TRIALS = (
    Trial("flowers17", 4), Trial("clothing10", 2), Trial("sign_digits", 2),
    Trial("neu_steel", 1), Trial("magnetic_tile", 1), Trial("rice_leaf", 1),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        data: Name of the data set.
        hidden: Names of the hidden classes.
        background: What the background was; empty without one.
        tested: Number of sealed test images.
        false_alarms: How many of them were rejected.
        interval: 95% interval of their share.
        unknown: Number of images of hidden classes that were predicted.
        rejected: How many of them were rejected.
        unsure: How many of them a limit on the probability would reject, one that rejects as many
            sealed test images.
    """

    data: str
    hidden: tuple[str, ...]
    background: str
    tested: int
    false_alarms: int
    interval: tuple[float, float]
    unknown: int
    rejected: int
    unsure: int

    @property
    def keeps_its_rate(self) -> bool:
        """Whether the promised share is in the interval, or above it."""
        return self.interval[0] <= FALSE_ALARM


def hidden_of(classes: Sequence[str], count: int) -> tuple[str, ...]:
    """Returns classes that are spread over the list.

    Example:
        >>> hidden_of(("a", "b", "c", "d", "e", "f"), 2)
        ('b', 'e')
    """
    step = len(classes) / count
    return tuple(classes[int(step * (number + 0.5))] for number in range(count))


def tried(trial: Trial, data: Path, resolution: int, work: Path) -> list[Outcome]:
    """Returns the outcomes of a trial without and with a background."""
    dataset = load_dataset(data / trial.data)
    hidden = hidden_of(dataset.classes, trial.hidden)
    dice, shown, away = np.random.default_rng(0), [], dict[str, list[Path]]()
    for name in dataset.classes:
        items = [item for item in dataset.items if item.label == name]
        some = [items[row].path for row in dice.permutation(len(items))[:EACH]]
        if name in hidden:
            away[name] = some
        else:
            shown += [(str(path), name) for path in some]
    outcomes = []
    known_away = hidden[: len(hidden) // 2]
    background = work / "background"
    shown_away = [path for name in known_away for path in away[name]]
    _link(background, [*_others(trial, data, dice), *shown_away])
    of_hidden = f" and {', '.join(known_away)}" if known_away else ""
    for folder, described in ((None, ""), (background, f"other data sets{of_hidden}")):
        run = fit(
            sorted(shown), strategy="head", epochs=0, progress=False, background=folder,
            settings=[f"backbone.resolution={resolution}"], out=work / f"run{len(outcomes)}",
            cache_dir=BENCH / "reject_trials" / "cache",
        )  # fmt: skip
        unseen = [path for name in hidden if name not in known_away for path in away[name]]
        outcomes.append(_outcome(run, trial.data, hidden, described, unseen))
    return outcomes


def _outcome(
    run: Run, data: str, hidden: tuple[str, ...], background: str, unseen: list[Path]
) -> Outcome:
    sealed = read_predictions(run.folder)
    root = Path(run.record.data_root)
    of_test = run.predict([root / each.path for each in sealed])
    flags = np.array([each.out_of_distribution for each in of_test])
    groups = np.array([int(each.group or 0) for each in sealed])
    of_unseen = run.predict(unseen)
    sure = np.sort([each.probability for each in of_test])
    limit = sure[int(flags.sum())]
    return Outcome(
        data, hidden, background, len(flags), int(flags.sum()), share_interval(flags, groups),
        len(of_unseen), sum(each.out_of_distribution for each in of_unseen),
        sum(each.probability < limit for each in of_unseen),
    )  # fmt: skip


def _others(trial: Trial, data: Path, dice: np.random.Generator) -> list[Path]:
    """Returns 60 images of each other data set of the trials."""
    found = []
    for other in TRIALS:
        if other.data != trial.data:
            files = images_in([data / other.data])
            found += [files[row] for row in dice.permutation(len(files))[:60]]
    return found


def _link(folder: Path, files: Sequence[Path]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        shutil.copy(file, folder / f"{number:04d}{file.suffix}")


def row(outcome: Outcome) -> str:
    """Returns a row of the table."""
    low, high = outcome.interval
    cells = (
        outcome.data, ", ".join(outcome.hidden), outcome.background or "–",
        f"{outcome.false_alarms} of {outcome.tested}",
        f"{outcome.false_alarms / outcome.tested:.1%} ({low:.1%} to {high:.1%})",
        "yes" if outcome.keeps_its_rate else "**no**",
        f"{outcome.rejected / outcome.unknown:.0%} of {outcome.unknown}",
        f"{outcome.unsure / outcome.unknown:.0%}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def table(outcomes: Sequence[Outcome], resolution: int, seconds: float) -> str:
    """Returns the table as Markdown."""
    used = versions()
    kept = sum(each.keeps_its_rate for each in outcomes)
    return "\n".join(
        [
            "| data | hidden classes | background | false alarms | share (95% interval) "
            "| at most 5%? | hidden images rejected | by a limit on the probability |",
            "|-|-|-|-|-|-|-|-|",
            *map(row, outcomes),
            "",
            f"The promised rate holds in {kept} of {len(outcomes)} trials: the interval of what "
            f"was measured does not lie above {FALSE_ALARM:.0%}. The last column rejects by the "
            "probability, with the limit that rejects as many test images, which is chosen on "
            "these and so favours it.",
            "",
            f"`python benchmarks/reject_trials.py`: `fit --strategy head` at {resolution} pixels, "
            f"{seconds / 60:.0f} minutes of processor time on {machine()}; "
            + ", ".join(f"{name} {used[name]}" for name in ("python", "torch", "timm", "numpy"))
            + ".",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="+", help="data sets")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    began, outcomes = time.process_time(), list[Outcome]()
    for trial in TRIALS:
        if options.only and trial.data not in options.only:
            continue
        work = BENCH / "reject_trials" / trial.data
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        found = tried(trial, options.data, options.resolution, work)
        print("\n".join(map(row, found)), flush=True)
        (work / "outcomes.json").write_text(json.dumps([asdict(each) for each in found]))
        outcomes += found
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        before, after = page.split(START)[0], page.split(END)[1]
        made = table(outcomes, options.resolution, time.process_time() - began)
        options.write.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
