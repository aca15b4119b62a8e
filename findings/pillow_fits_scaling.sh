#!/usr/bin/env bash
# Pillow 13.0.0 opens FITS files of 16 bits as unsigned, though the FITS standard (4.0, section 4.4.1)
# has signed integers, and takes no notice of BZERO and BSCALE, by which the standard stores unsigned
# ones: a file of 1000 with BZERO = 32768, as astropy writes it, comes out as 33768.
# Expected: the physical values, or a refusal.
# headstart refuses FITS files with BZERO or BSCALE and says why.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.4.6 astropy==7.1.1
cd "$work"
venv/bin/python - <<'PYTHON'
import numpy as np
from astropy.io import fits
from PIL import Image


def pillow(values):
    fits.writeto("a.fits", values, overwrite=True)
    with Image.open("a.fits") as image:
        return image.mode, int(np.asarray(image)[0, 0]), fits.getheader("a.fits").get("BZERO")


mode, seen, zero = pillow(np.full((4, 4), 1000, np.uint16))
print(f"uint16 1000: BZERO {zero}, Pillow gives mode {mode}, value {seen}")
assert (zero, seen) == (32768, 33768)
mode, seen, zero = pillow(np.full((4, 4), -1, np.int16))
print(f"int16 -1: BZERO {zero}, Pillow gives mode {mode}, value {seen}")
assert (zero, seen) == (None, 65535)
print("as described")
PYTHON
# Seen on 2026-11-29, Python 3.11.7:
#   uint16 1000: BZERO 32768, Pillow gives mode I;16, value 33768
#   int16 -1: BZERO None, Pillow gives mode I;16, value 65535
