"""The images beside the labelled ones: those of no class, and those without a label."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.artifacts.fingerprint import DIGITS, Mark, read_fingerprint, write_fingerprint
from headstart.artifacts.unchanged import check_folder_unchanged
from headstart.artifacts.unlabelled import UnlabelledUse
from headstart.data.decode import decode_dataset, hash_file
from headstart.data.images_in import images_in
from headstart.data.types import SPLIT_NAMES, Item
from headstart.data.unlabelled import MOST, SAYS, Unlabelled, drawn, images_below, usable
from headstart.inference.background import background_images
from headstart.recipes.options import FitOptions
from headstart.text import counted
from headstart.training.earlier_run import EarlierRun
from headstart.training.experiment import Experiment
from headstart.training.run_context import Resources

TIME_SHARE = 0.25
"""Largest share of the remaining budget for decoding unlabelled images and their features."""


@dataclass(frozen=True)
class Further:
    """An experiment with the images beside the labelled ones.

    Attributes:
        experiment: The experiment.
        notes: Sentences on what is passed over.
        marks: Fingerprint of each folder, by the name of its option.
    """

    experiment: Experiment
    notes: tuple[str, ...]
    marks: dict[str, list[Mark]]

    def write(self, run: Path) -> None:
        """Writes the fingerprints into the run folder, by which `resume` knows changed images."""
        for name, marks in self.marks.items():
            write_fingerprint(run, marks, name=f"{name}.csv")


def with_further(
    experiment: Experiment,
    options: FitOptions,
    resources: Resources,
    earlier: EarlierRun | None = None,
    before: Path | None = None,
) -> Further:
    """Reads the folders of `--background` and `--unlabelled`.

    Args:
        experiment: Experiment with the labelled images.
        options: Options of the run.
        resources: Time, cache, decode workers and progress display.
        earlier: A run that it continues: what was sealed there is not seen.
        before: Folder of the run that is resumed: the images that it had drawn are drawn again.

    Raises:
        DataError: If a folder has too few images.
        InputError: If one is no folder.
    """
    notes: list[str] = []
    marks: dict[str, list[Mark]] = {}
    if options.background is not None:
        files, passed_over = background_images(options.background, experiment.pixels.facts)
        notes += passed_over
        every = images_in([options.background])
        marks["background"] = _marks(options.background, every, every)
        experiment = replace(experiment, background=files)
    if options.unlabelled is not None:
        every = images_below(options.unlabelled)
        some = [] if before is None else _read_before(before, "unlabelled", options.unlabelled)
        some = some or drawn(every, _most(experiment, resources))
        marks["unlabelled"] = _marks(options.unlabelled, every, some)
        found = _usable(experiment, options.unlabelled, every, some, resources, earlier)
        notes += _passed_over(found)
        experiment = replace(experiment, unlabelled=found)
    return Further(experiment, tuple(notes), marks)


def check_further(run: Path, options: FitOptions) -> list[str]:
    """Checks that the images of both folders are those that a run began with.

    Args:
        run: Run folder.
        options: Options of the run.

    Returns:
        Why that cannot be known, as sentences; nothing if it is known.

    Raises:
        DataError: If a folder has no images any more.
        InputError: If one is no folder.
        RunError: If the images changed; the message names them.
    """
    notes = []
    for name in ("background", "unlabelled"):
        folder: Path | None = getattr(options, name)
        if folder is not None:
            every = images_below(folder, name)
            now = _marks(folder, every, _read_before(run, name, folder))
            notes += check_folder_unchanged(run, name, now)
    return notes


def record_of(found: Unlabelled | None) -> UnlabelledUse | None:
    """Returns what the record of a run says of unlabelled images before they are tried."""
    if found is None:
        return None
    return UnlabelledUse(
        folder=found.folder.resolve().name,
        images=found.images,
        left_out=dict(found.left_out),
        why_not="the run ended before they were tried",
    )


def _most(experiment: Experiment, resources: Resources) -> int:
    """Returns how many unlabelled images are looked at: less than usual under a short budget."""
    left = resources.clock.left()
    if left is None:
        return MOST
    each_s = (1.5 * experiment.decode_s + experiment.features_s) * resources.clock.pace.now
    return int(min(MOST, TIME_SHARE * max(0.0, left) / max(each_s, 1e-6)))


def _marks(folder: Path, every: Sequence[Path], read: Sequence[Path]) -> list[Mark]:
    """Returns the marks of a folder's images; the content of those that are read counts, too."""
    content = {file: hash_file(file)[:DIGITS] for file in read}
    return sorted(Mark(str(file.relative_to(folder)), "", content.get(file, "")) for file in every)


def _read_before(run: Path, name: str, folder: Path) -> list[Path]:
    """Returns the images of a folder whose content an interrupted run had read."""
    known = {mark.path for mark in read_fingerprint(run, f"{name}.csv") or [] if mark.sha256}
    return [file for file in images_in([folder]) if str(file.relative_to(folder)) in known]


def _usable(
    experiment: Experiment,
    folder: Path,
    every: Sequence[Path],
    some: Sequence[Path],
    resources: Resources,
    earlier: EarlierRun | None,
) -> Unlabelled:
    """Decodes the drawn images as the labelled ones were, and leaves out what would leak."""
    pixels = decode_dataset(
        [Item(file, "") for file in some],
        experiment.source.short_side,
        resources.cache_dir,
        workers=resources.workers,
        progress=resources.progress,
        reading=experiment.dataset.reading,
    )
    split, facts = experiment.split, experiment.pixels.facts
    labelled = [
        (facts[int(experiment.audited.kept[row])], name)
        for name in SPLIT_NAMES
        for row in getattr(split, name)
    ]
    known = {} if earlier is None else earlier.parts
    return usable(folder, some, len(every) - len(some), pixels.facts, labelled, known)


def _passed_over(found: Unlabelled) -> list[str]:
    """Returns sentences on unlabelled images that cannot be read or were not drawn."""
    notes, name = [], found.folder.resolve().name
    unread, undrawn = (found.left_out.get(SAYS[reason], 0) for reason in ("unread", "drawn"))
    if unread:
        images = counted(unread, "unlabelled image")
        notes.append(f"{images} in {name} cannot be read: {found.why_unread}.")
    if undrawn:
        notes.append(
            f"Of {counted(found.images, 'unlabelled image')} in {name}, "
            f"{found.images - undrawn:,} drawn ones are looked at."
        )
    return notes
