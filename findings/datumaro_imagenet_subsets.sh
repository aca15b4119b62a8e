#!/usr/bin/env bash
# datumaro 1.13.12 exports a data set with the subsets train and val as "imagenet" into one folder per
# class, without the subsets: which image was for validation is lost, and nothing is raised.
# "imagenet_txt" keeps the subsets, and writes item names with their extension into its lists, though
# ids in datumaro have none.
# Expected: train/CLASS and val/CLASS, as in ImageNet itself, or an error.
# headstart reads both; for the first it has to draw a split of its own.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datumaro==1.13.12
cd "$work"
venv/bin/python - <<'PYTHON' 2>/dev/null
from pathlib import Path

import numpy as np
from datumaro.components.annotation import Label
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image

items = [
    DatasetItem(
        id=f"{name}_{number}", subset="val" if number == 2 else "train",
        media=Image.from_numpy(np.full((8, 8, 3), 40 * number + 90 * label, np.uint8)),
        annotations=[Label(label)],
    )
    for label, name in enumerate(("ants", "bees"))
    for number in range(3)
]
for form in ("imagenet", "imagenet_txt"):
    Dataset.from_iterable(items, categories=["ants", "bees"]).export(form, form, save_media=True)
    files = sorted(str(path.relative_to(form)) for path in Path(form).rglob("*") if path.is_file())
    print(f"{form}:", *files)
assert not any("val" in path for path in map(str, Path("imagenet").rglob("*")))
lines = Path("imagenet_txt/val.txt").read_text().splitlines()
print("val.txt:", lines)
assert lines and all("." in line.split()[0] for line in lines)
print("as described")
PYTHON
# Seen on 2026-11-29, Python 3.11.7:
#   imagenet: ants/ants_0.jpg ants/ants_1.jpg ants/ants_2.jpg bees/bees_0.jpg bees/bees_1.jpg bees/bees_2.jpg
#   imagenet_txt: images/ants_0.jpg ... synsets.txt train.txt val.txt
#   val.txt: ['ants_2.jpg 0', 'bees_2.jpg 1']
