"""From the stored numbers of a DICOM file to those that it wants to be shown.

The standard has two steps: the modality (slope and intercept, or a table) and the values of
interest (VOI: a table, or a window with a function). Enhanced files keep both in functional groups
that hold for all frames or for one.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.rasters import BadImageError

_STEPS = (
    "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction",
)  # fmt: skip


@dataclass(frozen=True)
class ShownFrame:
    """The values of one frame.

    Attributes:
        values: As the modality or a VOI table or curve gives them.
        window: Lowest and highest value to be shown; None where the file does not say.
        by: Name of the VOI table or curve that was applied; empty if none was.
    """

    values: NDArray[Any]
    window: tuple[float, float] | None = None
    by: str = ""


def steps_of(found: Any, number: int) -> Any:
    """Returns the data elements that say how one frame is shown.

    Args:
        found: The whole file.
        number: Frame, from 0.
    """
    pydicom: Any = importlib.import_module("pydicom")
    steps = pydicom.Dataset()
    steps.file_meta = found.file_meta
    shared = list(found.get("SharedFunctionalGroupsSequence") or ())[:1]
    own = list(found.get("PerFrameFunctionalGroupsSequence") or ())[number : number + 1]
    groups = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
    items = [
        item for each in shared + own for name in groups for item in (each.get(name) or ())[:1]
    ]
    for source in (found, *items):
        for name in _STEPS:
            if name in source:
                steps[name] = source[name]
    return steps


def show(stored: NDArray[Any], steps: Any) -> ShownFrame:
    """Returns a grey frame as the file wants it shown.

    A table comes before a window, as in pydicom's `apply_voi_lut`; of several, the first is used.

    Args:
        stored: (H, W).
        steps: What `steps_of` returns.

    Raises:
        BadImageError: If a VOI table or function is not of a known kind.
    """
    pixels: Any = importlib.import_module("pydicom.pixels")
    values = np.asarray(pixels.apply_modality_lut(stored, steps))
    if values.dtype == np.float64:
        rounded = np.rint(values)
        whole = np.array_equal(values, rounded) and np.abs(rounded).max() < 2**31
        values = rounded.astype(np.int32) if whole else values.astype(np.float32)
    if steps.get("VOILUTSequence"):
        return _by_table(values, steps)
    centre, width = _first(steps, "WindowCenter"), _first(steps, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return ShownFrame(values)
    match str(steps.get("VOILUTFunction") or "LINEAR").strip().upper():
        case "LINEAR":
            half = (width - 1) / 2
            window = (centre - 0.5 - half, centre - 0.5 + half) if width >= 1 else None
            return ShownFrame(values, window)
        case "LINEAR_EXACT":
            return ShownFrame(values, (centre - width / 2, centre + width / 2))
        case "SIGMOID":
            slope = np.clip(-4 * (values.astype(np.float64) - centre) / width, -700, 700)
            return ShownFrame((1 / (1 + np.exp(slope))).astype(np.float32), (0.0, 1.0), "sigmoid")
        case function:
            raise BadImageError("unreadable", f"its VOI LUT function {function!r} is not known")


def _by_table(values: NDArray[Any], steps: Any) -> ShownFrame:
    """Applies the first VOI table; pydicom's `apply_voi` wraps round in 8-bit tables."""
    try:
        item = steps.VOILUTSequence[0]
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        data, count = item.LUTData, count or 65536
        if isinstance(data, bytes):
            words = "<u2" if steps.file_meta.TransferSyntaxUID.is_little_endian else ">u2"
            packed = bits <= 8 and len(data) < 2 * count
            data = np.frombuffer(data, np.uint8 if packed else words)
        entries = np.asarray(data).astype(np.uint16)
    except Exception as error:  # pydicom raises nearly anything on damaged data
        cause = " ".join(str(error).split())
        raise BadImageError("unreadable", f"its VOI LUT is damaged ({cause})") from error
    if not 8 <= bits <= 16:
        raise BadImageError("unreadable", f"its VOI LUT has {bits} bits, and 8 to 16 are read")
    if len(entries) < count:
        raise BadImageError("unreadable", f"its VOI LUT has {len(entries)} of {count} entries")
    whole = np.rint(np.nan_to_num(values)).astype(np.int64)
    shown = entries[np.clip(whole - first, 0, count - 1)]
    if bits == 8:
        return ShownFrame(shown.astype(np.uint8), by="VOI LUT")
    return ShownFrame(shown, (0.0, float(2**bits - 1)), "VOI LUT")


def _first(steps: Any, name: str) -> float | None:
    value = steps.get(name)
    if value is None or value == "":
        return None
    return float(value if isinstance(value, float | int | str) else value[0])
