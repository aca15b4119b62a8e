"""Other rules by which `headstart label-next` might choose, beside the one by which it does.

    python benchmarks/label_rules.py --write docs/label-next.md

Pools, first labels and rounds are those of `label_next.py`, with other seeds. The head is ridge
regression of the classes on standardised features, with a temperature from the images left out one
by one: it has a closed form, and a curve takes less than a second. The figures of a rule are its
mean accuracy over the ten rounds, its share of random's 200 labels as there, and how much more
accurate it is than the rule in use: paired by seed and averaged over the data sets, with Student's
t interval over seeds.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.diagnose.acquisition import margins
from headstart.evaluation.calibration import fit_temperature, softmax
from headstart.evaluation.retrieval import unit
from headstart.evaluation.statistics import mean_over_seeds
from label_next import (
    BATCH,
    FIRST,
    ROUNDS,
    SETS,
    Curves,
    Features,
    features,
    shares,
    shown_share,
    test_and_pool,
)
from records import DATA

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

START, END = "<!-- rules: begin -->", "<!-- rules: end -->"
PENALTY = 0.15
SCALE = 10.0
"""By which ridge regression's shares become logits, before the temperature."""
NOISE = 0.3
"""Variance of a label, in a Gaussian process whose variance before any label is 1."""


@dataclass(frozen=True)
class Asked:
    """What a rule knows.

    Attributes:
        cosines: Cosines (N + M, N + M) of N unlabelled and then M labelled images, of what sets
            them apart from their mean.
        probabilities: Class probabilities (N, C) of the unlabelled.
        marks: 1 for the class of a labelled image, (M, C).
        wrong: Whether the likeliest class of an unlabelled one is wrong, (N,): what no rule can
            know, for a bound.
        dice: Random numbers.
    """

    cosines: Singles
    probabilities: Floats
    marks: Floats
    wrong: NDArray[np.bool_]
    dice: np.random.Generator


@dataclass(frozen=True)
class Covering:
    """The rule in use, and what may be changed in it.

    Attributes:
        similarity: Power of the cosines; more is a narrower neighbourhood.
        uncertainty: Power of 1 less the margin.
        kinship: Power by which the similarity shrinks where the class probabilities overlap
            little (Bhattacharyya's coefficient); a labelled image has those of its label.
        oracle: Whether it is to cover what the head gets wrong, instead of what is uncertain.
    """

    similarity: float = 1.0
    uncertainty: float = 1.0
    kinship: float = 0.0
    oracle: bool = False

    def __call__(self, asked: Asked, count: int) -> Ints:
        new = len(asked.probabilities)
        near = np.maximum(asked.cosines, 0) ** np.float32(self.similarity)
        if self.kinship:
            roots = np.sqrt(np.concatenate([asked.probabilities, asked.marks])).astype(np.float32)
            near *= np.minimum(roots @ roots.T, 1) ** np.float32(self.kinship)
        unsure = asked.wrong if self.oracle else 1 - margins(asked.probabilities)
        weights = (unsure**self.uncertainty).astype(np.float32)
        covered, near = near[:new, new:].max(1), np.ascontiguousarray(near[:new, :new])
        chosen = list[int]()
        for _ in range(count):
            gain = weights @ np.maximum(near - covered[:, None], 0)
            gain[chosen] = -1
            chosen.append(int(gain.argmax()))
            covered = np.maximum(covered, near[:, chosen[-1]])
        return np.array(chosen)


def least_variance(asked: Asked, count: int) -> Ints:
    """Those after which a Gaussian process is least unsure of what the head is unsure of."""
    new, cosines = len(asked.probabilities), asked.cosines
    known = cosines[new:, new:] + np.float32(NOISE) * np.eye(len(cosines) - new, dtype=np.float32)
    across = cosines[:new, new:]
    left = cosines[:new, :new] - across @ np.linalg.solve(known, across.T)
    weights, chosen = (1 - margins(asked.probabilities)).astype(np.float32), list[int]()
    for _ in range(count):
        gain = (weights @ left**2) / (np.diag(left) + NOISE)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        column = left[:, chosen[-1]] / np.sqrt(left[chosen[-1], chosen[-1]] + NOISE)
        left = left - np.outer(column, column)
    return np.array(chosen)


def least_margin(asked: Asked, count: int) -> Ints:
    """Those that the head is least sure of."""
    return np.argsort(margins(asked.probabilities), kind="stable")[:count]


def at_random(asked: Asked, count: int) -> Ints:
    """Any."""
    return asked.dice.permutation(len(asked.probabilities))[:count]


IN_USE = "in use"
RULES: dict[str, Callable[[Asked, int], Ints]] = {
    IN_USE: Covering(),
    "similarity squared: narrower neighbourhoods": Covering(similarity=2),
    "uncertainty squared: margin counts more": Covering(uncertainty=2),
    "without uncertainty: coverage alone": Covering(uncertainty=0),
    "images of other classes count as less similar": Covering(kinship=0.5),
    "least variance of a Gaussian process": least_variance,
    "an oracle: coverage of what the head gets wrong": Covering(oracle=True),
    "margin alone": least_margin,
    "random": at_random,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    parser.add_argument("--only", nargs="+", default=SETS, help="data sets")
    parser.add_argument("--seeds", type=int, nargs=2, default=(300, 310), help="first, and end")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--write", type=Path, help="page that gets the table")
    args = parser.parse_args()
    found: dict[str, Curves] = {}
    for name in args.only:
        data = features(args.data / name, args.resolution)
        found[name] = {
            rule: [curve(data, rule, seed) for seed in range(*args.seeds)] for rule in RULES
        }
        print(f"{name} done", flush=True)
    text = table(found, args.seeds)
    print(text)
    if args.write:
        page = args.write.read_text(encoding="utf-8")
        before, after = page.split(START)[0], page.split(END)[1]
        args.write.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def curve(data: Features, rule: str, seed: int) -> list[tuple[int, float]]:
    """Returns the number of labels and the accuracy before and after each round."""
    dice, classes = np.random.default_rng(seed), int(data.labels.max()) + 1
    test, pool = test_and_pool(data, dice)
    each = max(2, -(-FIRST // classes))
    labelled = np.concatenate(
        [pool[data.labels[pool] == number][:each] for number in range(classes)]
    )
    deviation = data.values.std(0)
    scale = np.maximum(deviation, 1e-2 * deviation.mean()) * np.sqrt(data.values.shape[1])
    standard = (data.values - data.values.mean(0)) / scale
    directions = unit(data.values)
    directions = unit(directions - directions[pool].mean(0))
    cosines, found = directions @ directions.T, list[tuple[int, float]]()
    for number in range(ROUNDS + 1):
        marks = np.eye(classes)[data.labels[labelled]]
        shares, temperature = ridge(standard, standard[labelled], marks)
        right = shares.argmax(1) == data.labels
        found.append((len(labelled), float(right[test].mean())))
        rest = np.random.default_rng([seed, number]).permutation(np.setdiff1d(pool, labelled))
        rows = np.concatenate([rest, labelled])
        probabilities = softmax(SCALE * shares[rest], temperature)
        asked = Asked(cosines[np.ix_(rows, rows)], probabilities, marks, ~right[rest], dice)
        labelled = np.concatenate([labelled, rest[RULES[rule](asked, BATCH)]])
    return found


def ridge(features: Singles, seen: Singles, marks: Floats) -> tuple[Floats, float]:
    """Returns the shares (N, C) of the classes by ridge regression, and a temperature.

    Args:
        features: Features (N, F).
        seen: Those of labelled images, (M, F).
        marks: 1 for the class of each, (M, C).
    """
    mean = marks.mean(0)
    inverse = np.linalg.inv(seen @ seen.T + PENALTY * np.eye(len(seen)))
    dual = inverse @ (marks - mean)
    left_out = marks - dual / np.diag(inverse)[:, None]
    temperature = fit_temperature((SCALE * left_out).astype(np.float32), marks.argmax(1))
    return (features @ seen.T) @ dual + mean, temperature


def table(found: dict[str, Curves], seeds: tuple[int, int]) -> str:
    """Returns the table as Markdown: curves of each data set, and first seed and end."""
    lines = [
        f"| rule | {' | '.join(found)} | more accurate than in use, % (95% interval) |",
        "|-|" + "-|" * (len(found) + 1),
    ]
    means = {rule: np.array([_means(curves[rule]) for curves in found.values()]) for rule in RULES}
    for rule, accuracy in means.items():
        more = "–"
        if rule != IN_USE:
            middle, (low, high) = mean_over_seeds((accuracy - means[IN_USE]).mean(0).tolist())
            more = f"{100 * middle:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        cells = [
            f"{mean.mean():.1%}, {shown_share(shares(curves, rule, 1)[0])}"
            for mean, curves in zip(accuracy, found.values(), strict=True)
        ]
        lines.append(f"| {rule} | {' | '.join(cells)} | {more.replace('-', '−')} |")
    lines += ["", f"Seeds {seeds[0]} to {seeds[1] - 1}."]
    return "\n".join(lines)


def _means(curves: Sequence[Sequence[tuple[int, float]]]) -> Floats:
    """Returns the mean accuracy (seeds,) after the rounds."""
    return np.array([np.mean([accuracy for _, accuracy in each[1:]]) for each in curves])


if __name__ == "__main__":
    main()
