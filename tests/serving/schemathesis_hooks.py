"""Loaded by schemathesis: what is an image, which no schema can say."""

from io import BytesIO

import schemathesis
from hypothesis import strategies
from PIL import Image


def _encoded(side: int, kind: str) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (side, side + 3), (200, 30, side)).save(stream, kind)
    return stream.getvalue()


IMAGES = strategies.sampled_from(
    [_encoded(side, kind) for side in (1, 8, 70) for kind in ("PNG", "JPEG", "WEBP", "BMP")]
)

schemathesis.openapi.media_type("application/octet-stream", IMAGES, aliases=["image/*"])
schemathesis.openapi.format("binary", IMAGES)
