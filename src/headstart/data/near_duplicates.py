"""Near duplicates: copies of a photograph, recompressed, retoned, marked, mirrored or cropped.

The search has three steps. *Candidates*: a few DCT coefficients describe every image and a grid of
its crops; the most similar pairs are candidates. *Alignment*: the crop is shifted and scaled until
it matches the other image. *Proof*: the two must share more than any images of this data set do.
Lookalikes agree in coarse structure (two dandelions), in straight lines (two scratches) or in what
the whole set has in common (the wires of solar cells), but not in other details. On flowers17,
copies of a photograph score above 0.75, and all other pairs below 0.7.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.data.alignment import FINE_SIDE, aligned, cut_all, fine_structure, normalized
from headstart.data.similar_crops import Candidate, Floats, Region, cut, kept, propose
from headstart.data.threads import threads_apart

AGREEMENT = 0.75
"""Lowest agreement at which two images count as the same photograph."""

_MAX_PROOFS = 12_000
_BLOCK = 512
_TOGETHER = 128  # Candidates that are aligned at the same time.

_COMMON = 48  # Directions that are common to a set: at most this many,
_SHARED_BY = 16  # each shared by this many images and by a fortieth of the set,
_COMMON_FROM = 4000  # learned from at most this many images.
_COMMON_SHARE = 0.25  # and at most this share of the number of images.
_SAME = 0.997  # Correlation of the fine structure from which on images count as one there.
_PRIOR = 20  # Images' worth of belief in a spectrum that falls with frequency.
_RESIDUE = 0.25  # Share of the energy that must be left to agree once they are taken out.


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that show the same photograph.

    Attributes:
        first: Lower index.
        second: Higher index.
        agreement: Correlation after removing what the data set has in common, at most 1.
        mirrored: Whether one is the mirror image of the other.
    """

    first: int
    second: int
    agreement: float
    mirrored: bool


def near_duplicates(
    thumbnails: Sequence[NDArray[np.uint8]], labels: NDArray[np.int64]
) -> list[DuplicatePair]:
    """Returns the pairs of images that show the same photograph, exact duplicates included.

    Whole images are compared across all labels, crops only within a label. Large sets use fewer
    crops, and sets of more than `similar_crops.PAIRWISE` images compare each image with its
    neighbourhoods alone.

    Args:
        thumbnails: N grey images (S, S), resized to squares.
        labels: (N,) class numbers.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64)).astype(np.uint8)
        >>> copies = np.concatenate([noise, noise[:1]])
        >>> pair, *others = near_duplicates([*copies], np.zeros(4, np.int64))
        >>> pair.first, pair.second, others
        (0, 3, [])
    """
    if len(thumbnails) < 2:
        return []
    with threads_apart() as threads:
        candidates, regions = propose(thumbnails, labels, _MAX_PROOFS)
        return _prove(thumbnails, candidates, regions, threads)


def _prove(
    thumbnails: Sequence[NDArray[np.uint8]],
    candidates: Sequence[Candidate],
    regions: Sequence[Region],
    threads: int,
) -> list[DuplicatePair]:
    common, places = _common(thumbnails), np.array(regions, np.float64)
    pairs: dict[tuple[int, int], DuplicatePair] = {}

    def likely(start: int) -> list[tuple[Candidate, Floats, Floats]]:
        block = candidates[start : start + _TOGETHER]
        return _likely(thumbnails, [each for each in block if _key(each) not in pairs], places)

    with ThreadPoolExecutor(threads) as pool:
        # In the order of the candidates, so that the best candidate of a pair proves it.
        for found in pool.map(likely, range(0, len(candidates), _TOGETHER)):
            for candidate, crop, goal in found:
                key = _key(candidate)
                if key in pairs or (agreement := _agreement(crop, goal, common)) < AGREEMENT:
                    continue
                pairs[key] = DuplicatePair(*key, agreement, mirrored=candidate[3])
    return sorted(pairs.values(), key=lambda pair: (pair.first, pair.second))


def _likely(
    thumbnails: Sequence[NDArray[np.uint8]],
    candidates: Sequence[Candidate],
    places: NDArray[np.float64],
) -> list[tuple[Candidate, Floats, Floats]]:
    """Returns the candidates that a crop was aligned for, with the crop and what it matches.

    Args:
        thumbnails: N grey images (S, S).
        candidates: Candidates to align.
        places: Regions that crops start at (R, 4).
    """
    if not candidates:
        return []
    images, others = (
        np.stack([thumbnails[number] for number in numbers]).astype(np.float32)
        for numbers in ([each[1] for each in candidates], [each[2] for each in candidates])
    )
    mirrored = np.array([each[3] for each in candidates])
    others[mirrored] = others[mirrored, :, ::-1]
    whole = np.broadcast_to([0.0, others.shape[1]], (len(candidates), 1, 2))
    goals = cut_all(others, whole, whole)[:, 0]
    crops, rows = aligned(images, goals, places[[each[4] for each in candidates]])
    return [(candidates[row], crops[row], goals[row]) for row in rows]


def _key(candidate: Candidate) -> tuple[int, int]:
    _, cropped, target, *_ = candidate
    return min(cropped, target), max(cropped, target)


def _agreement(crop: Floats, goal: Floats, common: "_Common") -> float:
    """Returns the lower of two correlations: without straight lines, without common structure."""
    both = np.stack([crop, goal])
    fine = fine_structure(both)
    # Subtracting rows' and columns' means takes out all lines that run straight across or down.
    fine = fine - fine.mean(axis=1, keepdims=True) - fine.mean(axis=2, keepdims=True)
    first, second = normalized(fine)
    lineless = float(first @ second)
    spectra = _spectra(both) / common.scale
    rest = spectra - spectra @ common.directions.T @ common.directions
    energy = np.linalg.norm(rest, axis=1).prod()
    floor = _RESIDUE * np.linalg.norm(spectra, axis=1).prod()
    return min(lineless, float(rest[0] @ rest[1] / max(energy, floor, 1e-6)))


@dataclass(frozen=True, eq=False)
class _Common:
    """Structure that the images of a data set have in common.

    Attributes:
        scale: (D,) root mean square of each DCT coefficient.
        directions: (K, D) orthonormal: where the scaled coefficients vary most.
    """

    scale: Floats
    directions: Floats


def _common(thumbnails: Sequence[NDArray[np.uint8]]) -> _Common:
    side = len(thumbnails[0])
    some = thumbnails[:: -(-len(thumbnails) // _COMMON_FROM)]
    whole = [cut(t.astype(np.float32), [(0, 0, side, side)], FINE_SIDE) for t in some]
    crops = np.concatenate(whole)
    weights = _weights_of_copies(crops)
    images = float(weights.sum())
    spectra = _spectra(crops)
    # In a set of few images their own spectrum says little: it begins as that of natural images.
    prior = 1 / np.hypot(*kept(FINE_SIDE, FINE_SIDE)) ** 2
    prior *= FINE_SIDE**2 / prior.sum()
    power = (weights @ spectra**2 + _PRIOR * prior) / (images + _PRIOR)
    scale = np.sqrt(power).astype(np.float32)
    scaled = spectra / scale
    # Few images differ in few directions, and most of these must be left to tell them by.
    most = min(_COMMON, int(images * _COMMON_SHARE))
    directions = np.linalg.eigh((scaled.T * weights) @ scaled)[1].T[::-1][:most]
    # Copies of one image make a direction of their own, which must stay: what counts is how many
    # images share a direction (the inverse participation ratio of their energies).
    energies = (scaled @ directions.T) ** 2
    # Fewer images than directions leave some without any energy, which nobody shares.
    sharing = (weights @ energies) ** 2 / np.maximum(weights @ energies**2, 1e-30)
    return _Common(scale, directions[sharing >= max(_SHARED_BY, images / 40)])


def _weights_of_copies(crops: Floats) -> Floats:
    """Returns (N,) weights of whole images (N, side, side); the weights of copies sum to 1.

    Copies must agree in their fine structure, as recompressed or brightened files do. If more than
    half of the set agrees, that is common structure, and no image counts as a copy.
    """
    fine = normalized(fine_structure(crops))
    mirrored = normalized(fine_structure(crops[:, :, ::-1]))
    copies = np.zeros(len(crops), np.int64)
    for start in range(0, len(crops), _BLOCK):
        block = fine[start : start + _BLOCK]
        alike = (block @ fine.T >= _SAME) | (block @ mirrored.T >= _SAME)
        copies[start : start + _BLOCK] = alike.sum(axis=1)
    copies[copies > len(crops) / 2] = 1
    weights: Floats = 1 / np.maximum(copies, 1).astype(np.float32)
    return weights


def _spectra(crops: Floats) -> Floats:
    """Returns (N, D) DCT coefficients of crops, normalized in brightness and contrast."""
    from scipy.fft import dctn  # noqa: PLC0415 - heavy

    flat = normalized(crops).reshape(crops.shape) * FINE_SIDE
    rows, columns = kept(FINE_SIDE, FINE_SIDE)
    spectra: Floats = dctn(flat, axes=(1, 2), norm="ortho")[:, rows, columns]
    return spectra
