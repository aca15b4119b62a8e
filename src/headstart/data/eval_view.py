"""The evaluation view: what a network sees of an image. Nothing here imports torch."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.backbones.preprocessing import Preprocessing


def eval_view(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Returns the evaluation view (R, R, 3): shorter side resized, centre cropped.

    The pixels are those of torchvision's `resize` and `center_crop`. The image may already be
    resized to `preprocessing.resize`; then it is only cropped.

    Example:
        >>> half = Preprocessing(2, 4, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> eval_view(Image.new("RGB", (16, 8), "white"), half).shape
        (2, 2, 3)
    """
    side, resize = preprocessing.resolution, preprocessing.resize
    short = min(image.size)
    if short != resize:
        width, height = (
            resize if length == short else int(resize * length / short) for length in image.size
        )
        resampling = Image.Resampling[preprocessing.interpolation.upper()]
        image = image.resize((width, height), resampling)
    left, top = (_start(length, side) for length in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def _start(length: int, side: int) -> int:
    """Returns where the centre crop begins; below 0 where the image is shorter: black is added."""
    return round((length - side) / 2) if length >= side else -((side - length) // 2)
