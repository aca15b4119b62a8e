"""The bundle: the deployable part of a run, and how images become logits with it alone."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import nn

from headstart.artifacts.files import replacing, write_text
from headstart.backbones.catalog import build_backbone
from headstart.backbones.cut import suffix, trace
from headstart.backbones.engine import Normalize, make_engine
from headstart.backbones.parts import swap_activations
from headstart.backbones.weights import Preprocessing
from headstart.data.decode import load_image
from headstart.data.types import Box
from headstart.data.views import eval_view
from headstart.errors import DataError, RunError
from headstart.methods.activation import Activation, head_activation
from headstart.methods.head import Head, HeadMethod
from headstart.progress import SILENT, Progress
from headstart.retrieval import unit

FORMAT = 1
ENGINE_PAYS_FROM = 96
"""Images from which on exporting the network costs less than it saves."""

ImageSource = Path | bytes


class SetSpec(BaseModel):
    """From which probability on a class is in a set that holds the true one as often as promised.

    Attributes:
        coverage: Share of the sets that hold the true class.
        threshold: A class is in if 1 - p(class) is at most this.
        images: Held-out images that it comes from.
    """

    model_config = ConfigDict(frozen=True)

    coverage: float
    threshold: float
    images: int


class RangeSpec(BaseModel):
    """From which distance on an image is unlike all training images.

    Attributes:
        k: The k-th nearest embedding in `range.safetensors` counts.
        threshold: The cosine distance.
        false_alarm: Share of images like the training images that are flagged, by calibration.
        calibrated_on: Which images that was.
        sha256: Of `range.safetensors`.
    """

    model_config = ConfigDict(frozen=True)

    k: int
    threshold: float
    false_alarm: float
    calibrated_on: str
    sha256: str = ""


class BundleSpec(BaseModel):
    """Everything about a classifier but its weights."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    backbone: str
    features: int
    boundary: str
    taps: tuple[str, ...]
    head: HeadMethod
    activation: Activation
    test_time_flip: bool
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    recipe: dict[str, Any]
    weights_sha256: str
    pretrained_sha256: str
    licence: str
    data_sha256: str
    versions: dict[str, str]
    sets: tuple[SetSpec, ...] = ()  # bundles made before there were sets and ranges have neither
    range: RangeSpec | None = None


@dataclass(frozen=True)
class Bundle:
    """A classifier ready for use.

    Attributes:
        spec: What is known of it.
        network: uint8 views (N, R, R, 3) to logits and embeddings (N, C + E), in eval mode.
        gallery: Embeddings (G, E), of length 1, that images in range are near to; None where the
            bundle has no range.
    """

    spec: BundleSpec
    network: "Classifier"
    gallery: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Outputs:
    """What a classifier says of images; NaN in the rows of those that cannot be read.

    Attributes:
        logits: (N, C).
        embeddings: What enters the head's last layer (N, E).
        failed: Why an image cannot be read, by row.
    """

    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    failed: dict[int, str]


class Classifier(nn.Module):
    """The whole network: uint8 views (N, R, R, 3) to logits and embeddings (N, C + E)."""

    def __init__(self, features: nn.Module, head: Head, flip: bool) -> None:
        super().__init__()
        self.features, self.head, self.flip = features, head, flip

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Returns the logits, averaged with the mirror images' where asked, then the embeddings."""
        embeddings = self.head.embed(self.features(views))
        logits = self.head.out(embeddings)
        if self.flip:
            logits = (logits + self.head(self.features(views.flip(2)))) / 2
        return torch.cat([logits, embeddings], 1)


def assemble(backbone: nn.Module, head: Head, spec: BundleSpec) -> Classifier:
    """Returns the whole network in eval mode; the backbone gets the recipe's activations."""
    traced = trace(backbone, spec.preprocessing.resolution)
    if getattr(spec.activation, "where", "") in {"suffix", "both"}:
        swap_activations(traced, spec.boundary, spec.activation.build)
    features = suffix(traced, "input", spec.taps) if spec.taps else backbone
    normalize = Normalize(spec.preprocessing.mean, spec.preprocessing.std)
    return Classifier(nn.Sequential(normalize, features), head, spec.test_time_flip).eval()


def save_bundle(
    folder: Path,
    spec: dict[str, Any],
    backbone: nn.Module,
    head: nn.Module,
    known: tuple[RangeSpec, NDArray[np.float16]] | None = None,
) -> BundleSpec:
    """Writes the bundle and returns its spec.

    Args:
        folder: Where to.
        spec: All fields of the spec but the range and the weights' hash.
        backbone: With the weights that are shipped.
        head: Too.
        known: The range and its gallery (G, E).
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
        for part, module in (("backbone", backbone), ("head", head))
        for name, tensor in module.state_dict().items()
    }
    weights = folder / "model.safetensors"
    with replacing(weights) as draft:
        save_file(tensors, draft)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if known is not None:
        limits, gallery = known
        path = folder / "range.safetensors"
        with replacing(path) as draft:
            save_arrays({"gallery": np.ascontiguousarray(gallery, np.float16)}, draft)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        spec = {**spec, "range": limits.model_copy(update={"sha256": found})}
    checked = BundleSpec.model_validate({**spec, "weights_sha256": digest})
    write_text(folder / "bundle.json", checked.model_dump_json(indent=1) + "\n")
    return checked


def read_spec(folder: Path) -> BundleSpec:
    """Reads what a bundle says of itself, without its weights.

    Raises:
        RunError: If it is no bundle or cannot be read.
    """
    try:
        return BundleSpec.model_validate_json((folder / "bundle.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{folder} is no bundle: it has no {Path(error.filename).name}.") from None
    except (OSError, ValidationError) as error:
        raise RunError(f"cannot read the bundle {folder}: {error}") from None


def load_bundle(folder: Path) -> Bundle:
    """Rebuilds the classifier from a bundle's folder alone.

    Raises:
        RunError: If it is no bundle, is of a newer format, or is damaged.
    """
    weights, spec = folder / "model.safetensors", read_spec(folder)
    try:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        if spec.format != FORMAT:
            raise RunError(f"{folder} has format {spec.format}; this headstart reads {FORMAT}.")
        if digest != spec.weights_sha256:
            raise RunError(f"{weights} is damaged: its hash is not the one in bundle.json.")
        tensors = load_file(weights)
        gallery = _gallery(folder, spec.range) if spec.range else None
    except FileNotFoundError as error:
        raise RunError(f"{folder} is no bundle: it has no {Path(error.filename).name}.") from None
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot read the bundle {folder}: {error}") from None
    backbone = build_backbone(spec.backbone, resolution=spec.preprocessing.resolution)
    head = spec.head.build(spec.features, len(spec.classes), head_activation(spec.activation))
    for part, module in (("backbone", backbone), ("head", head)):
        prefix = part + "."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        module.load_state_dict(state)
    return Bundle(spec, assemble(backbone, head, spec), gallery)


def _gallery(folder: Path, known: RangeSpec) -> NDArray[np.float32]:
    """Reads the gallery of a range.

    Raises:
        RunError: If it is damaged.
    """
    path = folder / "range.safetensors"
    if hashlib.sha256(path.read_bytes()).hexdigest() != known.sha256:
        raise RunError(f"{path} is damaged: its hash is not the one in bundle.json.")
    return unit(load_arrays(path)["gallery"])


def run_bundle(
    bundle: Bundle,
    images: Sequence[ImageSource],
    boxes: Sequence[Box | None] | None = None,
    progress: Progress = SILENT,
    description: str = "predicting",
) -> Outputs:
    """Returns logits and embeddings of image files or their bytes, in float32.

    Args:
        bundle: The classifier.
        images: Paths, or the bytes of image files.
        boxes: Where to crop each image first.
        progress: Where progress is shown.
        description: What the progress bar says.
    """
    spec = bundle.spec
    failed: dict[int, str] = {}
    width = len(spec.classes) + _embedding_width(bundle)
    outputs = np.full((len(images), width), np.nan, np.float32)

    def view(row: int) -> NDArray[np.uint8] | None:
        box = boxes[row] if boxes else None
        source = images[row]
        try:
            image = load_image(
                BytesIO(source) if isinstance(source, bytes) else source,
                box,
                spec.preprocessing.resize,
            )
        except DataError as error:
            failed[row] = str(error)
            return None
        return eval_view(image, spec.preprocessing)

    run = _runner(bundle, len(images))
    with ThreadPoolExecutor() as pool:
        batches = _in_batches(pool, view, len(images), size=16)
        total = -(-len(images) // 16)
        for start, views in progress.track(batches, description, total):
            good = [position for position, v in enumerate(views) if v is not None]
            if good:
                stacked = np.stack([v for v in views if v is not None])
                outputs[[start + position for position in good]] = run(stacked)
    logits, embeddings = np.split(outputs, [len(spec.classes)], axis=1)
    return Outputs(logits, embeddings, failed)


def _embedding_width(bundle: Bundle) -> int:
    with torch.inference_mode():
        head: Head = bundle.network.head
        return int(head.embed(torch.zeros(1, bundle.spec.features)).shape[1])


def _runner(bundle: Bundle, images: int) -> Any:
    device = torch.device("cpu")
    if images >= ENGINE_PAYS_FROM:
        resolution = bundle.spec.preprocessing.resolution
        example = np.zeros((2, resolution, resolution, 3), np.uint8)
        return make_engine(bundle.network, example, device).run

    def eager(views: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: torch.Tensor = bundle.network(torch.from_numpy(views))
            return output.float().numpy()

    return eager


def _in_batches(
    pool: ThreadPoolExecutor, view: Any, rows: int, size: int
) -> Iterator[tuple[int, list[NDArray[np.uint8] | None]]]:
    """Yields (first row, views), with the next batch being decoded meanwhile."""
    ahead = [
        (start, [pool.submit(view, row) for row in range(start, min(start + size, rows))])
        for start in range(0, min(2 * size, rows), size)
    ]
    for start in range(0, rows, size):
        _, futures = ahead.pop(0)
        following = start + 2 * size
        if following < rows:
            end = min(following + size, rows)
            ahead.append((following, [pool.submit(view, row) for row in range(following, end)]))
        yield start, [future.result() for future in futures]
