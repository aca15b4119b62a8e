"""What a reader should know of the values, pages and channels of the images in a data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from headstart.data.pixels import Facts
from headstart.data.ranges import common_range, exposures_differ, usual_whites
from headstart.data.reading import Reading, shown_range
from headstart.text import counted, listed

PixelKind = Literal[
    "deep_values",
    "mixed_depths",
    "missing_values",
    "pages_left_out",
    "channels_left_out",
    "one_patient",
]


@dataclass(frozen=True)
class PixelNote:
    """One thing to know, and the images that it is about."""

    kind: PixelKind
    severity: Literal["info", "warning"]
    indices: list[int]
    message: str


def pixel_notes(
    facts: Sequence[Facts], usable: Sequence[int], reading: Reading
) -> Iterator[PixelNote]:
    """Yields what is special in the values, pages and channels of images.

    Args:
        facts: What was learned about each file.
        usable: Indices of the images that are used.
        reading: How the images are read.
    """
    yield from _depths(facts, usable)
    missing = [index for index in usable if facts[index].learned.missing]
    if missing:
        yield PixelNote(
            "missing_values",
            "warning",
            missing,
            f"{counted(len(missing), 'image')} with missing values (not numbers, infinite, or "
            "marked as no data): these pixels become black.",
        )
    pages = [index for index in usable if facts[index].learned.pages > 1]
    if pages and reading.page is None:
        volumes = [index for index in pages if facts[index].format == "NIfTI"]
        taken = "the middle one" if len(volumes) == len(pages) else "the first one"
        most = max(facts[index].learned.pages for index in pages)
        yield PixelNote(
            "pages_left_out",
            "warning",
            pages,
            f"{counted(len(pages), 'image')} with several pages, frames or slices (up to {most:,}):"
            f" only {taken} is used. Choose another with --page N (from 0), --page middle or "
            "--page max.",
        )
    yield from _channels(facts, usable)
    patients = {facts[index].patient for index in usable}
    if len(patients) == 1 and len(usable) > 1 and "" not in patients:
        yield PixelNote(
            "one_patient",
            "info",
            [],
            "All DICOM files name the same patient, so that patients are not kept together.",
        )


def _depths(facts: Sequence[Facts], usable: Sequence[int]) -> Iterator[PixelNote]:
    by_sample: dict[str, list[int]] = {}
    for index in usable:
        by_sample.setdefault(facts[index].learned.sample, []).append(index)
    deep = [index for index in usable if facts[index].learned.range is not None]
    if deep:
        names = sorted({facts[index].learned.sample for index in deep})
        ranges = [span for i in deep if (span := facts[i].learned.range)]
        yield PixelNote(
            "deep_values",
            "info",
            deep,
            f"{counted(len(deep), 'image')} with more than 8 bits a value ({listed(names)}). "
            + _range_used(ranges),
        )
    if len(by_sample) > 1:
        parts = [f"{name} ({len(which):,})" for name, which in sorted(by_sample.items())]
        fewest = min(by_sample.values(), key=len)
        yield PixelNote(
            "mixed_depths",
            "warning",
            fewest,
            f"Images of different depths in one data set: {listed(parts)}. A class may be told by "
            "its depth. Convert all images to one type.",
        )


def _range_used(ranges: Sequence[tuple[float, float]]) -> str:
    if exposures_differ(ranges):
        dark, bright = (f"{end:,.4g}" for end in usual_whites(ranges))
        return (
            f"Their exposures differ: a tenth of them is darker than {dark}, another brighter than "
            f"{bright}. Each image is shown from black to its own white, and brightness tells "
            "nothing."
        )
    return (
        "One range is used for all of them, from black to white: here "
        f"{shown_range(*common_range(ranges))}; in training, that of the training images."
    )


def _channels(facts: Sequence[Facts], usable: Sequence[int]) -> Iterator[PixelNote]:
    cut = [index for index in usable if facts[index].learned.unused]
    marked = [index for index in cut if facts[index].learned.not_alpha]
    other = [index for index in cut if index not in set(marked)]
    if marked:
        yield PixelNote(
            "channels_left_out",
            "warning",
            marked,
            f"{counted(len(marked), 'image')} whose fourth channel is marked as opacity and looks "
            "like data (near infrared?): the first three are used as RGB. Choose with --channels, "
            "such as --channels 3,0,1.",
        )
    if other:
        most = max(facts[index].learned.unused for index in other)
        yield PixelNote(
            "channels_left_out",
            "warning",
            other,
            f"{counted(len(other), 'image')} with channels that are not used (up to {most:,}): the "
            "first three are taken as RGB, or the first as grey where there are two. Choose with "
            "--channels, such as --channels 3,0,1.",
        )


def same_patient(facts: Sequence[Facts], usable: Sequence[int]) -> list[tuple[int, int]]:
    """Returns pairs of images of one patient, which belong into one split.

    One patient for all images is none, as nothing could be split then.
    """
    first: dict[str, int] = {}
    pairs = [
        (first.setdefault(facts[index].patient, index), index)
        for index in usable
        if facts[index].patient
    ]
    return [pair for pair in pairs if pair[0] != pair[1]] if len(first) > 1 else []
