"""The layout of feature vectors: which columns come from where in the network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.boundaries import Boundary
from headstart.backbones.cut import Traced
from headstart.backbones.graphs import dims_to_pool
from headstart.backbones.places import FEATURES, INPUT
from headstart.backbones.pooling import boundary_of_tap, covariance_tap, covariance_width
from headstart.inputs.large_arrays import large_array

LAST, STAGES = "last", "stages"

WITH_COVARIANCE = "+covariance"


@dataclass(frozen=True)
class FeatureLayout:
    """The parts of a feature vector: one for each tap, and the backbone's own features.

    Attributes:
        taps: Where features are taken inside the network; the covariance comes first.
        widths: Number of features of each tap, and of the backbone's own, which come last.
    """

    taps: tuple[str, ...]
    widths: tuple[int, ...]

    @property
    def width(self) -> int:
        """Number of features F."""
        return sum(self.widths)

    @property
    def choices(self) -> tuple[str, ...]:
        """What a head may see here, by the value of its field `features`, smallest first."""
        means, covariances = _by_kind(self.taps)
        plain = [LAST, STAGES] if means else [LAST]
        both = [each + WITH_COVARIANCE for each in plain] if covariances else []
        return (*plain, *both)

    def only(self, features: str) -> "FeatureLayout":
        """Returns the layout of what a head sees; without a tap that this network lacks.

        Args:
            features: One of `last`, `stages`, `last+covariance` and `stages+covariance`.

        Example:
            >>> whole = FeatureLayout(("c:covariance", "b", "c"), (6, 2, 3, 4))
            >>> whole.only("last+covariance")
            FeatureLayout(taps=('c:covariance',), widths=(6, 4))
        """
        means, covariances = _by_kind(self.taps)
        taps = {*(means if features.startswith(STAGES) else ())}
        taps |= {*(covariances if features.endswith(WITH_COVARIANCE) else ())}
        kept = [place for place, tap in enumerate(self.taps) if tap in taps]
        widths = (*(self.widths[place] for place in kept), self.widths[-1])
        return FeatureLayout(tuple(self.taps[place] for place in kept), widths)

    def pick(self, array: Any, part: "FeatureLayout") -> Any:
        """Returns the columns (N, F') of a part of this layout, a view where they are adjacent.

        Args:
            array: Features (N, F) in this layout.
            part: A result of `only`.
        """
        starts = dict(zip((*self.taps, ""), np.cumsum((0, *self.widths)), strict=False))
        spans = [
            (int(starts[tap]), int(starts[tap]) + width)
            for tap, width in zip((*part.taps, ""), part.widths, strict=True)
        ]
        merged = [spans[0]]
        for start, end in spans[1:]:
            if start == merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        if len(merged) == 1:
            return array[:, slice(*merged[0])]
        found, place = large_array((len(array), part.width), array.dtype), 0
        for start, end in merged:
            found[:, place : place + end - start] = array[:, start:end]
            place += end - start
        return found


@dataclass(frozen=True)
class FeatureTable:
    """Features (N, F) with their layout."""

    array: NDArray[np.float32]
    layout: FeatureLayout

    def of(self, features: str) -> NDArray[np.float32]:
        """Returns what a head sees (N, F'), by the value of its field `features`."""
        picked: NDArray[np.float32] = self.layout.pick(self.array, self.layout.only(features))
        return picked


def layout_behind(traced: Traced, boundary: str, own: int) -> FeatureLayout:
    """Returns the layout of all that a head may see of what comes after a boundary.

    These are the root of the covariance of the last map, the means of the stages and the features
    of the backbone. At the boundary `features` they are those of the whole network.

    Args:
        traced: Network.
        boundary: Name of the boundary.
        own: Number of features of the backbone.
    """
    behind = _behind(traced, boundary)
    stages = _stages(behind)
    output_fmt = str(getattr(traced.model, "output_fmt", "NCHW"))
    taps = [each.name for each in stages]
    widths = [_channels(each.shape, output_fmt) for each in stages]
    maps = [each for each in behind if _has_places(each.shape, output_fmt)]
    if maps:
        taps.insert(0, covariance_tap(maps[-1].name))
        widths.insert(0, covariance_width(_channels(maps[-1].shape, output_fmt)))
    return FeatureLayout(tuple(taps), (*widths, own))


def _by_kind(taps: Sequence[str]) -> tuple[list[str], list[str]]:
    means = [tap for tap in taps if tap == boundary_of_tap(tap)]
    return means, [tap for tap in taps if tap not in means]


def _behind(traced: Traced, boundary: str) -> list[Boundary]:
    """Returns the places inside a network where a head may look: all, or those behind a cut."""
    names = [each.name for each in traced.boundaries]
    first = 0 if boundary == FEATURES else names.index(boundary)
    return [each for each in traced.boundaries[first:] if each.name not in {INPUT, FEATURES}]


def _stages(places: Sequence[Boundary]) -> list[Boundary]:
    """Returns the ends of stages among places, whose features a head may see."""
    stages = [each for each in places if each.stage]
    # Some networks pool before their last layer, which repeats the stage before it.
    return [
        each
        for each, before in zip(stages, [None, *stages], strict=False)
        if before is None or not _pooled_from(each.shape, before.shape)
    ]


def _pooled_from(shape: tuple[int, ...], before: tuple[int, ...]) -> bool:
    """Returns whether a shape has one value per channel of the map (C, H, W) before it."""
    return len(before) == 3 and before[1:] != (1, 1) and shape in {before[:1], (*before[:1], 1, 1)}


def _sides(shape: tuple[int, ...], output_fmt: str) -> tuple[list[int], list[int]]:
    """Returns the lengths of the dimensions of space or tokens, and of the others."""
    pooled = dims_to_pool(shape, output_fmt)
    places = [side for dim, side in enumerate(shape, 1) if dim in pooled]
    return places, [side for dim, side in enumerate(shape, 1) if dim not in pooled]


def _channels(shape: tuple[int, ...], output_fmt: str) -> int:
    return _product(_sides(shape, output_fmt)[1])


def _has_places(shape: tuple[int, ...], output_fmt: str) -> bool:
    """Returns whether an activation has more than one place, so that there is a covariance."""
    places, channels = _sides(shape, output_fmt)
    return _product(places) > 1 and _product(channels) > 1


def _product(sides: Iterable[int]) -> int:
    return int(np.prod(list(sides), dtype=np.int64))
