#!/usr/bin/env bash
# Pillow 13.0.0 opens four kinds of valid TIFF files without an error or a warning, and gives other
# values than the files hold:
# - 16-bit RGB: the upper byte of each value only (12-bit data keep 16 levels);
# - 16-bit MINISWHITE: not inverted, though the same image in 8 bits is;
# - signed 8-bit: -90 comes out as 166;
# - five bands with photometric RGB: the first three bands.
# Expected: the file's values, or a refusal such as Pillow gives for 64-bit floats.
# headstart reads such files with tifffile, or refuses them and names the extra that reads them.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.4.6 tifffile==2026.3.3
cd "$work"
venv/bin/python - <<'PYTHON'
import numpy as np
import tifffile
from PIL import Image


def opened(values, **options):
    tifffile.imwrite("a.tif", values, **options)
    with Image.open("a.tif") as image:
        return image.mode, np.asarray(image)


mode, seen = opened(np.full((8, 8, 3), 4095, np.uint16), photometric="rgb")
print(f"16-bit RGB of 4095: mode {mode}, {seen.dtype}, value {seen[0, 0, 0]}")
assert (mode, seen[0, 0, 0]) == ("RGB", 15)

mode, deep = opened(np.zeros((9, 9), np.uint16), photometric="miniswhite")
_, flat = opened(np.zeros((9, 9), np.uint8), photometric="miniswhite")
print(f"MINISWHITE of 0 (white): 16 bits give {deep[0, 0]}, 8 bits give {flat[0, 0]}")
assert (deep[0, 0], flat[0, 0]) == (0, 255)

mode, seen = opened(np.array([[-90, 0, 90]], np.int8))
print(f"signed 8-bit -90, 0, 90: mode {mode}, {seen.tolist()}")
assert seen.tolist() == [[166, 0, 90]]

bands = np.zeros((9, 9, 5), np.uint8)
mode, seen = opened(bands, photometric="rgb", extrasamples=["unspecified"] * 2)
print(f"five bands: mode {mode}, shape {seen.shape}")
assert (mode, seen.shape) == ("RGB", (9, 9, 3))
print("as described")
PYTHON
# Seen on 2026-11-29, Python 3.11.7:
#   16-bit RGB of 4095: mode RGB, uint8, value 15
#   MINISWHITE of 0 (white): 16 bits give 0, 8 bits give 255
#   signed 8-bit -90, 0, 90: mode L, [[166, 0, 90]]
#   five bands: mode RGB, shape (9, 9, 3)
