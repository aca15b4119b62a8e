"""The page of `search_vs_fixed.py`: its runs, and how far the arms differ."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from measure import MEMORY_NOTE, markdown_table
from records import (
    Record,
    accuracy,
    check_paired,
    did,
    image_ids,
    in_todays_words,
    provenance,
    right,
    shown_p,
)
from search_cells import ARMS, CELLS, FEW, Cell

RESAMPLES = 10_000
_BATCH = 500
"""Resamples held in memory at a time."""

Draws = NDArray[np.float64]

Pairs = list[tuple[Cell, Record, Record]]
"""Of each cell the runs of two arms."""


def render(records: list[Record]) -> str:
    """Returns the Markdown page for the runs."""
    ordered, pairs = _ordered(records), _pairs(records)
    return "\n".join(
        [
            "# The search against fixed and random recipes"
            + (", with few images" if ordered[0]["cell"].get("each") else ""),
            "",
            "Written by `python benchmarks/search_vs_fixed.py` from the file of JSON lines beside "
            "this page; do not edit. Every run that ended is listed, none is chosen.",
            "",
            *summary(records),
            "## Cell by cell: exact McNemar",
            "",
            _tests(pairs),
            "",
            "An image counts where exactly one of the two arms is right. Holm's correction is over "
            "all rows of this table.",
            "",
            "## What each run did",
            "",
            *(
                f"- `{Cell(**record['cell']).command(record['arm'])}`: {did(record)}"
                for record in ordered
            ),
            "",
            "- Cells on one core ran with `--pin`: as many cells at a time as the machine has "
            "cores, each with all its processes on one core and `OMP_NUM_THREADS=1`, the same for "
            "all its arms. The others ran one at a time, with all cores.",
            "- The arms of a cell ran right after each other; which came first changes from cell "
            "to cell.",
            *provenance(ordered),
            "",
        ]
    )


def _earlier(records: Sequence[Record]) -> str:
    commits = sorted({each["commit"] for each in records if each["arm"] == "earlier"})
    return f" *Earlier* is the search of commit {', '.join(commits)}." if commits else ""


def summary(records: list[Record]) -> list[str]:
    """Returns the lines with the difference between the arms and the table of the cells."""
    return [
        "*Searched* is `headstart fit DATA --budget B`, *fixed* adds `--recipe default`, *random* "
        "adds `--sampler random`: random recipes of the same space, with the same caches and the "
        "same final training." + _earlier(records),
        "",
        "## The difference",
        "",
        _pooled(_pairs(records)),
        "",
        "Differences are in percentage points of accuracy on the sealed test images, the same "
        f"for both arms; above 0 the search is better. Intervals: 95%, {RESAMPLES:,} "
        "bootstrap resamples (seed 0).",
        "",
        "**Test sets of different split seeds of one data set overlap**, and where a data set "
        "has its own test images (hymenoptera) they are the same. *Images within cells* "
        "resamples each cell separately, as if the cells were independent, so its interval is "
        "too narrow; *images, shared* draws an image with all cells of its data set that hold "
        "it. Neither includes the effect of the training seed.",
        "",
        "## By cell",
        "",
        _table(_ordered(records)),
        "",
        "Accuracy is that of the sealed test set, with Wilson's 95% interval. *Of right "
        "probabilities* is the calibration error that is found on so few images in half of all "
        "cases where every probability is right. Seconds run from "
        "the start of the process to its exit, including the report, with an empty cache. The "
        f"limit is the budget plus 10 s or 5%, whichever is more. {MEMORY_NOTE}",
        "",
    ]


def _cells(records: list[Record]) -> list[Cell]:
    return sorted({Cell(**record["cell"]) for record in records}, key=_place)


def _found(records: list[Record]) -> dict[tuple[Cell, str], Record]:
    return {(Cell(**record["cell"]), record["arm"]): record for record in records}


def _ordered(records: list[Record]) -> list[Record]:
    found = _found(records)
    return [found[cell, arm] for cell in _cells(records) for arm in ARMS if (cell, arm) in found]


def _pairs(records: list[Record]) -> dict[str, Pairs]:
    """Returns, by the other arm, the cells in which both it and the search have run."""
    found = _found(records)
    return {
        other: [
            (cell, found[cell, "searched"], found[cell, other])
            for cell in _cells(records)
            if (cell, "searched") in found and (cell, other) in found
        ]
        for other in ("fixed", "random", "earlier")
    }


def _place(cell: Cell) -> tuple[int, str]:
    order = [(each.data, each.split_seed) for each in (*CELLS, *FEW)]
    return order.index((cell.data, cell.split_seed)), cell.budget


def _table(records: list[Record]) -> str:
    header = (
        "data", "budget", "cores", "split seed", "arm", "test accuracy (95% interval)",
        "test images", "log loss", "calibration error", "of right probabilities", "s",
        "in budget", "memory, MB", "backbone", "kept", "ended because", "trials",
    )  # fmt: skip
    rows = []
    for record in records:
        cell, run, backbone = record["cell"], record["run"], record["recipe"]["backbone"]
        pixels = f", {backbone['resolution']} px" if backbone["resolution"] else ""
        trials = "; ".join(f"{count} {name}" for name, count in sorted(record["trials"].items()))
        rows.append(
            (
                cell["data"],
                cell["budget"],
                "1" if record["pinned"] else "all",
                str(cell["split_seed"]),
                record["arm"],
                accuracy([record]),
                str(len(record["right"])),
                f"{record['metrics']['log_loss']:.3f}",
                f"{record['metrics']['ece']:.1%}",
                _share(record["metrics"].get("ece_by_chance")),
                f"{record['wall_s']:.0f}",
                "yes" if record["budget_kept"] else "no",
                f"{record['peak_anon_mb']:,.0f}",
                f"{backbone['name']}{pixels}",
                run["chosen"],
                in_todays_words(run["stop_reason"]),
                trials or "-",
            )
        )
    return markdown_table(header, rows)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


class Difference(NamedTuple):
    """A difference with the ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.2f} ({100 * self.low:+.2f} to {100 * self.high:+.2f})"


def _pooled(pairs: dict[str, Pairs]) -> str:
    header = (
        "searched minus",
        "cells",
        "images",
        "resampled",
        "mean over cells",
        "over all images",
    )
    rows = []
    for other, runs in pairs.items():
        if not runs:
            continue
        for how, same in (
            ("images within cells", lambda cell: cell),
            ("images, shared", lambda cell: cell.data),
        ):
            by_cell, by_image = pooled_difference(runs, same)
            images = sum(len(record["right"]) for _, record, _ in runs)
            row = (other, str(len(runs)), f"{images:,}", how, str(by_cell), str(by_image))
            rows.append(row)
    return markdown_table(header, rows)


def pooled_difference(runs: Pairs, same: Callable[[Cell], object]) -> tuple[Difference, Difference]:
    """Returns by how much the first runs are better: as a mean over cells, and over all images.

    Args:
        runs: Of each cell two runs.
        same: Cells for which this is equal are resampled together, an image in all of them.
    """
    rng = np.random.default_rng(0)
    groups: dict[object, Pairs] = {}
    for run in runs:
        groups.setdefault(same(run[0]), []).append(run)
    points, draws = zip(*(_sums(group, rng) for group in groups.values()), strict=True)
    found = [np.concatenate(parts, axis=-1) for parts in zip(*points, strict=True)]
    drawn = [np.concatenate(parts, axis=-1) for parts in zip(*draws, strict=True)]

    def interval(statistic: Callable[[Draws, Draws], Draws]) -> Difference:
        low, high = np.quantile(statistic(*drawn), [0.025, 0.975])
        return Difference(float(statistic(*found)), float(low), float(high))

    return (
        interval(lambda gains, images: (gains / images).mean(-1)),
        interval(lambda gains, images: gains.sum(-1) / images.sum(-1)),
    )


def _sums(
    group: Pairs, rng: np.random.Generator
) -> tuple[tuple[Draws, Draws], tuple[Draws, Draws]]:
    """Returns the gains and images of each cell: as they are, (cells,), and (resamples, cells)."""
    ids = sorted({image for _, record, _ in group for image in image_ids(record)})
    row_of = {image: row for row, image in enumerate(ids)}
    gains, held = np.zeros((len(ids), len(group))), np.zeros((len(ids), len(group)))
    for column, (_, first, second) in enumerate(group):
        check_paired(first, second)
        rows = [row_of[image] for image in image_ids(first)]
        gain = right(first).astype(int) - right(second).astype(int)
        np.add.at(gains[:, column], rows, gain)
        np.add.at(held[:, column], rows, 1)
    even = np.full(len(ids), 1 / len(ids))
    drawn_gains, drawn_images = [], []
    for _ in range(RESAMPLES // _BATCH):
        counts = rng.multinomial(len(ids), even, size=_BATCH).astype(np.float64)
        drawn_gains.append(counts @ gains)
        drawn_images.append(counts @ held)
    drawn = np.concatenate(drawn_gains), np.concatenate(drawn_images)
    return (gains.sum(0), held.sum(0)), drawn


def _tests(pairs: dict[str, Pairs]) -> str:
    from headstart.evaluation.statistics import holm, mcnemar_exact

    found: list[tuple[str, Cell, int, int, float]] = []
    for other, runs in pairs.items():
        for cell, searched, compared in runs:
            check_paired(searched, compared)
            a, b = right(searched), right(compared)
            only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
            found.append((other, cell, *only, mcnemar_exact(a, b)))
    header = (
        "data", "budget", "split seed", "searched against", "only searched right",
        "only the other right", "difference", "p", "p, Holm",
    )  # fmt: skip
    adjusted: Sequence[float] = holm([p for *_, p in found]) if found else []
    rows = [
        (
            cell.data,
            cell.budget,
            str(cell.split_seed),
            other,
            str(ours),
            str(theirs),
            f"{100 * (ours - theirs) / _images(pairs[other], cell):+.2f}",
            shown_p(p),
            shown_p(corrected),
        )
        for (other, cell, ours, theirs, p), corrected in zip(found, adjusted, strict=True)
    ]
    return markdown_table(header, rows)


def _images(runs: Pairs, cell: Cell) -> int:
    return next(len(record["right"]) for each, record, _ in runs if each == cell)
