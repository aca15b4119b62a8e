"""Heat maps in colour: viridis over the image in grey.

The lightness of viridis rises evenly with the value (Smith & van der Walt 2015), so the maps can be
read by colour-blind readers and in a print without colour.
"""

import numpy as np
from numpy.typing import NDArray

_SHARE = 0.55
"""Share of the colour; the rest is the image in grey."""
_LUMA = (0.299, 0.587, 0.114)


def in_colour(view: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Returns a view (R, R, 3) in grey below the colours of its heat (R, R) in 0 … 1."""
    grey = (view @ np.array(_LUMA))[..., None]
    mixed = _SHARE * 255 * _viridis(np.clip(heat, 0, 1)) + (1 - _SHARE) * grey
    return np.asarray(np.round(mixed), np.uint8)


def scale() -> str:
    """Returns the colours of the maps, from no support to the strongest, as a CSS gradient.

    Example:
        >>> scale()[:40]
        'linear-gradient(to right, rgb(68 1 84), '
    """
    colours = 255 * _viridis(np.linspace(0, 1, 9))
    stops = ", ".join(f"rgb({' '.join(f'{part:.0f}' for part in each)})" for each in colours)
    return f"linear-gradient(to right, {stops})"


def _viridis(values: NDArray[np.floating]) -> NDArray[np.float64]:
    from matplotlib import colormaps  # noqa: PLC0415 - heavy

    return np.asarray(colormaps["viridis"](values))[..., :3]
