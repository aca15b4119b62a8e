"""Commas in the cells of labels: between the labels of an image, or part of a name."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Literal

COMMA = ","

MOST = 0.5
"""Share of the different cells with a comma whose names must all occur in other cells, too."""

_DECIMAL = re.compile(r"\s*\d+,\d+\s*")


def commas(cells: Iterable[object]) -> Literal["lists", "unclear", "names"]:
    """Returns what commas in cells of labels are.

    Names that come apart are labels: what stands between two commas also occurs with others. That
    of names such as 'tench, Tinca tinca' does not. In names such as 'Paris, France' it does, but
    each part has its place, their number is the same, and none stands alone.

    Args:
        cells: The cells; those that are no text are passed over.

    Returns:
        `lists` where they stand between labels; `unclear` where names come apart, but each keeps
        its place; else `names`.

    Example:
        >>> commas(["red, round", "red", "blue, round"])
        'lists'
        >>> commas(["Paris, France", "Lyon, France", "Paris, Texas", "Lyon, Texas"])
        'unclear'
        >>> commas(["tench, Tinca tinca", "goldfish, Carassius auratus", "crane"])
        'names'
    """
    different = {cell.strip() for cell in cells if isinstance(cell, str)}
    split = {cell: [part.strip() for part in cell.split(COMMA) if part.strip()]
             for cell in different}  # fmt: skip
    lists = {cell: parts for cell, parts in split.items() if len(parts) > 1}
    if not lists or all(_DECIMAL.fullmatch(cell) for cell in lists):
        return "names"
    times = Counter(
        part for parts in {frozenset(parts) for parts in split.values()} for part in parts
    )
    apart = [parts for parts in lists.values() if all(times[part] > 1 for part in parts)]
    if len(apart) < MOST * len(lists):
        return "names"
    alone = {parts[0] for parts in split.values() if len(parts) == 1}
    places: dict[str, set[int]] = defaultdict(set)
    for parts in lists.values():
        for place, part in enumerate(parts):
            places[part].add(place)
    moves = any(len(found) > 1 or part in alone for part, found in places.items())
    return "lists" if moves or len({len(parts) for parts in lists.values()}) > 1 else "unclear"
