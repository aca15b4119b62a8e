"""What the report shows of every run, whatever the labels of its images are."""

import hashlib
import shlex
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.artifacts.evidence import read_evidence
from headstart.artifacts.files import write_text
from headstart.artifacts.journal import TRIALS
from headstart.artifacts.records import EpochRecord, RunRecord
from headstart.artifacts.run_start import EPOCHS, read_audit
from headstart.data.audit import Finding
from headstart.diagnose.reasons import SUSPECTS, read_suspects_csv
from headstart.progress import Progress
from headstart.report.ablation import what_each_brought
from headstart.report.facts import optimism, what_was_done
from headstart.report.figures import accuracy_curve, loss_curves
from headstart.report.images import Album, suspects, suspects_command
from headstart.report.templates import templates
from headstart.search.leaderboard import leaderboard_of
from headstart.text import counted

FINDINGS_SHOWN = 50
"""Findings of one kind that the page lists; audit.json holds all of them."""

MATRIX_AS_TABLE = 24
"""Most classes for which a matrix is a table of numbers."""


def write_page(
    record: RunRecord,
    album: Album,
    data: Path | None,
    progress: Progress,
    template: str,
    values: dict[str, Any],
) -> Path:
    """Renders `report.html` in the folder of a run and returns its path.

    Args:
        record: Record of the run.
        album: Pictures of the run, of which the page has taken its own.
        data: Folder of the original images, if it was given.
        progress: Display that says which pictures are left out.
        template: Name of the template, which extends `layout.html`.
        values: What the template shows besides the parts that every report has.

    Raises:
        DiskFullError: If there is no space left.
    """
    shown = _parts(record, album, data) | values
    sections: dict[str, str] = shown["sections"]
    empty = {"brought": shown["brought"] is None, "training": shown["loss_svg"] is None}
    shown["sections"] = {
        place: title for place, title in sections.items() if not empty.get(place, not title)
    }
    if shown["absent"]:
        progress.say(f"note: {shown['absent']}")
    html = templates(escape=True).get_template(template).render(shown)
    path = album.folder / "report.html"
    # File names need not be valid Unicode.
    write_text(path, html.encode("utf-8", "replace").decode())
    return path


def _parts(record: RunRecord, album: Album, data: Path | None) -> dict[str, Any]:
    """Returns the values of `layout.html` and of what it includes."""
    folder = album.folder
    audit, epochs, trials = read_audit(folder), EPOCHS.read(folder), TRIALS.read(folder)
    looked_at = read_suspects_csv(folder / SUSPECTS)
    script = _script()
    return {
        "record": record,
        "facts": what_was_done(record, epochs),
        "epochs": epochs,
        **_curves(epochs, "mAP" if record.task == "multilabel" else "accuracy"),
        "leaderboard": leaderboard_of(folder) if trials else [],
        "optimism": optimism(trials),
        "brought": what_each_brought(folder),
        "evidence": read_evidence(folder),
        "views": album.views(),
        "suspects": suspects(looked_at, album),
        "n_suspects": len(looked_at),
        "judged": (folder / SUSPECTS).exists(),
        "suspects_command": suspects_command(record, folder),
        "absent": _absent(album, record, data),  # after all pictures
        "audit": audit,
        "findings": _by_kind(audit.findings),
        "findings_shown": FINDINGS_SHOWN,
        "report_command": f"headstart report {shlex.quote(str(folder))}",
        "predict_command": f"headstart predict {shlex.quote(str(folder))} IMAGE",
        "folder_literal": repr(str(folder)),
        "script": script,
        "script_hash": b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def _script() -> str:
    environment = templates(escape=True)
    assert environment.loader is not None
    return environment.loader.get_source(environment, "script.js")[0]


def _curves(epochs: Sequence[EpochRecord], measure: str) -> dict[str, str | None]:
    """Returns the pictures of the training; None for those without anything to show."""
    trained = any(epoch.epoch for epoch in epochs)
    validated = [epoch for epoch in epochs if epoch.val_accuracy is not None]
    return {
        "loss_svg": loss_curves(epochs) if trained else None,
        "accuracy_svg": accuracy_curve(validated, measure) if len(validated) > 1 else None,
    }


def _absent(album: Album, record: RunRecord, data: Path | None) -> str:
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
    command = f"headstart report {shlex.quote(str(album.folder))} --data FOLDER"
    return (
        f"{what} the run keeps no copy. To draw {'it' if number == 1 else 'them'} from the folder "
        f"of the images{root}, run `{command}`."
    )


def _by_kind(findings: Sequence[Finding]) -> list[tuple[str, str, list[Finding]]]:
    """Returns findings grouped as (kind in words, severity, findings), warnings first."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind.replace("_", " "), finding.severity), []).append(finding)
    ordered = sorted(groups.items(), key=lambda group: group[0][1] != "warning")
    return [(*kind, found) for kind, found in ordered]
