"""`report.html` of a run with any number of labels an image, from the run folder alone."""

import shlex
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from headstart.artifacts.evidence import read_evidence
from headstart.artifacts.files import write_text
from headstart.artifacts.journal import TRIALS
from headstart.artifacts.originals import originals
from headstart.artifacts.records import RunRecord
from headstart.artifacts.run import read_record
from headstart.artifacts.run_start import read_audit
from headstart.artifacts.set_results import (
    SetPrediction,
    read_set_metrics,
    read_set_predictions,
)
from headstart.data.audit import summary_rows
from headstart.diagnose.reasons import SUSPECTS, read_suspects_csv
from headstart.evaluation.intervals import basis
from headstart.evaluation.label_metrics import SetMetrics
from headstart.evaluation.statistics import Interval
from headstart.progress import SILENT, Progress, format_duration
from headstart.report.ablation import what_each_brought
from headstart.report.images import Album, suspects, suspects_command
from headstart.report.label_figures import precision_svg, reliability_svg
from headstart.report.templates import templates
from headstart.search.leaderboard import leaderboard_of
from headstart.text import counted, percent, percent_range

WORST_SHOWN = 24
PAIRS_SHOWN = 20
CURVES_SHOWN = 6
MATRIX_AS_TABLE = 24
"""Most labels for which the co-occurrence is a table of numbers."""


def worst_images(predictions: Sequence[SetPrediction]) -> list[SetPrediction]:
    """Returns the images with the highest log loss, at most `WORST_SHOWN`."""
    return sorted(predictions, key=lambda each: (-each.log_loss, each.path))[:WORST_SHOWN]


def write_label_report(folder: Path, data: Path | None = None, progress: Progress = SILENT) -> Path:
    """Renders `report.html` of a multi-label run from its folder and returns its path.

    Args:
        folder: Run folder.
        data: Folder that the names of the images start from; see `write_report`.
        progress: Display that says which pictures are left out.

    Raises:
        InputError: If there is no folder `data`.
        RunError: If the folder is not a finished run.
        DiskFullError: If there is no space left.
    """
    record, metrics, audit = read_record(folder), read_set_metrics(folder), read_audit(folder)
    predictions = read_set_predictions(folder)
    album = Album(folder, originals(folder, data))
    names = metrics.class_names
    worst = [(each, album.photograph(each.path)) for each in worst_images(predictions)]
    looked_at = read_suspects_csv(folder / SUSPECTS)
    shown = suspects(looked_at, album)
    if album.absent:
        progress.say(f"note: {counted(len(album.absent), 'image')} of the report have no picture.")
    weakest = sorted(
        metrics.labels, key=lambda each: (each.average_precision is None, each.average_precision)
    )
    curves = [each for each in weakest if each.average_precision is not None][:CURVES_SHOWN]
    told = np.array([each.probabilities for each in predictions])
    marks = np.array([[name in each.labels for name in names] for each in predictions])

    def probability(each: SetPrediction, name: str) -> str:
        return percent(each.probabilities[names.index(name)], 0)

    environment = templates(escape=True)
    environment.filters |= {
        "percent": percent, "percent_range": percent_range, "duration": format_duration,
    }  # fmt: skip
    environment.globals["counted"] = counted
    html = environment.get_template("label_page.html").render(
        record=record,
        metrics=metrics,
        headline=headline(metrics),
        standing=_standing(metrics),
        figures=figures(metrics),
        labels=weakest,
        reliability_svg=reliability_svg(told, marks),
        curves_svg=precision_svg(
            {
                each.name: (told[:, place], marks[:, place], each.threshold)
                for each in curves
                for place in [names.index(each.name)]
            }
        ),
        shown_curves=len(curves),
        pairs=pairs(metrics),
        matrix=len(names) <= MATRIX_AS_TABLE,
        worst=worst,
        suspects=shown,
        n_suspects=len(looked_at),
        judged=(folder / SUSPECTS).exists(),
        suspects_command=suspects_command(record, folder),
        report_command=f"headstart report {shlex.quote(str(folder))}",
        told=probability,
        evidence=read_evidence(folder),
        facts=_facts(record),
        brought=what_each_brought(folder),
        leaderboard=leaderboard_of(folder) if TRIALS.read(folder) else [],
        audit=audit,
        findings=summary_rows(audit),
        predict_command=f"headstart predict {shlex.quote(str(folder))} IMAGE",
        folder_literal=repr(str(folder)),
    )
    path = folder / "report.html"
    # File names need not be valid Unicode.
    write_text(path, html.encode("utf-8", "replace").decode())
    return path


def headline(metrics: SetMetrics) -> str:
    """Returns the title of the report."""
    return (
        f"Mean average precision of {percent(metrics.mean_average_precision)} on new images like "
        f"these (95% interval {percent_range(metrics.mean_average_precision_interval)}"
        f"{basis(metrics.groups, metrics.n)})"
    )


def _standing(metrics: SetMetrics) -> str:
    return (
        f"{percent(metrics.exact)} of {counted(metrics.n, 'test image')} get exactly their labels, "
        f"and the decisions for single labels have a micro-averaged F1 of "
        f"{percent(metrics.micro_f1)}. No choice was made on these images."
    )


def figures(metrics: SetMetrics) -> list[tuple[str, str, str, str]]:
    """Returns the test results as name, value, 95% interval and meaning."""

    def share(name: str, value: float, interval: Interval, meaning: str) -> tuple[str, ...]:
        return name, percent(value), percent_range(interval), meaning

    m = metrics
    rows = [
        share(
            "Mean average precision (mAP)",
            m.mean_average_precision,
            m.mean_average_precision_interval,
            "mean over the labels of their average precision: how far images with a label rank "
            "before the others, whatever the threshold",
        ),
        share("Micro F1", m.micro_f1, m.micro_f1_interval, "balance of precision and recall over "
              "all decisions: frequent labels count more"),
        share("Macro F1", m.macro_f1, m.macro_f1_interval, "mean F1 over the labels: every label "
              "counts equally"),
        share("Exactly right", m.exact, m.exact_interval, "share of test images that get all their "
              "labels and no other"),
        ("Log loss", f"{m.log_loss:.4f}", "", "mean penalty of a label for being sure and wrong; 0 "
         f"is best; {m.log_loss_uncalibrated:.4f} before calibration"),
        ("Calibration error", percent(m.ece), "", "mean over the labels of the gap between the "
         "stated probability and how often the label was there"),
    ]  # fmt: skip
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def pairs(metrics: SetMetrics) -> list[tuple[str, str, int, int]]:
    """Returns pairs of labels with the numbers of images that have both and that get both."""
    names, have, get = metrics.class_names, metrics.together, metrics.given_together
    found = [
        (names[i], names[j], have[i][j], get[i][j])
        for i, j in combinations(range(len(names)), 2)
        if have[i][j] or get[i][j]
    ]
    frequent = sorted(found, key=lambda each: (-max(each[2:]), each))[:PAIRS_SHOWN]
    off = sorted(found, key=lambda each: (-abs(each[2] - each[3]), each))[: PAIRS_SHOWN // 2]
    return list(dict.fromkeys([*frequent, *off]))[: PAIRS_SHOWN + PAIRS_SHOWN // 2]


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """Returns what was done as (term, text)."""
    images = (
        f"{record.n_train:,} for training, {record.n_val:,} for validation, "
        f"{record.n_test:,} sealed for the test; {counted(len(record.classes), 'label')}"
    )
    facts = [
        ("Images", images),
        ("Licence of the images", record.licence or ""),
        ("Backbone", f"{record.backbone}, weights: {record.backbone_source}"),
        ("Trained behind", record.boundary),
        ("Epochs", str(record.epochs) if record.epochs else ""),
        ("Kept", record.chosen),
        ("Why training ended", record.stop_reason),
        ("Test set opened", record.test_opened_at),
        *(record.continued.lines if record.continued else ()),
        ("Time", format_duration(record.seconds)),
    ]
    return [(term, text) for term, text in facts if text]
