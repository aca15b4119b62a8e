"""Writes an export, runs it on the sealed test images, and keeps it if it answers as the run."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from headstart.artifacts.bundle_spec import BundleSpec, read_spec
from headstart.artifacts.files import write_model
from headstart.artifacts.records import TestPrediction
from headstart.artifacts.run import check_unclaimed, read_predictions, read_record
from headstart.artifacts.set_results import SetPrediction, read_set_predictions
from headstart.backbones.preprocessing import Preprocessing
from headstart.data.cache_dir import default_cache_dir
from headstart.errors import ExportError, InputError
from headstart.export.parity import MOST_DIFFERENCE, Limits, Parity, failures, measure
from headstart.export.run_images import RawImage, test_images, view_batches, whole_images
from headstart.export.set_parity import SetParity, measure_sets, set_failures
from headstart.export.target import Exporting, Written
from headstart.progress import Progress
from headstart.recipes.export_options import ExportOptions

TARGETS = {
    "onnx": "headstart.export.onnx",
    "int8": "headstart.export.int8",
    "openvino": "headstart.export.openvino",
    "torch-export": "headstart.export.torch_export",
    "timm": "headstart.export.timm",
    "hub": "headstart.export.hub",
    "web": "headstart.export.web",
}
"""Modules of the targets by their names; each has `write`."""

SUMMARY = "export.json"
"""The file of an export that holds its figures."""

BATCH = 16

OWN_VIEWS = (
    "Its own preprocessing sees other pixels than headstart, which shrinks large JPEGs while it "
    "decodes them and cuts very long images."
)


class Exported(BaseModel):
    """An export that answers as its run did.

    Attributes:
        to: Its target.
        folder: Its folder.
        files: Size of each of its files in bytes.
        runtime: What it was compared in, with its version.
        parity: Its figures on the sealed test images, on the views that headstart makes of them.
        own_preprocessing: The same with the preprocessing that the target brings itself; None if
            it brings none.
        classes: Names of the classes, or of the labels, in the order of the outputs.
        thresholds: Probability from which an image gets each label, in the same order; None where
            it has one class.
        preprocessing: How headstart makes the views.
        temperature: What the logits are divided by, for probabilities.
        notes: Sentences that a user of it should know.

    Example:
        >>> parity = Exported.model_fields["parity"].annotation
        >>> [kind.__name__ for kind in parity.__args__]
        ['Parity', 'SetParity']
    """

    model_config = ConfigDict(frozen=True)

    to: str
    folder: Path
    files: dict[str, int]
    runtime: str
    parity: Parity | SetParity
    own_preprocessing: Parity | SetParity | None = None
    classes: tuple[str, ...] = ()
    thresholds: tuple[float, ...] | None = Field(None, exclude_if=lambda known: known is None)
    preprocessing: Preprocessing
    temperature: float
    notes: tuple[str, ...] = ()


def export_run(run: Path, options: ExportOptions, progress: Progress) -> Exported:
    """Writes an export of a run and compares it; see `headstart.export`."""
    if not (run / "bundle").is_dir():
        raise InputError(
            f"{run} is not the folder of a run. An export is compared with the sealed test of its "
            "run, so a bundle alone is not enough."
        )
    record, spec = read_record(run), read_spec(run / "bundle")
    recorded = _Recorded(run, spec)
    cache_dir = default_cache_dir()
    exporting = Exporting(run, record, spec, options.data, cache_dir, options)
    images = test_images(run, record, recorded.names, options.data, cache_dir)
    out = options.out or run / "export" / options.to
    with _kept_if_good(out) as draft:
        progress.say(f"writing {options.to}")
        written: Written = import_module(TARGETS[options.to]).write(exporting, draft)
        probabilities = run_export(written, images, spec, progress)
        parity = recorded.beside(probabilities)
        if wrong := _failures(parity, written.limits, options.max_loss):
            raise ExportError(
                f"The {options.to} export of {run} was not kept, because it does not answer as the "
                f"run did on its sealed test: {'; '.join(wrong)}."
            )
        own, notes = None, written.notes
        if written.from_file and not any(image.box for image in images):
            rows = [written.from_file(image.path) for image in images]
            own = recorded.beside(np.stack(rows))
            if own.largest_difference > MOST_DIFFERENCE:
                notes += (OWN_VIEWS,)
        exported = Exported(
            to=options.to,
            folder=out,
            files=_sizes(draft),
            runtime=written.runtime,
            parity=parity,
            own_preprocessing=own,
            classes=tuple(spec.classes),
            thresholds=tuple(rule.threshold for rule in spec.labels) or None,
            preprocessing=spec.preprocessing,
            temperature=spec.temperature,
            notes=notes,
        )
        # Where it lies is not part of it.
        write_model(draft / SUMMARY, exported.model_copy(update={"folder": Path()}))
    return exported


class _Recorded:
    """The recorded predictions of a run on its sealed test images.

    Args:
        run: Run folder.
        spec: Description of its classifier.

    Raises:
        RunError: If it is not a finished run.
    """

    def __init__(self, run: Path, spec: BundleSpec) -> None:
        self.spec = spec
        self.one: list[TestPrediction] = [] if spec.multilabel else read_predictions(run)
        self.several: list[SetPrediction] = read_set_predictions(run) if spec.multilabel else []
        self.names = [each.path for each in self.several or self.one]

    def beside(self, probabilities: NDArray[np.floating]) -> Parity | SetParity:
        """Compares them with the probabilities (N, C) of an export."""
        if self.spec.multilabel:
            return measure_sets(self.several, probabilities, self.spec)
        return measure(self.one, probabilities, self.spec.classes)


def _failures(parity: Parity | SetParity, limits: Limits, max_loss: float) -> list[str]:
    if isinstance(parity, SetParity):
        return set_failures(parity, limits, max_loss)
    return failures(parity, limits, max_loss)


def run_export(
    written: Written, images: Sequence[RawImage], spec: BundleSpec, progress: Progress
) -> NDArray[np.float64]:
    """Returns the probabilities (N, C) that an export gives images, from their raw files."""
    size = 1 if written.any_size else BATCH
    batches = whole_images(images, spec) if written.any_size else view_batches(images, spec, size)
    tracked = progress.track(batches, "comparing with the run", -(-len(images) // size))
    return np.concatenate([np.asarray(written.classify(batch), np.float64) for batch in tracked])


@contextmanager
def _kept_if_good(out: Path) -> Iterator[Path]:
    """Yields a new folder that becomes `out` if the block ends without an error.

    Raises:
        RunError: If there is something in `out` already.
        InputError: If it cannot be written.
    """
    check_unclaimed(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise InputError(f"Cannot create the folder {out}: {error.strerror}.") from None
    try:
        yield draft
        draft.chmod(0o755)
        draft.replace(out)  # takes the place of an empty folder
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
