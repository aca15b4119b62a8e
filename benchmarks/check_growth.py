"""How time and memory of `headstart check` grow with images and classes: a table of `formats.md`.

    python benchmarks/check_growth.py

writes tiny images into a temporary folder, each a mixture of two random pieces of real ones, and
runs `headstart check FOLDER --json` on them, `--repeats` times, as a process of its own with an
empty cache. Memory is that of the process and all its children.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from measure import Measurement, commit, machine, markdown_table, run_measured, tail, versions
from records import DATA, ON_CPU

SIDE = 32
SIZES = (1_000, 5_000, 20_000, 50_000)
CLASSES = (10, 5_000)
MOST_SOURCES = 600


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with real images")
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    header = (
        "images", "classes", "seconds", "processor seconds", "the same an image, ms",
        "private memory, MB", "resident, MB",
        "findings",
    )  # fmt: skip
    print(markdown_table(header, []), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        some = list(pieces(args.data))
        for classes in args.classes:
            for images in args.images:
                if images < 3 * classes:
                    continue
                folder = Path(temporary, f"{images}-{classes}")
                write(folder, images, classes, some)
                print(_row(folder, images, classes, args.repeats), flush=True)
                shutil.rmtree(folder)
    found = versions(sys.executable, ("headstart", "numpy", "scipy", "pillow"))
    shown = ", ".join(f"{name} {value}" for name, value in sorted(found.items()))
    print(f"\n{machine()}; {shown}; commit {commit()}; {args.repeats} run(s) each, the slowest.")


def write(folder: Path, images: int, classes: int, pieces: Sequence[Image.Image]) -> None:
    """Writes PNG images, spread over folders of classes."""
    for number in range(images):
        label = folder / _name(number % classes)
        label.mkdir(parents=True, exist_ok=True)
        _mixture(number, pieces).save(label / f"{number:06d}.png", compress_level=1)


def _mixture(number: int, pieces: Sequence[Image.Image]) -> Image.Image:
    random = np.random.default_rng(number)
    shown = []
    for which in random.choice(len(pieces), 2, replace=False):
        piece = pieces[which]
        side = int(random.integers(SIDE, min(piece.size)))
        left, top = (int(random.integers(0, full - side + 1)) for full in piece.size)
        turned = piece.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
        shown.append(turned.rotate(90 * int(random.integers(0, 4))))
    return Image.blend(shown[0], shown[1], float(random.uniform(0.3, 0.7)))


def pieces(data: Path) -> Iterator[Image.Image]:
    """Yields some of the real images, at 128 pixels."""
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in {".jpg", ".png"})
    if len(files) < 2:
        sys.exit(f"{data} holds no images. Give a folder of images with --data.")
    for path in files[:: max(1, len(files) // MOST_SOURCES)]:
        yield Image.open(path).convert("RGB").resize((128, 128))


def _name(number: int) -> str:
    """Returns a class name that is not like any other one."""
    letters = np.random.default_rng([number, 26]).integers(0, 26, 9)
    return "".join(chr(ord("a") + int(letter)) for letter in letters)


def _row(folder: Path, images: int, classes: int, repeats: int) -> str:
    runs: list[Measurement] = []
    worked: list[float] = []
    for _ in range(repeats):
        log, cache = folder.with_suffix(".json"), folder.with_suffix(".cache")
        shutil.rmtree(cache, ignore_errors=True)
        command = [sys.executable, "-m", "headstart", "check", str(folder), "--json"]
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        environment = {**ON_CPU, "HEADSTART_CACHE": str(cache), "OMP_NUM_THREADS": threads}
        before = _processor_seconds()
        runs.append(run_measured(command, log, environment))
        worked.append(_processor_seconds() - before)
        shutil.rmtree(cache, ignore_errors=True)
        if runs[-1].returncode != 0:
            sys.exit(f"exit status {runs[-1].returncode}:\n{tail(log)}")
    text = log.read_text()
    audit = json.loads(text[text.index("{\n") :])
    assert audit["n_images"] == images and len(audit["classes"]) == classes
    return (
        f"| {images:,} | {classes:,} | {max(run.wall_s for run in runs):.1f} | "
        f"{max(worked):.1f} | {1000 * max(worked) / images:.2f} | "
        f"{max(run.peak_anon_mb for run in runs):.0f} | "
        f"{max(run.peak_rss_mb for run in runs):.0f} | {len(audit['findings'])} |"
    )


def _processor_seconds() -> float:
    """Returns the seconds of all processes that ended, which other work on the machine spares."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
