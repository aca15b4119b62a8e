"""A run as a notebook shows it."""

import html
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from headstart.artifacts.records import RunRecord
from headstart.evaluation.intervals import basis
from headstart.evaluation.label_metrics import SetMetrics
from headstart.evaluation.metrics import Metrics
from headstart.names import printable
from headstart.text import counted, percent, percent_range


def headline(metrics: Metrics | SetMetrics) -> str:
    """Returns the result of a sealed test in one line.

    Args:
        metrics: Metrics on the sealed test.
    """
    if isinstance(metrics, SetMetrics):
        return (
            f"mean average precision {percent(metrics.mean_average_precision)} on "
            f"{counted(metrics.n, 'image')} (95% interval "
            f"{percent_range(metrics.mean_average_precision_interval)}"
            f"{basis(metrics.groups, metrics.n)})"
        )
    return (
        f"{percent(metrics.accuracy)} of {counted(metrics.n, 'image')} correct "
        f"(95% interval {percent_range(metrics.accuracy_interval)}"
        f"{basis(metrics.groups, metrics.n)})"
    )


def as_html(folder: Path, record: RunRecord, metrics: Metrics | SetMetrics) -> str:
    """Returns a run as a small piece of HTML: the result, the figures, and a link to the report.

    Args:
        folder: Run folder.
        record: Record of the run.
        metrics: Metrics on the sealed test.
    """
    several = isinstance(metrics, SetMetrics)
    figures = [
        ("micro-F1", percent(metrics.micro_f1))
        if isinstance(metrics, SetMetrics)
        else ("balanced accuracy", percent(metrics.balanced_accuracy)),
        ("macro-F1", percent(metrics.macro_f1)),
        ("log loss", f"{metrics.log_loss:.3f}"),
        ("calibration error", percent(metrics.ece)),
        ("labels" if several else "classes", str(len(record.classes))),
        ("backbone", record.backbone),
    ]
    name, result = _escaped(record.data_name), _escaped(headline(metrics))
    return f"<div><b>{name}</b>: {result}{_table(figures)}{_link(folder)}</div>"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><th style="text-align:left">{_escaped(name)}</th><td>{_escaped(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table>{cells}</table>"


def _link(folder: Path) -> str:
    """Returns a link to the report, relative where it can be: pages may not open files."""
    page = folder / "report.html"
    if not page.is_file():
        return f"<p>There is no report in {_escaped(str(folder))}.</p>"
    here = Path.cwd()
    near = page.resolve().is_relative_to(here)
    address = quote(str(page.resolve().relative_to(here))) if near else page.resolve().as_uri()
    return f'<p><a href="{html.escape(address)}" target="_blank">{_escaped(str(page))}</a></p>'


def _escaped(text: str) -> str:
    return html.escape(printable(text))
