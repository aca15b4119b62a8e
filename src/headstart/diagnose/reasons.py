"""What makes an image suspicious, all reasons for it together, and the file of such images."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.artifacts.files import check_writable, read_table, replacing
from headstart.artifacts.set_results import list_cell
from headstart.data.audit import Finding
from headstart.data.label_sets import set_name
from headstart.data.types import Dataset
from headstart.names import to_cell, write_rows

Kind = Literal["label", "copies", "outlier"]

SUSPECTS = "suspects.csv"
"""File in a run folder with its suspicious images."""
_COLUMNS = ("path", "label", "suggested", "kind", "score", "why")
_OF_SETS = ("missing", "wrong")
_SCORE_OF_COPIES = 0.9


@dataclass(frozen=True)
class Suspect:
    """A suspicious image.

    Attributes:
        path: Path relative to the folder of the data set.
        row: Row in the data set.
        label: Class label; for a set of labels, their names in one text.
        suggested: Class that it may belong to, or set of labels that it may have; empty if there is
            no suggestion.
        kind: The strongest reason: a probably wrong label (`label`), a copy with another label
            (`copies`), or a large distance from its class (`outlier`).
        score: How suspicious the image is, 0 to 1.
        why: All reasons, for display.
        missing: Labels that it may lack, where an image may have any number; else None.
        wrong: Labels that it may have wrongly; else None.
    """

    path: str
    row: int
    label: str
    suggested: str
    kind: Kind
    score: float
    why: str
    missing: tuple[str, ...] | None = None
    wrong: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Reason:
    """One reason why an image is suspicious.

    Attributes:
        row: Row in the data set.
        suggested: Class that it may belong to; empty if there is no suggestion.
        kind: Kind of the reason.
        score: How suspicious the image is for this reason alone, 0 to 1.
        why: The reason, for display.
        missing: Labels that it may lack, where an image may have any number.
        wrong: Labels that it may have wrongly.
    """

    row: int
    suggested: str
    kind: Kind
    score: float
    why: str
    missing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def suspects_by(dataset: Dataset, reasons: Iterable[Reason]) -> tuple[Suspect, ...]:
    """Returns the images for which there is a reason, the most suspicious first.

    Args:
        dataset: The data set.
        reasons: All reasons, several for an image or one.
    """
    by_row: dict[int, list[Reason]] = {}
    for reason in reasons:
        by_row.setdefault(reason.row, []).append(reason)
    found = [_suspect(dataset, together) for together in by_row.values()]
    return tuple(sorted(found, key=lambda suspect: (-suspect.score, suspect.row)))


def copy_reasons(dataset: Dataset, findings: Iterable[Finding]) -> list[Reason]:
    """Returns a reason for each image that has a copy with another label.

    Args:
        dataset: The data set.
        findings: Findings of its audit.
    """
    at: Mapping[str, int] = {dataset.key(row): row for row in range(len(dataset.items))}
    others: dict[int, dict[str, str]] = {}  # by image, one copy of each other label
    for finding in findings:
        if finding.kind not in {"conflicting_labels", "near_duplicate"}:
            continue
        for file in finding.files:
            label = dataset.items[at[file]].label
            for other in finding.files:
                if (name := dataset.items[at[other]].label) != label:
                    others.setdefault(at[file], {}).setdefault(name, other)
    reasons = []
    for row, copies in others.items():
        shown = " and ".join(f"{file} is labelled {name!r}" for name, file in copies.items())
        why = f"labelled {dataset.items[row].label!r}, but its copy {shown}"
        suggested = next(iter(copies)) if len(copies) == 1 else ""
        reason = Reason(row, suggested, "copies", _SCORE_OF_COPIES, why)
        if suggested and dataset.multilabel:
            mine, theirs = ({*dataset.items[each].names} for each in (row, at[copies[suggested]]))
            missing, wrong = tuple(sorted(theirs - mine)), tuple(sorted(mine - theirs))
            reason = replace(reason, missing=missing, wrong=wrong)
        reasons.append(reason)
    return reasons


def without_sealed(findings: Iterable[Finding], sealed: Container[str]) -> list[Finding]:
    """Returns the findings without sealed images; those that depend on them are left out."""
    known = []
    for finding in findings:
        files = tuple(file for file in finding.files if file not in sealed)
        if len(files) == len(finding.files):
            known.append(finding)
        elif len(files) > 1:
            known.append(finding.model_copy(update={"files": files}))
    return known


def write_suspects_csv(path: Path, suspects: Iterable[Suspect], multilabel: bool = False) -> None:
    """Writes suspicious images as CSV, one row each, in the given order.

    Args:
        path: The file.
        suspects: The images.
        multilabel: Whether an image may have any number of labels; what may be missing or wrong are
            then lists in JSON, in columns of their own.

    Raises:
        InputError: As `check_writable`.
        DiskFullError: If there is no space left.
    """
    check_writable(path)
    # surrogateescape: a file name need not be valid UTF-8.
    with (
        replacing(path) as draft,
        draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        cells = (
            [*map(to_cell, (s.path, s.label, s.suggested)), s.kind, f"{s.score:.4f}", s.why]
            + ([list_cell(s.missing or ()), list_cell(s.wrong or ())] if multilabel else [])
            for s in suspects
        )
        write_rows(file, [(*_COLUMNS, *(_OF_SETS if multilabel else ())), *cells])


def read_suspects_csv(path: Path) -> list[dict[str, str]]:
    """Reads a file of `write_suspects_csv`; returns an empty list if there is no such file.

    Raises:
        RunError: If it cannot be read.
    """
    return read_table(path, _COLUMNS) or []


def _suspect(dataset: Dataset, reasons: Sequence[Reason]) -> Suspect:
    """Combines all reasons for one image."""
    first, *_ = ordered = sorted(reasons, key=lambda reason: -reason.score)
    found = Suspect(
        path=dataset.key(first.row),
        row=first.row,
        label=dataset.items[first.row].label,
        suggested=next((reason.suggested for reason in ordered if reason.suggested), ""),
        kind=first.kind,
        score=float(1 - np.prod([1 - reason.score for reason in ordered])),
        why="; ".join(reason.why for reason in ordered),
    )
    return _with_labels(found, dataset, ordered) if dataset.multilabel else found


def _with_labels(found: Suspect, dataset: Dataset, ordered: Sequence[Reason]) -> Suspect:
    """Returns the image with the labels that it may lack or have wrongly, by the first kind."""
    telling = [reason for reason in ordered if reason.missing or reason.wrong]
    same = [reason for reason in telling if reason.kind == telling[0].kind]
    missing = tuple(sorted({name for reason in same for name in reason.missing}))
    wrong = tuple(sorted({name for reason in same for name in reason.wrong}))
    right = {*dataset.items[found.row].names, *missing} - {*wrong}
    suggested = set_name(sorted(right)) if telling else ""
    return replace(found, suggested=suggested, missing=missing, wrong=wrong)
