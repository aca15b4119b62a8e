#!/usr/bin/env bash
# pillow 13.0.0: an image that is shrunk and much taller than wide (here 60 x 180) is resized columns
# first and then rows; up to 12.2.0 it is rows first, as for all other images. Both round to bytes in
# between, so a fifth of the values of noise differ, by up to 5 of 255.
# Expected: the same bytes from the same filter in the next version, or a line in its changes.
# headstart's description of a bundle does not depend on it, but views of tall images do: its graphs for
# images of any size, and its page in the browser, resize rows first.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
cat > "$work/resize.py" <<'PYTHON'
import sys

import numpy as np
import PIL
from PIL import Image

draw = np.random.default_rng(5)
cubic = Image.Resampling.BICUBIC
for width, height in ((60, 180), (90, 90)):
    image = Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8))
    size = (width // 2, height // 2)
    found = np.asarray(image.resize(size, cubic)).astype(int)
    rows = np.asarray(image.resize((size[0], height), cubic).resize(size, cubic))
    columns = np.asarray(image.resize((width, size[1]), cubic).resize(size, cubic))
    order = "rows first" if (found == rows).all() else "columns first" if (found == columns).all() else "?"
    print(f"pillow {PIL.__version__}, {width} x {height}: {order}; {np.mean(found == rows):.0%} of the values "
          f"as by rows first, largest difference {np.abs(found - rows).max()}")
    later = PIL.__version__ == "13.0.0" and height > 2 * width
    assert order == ("columns first" if later else "rows first")
PYTHON
for version in 12.2.0 13.0.0; do
  "$work/venv/bin/pip" install --quiet numpy==2.4.6 "pillow==$version"
  "$work/venv/bin/python" "$work/resize.py"
done
echo "as described"
# Seen on 2026-11-30, Python 3.11.7:
#   pillow 12.2.0, 60 x 180: rows first; 100% of the values as by rows first, largest difference 0
#   pillow 12.2.0, 90 x 90: rows first; 100% of the values as by rows first, largest difference 0
#   pillow 13.0.0, 60 x 180: columns first; 78% of the values as by rows first, largest difference 5
#   pillow 13.0.0, 90 x 90: rows first; 100% of the values as by rows first, largest difference 0
