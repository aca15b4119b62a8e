"""What the scripts of single arms share: their options, the split, and the result that they write.

No headstart in here: the fastai arm may run in an interpreter that has none.
"""

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """One labelled image: its path relative to the data folder, its class, and its part."""

    path: str
    label: str
    part: str


def options(description: str) -> argparse.ArgumentParser:
    """Returns a parser of the options that every arm takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--split", type=Path, required=True, help="CSV with path,split")
    parser.add_argument("--weights", type=Path, required=True, help="timm weights, safetensors")
    parser.add_argument("--result", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="data loader processes")
    return parser


def read_examples(split: Path) -> list[Example]:
    """Returns the images of a split file; the class is the name of the folder an image is in."""
    with split.open(encoding="utf-8", newline="") as file:
        return [
            Example(row["path"], Path(row["path"]).parent.name, row["split"])
            for row in csv.DictReader(file)
        ]


def write_result(path: Path, *, wrong: list[str], n: int, images_per_s: float | None) -> None:
    """Writes what the test images showed; the caller takes the file's time as the end.

    Args:
        path: The file.
        wrong: Paths of the test images that were classified wrongly.
        n: Number of test images.
        images_per_s: Images trained on in a second, None where nothing is trained on images.
    """
    result = {"wrong": wrong, "n": n, "images_per_s": images_per_s}
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(result) + "\n", encoding="utf-8")
    draft.replace(path)
    print(f"accuracy {1 - len(wrong) / n:.4f} on {n} test images", flush=True)
