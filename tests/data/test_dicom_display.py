"""How DICOM files want to be shown: rescaling, windows, curves and tables, by file and by frame."""

import io
from typing import Any

import numpy as np
import pytest

from headstart.data.images import load_image
from headstart.data.rasters import Raster
from headstart.data.readers import dicom
from headstart.data.reading import EACH, Reading
from headstart.errors import DataError

pydicom = pytest.importorskip("pydicom")

RAMP = np.arange(64 * 64, dtype=np.int16).reshape(64, 64)  # 0 to 4,095


def saved(values: np.ndarray = RAMP, **elements: Any) -> bytes:
    """MR_small of pydicom without its window, with other values."""
    from pydicom.data import get_testdata_file

    found = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    for name in ("WindowCenter", "WindowWidth", "PixelPaddingValue"):
        if name in found:
            del found[name]
    found.PixelData = values.tobytes()
    found.BitsStored, found.HighBit = 8 * values.itemsize, 8 * values.itemsize - 1
    found.BitsAllocated = 8 * values.itemsize
    found.PixelRepresentation = int(values.dtype.kind == "i")
    if values.ndim == 3:
        found.NumberOfFrames = len(values)
    for name, value in elements.items():
        setattr(found, name, value)
        if name == "PixelPaddingValue":
            found[name].VR = "SS"
    stream = io.BytesIO()
    found.save_as(stream)
    return stream.getvalue()


def table(entries: list[int], first: int, bits: int, words: bool = False) -> Any:
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.add_new("LUTData", "US", entries)
    if words:
        item.add_new("LUTData", "OW", np.array(entries, "<u2").tobytes())
    return pydicom.Sequence([item])


def raster(data: bytes, *numbers: int) -> Raster:
    return dicom.read(io.BytesIO(data), numbers or (0,))


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_voi_table_is_applied(bits: int, words: bool) -> None:
    top = 2**bits - 1
    entries = [top - round(top * n / 2000) for n in range(2001)]  # falls: brightness is reversed
    shown = raster(saved(VOILUTSequence=table(entries, 1000, bits, words)))
    assert [int(shown.values[0, 0, 0]), int(shown.values[63, 63, 0])] == [top, 0]  # 0 and 4,095
    assert int(shown.values[31, 16, 0]) == entries[1000]  # 2,000
    assert shown.window == (None if bits == 8 else (0, top))
    assert shown.sample == ("int16" if bits == 8 else "int16 by VOI LUT")


def test_a_table_comes_before_a_window_and_after_rescaling() -> None:
    entries = list(range(0, 4096, 2))
    data = saved(
        VOILUTSequence=table(entries, -1000, 12), WindowCenter=100, WindowWidth=50,
        RescaleSlope=1, RescaleIntercept=-1000,
    )  # fmt: skip
    shown = raster(data)
    assert int(shown.values[0, 5, 0]) == entries[5]  # stored 5, which is -995 after rescaling
    assert shown.window == (0, 4095)


@pytest.mark.parametrize(
    ("entries", "bits", "why"),
    [([1, 2, 3], 7, "has 7 bits"), ([1, 2, 3], 32, "has 32 bits")],
)
def test_a_table_of_an_unknown_kind_is_refused(entries: list[int], bits: int, why: str) -> None:
    with pytest.raises(DataError, match=f"its VOI LUT {why}, and 8 to 16 are read"):
        load_image(saved(VOILUTSequence=table(entries, 0, bits)), reading=EACH)


def test_an_8_bit_table_may_be_packed() -> None:
    packed = table([], 0, 8)
    packed[0].LUTDescriptor = [4096, 0, 8]
    packed[0].add_new("LUTData", "OW", bytes(n // 16 for n in range(4096)))
    assert np.array_equal(raster(saved(VOILUTSequence=packed)).values[..., 0], RAMP // 16)


def test_a_table_shorter_than_it_says_is_refused() -> None:
    short = table(list(range(4096)), 0, 12)
    short[0].LUTData = list(range(10))
    with pytest.raises(DataError, match="its VOI LUT has 10 of 4096 entries"):
        load_image(saved(VOILUTSequence=short), reading=EACH)


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 2000, "WindowWidth": 1000},
        {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": [2000, 40], "WindowWidth": [1000, 400]},
        {"WindowCenter": -24, "WindowWidth": 300, "RescaleSlope": 0.5, "RescaleIntercept": -1024},
        {"VOILUTSequence": table([n // 2 for n in range(4096)], 0, 11)},
    ],
)  # fmt: skip
def test_pixels_are_those_of_pydicom(elements: dict[str, Any]) -> None:
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    data = saved(**elements)
    found = pydicom.dcmread(io.BytesIO(data))
    expected = apply_voi_lut(apply_modality_lut(found.pixel_array, found), found).astype(float)
    if "VOILUTSequence" in elements:
        low, high = 0.0, 2047.0
    else:  # pydicom spreads the window over all values that could be stored
        slope, base = elements.get("RescaleSlope", 1), elements.get("RescaleIntercept", 0)
        low, high = -32768 * slope + base, 32767 * slope + base
    expected = (expected - low) / (high - low) * 255
    seen = np.asarray(load_image(data, reading=EACH))[..., 0].astype(float)
    assert seen.min() == 0 or seen.max() - seen.min() > 50
    assert np.abs(seen - expected).max() <= 0.51


def test_an_unknown_function_is_refused() -> None:
    data = saved(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="CUBIC")
    with pytest.raises(DataError, match="its VOI LUT function 'CUBIC' is not known"):
        load_image(data, reading=EACH)


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_a_window_that_the_standard_forbids_does_not_count(width: float) -> None:
    assert raster(saved(WindowCenter=2000, WindowWidth=width)).window is None


def enhanced(shared: dict[str, float], own: list[dict[str, float]]) -> bytes:
    """Two frames whose rescaling and window lie in functional groups."""

    def group(values: dict[str, float]) -> Any:
        item, result = pydicom.Dataset(), pydicom.Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        if values:
            rescales = "RescaleSlope" in values
            kind = "PixelValueTransformationSequence" if rescales else "FrameVOILUTSequence"
            setattr(result, kind, pydicom.Sequence([item]))
        return result

    return saved(
        np.stack([RAMP, RAMP // 2]),
        SharedFunctionalGroupsSequence=pydicom.Sequence([group(shared)]),
        PerFrameFunctionalGroupsSequence=pydicom.Sequence([group(each) for each in own]),
    )


def test_functional_groups_of_all_frames_and_of_one() -> None:
    window = {"WindowCenter": 500, "WindowWidth": 201}
    scales = [
        {"RescaleSlope": 2, "RescaleIntercept": 1},
        {"RescaleSlope": 8, "RescaleIntercept": 0},
    ]
    data = enhanced(window, scales)
    first, second = raster(data, 0), raster(data, 1)
    assert first.window == second.window == (399.5, 599.5)
    assert int(first.values[0, 10, 0]) == 21  # 2 x 10 + 1
    assert int(second.values[0, 10, 0]) == 40  # 8 x (10 // 2)
    assert int(raster(data, 0, 1).values[0, 10, 0]) == 40  # the larger one
    windows = [{"WindowCenter": 10, "WindowWidth": 5}, {"WindowCenter": 20, "WindowWidth": 5}]
    assert raster(enhanced({}, windows), 1).window == (17.5, 21.5)


def test_padding_in_one_frame_does_not_hide_another() -> None:
    frames = np.stack([RAMP, np.full_like(RAMP, 7)])
    data = saved(frames, PixelPaddingValue=7)
    largest = raster(data, 0, 1).values
    assert np.isnan(largest[0, 7, 0])
    assert largest[0, 3, 0] == 3


def test_the_range_of_a_data_set_is_that_of_its_tables() -> None:
    data = saved(VOILUTSequence=table(list(range(0, 4096, 4)), 0, 12))
    seen = np.asarray(load_image(data, reading=Reading(range=(0, 4095))))[..., 0]
    assert int(seen[0, 32]) == round(128 / 4095 * 255)
