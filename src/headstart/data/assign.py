"""The assignment of groups of images to parts, so that each class is spread as requested."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def assign(
    labels: Sequence[str],
    groups: Indices,
    shares: Mapping[str, float],
    needed: Mapping[str, int],
    rng: np.random.Generator,
) -> Indices:
    """Returns the part number of each image, shape (n,).

    Groups are assigned one by one. Each goes to the part where its classes are most lacking,
    which is the greedy step on the squared distance to the requested shares (like the multi-label
    stratification of Sechidis et al. 2011). Groups with several classes go first, scarcest class
    first, while later groups can still even out the shares. Groups that are large compared with
    the smallest part follow. The rest are assigned in random order.

    Args:
        labels: Class of each image.
        groups: Group number of each image, shape (n,).
        shares: Requested share of each part, summing to 1.
        needed: Number of groups from which a class must be in the part, most important part first.
        rng: Random generator for the order of groups and for ties.
    """
    class_of = np.unique(np.asarray(labels), return_inverse=True)[1]
    group_of = np.unique(groups, return_inverse=True)[1]
    n_classes, n_groups = int(class_of.max()) + 1, int(group_of.max()) + 1
    pairs, pair_sizes = np.unique(group_of * n_classes + class_of, return_counts=True)
    pair_group, pair_class = np.divmod(pairs, n_classes)
    starts = np.searchsorted(pair_group, np.arange(n_groups + 1))
    class_size = np.bincount(class_of)
    groups_left = np.bincount(pair_class)

    wanted = np.array(list(shares.values()))
    part_number = {name: number for number, name in enumerate(shares)}
    lacking = [
        [part_number[name] for name, least in needed.items() if n_own >= least]
        for n_own in groups_left
    ]
    deficit = np.tile(wanted, (n_classes, 1))  # in shares of each class
    filled = np.zeros(len(wanted))

    size = np.bincount(group_of)
    scarcity = np.minimum.reduceat(groups_left[pair_class], starts[:-1])
    scarcity = np.where(np.diff(starts) > 1, np.minimum(scarcity, 4), 5)
    smallest_class = np.minimum.reduceat(class_size[pair_class], starts[:-1])
    large = np.where(size > np.maximum(wanted.min() * smallest_class, 2), size, 0)
    order = np.lexsort((rng.random(n_groups), -large, scarcity))
    tie_break = rng.permutation(len(wanted)) * 1e-9

    part_of_group = np.empty(n_groups, dtype=np.int64)
    for group in order:
        own = slice(starts[group], starts[group + 1])
        classes, sizes = pair_class[own], pair_sizes[own]
        allowed = _allowed_parts([(lacking[c], int(groups_left[c])) for c in classes], len(wanted))
        shares_of_classes = sizes / class_size[classes]
        gain = shares_of_classes @ deficit[classes]
        # Ties go to the emptier part, which spreads remainders evenly.
        rank = [(-round(gain[p], 12), filled[p] / wanted[p] + tie_break[p]) for p in allowed]
        part = allowed[rank.index(min(rank))]
        part_of_group[group] = part
        deficit[classes, part] -= shares_of_classes
        filled[part] += size[group]
        for c in classes:
            groups_left[c] -= 1
            if part in lacking[c]:
                lacking[c].remove(part)
    return np.asarray(part_of_group[group_of])


def _allowed_parts(needs: list[tuple[list[int], int]], n_parts: int) -> list[int]:
    """Returns the parts that a group may go to while its classes can still reach all they need.

    Args:
        needs: For each class of the group, the parts that it must still reach, most important
            first, and its number of groups left, including this one.
        n_parts: Number of parts.
    """
    forced = [lacking for lacking, n_left in needs if lacking and len(lacking) >= n_left]
    allowed = [p for p in range(n_parts) if all(p in lacking for lacking in forced)]
    if allowed:
        return allowed
    # Two classes need the group in different parts: train before test before val.
    return [min(p for lacking in forced for p in lacking)]
