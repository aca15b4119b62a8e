"""`report.html`: one self-contained page, made from the run folder alone."""

import shlex
from pathlib import Path
from typing import Any

from headstart.artifacts.evidence import read_evidence
from headstart.artifacts.journal import TRIALS
from headstart.artifacts.originals import originals
from headstart.artifacts.records import RunRecord
from headstart.artifacts.run import read_metrics, read_predictions, read_record
from headstart.certificate.record import CERTIFICATE, Certificate, read_certificate
from headstart.diagnose.reasons import SUSPECTS, read_suspects_csv
from headstart.progress import SILENT, Progress
from headstart.report.advice import what_next
from headstart.report.certificate import QUESTIONS, certificate_svg
from headstart.report.facts import (
    by_recall,
    decimals,
    headline,
    interval,
    standing,
    test_results,
    tiles,
)
from headstart.report.figures import confusion_image, legend, map_svg, reliability_diagram
from headstart.report.heat_colours import scale
from headstart.report.images import Album, mistakes, pairs
from headstart.report.label_page import label_values
from headstart.report.shared import MATRIX_AS_TABLE, write_page
from headstart.text import percent

SECTIONS = {
    "figures": "Test results",
    "mistakes": "Mistakes",
    "confusion": "Confused classes",
    "classes": "Class by class",
    "map": "Map of the images",
    "suspects": "Images to check",
    "transfer": "Benefit of transfer",
    "brought": "Effect of each method",
    "training": "Training",
    "done": "What was done",
    "audit": "The data",
    "use": "How to use it",
    "environment": "Environment",
}
"""Titles of the sections in their order, by their anchors."""

CERTIFICATE_FOLDER = "certificate"
"""Folder inside a run in which its certificate is looked for."""


def write_report(folder: Path, data: Path | None = None, progress: Progress = SILENT) -> Path:
    """Renders `report.html` from the run folder and returns its path.

    The pictures are those that the run keeps. Further ones are made from the original images only
    if their folder is given: what a run folder says about this machine is never followed.

    Args:
        folder: Run folder.
        data: Folder that the names of the images start from.
        progress: Display that says which pictures are left out.

    Raises:
        InputError: If there is no folder `data`.
        RunError: If the folder is not a finished run.
        DiskFullError: If there is no space left.
    """
    record = read_record(folder)
    album = Album(folder, originals(folder, data))
    if record.task == "multilabel":
        template, values = "label_page.html", label_values(folder, album)
    else:
        template, values = "class_page.html", _class_values(folder, record, album)
    return write_page(record, album, data, progress, template, values)


def _class_values(folder: Path, record: RunRecord, album: Album) -> dict[str, Any]:
    """Returns what the report shows of a run with one label an image."""
    metrics, predictions = read_metrics(folder), read_predictions(folder)
    evidence, certificate = read_evidence(folder), None
    if (folder / CERTIFICATE_FOLDER / CERTIFICATE).exists():
        certificate = read_certificate(folder / CERTIFICATE_FOLDER)
    small = len(metrics.class_names) <= MATRIX_AS_TABLE
    looked_at = read_suspects_csv(folder / SUSPECTS)
    return {
        "metrics": metrics,
        "headline": headline(metrics),
        "interval": interval(metrics),
        "openings": record.openings,
        "standing": standing(metrics),
        "figures": test_results(metrics),
        "reliability_svg": reliability_diagram(predictions) if predictions else None,
        "mistakes": mistakes(predictions, evidence, album),
        "pairs": pairs(predictions, evidence, album),
        "matrix_picture": None if small else confusion_image(metrics.confusion),
        "classes": by_recall(metrics.classes),
        "class_digits": decimals(max(c.n for c in metrics.classes)),
        "sections": SECTIONS | {"map": SECTIONS["map"] if evidence.map else ""},
        "map_svg": map_svg(evidence.map) if evidence.map else None,
        "legend": legend(evidence.map) if evidence.map else [],
        "tiles": album.tiles() if evidence.map else None,
        "certificate": None if certificate is None else drawn(certificate),
        "advice": what_next(record, metrics, looked_at, TRIALS.read(folder), certificate),
        "top": tiles(record, metrics),
        "share": percent(metrics.accuracy, decimals(metrics.n)),
        "most_frequent": max(metrics.classes, key=lambda c: c.n),
        "coloured": album.coloured,
        "heat_scale": scale(),
        "benefit_command": _benefit_command(record, folder),
        "n_wrong": metrics.n - metrics.correct,
    }


def drawn(certificate: Certificate) -> dict[str, Any]:
    """Returns a certificate as the page shows it: its verdicts and its pictures."""
    verdicts = [(QUESTIONS[each.question], each) for each in certificate.verdicts]
    svg, wide_svg = certificate_svg(certificate), certificate_svg(certificate, wide=True)
    return {"verdicts": verdicts, "svg": svg, "wide_svg": wide_svg, "made": certificate}


def _benefit_command(record: RunRecord, folder: Path) -> str:
    """Returns the command that makes the certificate without the test images; may be empty."""
    if not record.source:
        return ""
    options = ["--split", str(folder / "split.csv"), *record.reading.flags]
    if any(each.operation == "flip" and not each.safe for each in record.operations):
        options += ["--set", "augmentation.flip=false"]
    out = ["--out", str(folder / CERTIFICATE_FOLDER)]
    return shlex.join(["headstart", "benefit", record.source, *options, *out])
