"""A file of predictions that grows, and that a later process can continue."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from headstart.artifacts.bundle_spec import BundleSpec, description_hash
from headstart.artifacts.files import check_writable, is_disk_full, read_model, write_model
from headstart.data.locks import try_lock
from headstart.errors import DiskFullError, InputError, RunError, first_line
from headstart.inference.predict import Prediction
from headstart.inference.prediction_rows import encoded, form_of, header, image_of, read_rows, rows
from headstart.inputs.regular_files import check_regular, open_regular


class MadeBy(BaseModel):
    """What the predictions in a file were made with, kept beside it.

    Attributes:
        bundle_sha256: Hash of the description of the bundle, which names its other files by theirs.
        classes: Classes, in the order of the columns.
        set_coverage: Coverage of the prediction sets; None without them.
        reject: Whether images that are unlike the training images are `unknown`.
        multilabel: Whether an image gets any number of labels.

    Example:
        >>> MadeBy(bundle_sha256="ab", classes=("rose", "tulip")).set_coverage is None
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle_sha256: str
    classes: tuple[str, ...]
    set_coverage: float | None = None
    reject: bool = Field(False, exclude_if=lambda reject: not reject)
    multilabel: bool = Field(False, exclude_if=lambda several: not several)


def made_by(
    bundle: Path, spec: BundleSpec, set_coverage: float | None, reject: bool = False
) -> MadeBy:
    """Returns what predictions of a bundle are made with.

    Args:
        bundle: Bundle folder.
        spec: Its description.
        set_coverage: Coverage of the prediction sets.
        reject: Whether images that are unlike the training images are `unknown`.
    """
    return MadeBy(
        bundle_sha256=description_hash(bundle),
        classes=spec.classes,
        set_coverage=set_coverage,
        multilabel=spec.multilabel,
        reject=reject,
    )


def about_file(path: Path) -> Path:
    """Returns the file that says what the predictions in another one were made with.

    Example:
        >>> about_file(Path("found.csv")).name
        'found.csv.about.json'
    """
    return path.with_name(f"{path.name}.about.json")


class DoneImages:
    """The images that have a row, by hashes of 16 bytes: a million take 32 MB.

    Example:
        >>> done = DoneImages(["a.jpg", "b.jpg", "a.jpg"])
        >>> done.take("a.jpg"), done.take("a.jpg"), done.take("a.jpg"), done.take("c.jpg")
        (True, True, False, False)
        >>> done.left
        1
    """

    def __init__(self, names: Iterable[str]) -> None:
        hashes = np.fromiter((_hash(name) for name in names), "S32")
        self._hashes = np.sort(hashes)
        self._taken = np.zeros(len(hashes), bool)

    def take(self, name: str) -> bool:
        """Returns whether a row is there that was not yet taken for this name, and takes it."""
        wanted = _hash(name)
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            if not self._taken[place]:
                self._taken[place] = True
                return True
            place += 1
        return False

    @property
    def left(self) -> int:
        """Number of rows that were not taken."""
        return int(np.count_nonzero(~self._taken))

    def __len__(self) -> int:
        return len(self._hashes)


def _hash(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest().encode()


class PredictionFile:
    """An open file of predictions.

    Attributes:
        path: The file.
        done: Images that had a row when it was opened.
        repaired: Bytes of a half-written row that were removed then.
    """

    def __init__(self, path: Path, file: BinaryIO, made: MadeBy) -> None:
        self.path = path
        self.repaired = 0
        self._file = file
        self._form = form_of(path)
        self._classes, self._multilabel = made.classes, made.multilabel
        self.done = self._read()

    def write(self, predictions: Sequence[Prediction]) -> None:
        """Appends rows.

        Raises:
            DiskFullError: If there is no space left.
        """
        self._append(rows(predictions, self._classes, self._form))

    def _read(self) -> DoneImages:
        """Returns the images that have a row, and removes a last row that is cut off.

        Raises:
            RunError: If a row is damaged, or the columns are others.
        """
        first = header(self._classes, self._form, self._multilabel)
        end = 0

        def names() -> Iterator[str]:
            nonlocal end
            with open_regular(self.path) as there:
                for number, (ends, row) in enumerate(read_rows(there, self._form), start=1):
                    if number > 1 or not first:
                        yield self._name(row, number)
                    elif row != first:
                        raise RunError(f"{self.path} has other columns. {_OTHER_NAME}")
                    end = ends

        done = DoneImages(names())
        self.repaired = os.fstat(self._file.fileno()).st_size - end
        self._file.truncate(end)
        if not end:
            self._append(first)
        return done

    def _name(self, row: str, number: int) -> str:
        try:
            return image_of(row, self._classes, self._form)
        except ValueError as error:
            raise RunError(
                f"Row {number:,} of {self.path} is damaged: {first_line(error).rstrip('.')}. "
                "Remove that row, or write to another file."
            ) from None

    def _append(self, text: str) -> None:
        try:
            self._file.write(encoded(text, self._form))
            self._file.flush()
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise DiskFullError(
                f"There is no space left for {self.path}. Free some space and continue it with "
                "--resume."
            ) from None


@contextmanager
def open_predictions(path: Path, made: MadeBy, resume: bool) -> Iterator[PredictionFile]:
    """Opens a file to which predictions are appended.

    Args:
        path: File, `.csv` or `.jsonl`.
        made: What they are made with.
        resume: Whether a file that is there is continued.

    Raises:
        InputError: If the file is there and is not to be continued, another process writes to it,
            or its name, its folder or what it is does not fit.
        RunError: If it was made with something else, or is damaged.
    """
    form_of(path)
    check_writable(path)
    if os.path.lexists(path):
        check_regular(path)
    with try_lock(path) as free:
        if not free:
            raise InputError(f"Another process is writing to {path}. Wait until it ends.")
        if path.stat().st_size == 0:
            write_model(about_file(path), made)
        elif resume:
            _check_same(path, made)
        else:
            raise InputError(
                f"{path} is there already. Continue it with --resume, or write to another file."
            )
        with path.open("ab") as file:
            yield PredictionFile(path, file, made)
            os.fsync(file.fileno())


_OTHER_NAME = "Write to another file."


def _check_same(path: Path, made: MadeBy) -> None:
    about = about_file(path)
    found = read_model(about, MadeBy, strict=False)
    if found is None:
        raise RunError(
            f"{path} cannot be continued: {about.name}, which says what it was made with, is not "
            f"beside it. {_OTHER_NAME}"
        )
    if (found.bundle_sha256, found.classes) != (made.bundle_sha256, made.classes):
        raise RunError(f"{path} was made with another classifier. {_OTHER_NAME}")
    if found.set_coverage != made.set_coverage:
        with_it = (
            "without --set-coverage"
            if found.set_coverage is None
            else f"with --set-coverage {found.set_coverage:g}"
        )
        raise RunError(f"{path} was made {with_it}. Continue it so, or write to another file.")
    if found.reject != made.reject:
        with_it = "with --reject" if found.reject else "without --reject"
        raise RunError(f"{path} was made {with_it}. Continue it so, or write to another file.")
