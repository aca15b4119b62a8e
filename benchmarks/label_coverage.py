"""How often the intervals of average precision hold the truth, and what a threshold's precision is.

    python benchmarks/label_coverage.py --write docs/multilabel.md

A draw is a sealed test of images whose labels and scores come from a known world: an image has
each label with the probability of that label, and its score is normal, with a mean that is higher
by a gap for those that have it. The average precision of so many images that it is known is what
headstart's own intervals should contain in 95% of draws. Thresholds are chosen on other held-out
images of that world, and their precision on new images is computed.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from headstart.artifacts.records import machine, versions
from headstart.evaluation.label_metrics import precision_estimates
from headstart.evaluation.label_rules import NEVER, threshold_of
from headstart.evaluation.label_scores import sigmoid, weighted_precision

START, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
SHARES = (0.05, 0.2, 0.5)
"""Share of the images that have each label."""

ASKED = 0.9
KNOWN = 400_000
"""Images by which the average precision is known."""

Floats = NDArray[np.float64]
Marks = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """Where images, labels and scores come from.

    Attributes:
        gap: By how many standard deviations the scores of images with a label are higher.
        images: Images in a test, or held out for thresholds.
        group: Images of a group, which share their labels and half of the variance of the scores.
    """

    gap: float
    images: int
    group: int = 1

    def draw(self, random: np.random.Generator, images: int) -> tuple[Floats, Marks]:
        """Returns the scores and labels (N, 3) of images, those of a group in a row."""
        groups = -(-images // self.group)
        marks = np.repeat(random.random((groups, len(SHARES))) < SHARES, self.group, 0)[:images]
        noise = random.standard_normal((images, len(SHARES)))
        if self.group > 1:
            shared = np.repeat(random.standard_normal((groups, len(SHARES))), self.group, 0)
            noise = (noise + shared[:images]) / np.sqrt(2)
        return noise + self.gap * marks, marks.astype(np.int64)

    def known(self, seed: int) -> Floats:
        """Returns the average precision (3,) of each label."""
        scores, marks = self.draw(np.random.default_rng(seed), KNOWN)
        one = np.ones((1, KNOWN))
        return np.array(
            [weighted_precision(scores[:, k], marks[:, k], one)[0] for k in range(len(SHARES))]
        )

    def precision(self, threshold: float, share: float) -> float:
        """Returns the share of new images with a score of at least a threshold that have a label.

        Example:
            >>> World(gap=0.0, images=100).precision(threshold=1.0, share=0.2)
            0.2
        """
        hits, others = share * ndtr(self.gap - threshold), (1 - share) * ndtr(-threshold)
        return float(hits / (hits + others))


@dataclass(frozen=True)
class Held:
    """How often intervals held the truth.

    Attributes:
        mean: Share of draws whose interval of the mean average precision holds it.
        each: The same of each label (3,).
    """

    mean: float
    each: tuple[float, ...]


def coverage(world: World, draws: int, resamples: int, seed: int = 0) -> Held:
    """Returns how often the intervals of a world's tests hold its average precision.

    Args:
        world: The world.
        draws: Number of tests.
        resamples: Resamples of an interval.
        seed: Seed of the draws.
    """
    truth = world.known(seed + 1)
    random = np.random.default_rng(seed)
    mean, each = 0, np.zeros(len(SHARES), np.int64)
    groups = np.arange(world.images) // world.group
    for _ in range(draws):
        scores, marks = world.draw(random, world.images)
        found = precision_estimates(scores, marks, groups, resamples)
        there = marks.any(0)  # a label that no image has does not count in the mean
        low, high = found.mean_interval
        mean += low <= truth[there].mean() <= high
        each += [
            low <= known <= high for (low, high), known in zip(found.labels, truth, strict=True)
        ]
    return Held(float(mean) / draws, tuple(float(share) for share in each / draws))


def realised(world: World, draws: int, seed: int = 0) -> list[list[float]]:
    """Returns the precision on new images of thresholds for `ASKED`, for each label.

    Draws in which no threshold reached it on the held-out images are left out: no image then gets
    the label.
    """
    random = np.random.default_rng(seed)
    found: list[list[float]] = [[] for _ in SHARES]
    for _ in range(draws):
        scores, marks = world.draw(random, world.images)
        for k, share in enumerate(SHARES):
            threshold = threshold_of(sigmoid(scores[:, k]), marks[:, k], ASKED)
            if marks[:, k].any() and threshold != NEVER:
                logit = float(np.log(threshold / (1 - threshold)))
                found[k].append(world.precision(logit, share))
    return found


def coverage_table(draws: int, resamples: int, jobs: int) -> list[str]:
    """Returns the coverage of several worlds as rows of a table."""
    names = " | ".join(f"label of {share:.0%}" for share in SHARES)
    lines = [
        f"| test images | gap | mean average precision | {names} |",
        "|" + "-|" * (3 + len(SHARES)),
    ]
    worlds = (World(1.5, 100), World(2.5, 200), World(1.5, 400, 4))
    with ProcessPoolExecutor(jobs) as pool:
        found = pool.map(partial(coverage, draws=draws, resamples=resamples), worlds)
    for world, held in zip(worlds, found, strict=True):
        images = f"{world.images}" + (f" in groups of {world.group}" if world.group > 1 else "")
        cells = " | ".join(f"{share:.1%}" for share in held.each)
        lines.append(f"| {images} | {world.gap:g} | {held.mean:.1%} | {cells} |")
    return lines


def threshold_table(draws: int) -> list[str]:
    """Returns the realised precision in several worlds as rows of a table."""
    lines = [
        "| held-out images | gap | "
        + " | ".join(f"label of {share:.0%}" for share in SHARES)
        + " |",
        "|" + "-|" * (2 + len(SHARES)),
    ]
    for world in (World(2.5, 100), World(2.5, 400), World(2.5, 1600)):
        cells = " | ".join(_shown(each, draws) for each in realised(world, draws))
        lines.append(f"| {world.images} | {world.gap:g} | {cells} |")
    return lines


def _shown(precisions: Sequence[float], draws: int) -> str:
    if not precisions:
        return "never"
    low = float(np.quantile(precisions, 0.05))
    return f"{np.mean(precisions):.1%} ({low:.1%}), in {len(precisions) / draws:.0%}"


def main() -> None:
    """Prints both tables, and writes them into a page if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--write", type=Path, help="page between whose marks the tables go")
    given = parser.parse_args()
    lines = [
        *coverage_table(given.draws, given.resamples, given.jobs),
        "",
        *threshold_table(given.draws),
    ]
    known = versions()
    lines += [
        "",
        f"{given.draws:,} draws, {given.resamples} resamples, one run; {machine()}; "
        f"headstart {known['headstart']}, numpy {known['numpy']}.",
    ]
    text = "\n".join(lines)
    print(text)
    if given.write is not None:
        page = given.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(START)
        _, _, after = rest.partition(END)
        given.write.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
