"""Compressed DICOM pictures by imagecodecs, as a plugin of pydicom.

pydicom reads RLE by itself and JPEG and JPEG 2000 through Pillow. What is usually installed for the
other transfer syntaxes is GPL; imagecodecs, which TIFF needs anyway, is not.
"""

import importlib.util
from typing import Any

import numpy as np

DECODER_DEPENDENCIES = {
    "1.2.840.10008.1.2.4.51": ("imagecodecs",),  # JPEG extended, 12 bits
    "1.2.840.10008.1.2.4.57": ("imagecodecs",),  # JPEG lossless
    "1.2.840.10008.1.2.4.70": ("imagecodecs",),  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": ("imagecodecs",),  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": ("imagecodecs",),  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90": ("imagecodecs",),  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": ("imagecodecs",),  # JPEG 2000
    "1.2.840.10008.1.2.4.201": ("imagecodecs",),  # high-throughput JPEG 2000
    "1.2.840.10008.1.2.4.202": ("imagecodecs",),
    "1.2.840.10008.1.2.4.203": ("imagecodecs",),
}
"""Transfer syntaxes and the packages that they need, as pydicom wants them."""


def is_available(uid: str) -> bool:
    """Returns whether a transfer syntax can be decoded."""
    return uid in DECODER_DEPENDENCIES and importlib.util.find_spec("imagecodecs") is not None


def decode_frame(source: bytes, runner: Any) -> bytes:
    """Decodes one frame for pydicom.

    Args:
        source: The compressed frame.
        runner: pydicom's description of the picture.
    """
    imagecodecs: Any = importlib.import_module("imagecodecs")
    uid = str(runner.transfer_syntax)
    if uid in {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}:
        values = imagecodecs.jpegls_decode(source)
    elif uid in {"1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}:
        values = imagecodecs.jpeg_decode(source)
    else:
        values = imagecodecs.jpeg2k_decode(source)
        if runner.samples_per_pixel > 1:  # Its colour transform is undone.
            runner.set_option("photometric_interpretation", "RGB")
    runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    return np.ascontiguousarray(values).tobytes()


def register() -> None:
    """Adds this plugin to pydicom's decoders."""
    decoders: Any = importlib.import_module("pydicom.pixels")
    for uid in DECODER_DEPENDENCIES:
        decoder = decoders.get_decoder(uid)
        if "headstart" not in decoder.available_plugins:
            decoder.add_plugin("headstart", (__name__, "decode_frame"))
