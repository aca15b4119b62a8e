"""Names of files and classes in terminals, JSON and spreadsheets: they stay names there.

Whoever makes a data set chooses them, and they may hold any character.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
"""Characters that control a terminal, or the direction or line of what follows."""

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def printable(text: str, keep: str = "") -> str:
    r"""Returns text in which control characters are shown as escapes, so they control nothing.

    Args:
        text: Text that may hold names of files or classes.
        keep: Control characters to leave as they are, such as line ends.

    Example:
        >>> print(printable("a\x1b[31m.png"), printable("gnp.\u202eexe"), printable("a\nb"))
        a\x1b[31m.png gnp.\u202eexe a\nb
    """

    def escape(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else found[0].encode("unicode_escape").decode()

    return _INVISIBLE.sub(escape, text)


def printable_json(text: str) -> str:
    r"""Returns JSON with the same content in which control characters are escapes.

    Example:
        >>> print(printable_json('{"image": "gnp.\u202eexe"}'))
        {"image": "gnp.\u202eexe"}
    """

    def escape(found: re.Match[str]) -> str:
        return found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}"

    return _INVISIBLE.sub(escape, text)


def to_cell(name: str) -> str:
    """Returns a name as a cell of a CSV file that no spreadsheet takes for a formula.

    A name that begins with `=`, `+`, `-`, `@`, a tab or a line end, and is not a number, gets an
    apostrophe before it. `from_cell` returns the name.

    Example:
        >>> to_cell("=1+1.png"), to_cell("rose/1.png"), to_cell("-1")
        ("'=1+1.png", 'rose/1.png', '-1')
    """
    formula = _FORMULA.match(name) and not _NUMBER.fullmatch(name)
    return f"'{name}" if formula else name


def from_cell(cell: str) -> str:
    """Returns the name that `to_cell` wrote.

    Example:
        >>> from_cell("'=1+1.png"), from_cell("'quoted'.png")
        ('=1+1.png', "'quoted'.png")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_rows(file: TextIO, rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows of CSV with the line end of Unix, whatever line ends are in their cells.

    Args:
        file: Text file that translates no line ends.
        rows: Cells of each row.
    """
    plain = csv.writer(file, lineterminator="\n")
    # Python before 3.13 quotes only the line end that it writes, and reads both.
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        (quoted if any("\r" in str(cell) for cell in row) else plain).writerow(row)
