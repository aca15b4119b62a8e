"""The work behind the service: images to predictions and explanations, by a bundle."""

import base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart import __version__
from headstart.artifacts.bundle_spec import description_hash
from headstart.artifacts.embeddings import Embeddings, read_embeddings
from headstart.artifacts.run import read_record
from headstart.data.images import read_header
from headstart.data.rasters import BadImageError
from headstart.errors import DataError, RunError
from headstart.evaluation.retrieval import nearest
from headstart.inference.bundle import Bundle, open_bundle
from headstart.inference.image_inputs import ImageInput
from headstart.inference.predict import Prediction, predictions_of
from headstart.inference.run_bundle import Outputs, view_of
from headstart.inputs.machine import available_cores
from headstart.serving.answers import (
    Explanation,
    LabelExplanation,
    LabelPredictions,
    ModelFacts,
    Predictions,
    RequestLimits,
    Similar,
)
from headstart.serving.batches import Batcher
from headstart.serving.decisions import (
    heats_of,
    image_labels,
    sealed_result,
    the_heat_of,
    thresholds_of,
)
from headstart.serving.occlusion import hidden_views
from headstart.serving.options import ServeOptions
from headstart.serving.thumbnails import Thumbnails

SIMILAR = 5
"""Most similar training images in an explanation."""


@dataclass(frozen=True)
class SeenImage:
    """An image that was read, or why it could not be.

    Attributes:
        name: Its name, for the answer.
        view: Evaluation view (R, R, 3); None if it could not be read.
        depth: Type of its values.
        error: Why it could not be read.
    """

    name: str
    view: NDArray[np.uint8] | None = None
    depth: str = ""
    error: str = ""


class Service:
    """A classifier with the threads that run it.

    Args:
        folder: Run folder, or bundle.
        options: Limits of the service.
        saw: Called with the number of images of each batch.

    Raises:
        InputError: If there is no folder `data`.
        RunError: If the folder is not a finished run or a bundle, or is damaged.
    """

    def __init__(self, folder: Path, options: ServeOptions, saw: Callable[[int], object]) -> None:
        self.options = options
        self.bundle: Bundle = open_bundle(folder, multilabel=True)
        self._known: Embeddings | None = None
        self._pictures: Thumbnails | None = None
        if (folder / "bundle").is_dir() and not options.hide_training_images:
            self._pictures = Thumbnails(folder, options.data, self.bundle.spec.reading)
            if (folder / "embeddings.safetensors").exists():
                self._known = read_embeddings(folder / "embeddings.safetensors")
        self.facts = self._facts(folder)
        run = self.bundle.runner(options.batch)
        self.batcher = Batcher(run, options.batch, saw)
        self.pool = ThreadPoolExecutor(available_cores(), "images")

    def close(self) -> None:
        """Finishes what was begun, and ends the threads."""
        self.pool.shutdown(cancel_futures=True)
        self.batcher.close()

    def see(self, name: str, content: bytes) -> SeenImage:
        """Reads an image, if it has no more pixels than are allowed.

        Args:
            name: Its name, for the answer.
            content: The bytes of its file.
        """
        spec, most = self.bundle.spec, self.options.max_pixels
        try:
            header = read_header(content, spec.reading)
            if header.width * header.height > most:
                what = f"it has {header.width:,} x {header.height:,} pixels, and at most {most:,}"
                return SeenImage(name, error=f"Cannot use the image: {what} are read here.")
            view, depth = view_of(content, spec)
        except BadImageError as bad:
            return SeenImage(name, error=f"Cannot use the image: {bad.reason}.")
        except DataError as error:
            return SeenImage(name, error=str(error))
        return SeenImage(name, view, depth)

    def predictions(
        self,
        images: Sequence[SeenImage],
        arrays: tuple[NDArray[np.float32], NDArray[np.float32]],
        set_coverage: float | None = None,
    ) -> list[Prediction]:
        """Returns the predictions for images.

        Args:
            images: The images.
            arrays: Logits and embeddings of those that could be read.
            set_coverage: Coverage of prediction sets, one that the bundle is calibrated for.
        """
        good = [row for row, image in enumerate(images) if image.view is not None]
        classes = len(self.bundle.spec.classes)
        logits = np.full((len(images), classes), np.nan, np.float32)
        embeddings = np.full((len(images), self.bundle.embedding), np.nan, np.float32)
        logits[good], embeddings[good] = arrays
        outputs = Outputs(
            logits,
            embeddings,
            {row: image.error for row, image in enumerate(images) if image.view is None},
            {row: images[row].depth for row in good},
        )
        given = [ImageInput(image.name, b"") for image in images]
        return predictions_of(self.bundle, given, outputs, set_coverage)

    def answer(self, predictions: list[Prediction]) -> Predictions | LabelPredictions:
        """Returns predictions as they are answered."""
        if not self.bundle.spec.multilabel:
            return Predictions(predictions=predictions)
        return LabelPredictions(
            predictions=[image_labels(each, self.bundle.spec) for each in predictions]
        )

    def explanation(self, image: SeenImage) -> Explanation | LabelExplanation:
        """Returns the prediction for an image that could be read, and what explains it."""
        assert image.view is not None
        views = np.concatenate([image.view[None], hidden_views(image.view)])
        logits, embeddings = self.batcher.submit(views).result(self.options.timeout)
        (prediction,) = self.predictions([image], (logits[:1], embeddings[:1]))
        spec, view = self.bundle.spec, _data_url(_png(image.view), "image/png")
        similar = self._similar(embeddings[:1])
        if spec.multilabel:
            return LabelExplanation(
                prediction=image_labels(prediction, spec),
                heats=heats_of(logits, prediction, spec),
                view=view,
                similar=similar,
            )
        heat = the_heat_of(logits, prediction, spec, view)
        return Explanation(prediction=prediction, heat=heat, similar=similar)

    def _similar(self, embedding: NDArray[np.float32]) -> list[Similar]:
        known, pictures = self._known, self._pictures
        if known is None or pictures is None:
            return []
        found = []
        rows, cosines = nearest(embedding, known.vectors, SIMILAR)
        for row, cosine in zip(rows[0], cosines[0], strict=True):
            name, picture = known.images[row], pictures.of(known.images[row])
            url = "" if picture is None else _data_url(picture, "image/jpeg")
            found.append(
                Similar(image=name, label=known.labels[row], similarity=float(cosine), picture=url)
            )
        return found

    def _facts(self, folder: Path) -> ModelFacts:
        spec, options, test, name = self.bundle.spec, self.options, None, folder.resolve().name
        inner = folder / "bundle"
        if inner.is_dir():
            try:
                name, test = read_record(folder).data_name, sealed_result(folder, spec)
            except RunError as error:
                raise RunError(f"{error} To serve the classifier alone, give {inner}.") from None
        return ModelFacts(
            name=name,
            classes=spec.classes,
            thresholds=thresholds_of(spec),
            backbone=spec.backbone,
            licence=spec.licence,
            resolution=spec.preprocessing.resolution,
            embedding=self.bundle.embedding,
            coverages=tuple(each.coverage for each in spec.sets),
            knows_distance=spec.distribution is not None,
            shows_training_images=self._known is not None,
            test=test,
            sha256=description_hash(inner if inner.is_dir() else folder),
            version=__version__,
            limits=RequestLimits(
                images=options.max_images,
                bytes=options.max_bytes,
                pixels=options.max_pixels,
                seconds=options.timeout,
            ),
        )


def _png(view: NDArray[np.uint8]) -> bytes:
    stream = BytesIO()
    Image.fromarray(view).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
