"""What is deployed sees the pixels that training saw."""

import itertools
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from headstart.backbones.preprocessing import Interpolation, Preprocessing
from headstart.data.eval_view import eval_view

PREPROCESSING = Preprocessing(48, 54, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SIDES = (1, 7, 47, 48, 53, 54, 55, 61, 130)


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_it_cuts_the_centre_of_the_resized_image() -> None:
    image = noise(80, 60)
    view = eval_view(image, PREPROCESSING)
    resized = image.resize((72, 54), Image.Resampling.BICUBIC)
    assert view.shape == (48, 48, 3)
    assert np.array_equal(view, np.asarray(resized)[3:51, 12:60])


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@pytest.mark.parametrize(("resolution", "resize"), [(48, 54), (47, 54), (48, 48), (61, 54)])
def test_the_pixels_are_those_of_torchvision(
    interpolation: Interpolation, resolution: int, resize: int
) -> None:
    """The last size is larger than the resized image, to which black is added."""
    how = replace(PREPROCESSING, resolution=resolution, resize=resize, interpolation=interpolation)
    for width, height in itertools.product(SIDES, SIDES):
        image = noise(width, height)
        resized = v2.functional.resize(image, [resize], InterpolationMode(interpolation))
        expected = np.asarray(v2.functional.center_crop(resized, [resolution, resolution]))
        assert np.array_equal(eval_view(image, how), expected), (width, height)
