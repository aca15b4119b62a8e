"""Iterative stratification of images with any number of labels, with groups kept together."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def stratify(
    sets: Sequence[tuple[str, ...]],
    groups: Indices,
    shares: Mapping[str, float],
    rng: np.random.Generator,
) -> Indices:
    """Returns the part number of each image, shape (n,) (Sechidis et al., ECML PKDD 2011).

    The label with the fewest images that have no part yet comes first. Each group with that label
    goes to the part that lacks most of it, by ties to the one that lacks most images. The images of
    no label come last. In the paper, the examples are single; here they are whole groups, the
    largest of a label first, because small ones can still even out what they leave.

    Args:
        sets: Labels of each image.
        groups: Group number of each image, shape (n,); a group stays in one part.
        shares: Requested share of each part, summing to 1.
        rng: Random generator for the order of groups of one size and for ties.

    Example:
        >>> sets = [("a",), ("a", "b"), ("b",), ("a", "b")] * 5
        >>> part = stratify(sets, np.arange(20), {"x": 0.5, "y": 0.5}, np.random.default_rng(0))
        >>> [int(sum(part[row] == 0 for row in range(20) if name in sets[row])) for name in "ab"]
        [8, 7]
    """
    held = _held(sets, groups)
    sizes = np.bincount(np.unique(groups, return_inverse=True)[1]).astype(np.float64)
    order = rng.permutation(len(held))
    wanted = np.array(list(shares.values()))
    lacking = held.sum(0)[:, None] * wanted  # images of each label that each part still needs
    free = len(sets) * wanted
    tie_break = rng.permutation(len(wanted)) * 1e-9
    part_of_group = np.full(len(held), -1, np.int64)

    def put(members: Indices, label: int | None) -> None:
        for group in members:
            first = free if label is None else lacking[label]
            best = np.lexsort((tie_break, -np.round(free, 9), -np.round(first, 9)))[0]
            part_of_group[group] = best
            lacking[:, best] -= held[group]
            free[best] -= sizes[group]

    left = held.sum(0)
    while (left > 0).any():
        label = int(np.where(left > 0, left, np.inf).argmin())
        mine = order[(part_of_group[order] < 0) & (held[order, label] > 0)]
        put(mine[np.argsort(-held[mine, label], kind="stable")], label)
        left = held[part_of_group < 0].sum(0)
    rest = order[part_of_group[order] < 0]
    put(rest[np.argsort(-sizes[rest], kind="stable")], None)
    return np.asarray(part_of_group[np.unique(groups, return_inverse=True)[1]], np.int64)


def _held(sets: Sequence[tuple[str, ...]], groups: Indices) -> NDArray[np.float64]:
    """Returns how many images of each label (L,) are in each group, shape (G, L)."""
    names = sorted({name for each in sets for name in each})
    place = {name: number for number, name in enumerate(names)}
    group_of = np.unique(groups, return_inverse=True)[1]
    held = np.zeros((int(group_of.max()) + 1, len(names)))
    for group, each in zip(group_of, sets, strict=True):
        for name in each:
            held[group, place[name]] += 1
    return held


def indicators(sets: Sequence[tuple[str, ...]], classes: Sequence[str]) -> NDArray[np.int64]:
    """Returns 1 where an image has a label and 0 elsewhere, shape (n, classes).

    Labels that are none of the classes are left out.

    Example:
        >>> indicators([("bee",), ("ant", "bee"), ()], ["ant", "bee"]).tolist()
        [[0, 1], [1, 1], [0, 0]]
    """
    place = {name: number for number, name in enumerate(classes)}
    marks = np.zeros((len(sets), len(classes)), np.int64)
    for row, names in enumerate(sets):
        for name in names:
            if name in place:
                marks[row, place[name]] = 1
    return marks
