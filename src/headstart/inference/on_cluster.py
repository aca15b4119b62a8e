"""Predictions in the processes of a cluster, which get names of files and give lines of JSON."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from headstart.errors import InputError
from headstart.inference.bundle import load_bundle
from headstart.inference.image_inputs import ImageInput
from headstart.inference.predict import Prediction, predict_batches


class ClassifyFiles:
    """Classifies files in a process of a cluster, which opens the bundle once.

    Args:
        bundle: Bundle folder, which the machine sees.
        folder: Folder that relative names start from.
        set_coverage: Coverage of prediction sets; None without them.
    """

    def __init__(self, bundle: str, folder: str, set_coverage: float | None) -> None:
        self._bundle = load_bundle(Path(bundle), multilabel=True)
        self._folder = Path(folder)
        self._coverage = set_coverage

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Returns predictions as lines of JSON for the names of files."""
        names = map(os.fsdecode, batch["job"])
        images = (ImageInput(name, self._folder / name) for name in names)
        found = (
            json.dumps(prediction.model_dump()).encode()
            for batch in predict_batches(self._bundle, images, self._coverage)
            for prediction in batch
        )
        return {"result": list(found)}


def jobs_of(images: Iterable[ImageInput]) -> Iterator[bytes]:
    """Yields the names of images as they are sent: names of files may be any bytes.

    Raises:
        InputError: If an image is no file.
    """
    for image in images:
        if isinstance(image.source, bytes):
            raise InputError(f"A cluster classifies files, and {image.name} is none. Save it.")
        yield os.fsencode(image.source)


def predictions_in(lines: Iterable[bytes]) -> list[Prediction]:
    """Returns predictions that `ClassifyFiles` gave."""
    return [Prediction.model_validate(json.loads(line)) for line in lines]
