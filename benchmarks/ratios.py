"""Ratios between an earlier version and this one: measured in turn, kept as JSON, shown as tables.

Seconds differ from machine to machine, and on one machine from hour to hour. So both versions run
in turn on the same machine, and what counts is the ratio of the two runs of a round.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from measure import commit, machine, markdown_table, versions, write_whole
from records import BENCH, DOCS, HERE, PACKAGES

BEFORE = "6dddef2"
"""The commit that this version is compared with."""

RESULTS = HERE / "results"

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: What was done.
        before: Median of the earlier version.
        now: Median of this version.
        ratio: Median of the ratios of the rounds; above 1 where this version is better.
        low: Smallest of these ratios.
        high: Largest of these ratios.
        goal: The ratio that was aimed at; 0 without one.
    """

    what: str
    before: float
    now: float
    ratio: float
    low: float
    high: float
    goal: float = 0.0


@dataclass(frozen=True)
class Subject:
    """What one benchmark measured.

    Attributes:
        name: Of its file.
        title: Of its table.
        unit: Of `before` and `now`.
        rows: The comparisons.
        rounds: How often both versions ran, without the first round, which fills caches.
        facts: Machine, versions, commit and date, and as `before` what was compared with.
    """

    name: str
    title: str
    unit: str
    rows: tuple[Row, ...]
    rounds: int
    facts: dict[str, Any]


def source_before() -> Path:
    """Returns the folder `src` of the earlier version, taken from the history of this repository.

    Raises:
        SystemExit: If the history does not reach back to it.
    """
    folder = BENCH / f"before-{BEFORE}"
    if not (folder / "src" / "headstart").exists():
        folder.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["git", "-C", str(HERE.parent), "archive", BEFORE, "src"],
            capture_output=True, check=False,
        )  # fmt: skip
        if packed.returncode:
            sys.exit(
                f"This checkout has no commit {BEFORE} to compare with. Fetch its history with "
                "`git fetch --unshallow`."
            )
        subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder / "src"


def in_turn(
    runs: Mapping[str, tuple[Callable[[], T], Callable[[], T]]], rounds: int
) -> dict[str, list[tuple[T, T]]]:
    """Runs both versions of each work in turn, and returns what they returned, by round.

    Args:
        runs: By what is done, the run of the earlier version and that of this one.
        rounds: How often each runs after a first round, which fills caches and does not count.
    """
    found: dict[str, list[tuple[T, T]]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, (before, now) in runs.items():
            # The order changes from round to round: who comes second may find a warmer machine.
            if number % 2:
                one, other = before(), now()
            else:
                other, one = now(), before()
            if number:
                found[name].append((one, other))
    return found


def row(
    what: str,
    each: Sequence[tuple[float, float]],
    goal: float = 0.0,
    *,
    more_is_better: bool = False,
) -> Row:
    """Compares what both versions took in each round, or their rates if more is better.

    Example:
        >>> row("work", [(4.0, 2.0), (3.0, 2.0), (2.0, 2.0)]).ratio
        1.5
        >>> row("work", [(4.0, 2.0)], more_is_better=True).ratio
        0.5
    """
    ratios = sorted((now / before) if more_is_better else (before / now) for before, now in each)
    befores, nows = zip(*each, strict=True)
    return Row(what, median(befores), median(nows), median(ratios), ratios[0], ratios[-1], goal)


def keep(subject: Subject, folder: Path = RESULTS) -> Path:
    """Writes what was measured, and returns its file."""
    path = folder / f"{subject.name}.json"
    write_whole(path, json.dumps(asdict(subject), indent=1) + "\n")
    return path


def kept(folder: Path = RESULTS) -> list[Subject]:
    """Returns what was measured and kept, by name."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def read(path: Path) -> Subject:
    """Reads a file of `keep`."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return Subject(**{**found, "rows": tuple(Row(**row) for row in found["rows"])})


def facts() -> dict[str, Any]:
    """Returns where and with what was measured."""
    return {
        "machine": machine(),
        "versions": versions(sys.executable, PACKAGES),
        "commit": commit(),
        "before": BEFORE,
        "date": datetime.now(UTC).date().isoformat(),
    }


def table(subject: Subject) -> str:
    """Returns the comparisons of a subject as a Markdown table."""
    before = subject.facts["before"]
    header = ["", f"{before}, {subject.unit}", f"now, {subject.unit}", "ratio (range)", "goal"]
    rows = [
        [
            row.what,
            _short(row.before),
            _short(row.now),
            f"**{row.ratio:.2f}** ({row.low:.2f} to {row.high:.2f})",
            f"{row.goal:g}" if row.goal else "",
        ]
        for row in subject.rows
    ]
    return markdown_table(header, rows)


def page(subjects: list[Subject]) -> str:
    """Returns the part of `docs/speed.md` that shows the results."""
    parts = []
    for each in subjects:
        told = ", ".join(
            f"{name} {value}" for name, value in sorted(each.facts["versions"].items())
        )
        parts.append(
            f"### {each.title}\n\n![{each.title}, as ratios](pictures/speed_{each.name}.svg)\n\n"
            f"{table(each)}\n\n"
            f"{each.facts['machine']}; {told}; commit {each.facts['commit']} against "
            f"{each.facts['before']}; median of {each.rounds} round(s) in turn, "
            f"{each.facts['date']}.\n"
        )
    return "\n".join(parts)


def draw(subject: Subject, folder: Path = DOCS / "pictures") -> Path:
    """Draws the ratios of a subject as bars, and returns the file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Text as text, and no date or random names: the same results give the same bytes.
    settings = {"svg.hashsalt": subject.name, "svg.fonttype": "none", "font.family": "sans-serif"}
    with rc_context(settings):
        figure = Figure(figsize=(7, 0.7 + 0.4 * len(subject.rows)), layout="constrained")
        axes = figure.subplots()
        places = range(len(subject.rows))[::-1]
        for place, row in zip(places, subject.rows, strict=True):
            axes.barh(place, row.ratio, color="#0072b2", height=0.55)
            axes.plot((row.low, row.high), (place, place), color="#222222", linewidth=1)
            axes.annotate(
                f"{row.ratio:.2f}", (row.high, place), (4, 0),
                textcoords="offset points", va="center",
            )  # fmt: skip
            if row.goal:
                axes.plot((row.goal, row.goal), (place - 0.35, place + 0.35), color="#d55e00")
        axes.axvline(1, color="#222222", linewidth=0.8)
        axes.set_yticks(list(places), [name_of(row).replace("`", "") for row in subject.rows])
        axes.set_xlim(0, 1.18 * max(max(row.high, row.goal) for row in subject.rows))
        axes.set_xlabel(f"times as good as {subject.facts['before']} (orange: goal)")
        axes.spines[["top", "right"]].set_visible(False)
        path = folder / f"speed_{subject.name}.svg"
        figure.savefig(path, metadata={"Date": None})
    return path


def name_of(row: Row) -> str:
    """Returns what a row is about, without what was found, such as accuracies, in parentheses."""
    return row.what.partition(" (")[0]


def worse(recorded: Subject, found: Subject, tolerance: float) -> list[str]:
    """Returns sentences on the ratios that are lower than the recorded ones.

    Args:
        recorded: Kept results.
        found: New results of the same benchmark.
        tolerance: Share of a recorded ratio that may be lost to noise.
    """
    new = {name_of(row): row for row in found.rows}
    sentences = []
    for row in recorded.rows:
        name = name_of(row)
        if name not in new:
            sentences.append(f"{found.name}: {name} was not measured.")
        elif new[name].ratio < (1 - tolerance) * row.ratio:
            sentences.append(
                f"{found.name}: {name}: {new[name].ratio:.2f} times as good as "
                f"{recorded.facts['before']}, where {row.ratio:.2f} is recorded."
            )
    return sentences


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
