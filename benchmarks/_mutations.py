"""Damage to files, drawn at random: of bytes, of tables, and of single fields of JSON and TOML."""

import json
import random
from copy import deepcopy
from typing import Any

DEEP = 3000
DIGITS = 5000
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 10**9, 10**18, 2**63, 10**30, -(10**30), 0.0, -0.0, -1e-9,
    0.5, 1.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"), "", " ", "nan",
    "\0", "a\0b", "\ud800", "\u202e", "../../etc/passwd", "/dev/zero", "x" * 10_000, "1e999", "[",
    [], [[]], [1, 2, 3], ["a", "a"], {}, {"": None}, {"a": {"b": {}}}, [None], "<script>", "\n",
)  # fmt: skip
ODD_TEXT = (
    "", " ", "nan", "inf", "-inf", "-1", "1e999", "\0", '"', "''", "\n", "\r\n", ",", ",,,",
    "train", "x" * 200_000, "9" * DIGITS, "[" * DEEP, "\ufeff", "../../etc/passwd", "1_000",
    "0x10", "=1+1",
)  # fmt: skip


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    """Returns content with some bytes flipped, cut, doubled, moved or replaced."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 8, 64))):
        at = draw.randrange(len(data)) if data else 0
        length = min(draw.choice((1, 1, 2, 4, 8, 100, 1000)), max(len(data) - at, 1))
        match draw.randrange(7):
            case 0 if data:
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                data[at : at + length] = draw.randbytes(length)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length] * draw.choice((1, 2, 50))
            case 4:
                data = data[:at]
            case 5:
                data[at : at + length] = bytes(draw.choice((b"\0", b"\xff"))) * length
            case _:
                other = draw.randrange(len(data)) if data else 0
                data[at : at + length] = data[other : other + length]
    return bytes(data)


def damaged_json(content: bytes, draw: random.Random) -> bytes:
    """Returns JSON with one to three fields that are lost, odd, doubled or exchanged."""
    value = json.loads(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        value = _damaged_value(value, draw)
    text = json.dumps(value, ensure_ascii=draw.random() < 0.8)
    match draw.randrange(25):
        case 0:  # what a program cannot write by itself: very many digits, or very deep lists
            text = _put(text, "9" * DIGITS, draw)
        case 1:
            text = _put(text, "[" * DEEP + "]" * DEEP, draw)
        case 2:
            text = _put(text, '{"a":' * DEEP + "1" + "}" * DEEP, draw)
    return text.encode("utf-8", "surrogatepass")


def damaged_lines(content: bytes, draw: random.Random) -> bytes:
    """Returns a file of JSON lines of which one is damaged, lost, doubled or moved."""
    lines = content.splitlines()
    at = draw.randrange(len(lines))
    match draw.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(draw.randrange(len(lines)), lines[at])
        case _:
            lines[at] = damaged_json(lines[at], draw)
    return b"".join(line + b"\n" for line in lines)


def damaged_table(content: bytes, draw: random.Random) -> bytes:
    """Returns a CSV file with cells or rows that are odd, lost or doubled."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(draw.choice((1, 1, 2, 5))):
        row = draw.choice(rows)
        at = draw.randrange(len(row)) if row else 0
        match draw.randrange(5):
            case 0 if row:
                del row[at]
            case 1:
                row.insert(at, draw.choice(ODD_TEXT))
            case 2:
                rows.remove(row)
                rows = rows or [[""]]
            case 3:
                rows.insert(draw.randrange(len(rows)), list(row))
            case _ if row:
                row[at] = draw.choice(ODD_TEXT)
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "replace") + b"\n"


def damaged_text(content: bytes, draw: random.Random) -> bytes:
    """Returns text, such as TOML, in which the values of some lines are odd."""
    lines = content.decode().splitlines()
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(lines))
        key, equals, _ = lines[at].partition("=")
        lines[at] = f"{key}{equals} {odd_text(draw)}" if equals else odd_text(draw)
    return "\n".join(lines).encode("utf-8", "replace")


def odd_text(draw: random.Random) -> str:
    """Returns a value as TOML or as anything else."""
    if draw.random() < 0.3:
        return draw.choice((*ODD_TEXT, "[" * DEEP + "]" * DEEP, "{a=" * DEEP + "1" + "}" * DEEP))
    return json.dumps(draw.choice(ODD_VALUES)).replace("null", "nan")


def _damaged_value(value: Any, draw: random.Random) -> Any:
    places = list(_places(value))
    if not places:
        return draw.choice(ODD_VALUES)
    value = deepcopy(value)
    parent, key = draw.choice(list(_places(value)))
    match draw.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, list):
            parent.insert(key, parent[key])
        case 1:
            parent[draw.choice(("", "\0", "unknown", "name"))] = parent.pop(key)
        case 2:
            other, at = draw.choice(list(_places(value)))
            parent[key] = deepcopy(other[at])
        case 3 if isinstance(parent[key], int | float):
            parent[key] = parent[key] * draw.choice((-1, 0, 2, 0.5, 10**12, 1e300))
        case _:
            parent[key] = draw.choice(ODD_VALUES)
    return value


def _places(value: Any) -> Any:
    """Yields the parent and the key of each value inside a value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _put(text: str, inside: str, draw: random.Random) -> str:
    colons = [at for at, letter in enumerate(text) if letter in ":,["]
    at = draw.choice(colons or [0])
    ends = [end for end in range(at + 1, len(text)) if text[end] in ",]}"]
    return text[: at + 1] + inside + text[(ends or [len(text)])[0] :]
