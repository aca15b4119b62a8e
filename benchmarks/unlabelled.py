"""What `headstart fit --unlabelled` does for a head on few labels.

    python benchmarks/unlabelled.py --write docs/unlabelled.md

A third of the groups of a data set is the test. Of the others, one image each is in the pool: 5 or
15 images of each class have a label, and up to 500 further ones have none. The head alone is a
logistic regression on frozen features, its penalty by cross-validation. `--unlabelled` is what
`fit` does: pseudo-labels are used if they lower the log loss of cross-validation by more than its
standard error. `always` uses them in any case. In further rows, of ten seeds, all unlabelled images
are of another data set, so they can only do harm. Differences are paired by seed: same test, same
labels. Intervals are Student's t over seeds.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.records import machine, versions
from headstart.evaluation.calibration import calibrated_score
from headstart.evaluation.statistics import Interval, mean_over_seeds
from headstart.features.probe import LabelledFeatures, cross_validate
from headstart.features.pseudo_labels import HeadKind, hard, solved_with, try_unlabelled
from label_next import SETS, Features, features, test_and_pool
from records import BENCH, DATA, DOCS

EACH = (5, 15)
"""Numbers of labelled images of a class."""
MOST = 500
"""Most unlabelled images."""
OTHER = dict(zip(SETS, (*SETS[1:], SETS[0]), strict=True))
"""The data set of unlabelled images that are of no class."""
FOREIGN_SEEDS = 10
START, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PICTURE = DOCS / "pictures" / "unlabelled.svg"


class Case(NamedTuple):
    """A row of the table: data set, labels a class, and another data set of the unlabelled images.

    Without another one, they are of the same data set.
    """

    data: str
    each: int
    other: str = ""


class Outcome(NamedTuple):
    """What one seed gave.

    Attributes:
        unlabelled: Number of unlabelled images.
        helps: Whether cross-validation says that they help.
        alone: Accuracy and log loss of the head on labelled images alone, on the test.
        with_them: The same with pseudo-labels.
    """

    unlabelled: int
    helps: bool
    alone: tuple[float, float]
    with_them: tuple[float, float]

    @property
    def used(self) -> tuple[float, float]:
        """Accuracy and log loss of what `fit` would ship."""
        return self.with_them if self.helps else self.alone


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    parser.add_argument("--only", nargs="+", default=SETS, help="data sets")
    parser.add_argument("--seeds", type=int, nargs=2, default=(200, 220), help="first, and end")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--write", type=Path, help="page that gets table and picture")
    args = parser.parse_args()
    found, seconds = {}, 0.0
    kept = BENCH / "unlabelled" / f"{args.resolution}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    known = _known(kept)
    cases = [Case(name, each) for name in args.only for each in EACH]
    cases += [Case(name, EACH[0], OTHER[name]) for name in args.only]
    # All data sets of a seed first: what there is can be shown.
    for seed in range(*args.seeds):
        for case in cases:
            if case.other and seed >= args.seeds[0] + FOREIGN_SEEDS:
                continue
            if (key := " ".join([*filter(None, map(str, case)), str(seed)])) not in known:
                data = features(args.data / case.data, args.resolution)
                other = case.other and features(args.data / case.other, args.resolution)
                began = time.process_time()
                outcome = measured(data, case.each, seed, other or None)
                known[key] = (outcome, time.process_time() - began)
                with kept.open("a") as file:
                    file.write(json.dumps([key, *known[key]]) + "\n")
            outcome, took = known[key]
            found.setdefault(case, []).append(outcome)
            seconds += took
    print(made := table(found, args.resolution, args.seeds, seconds))
    if args.write:
        page = args.write.read_text(encoding="utf-8")
        before, after = page.split(START)[0], page.split(END)[1]
        args.write.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")
        draw(found, PICTURE)


def _known(file: Path) -> dict[str, tuple[Outcome, float]]:
    """Returns what an earlier call measured, with the seconds that it took."""
    if not file.exists():
        return {}
    rows = map(json.loads, file.read_text().splitlines())
    return {
        key: (Outcome(count, helps, tuple(alone), tuple(more)), took)
        for key, (count, helps, alone, more), took in rows
    }


def measured(data: Features, each: int, seed: int, other: Features | None = None) -> Outcome:
    """Returns what unlabelled images do with some labels of each class.

    Args:
        data: Images with labels.
        each: Number of labelled images of a class.
        seed: Seed of test and labels.
        other: Images that take the place of the unlabelled ones.
    """
    dice, classes = np.random.default_rng(seed), int(data.labels.max()) + 1
    test, pool = test_and_pool(data, dice)
    chosen = [pool[data.labels[pool] == number][:each] for number in range(classes)]
    labelled = np.concatenate(chosen)
    rest = dice.permutation(np.setdiff1d(pool, labelled))[:MOST]
    unlabelled = data.values[rest]
    if other is not None:
        unlabelled = other.values[dice.permutation(len(other.values))[:MOST]]
    known = LabelledFeatures(
        data.values[labelled], data.labels[labelled], classes, np.arange(len(labelled))
    )
    kind = HeadKind(cross_validate(known).strength)
    tried = try_unlabelled(kind, known, unlabelled)
    heads = (
        kind.solve(known.features, hard(known.labels, classes)),
        solved_with(kind, known, unlabelled),
    )
    alone, more = (
        calibrated_score(head.logits(data.values[test]), data.labels[test])[::-1] for head in heads
    )
    return Outcome(len(unlabelled), tried.helps, alone, more)


Found = dict[Case, list[Outcome]]


def difference(outcomes: Sequence[Outcome], what: str, column: int) -> tuple[float, Interval]:
    """Returns the mean difference to the head alone, and its interval over seeds.

    Args:
        outcomes: One for each seed.
        what: `used` or `with_them`.
        column: 0 for the accuracy, 1 for the log loss.
    """
    return mean_over_seeds([getattr(each, what)[column] - each.alone[column] for each in outcomes])


def table(found: Found, resolution: int, seeds: Sequence[int], seconds: float) -> str:
    """Returns the table of all data sets as Markdown."""
    lines = [
        "| data | labels a class | unlabelled images | accuracy of the head alone | "
        "`--unlabelled`, points (95% interval) | used in | always, points (95% interval) | "
        "log loss, `--unlabelled` (95% interval) |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for case, outcomes in found.items():
        alone = np.mean([one.alone[0] for one in outcomes])
        cells = [
            case.data,
            str(case.each),
            f"{np.mean([one.unlabelled for one in outcomes]):.0f}"
            + (f" of {case.other}" if case.other else ""),
            f"{alone:.1%}",
            _shown(*difference(outcomes, "used", 0), 100, "+.1f"),
            f"{sum(one.helps for one in outcomes)} of {len(outcomes)} seeds",
            _shown(*difference(outcomes, "with_them", 0), 100, "+.1f"),
            _shown(*difference(outcomes, "used", 1), 1, "+.3f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    used = versions()
    packages = (f"{name} {used[name]}" for name in ("python", "numpy", "scipy", "timm"))
    lines += [
        "",
        _verdict(found),
        "",
        f"`python benchmarks/unlabelled.py`: {seeds[1] - seeds[0]} seeds ({seeds[0]} to "
        f"{seeds[1] - 1}), features of `tf_efficientnet_lite0` at {resolution} pixels, "
        f"{seconds / 60:.0f} minutes on one core of {machine()}; {', '.join(packages)}.",
    ]
    return "\n".join(lines)


def _shown(mean: float, interval: Interval, factor: float, form: str) -> str:
    low, high = (format(factor * end, form) for end in interval)
    return f"{format(factor * mean, form)} ({low} to {high})"


def _verdict(found: Found) -> str:
    """Says in how many rows the accuracy is significantly higher, and lower."""
    intervals = [difference(outcomes, "used", 0)[1] for outcomes in found.values()]
    higher = sum(low > 0 for low, _ in intervals)
    lower = sum(high < 0 for _, high in intervals)
    return (
        f"The accuracy is significantly higher in {higher} of {len(intervals)} rows, and "
        f"significantly lower in {lower}; the goal was that it is lower in none."
    )


def draw(found: Found, file: Path) -> None:
    """Draws the differences of the accuracy with their intervals."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "headstart"
    figure = Figure(figsize=(7.6, 0.5 * len(found) + 1), layout="constrained")
    axes = figure.subplots()
    names = [
        f"{case.data}, {case.each} a class" + (f"\npool: {case.other}" if case.other else "")
        for case in found
    ]
    for what, label, colour, shift in (
        ("used", "--unlabelled", "#0f766e", -0.13),
        ("with_them", "pseudo-labels always", "#b45309", 0.13),
    ):
        means, ends = _differences(list(found.values()), what)
        heights = np.arange(len(found)) + shift
        axes.errorbar(
            means, heights, xerr=np.abs(ends - means), fmt="o", ms=4, color=colour, label=label
        )
    axes.axvline(0, color="#64748b", lw=1)
    axes.set_yticks(range(len(found)), names)
    axes.invert_yaxis()
    axes.set_xlabel("points of accuracy more than the head alone (95% interval over seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(file, metadata={"Date": None})


def _differences(
    rows: Sequence[Sequence[Outcome]], what: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the differences (R,) in points, and the ends of their intervals (2, R)."""
    each = [difference(outcomes, what, 0) for outcomes in rows]
    means = np.array([100 * mean for mean, _ in each])
    return means, np.array([[100 * end for end in ends] for _, ends in each]).T


if __name__ == "__main__":
    main()
