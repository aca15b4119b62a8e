"""The images of a folder that are worth a label next, by a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from headstart.artifacts.embeddings import Embeddings, read_embeddings
from headstart.artifacts.files import damaged
from headstart.artifacts.fingerprint import DIGITS, read_fingerprint
from headstart.artifacts.label_file import LabelFile
from headstart.artifacts.originals import Originals, originals
from headstart.data.decode import hash_file
from headstart.data.images import load_image
from headstart.data.label_sets import set_name
from headstart.data.near_duplicates import near_duplicates
from headstart.data.rasters import THUMBNAIL
from headstart.data.reading import Reading
from headstart.diagnose.acquisition import margins, rank_to_label, set_margins
from headstart.errors import DataError, InputError, RunError
from headstart.evaluation.calibration import softmax
from headstart.evaluation.label_rules import decided, probabilities_of
from headstart.evaluation.retrieval import nearest
from headstart.inference.bundle import Bundle, load_bundle
from headstart.inference.image_inputs import ImageInput, image_inputs, why_missing
from headstart.inference.run_bundle import run_bundle
from headstart.progress import Progress
from headstart.recipes.label_options import LabelNextOptions

EMBEDDINGS = "embeddings.safetensors"


class NextImage(BaseModel):
    """An image that is worth a label.

    Attributes:
        rank: 1 for the most useful.
        image: Path of the image, as it was given.
        prediction: Class that the run gives it; all labels, if it may give several.
        probability: Calibrated probability of that class; of several labels, that of the least
            probable, or that none fits.
        margin: Difference of the two largest probabilities, from 0 (undecided) to 1. Of several
            labels, 1 less the mean binary entropy of all labels in bits.

    Example:
        >>> NextImage(rank=1, image="a.jpg", prediction="rose", probability=0.5, margin=0.1).rank
        1
    """

    model_config = ConfigDict(frozen=True)

    rank: int
    image: str
    prediction: str
    probability: float
    margin: float


class LeftOut(BaseModel):
    """An image that was passed over.

    Attributes:
        image: Path of the image, as it was given.
        why: The reason.

    Example:
        >>> LeftOut(image="b.jpg", why="A copy of a.jpg.").image
        'b.jpg'
    """

    model_config = ConfigDict(frozen=True)

    image: str
    why: str


class NextLabels(BaseModel):
    """The images to label next.

    Attributes:
        images: The images, the most useful first.
        candidates: Number of images that they were chosen from.
        labelled: Number of images that have a label already.
        left_out: Images that were passed over: unreadable ones, copies and near-duplicates.

    Example:
        >>> NextLabels(images=(), candidates=0, labelled=3).labelled
        3
    """

    model_config = ConfigDict(frozen=True)

    images: tuple[NextImage, ...]
    candidates: int
    labelled: int = 0
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class _Sorted:
    """Images by what is known of them before the network sees them."""

    new: list[ImageInput]
    labelled: list[ImageInput]
    known: int
    left_out: list[LeftOut]


def next_labels(
    run: Path, images: Any, options: LabelNextOptions, progress: Progress
) -> NextLabels:
    """Chooses the images that are worth a label next.

    Args:
        run: Run folder.
        images: Paths, folders and patterns.
        options: How many, and where labels and the images of the run are.
        progress: Progress display.

    Raises:
        DataError: If a folder has no images, or none can be read.
        InputError: If an image is no file, or the file of labels cannot be used.
        RunError: If the folder is not a finished run.
    """
    bundle, known = _opened(run)
    labels = None if options.manifest is None else LabelFile(options.manifest)
    files = originals(run, options.data)
    sorted_ = _sorted(image_inputs(images), run, labels, progress)
    if bundle.note:
        progress.say(bundle.note)
    if read_fingerprint(run) is None:
        progress.say(f"note: {run} has no data.csv, so its own images count as unlabelled ones.")
    both = [*sorted_.new, *sorted_.labelled]
    outputs = run_bundle(bundle, [each.source for each in both], progress=progress)
    unread = [
        LeftOut(image=both[row].name, why=why_missing(both[row], reason))
        for row, reason in outputs.failed.items()
    ]
    good = np.array([row not in outputs.failed for row in range(len(both))], bool)
    new, old = np.arange(len(sorted_.new)), np.arange(len(sorted_.new), len(both))
    new, old = new[good[new]], old[good[old]]
    if not len(new):
        why = f" {unread[0].why}" if unread else " All have a label, or are copies of such."
        raise DataError(f"There is no image to label.{why}")
    labelled = np.concatenate([known.vectors, outputs.embeddings[old]])
    spec, logits = bundle.spec, outputs.logits[new]
    several = spec.multilabel
    probabilities = (
        probabilities_of(logits, spec.labels) if several else softmax(logits, spec.temperature)
    )
    # Twice as many, because near-duplicates among them are left out.
    most = 2 * options.count
    order = rank_to_label(outputs.embeddings[new], probabilities, labelled, most, several)
    rows = new[order]
    beside = _originals_beside(outputs.embeddings[rows], known.vectors, known.images, files)
    copies = _copies([both[row] for row in rows], beside, bundle)
    kept = [place for place in range(len(rows)) if place not in copies][: options.count]
    reach = kept[-1] + 1 if len(kept) == options.count else len(rows)
    alike = [
        LeftOut(image=both[rows[place]].name, why=f"The same photograph as {other}.")
        for place, other in copies.items()
        if place < reach
    ]
    chosen = _described(bundle, [both[rows[place]] for place in kept], probabilities[order[kept]])
    return NextLabels(
        images=tuple(chosen),
        candidates=len(new),
        labelled=sorted_.known + len(sorted_.labelled),
        left_out=(*sorted_.left_out, *unread, *alike),
    )


def _opened(run: Path) -> tuple[Bundle, Embeddings]:
    """Returns the classifier of a run and the embeddings of its images.

    Raises:
        RunError: If the folder is not a finished run, or is damaged.
    """
    if not (run / "bundle").is_dir():
        raise RunError(f"{run} is not a finished run: it has no bundle. Give the folder of one.")
    bundle = load_bundle(run / "bundle", multilabel=True)
    known = read_embeddings(run / EMBEDDINGS)
    if known.vectors.shape[1] != bundle.embedding:
        detail = f"{known.vectors.shape[1]} numbers an image, and the bundle has {bundle.embedding}"
        raise RunError(damaged(run / EMBEDDINGS, detail))
    return bundle, known


def _sorted(
    given: Sequence[ImageInput], run: Path, labels: LabelFile | None, progress: Progress
) -> _Sorted:
    """Tells new images from those that have a label, by their content, and from copies.

    Raises:
        InputError: If one is no file.
    """
    marks = {mark.sha256: mark.path for mark in read_fingerprint(run) or [] if mark.sha256}
    found, first = _Sorted([], [], 0, []), dict[str, str]()
    known = 0
    for image in progress.track(given, "comparing with the run", len(given)):
        if not isinstance(image.source, Path):
            raise InputError(f"{image.name} is not a file, so no label can be kept for it.")
        if labels is not None and labels.label_of(image.source) is not None:
            found.labelled.append(image)
            continue
        sha256 = hash_file(image.source)[:DIGITS]
        if sha256 and sha256 in marks:
            known += 1
        elif sha256 and sha256 in first:
            found.left_out.append(LeftOut(image=image.name, why=f"A copy of {first[sha256]}."))
        elif labels is not None and (why := labels.why_not(image.source)):
            found.left_out.append(LeftOut(image=image.name, why=why))
        else:
            first[sha256] = image.name
            found.new.append(image)
    return _Sorted(found.new, found.labelled, known, found.left_out)


def _originals_beside(
    vectors: NDArray[np.float32],
    known: NDArray[np.float32],
    names: Sequence[str],
    files: Originals,
) -> dict[str, Path]:
    """Returns the files of the training images that are nearest to some images, by name."""
    if files.root is None:
        return {}
    rows, _ = nearest(vectors, known, 1)
    wanted = {names[row] for row in rows[:, 0].tolist()}
    return {name: file for name in sorted(wanted) if (file := files.find(name)) is not None}


def _copies(
    ranked: Sequence[ImageInput], beside: dict[str, Path], bundle: Bundle
) -> dict[int, str]:
    """Returns the ranked images that show the photograph of a better one or of a labelled one.

    Args:
        ranked: Images, best first.
        beside: Labelled images that are like them.
        bundle: Classifier, for how images are read.

    Returns:
        Name of the other image, by the place of the image.
    """
    reading, side = bundle.spec.reading, bundle.spec.preprocessing.resize
    sources: list[Path | bytes] = [*beside.values(), *(each.source for each in ranked)]
    names, first = [*beside, *(each.name for each in ranked)], len(beside)
    thumbnails = [_thumbnail(source, side, reading) for source in sources]
    found: dict[int, str] = {}
    for pair in near_duplicates(thumbnails, np.zeros(len(sources), np.int64)):
        if pair.second >= first and pair.first - first not in found:
            found.setdefault(pair.second - first, names[pair.first])
    return found


def _thumbnail(source: Path | bytes, side: int, reading: Reading | None) -> NDArray[np.uint8]:
    image = load_image(source, None, side, reading).convert("L")
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC))


def _described(
    bundle: Bundle, images: Sequence[ImageInput], probabilities: NDArray[np.float64]
) -> list[NextImage]:
    several = bundle.spec.multilabel
    between = set_margins(probabilities) if several else margins(probabilities)
    found = []
    for place, image in enumerate(images):
        name, share = _told(bundle, probabilities[place])
        found.append(
            NextImage(
                rank=place + 1,
                image=image.name,
                prediction=name,
                probability=share,
                margin=float(between[place]),
            )
        )
    return found


def _told(bundle: Bundle, probabilities: NDArray[np.float64]) -> tuple[str, float]:
    """Returns what the run says of an image by its probabilities (C,), and how probable it is."""
    classes, rules = bundle.spec.classes, bundle.spec.labels
    if not rules:
        best = int(probabilities.argmax())
        return classes[best], float(probabilities[best])
    order = np.argsort(-probabilities, kind="stable")
    given = [int(each) for each in order if decided(probabilities, rules)[each]]
    share = probabilities[given[-1]] if given else 1 - probabilities.max()
    return set_name(classes[each] for each in given), float(share)
