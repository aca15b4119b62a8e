"""How often an image like the training images is rejected, by simulation.

    python benchmarks/reject_coverage.py --write docs/reject.md

A draw is a world of its own: classes as Gaussian clouds of embeddings, training images of them,
images for the calibration, and a background far from them. The share of new images of these classes
that headstart's own functions reject is averaged over the draws; its promise is 5% at most. Because
a threshold is one of the distances of n images, what is possible is floor(0.05 (n + 1)) / (n + 1).
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.records import machine, versions
from headstart.evaluation.conformal import (
    TrainingDistribution,
    fit_distribution,
    fit_distribution_within,
    gallery_rows,
    out_of_distribution,
)

START, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
PROMISED = 0.95
NEAR = 0.01
NEW = 50
"""New images in a draw."""


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        classes: Number of classes.
        each: Training images of a class.
        held: Held-out images of the calibration; 0 calibrates on the training images.
        group: Images that share most of their embedding, such as those of one patient.
        background: Number of background images.
    """

    classes: int
    each: int
    held: int
    group: int = 1
    background: int = 0


def settings() -> Iterator[Setting]:
    """Yields the rows."""
    for background in (0, 100):
        for classes, each, held in ((2, 30, 40), (5, 20, 60), (10, 10, 100), (17, 20, 340)):
            yield Setting(classes, each, held, background=background)
        for classes, each in ((2, 20), (5, 15), (10, 10), (17, 20)):
            yield Setting(classes, each, 0, background=background)
        yield Setting(5, 20, 0, group=4, background=background)


def world(
    setting: Setting, rng: np.random.Generator
) -> tuple[TrainingDistribution, NDArray[np.float64]]:
    """Returns a calibrated distribution, and new images like the training images."""
    width, c = 24, setting.classes
    centres = rng.normal(size=(c, width))

    def drawn(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
        shared = rng.normal(0, 0.4, (int(groups.max()) + 1, width))[groups]
        own = rng.normal(0, 0.5 if setting.group > 1 else 0.6, (len(labels), width))
        return np.asarray(centres[labels] + own + (shared if setting.group > 1 else 0))

    labels = np.repeat(np.arange(c), setting.each)
    groups = np.arange(len(labels)) // setting.group
    images = drawn(labels, groups)
    other = rng.normal(0, 2.0, (setting.background, width)) if setting.background else None
    if setting.held:
        held = rng.integers(0, c, setting.held)
        known = fit_distribution(
            images, labels, drawn(held, np.arange(len(held))), background=other
        )
    else:
        rows = gallery_rows(labels)
        known = fit_distribution_within(images, labels, groups, rows, background=other)
    new = rng.integers(0, c, NEW)
    return known, drawn(new, np.arange(NEW))


def retained(setting: Setting, draws: int) -> float:
    """Returns the mean share of new images that are not rejected."""
    shares = [
        1 - out_of_distribution(new, known).mean()
        for known, new in (
            world(setting, np.random.default_rng([number, draws])) for number in range(draws)
        )
    ]
    return float(np.mean(shares))


def row(setting: Setting, share: float) -> str:
    """Returns a row of the table; what is further than 1% from the promise is bold."""
    how = f"{setting.held} held-out images" if setting.held else "training images"
    shown = f"{share:.1%}" if abs(share - PROMISED) <= NEAR else f"**{share:.1%}**"
    cells = (
        setting.classes, setting.classes * setting.each, how,
        setting.group if setting.group > 1 else "–", setting.background or "–", shown,
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def table(found: list[tuple[Setting, float]], draws: int, seconds: float) -> str:
    """Returns the table as Markdown."""
    used = versions()
    near = sum(abs(share - PROMISED) <= NEAR for _, share in found)
    return "\n".join(
        [
            "| classes | training images | calibrated on | images in a group | background images "
            "| like the training images, and not rejected |",
            "|-|-|-|-|-|-|",
            *(row(*each) for each in found),
            "",
            f"{near} of {len(found)} rows are within 1% of the promised {PROMISED:.0%}. {draws:,} "
            f"draws of each row; `python benchmarks/reject_coverage.py --draws {draws}`: "
            f"{seconds / 60:.0f} minutes on one core of {machine()}; python {used['python']}, "
            f"numpy {used['numpy']}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    began, found = time.process_time(), []
    for setting in settings():
        found.append((setting, retained(setting, options.draws)))
        print(row(*found[-1]), flush=True)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        before, after = page.split(START)[0], page.split(END)[1]
        made = table(found, options.draws, time.process_time() - began)
        options.write.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
