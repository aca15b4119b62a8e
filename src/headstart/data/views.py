"""Views: the square uint8 images that a network is trained on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from headstart.backbones.preprocessing import Preprocessing
from headstart.data.eval_view import eval_view
from headstart.data.pixels import Pixels
from headstart.methods.augmentation import NoAugmentation, Transform
from headstart.methods.method import Method


@dataclass(frozen=True)
class View:
    """One view of every image: the augmentation that draws it, and its seed and number.

    Attributes:
        augmentation: Policy that draws it; by default the evaluation view.
        seed: Seed for the random draws of an augmented view.
        number: Number of an augmented view, from 0.
        mirror: Whether the evaluation view is mirrored.
    """

    augmentation: Method = field(default=NoAugmentation())
    seed: int = 0
    number: int = 0
    mirror: bool = False

    def transform(self, preprocessing: Preprocessing) -> Transform | None:
        """Returns the function that draws an augmented view; None for the evaluation view."""
        transform: Transform | None = self.augmentation.build(  # type: ignore[attr-defined]
            preprocessing.resolution, preprocessing.interpolation, preprocessing.fill
        )
        return transform


EVALUATION = View()
"""View for evaluation."""


def augmented_view(
    image: Image.Image, transform: Transform, seed: int, index: int, number: int
) -> NDArray[np.uint8]:
    """Returns augmented view `number` (R, R, 3) of image `index`.

    torchvision draws from torch's global generator, so every view is drawn under a fork of it with
    a seed of its own: a view depends on nothing but (seed, image, number).
    """
    digest = hashlib.sha256(f"{seed}/{index}/{number}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(digest[:8], "little"))
        return np.asarray(transform(image))


def view_batches(
    pixels: Pixels,
    indices: Sequence[int] | NDArray[np.int64],
    preprocessing: Preprocessing,
    view: View,
    batch_size: int,
) -> Iterator[NDArray[np.uint8]]:
    """Yields batches (B, R, R, 3) of a view of the images at `indices`, in their order."""
    for start in range(0, len(indices), batch_size):
        some = indices[start : start + batch_size]
        images = [pixels.image(int(index)) for index in some]
        yield view_batch(images, some, preprocessing, view)


def view_batch(
    images: Sequence[NDArray[np.uint8]],
    indices: Sequence[int] | NDArray[np.int64],
    preprocessing: Preprocessing,
    view: View,
) -> NDArray[np.uint8]:
    """Returns a view (B, R, R, 3) of images, each (height, width, 3), whose indices draw it."""
    transform = view.transform(preprocessing)
    views = []
    for array, index in zip(images, indices, strict=True):
        image = Image.fromarray(array)
        if transform is None:
            plain = eval_view(image, preprocessing)
            views.append(plain[:, ::-1] if view.mirror else plain)
        else:
            views.append(augmented_view(image, transform, view.seed, int(index), view.number))
    return np.stack(views)
