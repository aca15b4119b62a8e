"""How the rejection of `predict --reject` does on classes that it was never shown, on real images.

    python benchmarks/reject_trials.py --write docs/reject.md

A trial hides some classes of a data set. A quarter of the groups of the others is the test; on the
rest, the distance is calibrated by the functions of `fit --strategy head`, on the same features:
those of the frozen network. False alarms are counted on the test, with an interval that knows its
groups. Each trial is made twice: alone, and with a background: images of the other data sets, and
of half of the hidden classes, which are not counted as hidden then. A limit on the probability of a
solved head, chosen on the test so that it rejects as many, is what the distance is compared with.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.artifacts.records import machine, versions
from headstart.data.sources import load_dataset
from headstart.evaluation.calibration import softmax
from headstart.evaluation.conformal import (
    fit_distribution_within,
    gallery_rows,
    out_of_distribution,
)
from headstart.evaluation.intervals import share_interval
from headstart.features.probe import fit_probe
from label_next import Features, features
from records import DATA

START, END = "<!-- trials: begin -->", "<!-- trials: end -->"
FALSE_ALARM = 0.05
OTHERS = 60
"""Images of each other data set in the background."""
PENALTY = 1e-3


@dataclass(frozen=True)
class Trial:
    """A data set, and the numbers of the classes that are hidden."""

    data: str
    hidden: tuple[int, ...]


TRIALS = (
    Trial("flowers17", (1, 5, 9, 13)), Trial("flowers17", (3, 7, 11, 15)),
    Trial("clothing10", (2, 7)), Trial("clothing10", (0, 5)),
    Trial("sign_digits", (1, 6)), Trial("sign_digits", (3, 8)),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        data: Name of the data set.
        hidden: Names of the hidden classes that are predicted.
        background: What the background was; empty without one.
        tested: Number of test images.
        false_alarms: How many of them were rejected.
        interval: 95% interval of their share.
        unknown: Number of images of hidden classes that were predicted.
        rejected: How many of them were rejected.
        unsure: How many of them the limit on the probability would reject.
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


def tried(trial: Trial, known: dict[str, Features], names: Sequence[str]) -> list[Outcome]:
    """Returns the outcomes of a trial without and with a background.

    Args:
        trial: The trial.
        known: Features of all data sets of the trials.
        names: Names of the classes of its data set.
    """
    data, dice = known[trial.data], np.random.default_rng(0)
    shown = np.flatnonzero(~np.isin(data.labels, trial.hidden))
    groups = dice.permutation(np.unique(data.groups[shown]))
    test = shown[np.isin(data.groups[shown], groups[: len(groups) // 4])]
    train = np.setdiff1d(shown, test)
    _, labels = np.unique(data.labels[train], return_inverse=True)
    of_background = trial.hidden[: len(trial.hidden) // 2]
    unseen = np.isin(data.labels, trial.hidden[len(of_background) :])
    others = [
        each.values[dice.permutation(len(each.values))[:OTHERS]]
        for name, each in known.items()
        if name != trial.data
    ]
    background = np.concatenate([*others, data.values[np.isin(data.labels, of_background)]])
    head = fit_probe(data.values[train], labels, int(labels.max()) + 1, PENALTY)
    sure, sure_unseen = (
        softmax(head.logits(values)).max(1) for values in (data.values[test], data.values[unseen])
    )
    told = f"other data sets and {', '.join(names[number] for number in of_background)}"
    outcomes = []
    for given, described in ((None, ""), (background, told)):
        distribution = fit_distribution_within(
            data.values[train], labels, data.groups[train], gallery_rows(labels), background=given
        )
        flags = out_of_distribution(data.values[test], distribution)
        away = out_of_distribution(data.values[unseen], distribution)
        limit = np.sort(sure)[int(flags.sum())]
        found = Outcome(
            data=trial.data,
            hidden=tuple(names[number] for number in trial.hidden[len(of_background) :]),
            background=described,
            tested=len(test),
            false_alarms=int(flags.sum()),
            interval=share_interval(flags, data.groups[test]),
            unknown=len(away),
            rejected=int(away.sum()),
            unsure=int((sure_unseen < limit).sum()),
        )
        outcomes.append(found)
    return outcomes


def row(outcome: Outcome) -> str:
    """Returns a row of the table."""
    low, high = outcome.interval
    share = outcome.false_alarms / outcome.tested
    cells = (
        outcome.data, ", ".join(outcome.hidden), outcome.background or "–",
        f"{share:.1%} of {outcome.tested} ({low:.1%} to {high:.1%})",
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
            "| data | hidden classes | background | false alarms (95% interval) "
            "| at most 5%? | hidden images rejected | by a limit on the probability |",
            "|-|-|-|-|-|-|-|",
            *map(row, outcomes),
            "",
            f"The promised rate holds in {kept} of {len(outcomes)} cases: the interval of what was "
            f"measured does not lie above {FALSE_ALARM:.0%}. The last column rejects by the "
            "probability, with the limit that rejects as many test images; it is chosen on these, "
            "which favours it.",
            "",
            f"`python benchmarks/reject_trials.py`: features of `tf_efficientnet_lite0` at "
            f"{resolution} pixels, {seconds:.0f} s of one core of {machine()}; "
            + ", ".join(f"{name} {used[name]}" for name in ("python", "timm", "numpy"))
            + ".",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    sets = dict.fromkeys(trial.data for trial in TRIALS)
    known = {name: features(options.data / name, options.resolution) for name in sets}
    names = {name: _class_names(options.data / name) for name in sets}
    began, outcomes = time.process_time(), list[Outcome]()
    for trial in TRIALS:
        outcomes += tried(trial, known, names[trial.data])
        print("\n".join(map(row, outcomes[-2:])), flush=True)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        before, after = page.split(START)[0], page.split(END)[1]
        made = table(outcomes, options.resolution, time.process_time() - began)
        options.write.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")


def _class_names(folder: Path) -> Sequence[str]:
    return tuple(sorted(load_dataset(folder).classes))


if __name__ == "__main__":
    main()
