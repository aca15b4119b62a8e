"""The report section on the effect of each method: from the ledger, or else from the trials."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.ablation.record import Ledger, LedgerRow, read_ledger
from headstart.ablation.steps import rows_of_trials
from headstart.artifacts.journal import TRIALS
from headstart.artifacts.run import SEARCH_RECIPE
from headstart.evaluation.intervals import wilson
from headstart.recipes.parsing import load_recipe
from headstart.report.figures import gain_chart, waterfall
from headstart.search.leaderboard import TOO_FEW, importance
from headstart.text import counted, percent, percent_range

_PARTS = {
    "ladder": "From the naive recipe, adding one method at a time",
    "left_out": "The chosen recipe without one method at a time",
    "trial": "Single methods in the trials of the search",
}


@dataclass(frozen=True)
class BroughtRow:
    """A row of the table as text."""

    name: str
    change: str
    accuracy: str
    gain: str
    interval: str
    p: str
    loss: str
    acted: str
    precision: str = "–"
    precision_gain: str = "–"
    precision_interval: str = "–"


@dataclass(frozen=True)
class Brought:
    """The content of the section.

    Attributes:
        measured: Whether there is a ledger; otherwise the rows come from the trials of the search.
        lead: Introduction to the rows.
        test: The statistical test behind p.
        tables: Title and rows of each part.
        waterfall_svg: Chart of the ladder, or None.
        gains_svg: Chart of the gains of methods that were left out or tried, or None.
        missing: Methods that were not measured.
        importance: Choices of the search and their shares, as text.
        too_few: Why there is no importance; may be empty.
        command: The command that measures the rest.
        several: Whether an image may have any number of labels.
        precise: Whether the rows have a mean average precision, which the charts then show.
    """

    measured: bool
    lead: str
    test: str
    tables: tuple[tuple[str, tuple[BroughtRow, ...]], ...]
    waterfall_svg: str | None
    gains_svg: str | None
    missing: tuple[str, ...]
    importance: tuple[tuple[str, str], ...]
    too_few: str
    command: str
    several: bool = False
    precise: bool = False


def what_each_brought(folder: Path) -> Brought | None:
    """Returns the section for a run folder, or None if it has neither a search nor a ledger.

    Args:
        folder: Run folder.
    """
    ledger, trials = read_ledger(folder), TRIALS.read(folder)
    if ledger is None and not trials:
        return None
    rows: Sequence[LedgerRow]
    if ledger is not None:
        rows, lead = ledger.rows, _lead(ledger)
        if trials:
            lead += (
                " The search also chose among its trials by these images, so the gains of the "
                "methods that it chose are optimistic."
            )
    else:
        base = load_recipe(str(folder / SEARCH_RECIPE)).model_dump(mode="json")
        rows, lead = rows_of_trials(trials, base), ""
    several = load_recipe(str(folder / "recipe.toml")).criterion.for_sets
    precise = any(row.mean_average_precision is not None for row in rows)
    drawn = [by_precision(row) for row in rows] if precise else rows
    climb = [row for row in drawn if row.part == "ladder" and row.accuracy is not None]
    others = [row for row in drawn if row.part != "ladder" and row.gain is not None]
    share = "share with exactly their labels" if several else "accuracy"
    figure = f"held-out {'mean average precision' if precise else share}, %"
    tables = {part: [shown(row) for row in rows if row.part == part] for part in _PARTS}
    shares = importance(trials)
    return Brought(
        measured=ledger is not None,
        lead=lead,
        test="sign test on the mean of each image over seeds"
        if any(row.seeds > 1 for row in rows)
        else "McNemar’s exact test",
        tables=tuple((_PARTS[part], tuple(each)) for part, each in tables.items() if each),
        waterfall_svg=waterfall(climb, ledger.whole, figure) if ledger and len(climb) > 1 else None,
        gains_svg=gain_chart(others) if others else None,
        missing=ledger.left_out if ledger is not None else (),
        importance=tuple((name, percent(share, 0)) for name, share in shares),
        too_few=TOO_FEW if trials and not shares else "",
        command=f"headstart compare --run {shlex.quote(str(folder))}",
        several=several,
        precise=precise,
    )


def by_precision(row: LedgerRow) -> LedgerRow:
    """Returns a row whose accuracy, gain and interval are those of the mean average precision."""
    return row.model_copy(
        update={
            "accuracy": row.mean_average_precision,
            "gain": row.precision_gain,
            "interval": row.precision_interval,
        }
    )


def shown(row: LedgerRow) -> BroughtRow:
    """Returns a row as text; gains are in percentage points."""
    if row.accuracy is None:
        return BroughtRow(row.name, row.change, f"failed: {row.failed}", "–", "–", "–", "–", "–")
    # Older ledgers have no interval.
    ends = row.accuracy_interval or wilson(row.accuracy, max(1, row.images))
    seeds = f", mean of {row.seeds} seeds" if row.seeds > 1 else ""
    gain, ends_of_gain = row.precision_gain, row.precision_interval
    return BroughtRow(
        name=row.name,
        change=row.change,
        accuracy=f"{percent(row.accuracy)} ({percent_range(ends)}){seeds}",
        gain="–" if row.gain is None else points(row.gain),
        interval="–" if row.interval is None else " to ".join(map(points, row.interval)),
        p="–" if row.p_holm is None else _p(row.p_holm),
        loss="–" if row.loss is None else f"{row.loss:.3f}",
        acted="; ".join(
            each.evidence if each.state == "acted" else f"{each.state}: {each.evidence}"
            for each in row.acted
        )
        or "–",
        precision=percent(row.mean_average_precision),
        precision_gain="–" if gain is None else points(gain),
        precision_interval="–" if ends_of_gain is None else " to ".join(map(points, ends_of_gain)),
    )


def points(share: float) -> str:
    """Returns a difference of two shares in percentage points, with its sign.

    Example:
        >>> points(0.0123), points(0.0)
        ('+1.2', '0.0')
    """
    value = round(100 * share, 1)
    return f"{value:+.1f}".replace("-", "−") if value else "0.0"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _lead(ledger: Ledger) -> str:
    images = max((row.images for row in ledger.rows), default=0)
    how = (
        f"by {ledger.folds}-fold cross-validation" if ledger.folds > 1 else "held out from training"
    )
    least = min((row.seeds for row in ledger.rows if row.accuracy is not None), default=0)
    each = f"each of {ledger.seeds}" if least == ledger.seeds else f"up to {ledger.seeds}"
    seeds = f" from {each} seeds" if ledger.seeds > 1 else ""
    return (
        f"Every row is trained for {counted(ledger.epochs, 'epoch')}{seeds} and evaluated on the "
        f"same {counted(images, 'image')}, {how}. The test images stay sealed."
    )
