"""How images are prepared for a backbone. Nothing here imports torch."""

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of images that a backbone was trained with.

    Attributes:
        resolution: Side of the centre crop in pixels.
        resize: Length of the shorter side before the crop, in pixels.
        interpolation: Interpolation of the resize.
        mean: Mean of each channel, for values between 0 and 1.
        std: Standard deviation of each channel, for values between 0 and 1.
    """

    resolution: int
    resize: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour, which becomes zero: used to blank out parts of an image."""
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue
