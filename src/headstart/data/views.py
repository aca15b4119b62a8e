"""Views: the square uint8 images that a network sees."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from headstart.backbones.weights import Preprocessing
from headstart.data.decode import Pixels
from headstart.methods.augmentation import View


def eval_view(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Returns the view (R, R, 3) that an image is evaluated by: shorter side resized, centre cut.

    The image may already have been resized to `preprocessing.resize`; then only the centre is cut.
    """
    resolution = preprocessing.resolution
    interpolation = InterpolationMode(preprocessing.interpolation)
    if min(image.size) != preprocessing.resize:
        image = v2.functional.resize(image, [preprocessing.resize], interpolation=interpolation)
    return np.asarray(v2.functional.center_crop(image, [resolution, resolution]))


def augmented_view(
    image: Image.Image, augment: View, seed: int, index: int, number: int
) -> NDArray[np.uint8]:
    """Returns augmented view `number` (R, R, 3) of image `index`.

    torchvision draws from torch's global generator, so every view is drawn under a fork of it with
    a seed of its own: a view depends on nothing but (seed, image, number).
    """
    digest = hashlib.sha256(f"{seed}/{index}/{number}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(digest[:8], "little"))
        return np.asarray(augment(image))


def view_batches(
    pixels: Pixels,
    indices: Sequence[int] | NDArray[np.int64],
    preprocessing: Preprocessing,
    augment: View | None,
    seed: int,
    number: int,
    batch_size: int,
    *,
    mirror: bool = False,
) -> Iterator[NDArray[np.uint8]]:
    """Yields batches (B, R, R, 3) of view `number` of the images at `indices`, in their order.

    Where nothing is augmented, `mirror` asks for the mirror images of the evaluation views.
    """
    for start in range(0, len(indices), batch_size):
        views = []
        for index in indices[start : start + batch_size]:
            image = Image.fromarray(pixels.image(int(index)))
            if augment is None:
                view = eval_view(image, preprocessing)
                views.append(view[:, ::-1] if mirror else view)
            else:
                views.append(augmented_view(image, augment, seed, int(index), number))
        yield np.stack(views)
