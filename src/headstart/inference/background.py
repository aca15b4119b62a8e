"""Images of no class (`--background`): how far new images are from them helps to reject those."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from headstart.artifacts.bundle_spec import BACKGROUND, SPEC, BackgroundSpec, read_spec
from headstart.artifacts.files import replacing, write_model
from headstart.data.decode import hash_file
from headstart.data.images import load_image
from headstart.data.images_in import images_in
from headstart.data.pixels import Facts
from headstart.errors import DataError, InputError
from headstart.evaluation.conformal import GALLERY, NEIGHBOURS, TrainingDistribution
from headstart.evaluation.retrieval import unit
from headstart.inference.bundle import load_bundle
from headstart.inference.run_bundle import run_bundle
from headstart.text import counted, percent
from headstart.training.run_context import RunContext

_SMALL = 16
"""Side to which images are reduced to see whether they can be read."""


def background_images(
    folder: Path, facts: Sequence[Facts]
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Returns the images of no class in a folder, at most 2,000, and notes on what is passed over.

    Args:
        folder: The folder.
        facts: What is known of the labelled images: copies of these are no background.

    Raises:
        DataError: If there are too few images.
        InputError: If there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"--background {folder} is not a folder. Give a folder of images.")
    files, labelled = images_in([folder]), {fact.sha256 for fact in facts if fact.sha256}
    hashes = [(hash_file(file), file) for file in files]
    others = [(sha256, file) for sha256, file in hashes if sha256 not in labelled]
    # A copy would be its own nearest image. What cannot be read has no hash.
    kept = sorted({sha256 or str(file): file for sha256, file in reversed(others)}.values())
    notes = []
    if len(others) < len(files):
        notes.append(
            f"{len(files) - len(others):,} of {counted(len(files), 'image')} in {folder.name} are "
            "labelled images of the data set, so they are no background."
        )
    if len(kept) < len(others):
        copies = f"{len(others) - len(kept):,} of {counted(len(files), 'image')}"
        notes.append(f"Copies within {folder.name} count once: {copies} are left out.")
    if len(kept) > GALLERY:
        notes.append(f"Of {len(kept):,} background images, {GALLERY:,} drawn ones are used.")
        drawn = np.sort(np.random.default_rng(0).permutation(len(kept))[:GALLERY])
        kept = [kept[row] for row in drawn]
    _check_enough(folder, len(kept), notes)
    _check_readable(folder, kept)
    return tuple(kept), tuple(notes)


def embedded(run: RunContext, files: Sequence[Path]) -> NDArray[np.float16]:
    """Returns the embeddings (B, E) of background images by the bundle of a run, of length 1.

    The bundle has no `model.onnx` yet: that file names the description, which has to know the
    background.

    Raises:
        DataError: If too few can be read.
    """
    bundle = load_bundle(run.folder / "bundle", multilabel=True)
    outputs = run_bundle(bundle, files, progress=run.progress, description="background images")
    if outputs.failed:
        run.note(
            f"{counted(len(outputs.failed), 'background image')} cannot be read: "
            f"{next(iter(outputs.failed.values()))}"
        )
    good = [row for row in range(len(files)) if row not in outputs.failed]
    _check_enough(files[0].parent, len(good), [])
    return unit(outputs.embeddings[good]).astype(np.float16)


def write_background(folder: Path, known: TrainingDistribution) -> None:
    """Adds the background to a bundle without `model.onnx`.

    Args:
        folder: Bundle folder.
        known: Distribution with a background, which was calibrated with it.
    """
    assert known.background is not None
    path = folder / BACKGROUND
    with replacing(path) as draft:
        save_file({"gallery": np.ascontiguousarray(known.background, np.float16)}, draft)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = BackgroundSpec(threshold=known.threshold, images=len(known.background), sha256=sha256)
    write_model(folder / SPEC, read_spec(folder).model_copy(update={"background": spec}))


def rejected_background(known: TrainingDistribution) -> NDArray[np.bool_]:
    """Returns which background images (B,) would be rejected if the others alone were known."""
    assert known.background is not None
    to_others = known.background @ known.background.T
    np.fill_diagonal(to_others, -1)
    to_training = known.background @ known.gallery.T
    nearest = [
        1 - np.partition(cosines, -known.k, axis=1)[:, -known.k]
        for cosines in (to_training, to_others)
    ]
    return np.asarray(nearest[0] - nearest[1] > known.threshold)


def told(known: TrainingDistribution) -> str:
    """Returns a sentence on how well background images are rejected."""
    away = rejected_background(known)
    return (
        f"{int(away.sum()):,} of {counted(len(away), 'background image')} "
        f"({percent(float(away.mean()))}) are rejected when each is left out of the background."
    )


def _check_enough(folder: Path, count: int, notes: Sequence[str]) -> None:
    if count <= NEIGHBOURS:
        few = (
            f"{folder} has {counted(count, 'background image')}, and at least {NEIGHBOURS + 1} "
            "are needed."
        )
        cure = "Add images that belong to no class, or leave --background out."
        raise DataError(" ".join([few, *notes, cure]))


def _check_readable(folder: Path, files: Sequence[Path]) -> None:
    """Checks, before any work, that enough of the images can be read."""
    readable, why = 0, ""
    for file in files:
        try:
            load_image(file, short_side=_SMALL)
        except DataError as error:
            why = why or str(error)
        else:
            readable += 1
        if readable > NEIGHBOURS:
            return
    _check_enough(folder, readable, [f"Others cannot be read: {why}"])
