"""Names that would control a terminal, a direction of text or a spreadsheet stay names."""

import csv
import json
import subprocess
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from headstart.artifacts.files import read_table
from headstart.artifacts.fingerprint import Mark, read_fingerprint, write_fingerprint
from headstart.artifacts.run import read_split_parts
from headstart.data.splits import Split, read_split, save_split
from headstart.diagnose.reasons import Suspect, read_suspects_csv, write_suspects_csv
from headstart.names import from_cell, printable, printable_json, to_cell
from headstart.progress import PlainProgress

CONTROLS = {
    "escape": ("\x1b[2J", r"\x1b[2J"),
    "title": ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
    "one byte": ("\x9b2J", r"\x9b2J"),
    "backspace": ("\x08\x7f", r"\x08\x7f"),
    "return": ("a\rb", r"a\rb"),
    "override": ("\u202egnp", r"\u202egnp"),
    "isolate": ("\u2066a\u2069", r"\u2066a\u2069"),
    "mark": ("\u200f\u061c", r"\u200f\u061c"),
    "separator": ("a\u2028b", r"a\u2028b"),
}
FORMULAS = (
    '=1\r2,"3".png', "=1+1.png", "+a", "-a/1.png", "@sum", "\tx", "\rx", "\nx", "'=x", "''+x",
    "'-1", "=", "-1a",
)  # fmt: skip
HARMLESS = ("rose/1.png", "-1", "+2.5", "'", "'quoted'", "", "a=b", "ünï", " =x", "x-1")


@pytest.mark.parametrize("kind", CONTROLS)
def test_controls_are_shown(kind: str) -> None:
    name, shown = CONTROLS[kind]
    assert printable(name) == shown
    assert printable(f"a{name}\nb", keep="\n") == f"a{shown}\nb"
    written = printable_json(json.dumps({"name": name}, ensure_ascii=False, indent=1))
    assert json.loads(written) == {"name": name}
    assert written.replace("\n", "").isprintable()


def test_other_text_stays() -> None:
    for text in ("ünï 猫.png", "👩‍🔬", "עברית", r"back\slash", "a b"):
        assert printable(text) == text


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_quoted_and_read_back(name: str) -> None:
    assert to_cell(name) == f"'{name}"
    assert from_cell(to_cell(name)) == name


@pytest.mark.parametrize("name", HARMLESS)
def test_other_names_are_the_same_bytes(name: str) -> None:
    assert to_cell(name) == name == from_cell(name)


@pytest.mark.parametrize("name", FORMULAS)
def test_our_files_keep_such_names(name: str, tmp_path: Path) -> None:
    empty = np.empty(0, np.int64)
    split = Split(train=np.array([0]), val=empty, test=np.array([1]))
    save_split(tmp_path / "split.csv", split, [name, "b"])
    assert read_split(tmp_path / "split.csv", [name, "b"]) == ["train", "test"]
    assert read_split_parts(tmp_path) == {name: "train", "b": "test"}
    marks = [Mark(name, name, "0a"), Mark("b", "c", "1b")]
    write_fingerprint(tmp_path, marks)
    assert read_fingerprint(tmp_path) == marks
    path = tmp_path / "suspects.csv"
    write_suspects_csv(path, [Suspect(name, 0, name, name, "label", 0.5, "why")])
    (row,) = read_suspects_csv(path)
    assert (row["path"], row["label"], row["suggested"]) == (name, name, name)
    for file in tmp_path.glob("*.csv"):
        with file.open(newline="") as lines:
            cells = [cell for line in csv.reader(lines) for cell in line]
        assert not any(cell[:1] in set("=+-@\t\r\n") for cell in cells if cell), file


def test_files_of_older_versions_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("path,split\n=1+1.png,train\n-a/1.png,test\n")
    assert read_split_parts(tmp_path) == {"=1+1.png": "train", "-a/1.png": "test"}
    assert read_table(tmp_path / "split.csv", ("path",)) is not None


@pytest.mark.parametrize("kind", CONTROLS)
def test_commands_and_progress_show_them(
    kind: str, tmp_path: Path, headstart: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    name, shown = CONTROLS[kind]
    done = headstart("check", tmp_path / name)
    assert done.returncode == 2
    assert shown in done.stderr
    assert done.stderr.replace("\n", "").isprintable()
    stream = StringIO()
    PlainProgress(stream).say(f"reading {name}")
    assert stream.getvalue() == f"reading {shown}\n"


def test_file_names_in_tables_are_shown(
    two_classes: Path, headstart: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for name, _ in CONTROLS.values():
        (two_classes / "rings" / f"{name}.png").write_bytes(b"broken")
    done = headstart("check", two_classes)
    assert done.stdout.replace("\n", "").replace("\t", "").isprintable()
    found = headstart("check", two_classes, "--json").stdout
    assert found.replace("\n", "").isprintable()
    assert len(json.loads(found)["dropped"]) == len(CONTROLS)
