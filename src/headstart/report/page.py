"""`report.html`: one self-contained page, made from the run folder alone."""

import hashlib
import shlex
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.artifacts.evidence import read_evidence
from headstart.artifacts.files import write_text
from headstart.artifacts.journal import TRIALS, Trial
from headstart.artifacts.originals import originals
from headstart.artifacts.records import EpochRecord, RunRecord
from headstart.artifacts.run import read_metrics, read_predictions, read_record
from headstart.artifacts.run_start import EPOCHS, read_audit
from headstart.backbones.places import FEATURES, INPUT
from headstart.certificate.record import CERTIFICATE, read_certificate
from headstart.data.audit import Finding
from headstart.diagnose.suspects import SUSPECTS, read_suspects_csv
from headstart.evaluation.intervals import basis
from headstart.evaluation.metrics import ClassMetrics, Metrics, flags_of
from headstart.evaluation.statistics import Interval, optimism_of_best
from headstart.progress import SILENT, Progress, format_duration
from headstart.report.ablation import what_each_brought
from headstart.report.certificate import QUESTIONS, certificate_svg
from headstart.report.figures import (
    accuracy_curve,
    confusion_image,
    loss_curves,
    map_svg,
    reliability_diagram,
)
from headstart.report.images import Album, mistakes, pairs, suspects
from headstart.report.templates import templates
from headstart.search.leaderboard import leaderboard_of
from headstart.text import counted, percent, percent_range, sentence

FINDINGS_SHOWN = 50
"""Findings of one kind that the page lists; audit.json holds all of them."""
MATRIX_AS_TABLE = 24
"""Most classes for which the confusion matrix is a table of numbers; with more, it is a picture."""
CERTIFICATE_FOLDER = "certificate"
"""Folder inside a run in which its certificate is looked for."""


@dataclass(frozen=True)
class Figure:
    """A row of the table of test results: name, value, interval and meaning."""

    name: str
    value: str
    interval: str
    meaning: str


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
    record, metrics, audit = read_record(folder), read_metrics(folder), read_audit(folder)
    epochs, predictions = EPOCHS.read(folder), read_predictions(folder)
    trials = TRIALS.read(folder)
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
    environment = templates(escape=True)
    environment.filters["percent"] = percent
    environment.filters["sentence"] = sentence
    environment.filters["percent_range"] = percent_range
    environment.globals["counted"] = counted
    environment.filters["duration"] = format_duration
    assert environment.loader is not None
    script, _, _ = environment.loader.get_source(environment, "script.js")
    html = environment.get_template("template.html").render(
        record=record,
        metrics=metrics,
        epochs=epochs,
        headline=headline(metrics),
        openings=record.openings,
        standing=_standing(metrics),
        facts=_facts(record, epochs),
        figures=_figures(metrics),
        loss_svg=loss_curves(epochs) if trained else None,
        accuracy_svg=accuracy_curve(validated) if len(validated) > 1 else None,
        reliability_svg=reliability_diagram(predictions) if predictions else None,
        matrix_picture=None if small else confusion_image(metrics.confusion),
        classes=_by_recall(metrics.classes),
        class_digits=_digits(max(c.n for c in metrics.classes)),
        leaderboard=leaderboard_of(folder) if trials else [],
        optimism=_optimism(trials),
        brought=what_each_brought(folder),
        script=script,
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **pictures,
        absent=absent,
        evidence=evidence,
        map_svg=map_svg(evidence.map) if evidence.map else None,
        tiles=album.tiles() if evidence.map else None,
        views=album.views(),
        n_suspects=len(looked_at),
        judged=(folder / SUSPECTS).exists(),
        suspects_command=_suspects_command(record, folder),
        certificate=_certificate(folder / CERTIFICATE_FOLDER),
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


def headline(metrics: Metrics) -> str:
    """Returns the title of the report: how often the classifier is right on new images."""
    digits = _digits(metrics.n)
    return (
        f"Correct on {percent(metrics.accuracy, digits)} of new images like these "
        f"(95% interval {percent_range(metrics.accuracy_interval, digits)}"
        f"{basis(metrics.groups, metrics.n)})"
    )


def _digits(n: int) -> int:
    """Returns how many decimals of a percentage n images can distinguish."""
    return 0 if n < 100 else 1


def _standing(metrics: Metrics) -> str:
    """Returns a sentence that compares the accuracy with that of the most frequent class."""
    largest = max(metrics.classes, key=lambda c: c.n)
    share = percent(largest.n / metrics.n, _digits(metrics.n))
    return (
        f"{metrics.correct} of {counted(metrics.n, 'test image')} were classified correctly. No "
        f"choice was made on these images. Always answering “{largest.name}” would be right on "
        f"{share} of them."
    )


def _facts(record: RunRecord, epochs: Sequence[EpochRecord]) -> list[tuple[str, str]]:
    """Returns what was done as (term, text); terms that do not apply are left out."""
    images = (
        f"{record.n_train:,} for training, {record.n_val:,} for validation, "
        f"{record.n_test:,} sealed for the test; {counted(len(record.classes), 'class', 'classes')}"
    )
    trained = {
        "": "",
        FEATURES: "the head only; the backbone is frozen",
        INPUT: "the whole network",
    }.get(
        FEATURES if record.head_alone else record.boundary,
        f"everything after {record.boundary}; the layers before it are frozen",
    )
    validation = [
        f"{'at the start' if e.epoch == 0 else f'after epoch {e.epoch}'} {percent(e.val_accuracy)}"
        for e in dict.fromkeys([*epochs[:1], *epochs[-1:]])
        if e.val_accuracy is not None
    ]
    took = format_duration(record.seconds)
    if record.budget_s is not None:
        took += f" of a budget of {format_duration(record.budget_s)}"
    facts = [
        ("Images", images),
        ("Licence of the images", record.licence or ""),
        ("Backbone", f"{record.backbone}, weights: {record.backbone_source}"),
        ("Trained part", trained),
        ("Augmented views of each image", str(record.views) if record.views else ""),
        ("Epochs", str(record.epochs) if record.epochs else ""),
        ("Kept", record.chosen),
        ("Temperature", "" if record.calibration is None else record.calibration.described),
        ("Why training ended", record.stop_reason),
        ("Validation accuracy", ", ".join(validation)),
        ("Accuracy on training images", _view_gap(record)),
        ("Test set opened", _opened(record)),
        *(record.continued.lines if record.continued else ()),
        ("Time", took),
    ]
    return [(term, text) for term, text in facts if text]


def _opened(record: RunRecord) -> str:
    """Returns when the sealed test set was opened, including by an earlier, stopped session."""
    if not record.test_opened_at:
        return ""
    if not record.test_opened_before:
        return f"once, at {record.test_opened_at}"
    before = ", ".join(record.test_opened_before)
    return (
        f"at {record.test_opened_at}, and before that at {before}, when the run was stopped during "
        "the test. No choice was based on the first opening: the resumed run followed the same plan"
    )


def _view_gap(record: RunRecord) -> str:
    """Returns the accuracy on views used in training and on new views of the same images."""
    cached, fresh = record.cached_view_accuracy, record.fresh_view_accuracy
    if cached is None or fresh is None:
        return ""
    return f"{percent(cached)} in a view that was used in training, {percent(fresh)} in a new view"


def _optimism(trials: Sequence[Trial]) -> str:
    """Returns by how much the choice among the trials overstates accuracy, as a sentence.

    Only trials of the first rung are compared: all recipes were tried in it, on the same images
    and with schedules of the same length. Empty where there are fewer than two.
    """
    first = [trial for trial in trials if trial.rung == 0 and trial.val_bits]
    if len(first) < 2:
        return ""
    gap = 100 * optimism_of_best(np.array([flags_of(trial.val_bits) for trial in first]))
    return (
        f"Choosing the most accurate of {len(first)} trials of "
        f"{counted(first[0].epochs, 'epoch')} overstates accuracy by about {gap:.1f} percentage "
        "points (bootstrap bias-corrected estimate, Tsamardinos et al. 2018)."
    )


def _figures(metrics: Metrics) -> list[Figure]:
    digits = _digits(metrics.n)

    def share(name: str, value: float, interval: Interval, meaning: str) -> Figure:
        return Figure(name, percent(value, digits), percent_range(interval, digits), meaning)

    return [
        share(
            "Accuracy",
            metrics.accuracy,
            metrics.accuracy_interval,
            "share of test images that are classified correctly",
        ),
        share(
            "Balanced accuracy",
            metrics.balanced_accuracy,
            metrics.balanced_accuracy_interval,
            "mean recall over the classes: every class counts equally",
        ),
        share(
            "Macro F1",
            metrics.macro_f1,
            metrics.macro_f1_interval,
            "mean F1 over the classes: the balance of precision and recall",
        ),
        Figure(
            "Log loss",
            f"{metrics.log_loss:.3f}",
            "",
            "penalty for being sure and wrong; 0 is best" + _before(metrics),
        ),
        Figure(
            "Calibration error",
            percent(metrics.ece),
            "",
            "mean gap between the stated probability and how often it was right; "
            f"{percent(metrics.ece_uncalibrated)} before the logits are divided by the "
            f"temperature {metrics.temperature:.2f}",
        ),
        *_retrieval_figures(metrics),
    ]


def _before(metrics: Metrics) -> str:
    """Returns the log loss without the temperature; empty if a run has none or did not keep it."""
    if metrics.temperature == 1 or metrics.log_loss_uncalibrated is None:
        return ""
    return f"; {metrics.log_loss_uncalibrated:.3f} without the temperature"


def _retrieval_figures(metrics: Metrics) -> list[Figure]:
    if metrics.retrieval is None:
        return []
    recalls = [
        Figure(
            f"Recall@{k}",
            percent(share),
            "",
            "share of test images that have an image of the same class "
            + (
                "as the nearest training image"
                if k == 1
                else f"among the {k} nearest training images"
            ),
        )
        for k, share in metrics.retrieval.recall_at.items()
    ]
    precision = Figure(
        "MAP@R",
        percent(metrics.retrieval.map_at_r),
        "",
        "how consistently training images of the same class rank above all others",
    )
    return [*recalls, precision]


def _by_recall(classes: Sequence[ClassMetrics]) -> list[ClassMetrics]:
    """Returns the classes, the weakest first and those without test images last."""
    return sorted(classes, key=lambda c: (c.recall is None, c.recall or 0, -c.n, c.name))


def _certificate(folder: Path) -> dict[str, Any] | None:
    """Returns a certificate and its picture, or None if the run has no certificate."""
    if not (folder / CERTIFICATE).exists():
        return None
    certificate = read_certificate(folder)
    verdicts = [(QUESTIONS[each.question], each) for each in certificate.verdicts]
    return {"verdicts": verdicts, "svg": certificate_svg(certificate), "made": certificate}


def _benefit_command(record: RunRecord, folder: Path) -> str:
    """Returns the command that makes the certificate without the test images; may be empty."""
    if not record.source:
        return ""
    options = ["--split", str(folder / "split.csv"), *record.reading.flags]
    if any(each.operation == "flip" and not each.safe for each in record.operations):
        options += ["--set", "augmentation.flip=false"]
    out = ["--out", str(folder / CERTIFICATE_FOLDER)]
    return shlex.join(["headstart", "benefit", record.source, *options, *out])


def _suspects_command(record: RunRecord, folder: Path) -> str:
    """Returns the command that writes the table of suspects; empty without a source path."""
    if record.source == "":
        return ""
    return shlex.join(["headstart", "suspects", str(folder), "--out", str(folder / SUSPECTS)])


def _by_kind(findings: Sequence[Finding]) -> list[tuple[str, str, list[Finding]]]:
    """Returns findings grouped as (kind in words, severity, findings), warnings first."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind.replace("_", " "), finding.severity), []).append(finding)
    ordered = sorted(groups.items(), key=lambda group: group[0][1] != "warning")
    return [(*kind, found) for kind, found in ordered]
