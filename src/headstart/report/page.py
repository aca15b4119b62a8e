"""`report.html`: one self-contained page, made from the run folder alone."""

import hashlib
import shlex
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.artifacts.evidence import read_evidence
from headstart.artifacts.files import write_text
from headstart.artifacts.journal import TRIALS
from headstart.artifacts.originals import originals
from headstart.artifacts.records import RunRecord
from headstart.artifacts.run import read_metrics, read_predictions, read_record
from headstart.artifacts.run_start import EPOCHS, read_audit
from headstart.certificate.record import CERTIFICATE, Certificate, read_certificate
from headstart.data.audit import Finding
from headstart.diagnose.reasons import SUSPECTS, read_suspects_csv
from headstart.progress import SILENT, Progress
from headstart.report.ablation import what_each_brought
from headstart.report.advice import what_next
from headstart.report.certificate import QUESTIONS, certificate_svg
from headstart.report.facts import (
    by_recall,
    decimals,
    headline,
    interval,
    optimism,
    standing,
    test_results,
    tiles,
    what_was_done,
)
from headstart.report.figures import (
    accuracy_curve,
    confusion_image,
    legend,
    loss_curves,
    map_svg,
    reliability_diagram,
)
from headstart.report.heat_colours import scale
from headstart.report.images import Album, mistakes, pairs, suspects, suspects_command
from headstart.report.label_page import write_label_report
from headstart.report.templates import templates
from headstart.search.leaderboard import leaderboard_of
from headstart.text import counted, percent

FINDINGS_SHOWN = 50
"""Findings of one kind that the page lists; audit.json holds all of them."""
MATRIX_AS_TABLE = 24
"""Most classes for which the confusion matrix is a table of numbers; with more, it is a picture."""
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
    if record.task == "multilabel":
        return write_label_report(folder, data, progress)
    metrics, audit = read_metrics(folder), read_audit(folder)
    epochs, predictions = EPOCHS.read(folder), read_predictions(folder)
    trials, certificate = TRIALS.read(folder), None
    if (folder / CERTIFICATE_FOLDER / CERTIFICATE).exists():
        certificate = read_certificate(folder / CERTIFICATE_FOLDER)
    evidence, album = read_evidence(folder), Album(folder, originals(folder, data))
    looked_at = read_suspects_csv(folder / SUSPECTS)
    pictures = {
        "mistakes": mistakes(predictions, evidence, album),
        "pairs": pairs(predictions, evidence, album),
        "suspects": suspects(looked_at, album),
    }
    absent = _absent(album, folder, record, data)
    if absent:
        progress.say(f"note: {absent}")
    trained = any(epoch.epoch for epoch in epochs)
    validated = [epoch for epoch in epochs if epoch.val_accuracy is not None]
    small = len(metrics.class_names) <= MATRIX_AS_TABLE
    brought = what_each_brought(folder)
    environment = templates(escape=True)
    assert environment.loader is not None
    script, _, _ = environment.loader.get_source(environment, "script.js")
    html = environment.get_template("template.html").render(
        record=record,
        metrics=metrics,
        epochs=epochs,
        headline=headline(metrics),
        interval=interval(metrics),
        openings=record.openings,
        standing=standing(metrics),
        facts=what_was_done(record, epochs),
        figures=test_results(metrics),
        loss_svg=loss_curves(epochs) if trained else None,
        accuracy_svg=accuracy_curve(validated) if len(validated) > 1 else None,
        reliability_svg=reliability_diagram(predictions) if predictions else None,
        matrix_picture=None if small else confusion_image(metrics.confusion),
        classes=by_recall(metrics.classes),
        class_digits=decimals(max(c.n for c in metrics.classes)),
        leaderboard=leaderboard_of(folder) if trials else [],
        optimism=optimism(trials),
        brought=brought,
        sections=_sections(evidence.map is not None, brought is not None, trained),
        script=script,
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **pictures,
        absent=absent,
        evidence=evidence,
        map_svg=map_svg(evidence.map) if evidence.map else None,
        legend=legend(evidence.map) if evidence.map else [],
        tiles=album.tiles() if evidence.map else None,
        views=album.views(),
        n_suspects=len(looked_at),
        judged=(folder / SUSPECTS).exists(),
        suspects_command=suspects_command(record, folder),
        certificate=None if certificate is None else drawn(certificate),
        advice=what_next(record, metrics, looked_at, trials, certificate),
        top=tiles(record, metrics),
        share=percent(metrics.accuracy, decimals(metrics.n)),
        most_frequent=max(metrics.classes, key=lambda c: c.n),
        coloured=album.coloured,
        heat_scale=scale(),
        benefit_command=_benefit_command(record, folder),
        report_command=f"headstart report {shlex.quote(str(folder))}",
        n_wrong=metrics.n - metrics.correct,
        audit=audit,
        findings=_by_kind(audit.findings),
        findings_shown=FINDINGS_SHOWN,
        predict_command=f"headstart predict {shlex.quote(str(folder))} IMAGE",
        folder_literal=repr(str(folder)),
    )
    path = folder / "report.html"
    # File names need not be valid Unicode.
    write_text(path, html.encode("utf-8", "replace").decode())
    return path


def _absent(album: Album, folder: Path, record: RunRecord, data: Path | None) -> str:
    """Returns how many images have no picture, and how to draw them; empty if all have one."""
    if not album.absent:
        return ""
    number = len(album.absent)
    what = f"{counted(number, 'image')} {'has' if number == 1 else 'have'} no picture:"
    each = "it is" if number == 1 else "they are"
    if data is not None:
        shown = ", ".join(sorted(album.absent)[:10]) + (", …" if number > 10 else "")
        return (
            f"{what} {each} missing, damaged or changed since the run began below {data}, and the "
            f"run keeps no copy ({shown})."
        )
    root = f" (the run names {record.data_root})" if record.data_root else ""
    command = f"headstart report {shlex.quote(str(folder))} --data FOLDER"
    return (
        f"{what} the run keeps no copy. To draw {'it' if number == 1 else 'them'} from the folder "
        f"of the images{root}, run `{command}`."
    )


def _sections(mapped: bool, brought: bool, trained: bool) -> dict[str, str]:
    """Returns the titles of the sections of the page in their order, by their anchors."""
    titles = {
        "figures": "Test results",
        "mistakes": "Mistakes",
        "confusion": "Confused classes",
        "classes": "Class by class",
        "map": "Map of the images" if mapped else "",
        "suspects": "Images to check",
        "transfer": "Benefit of transfer",
        "brought": "Effect of each method" if brought else "",
        "training": "Training" if trained else "",
        "done": "What was done",
        "audit": "The data",
        "use": "How to use it",
        "environment": "Environment",
    }
    return {place: title for place, title in titles.items() if title}


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


def _by_kind(findings: Sequence[Finding]) -> list[tuple[str, str, list[Finding]]]:
    """Returns findings grouped as (kind in words, severity, findings), warnings first."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind.replace("_", " "), finding.severity), []).append(finding)
    ordered = sorted(groups.items(), key=lambda group: group[0][1] != "warning")
    return [(*kind, found) for kind, found in ordered]
