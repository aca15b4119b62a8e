"""Every file of a run has the same bytes, however, wherever and whenever it runs.

    python benchmarks/same_bytes.py                      # drawn pictures, one recipe
    python benchmarks/same_bytes.py --data FOLDER --trials 3

runs `headstart fit` eight times with the same seed: with a cold and a warm cache, with one and two
decode workers, with the data copied elsewhere, with the system listing folders in the reverse
order, and with other run folders. Then it compares every file with that of the first run, once what
may differ has been replaced: `VARYING` lists it, field by field. The pages show the same times and
paths, so those are replaced there. Everything else has to be the same. It ends with 1 if it is not.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WORK = Path(__file__).resolve().parent.parent / ".bench" / "same_bytes"

VARYING = {
    "run.json": (
        "command",  # as it was typed
        "started_at",
        "seconds",
        "source",
        "data_root",
        "plan.*.seconds",
        "test_opened_at",
        "request.options.cache_dir",
        "request.options.out",
        "request.options.workers",
        "versions",  # of the packages
        "machine",
    ),
    "epochs.jsonl": ("images_per_s", "seconds"),
    "trials.jsonl": ("seconds", "train_s", "traceback"),
}
"""What may differ between two runs on the same data with the same seed: paths in JSON files, where
`*` is every item of a list. All of it is time, place, version or machine."""

PAGES = ("report.html", "bundle/MODEL_CARD.md")
"""Files in which the values of `VARYING` are drawn."""

_DRAWN = (
    re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"),  # when it began, and opened the test set
    re.compile(r"(?<=>)(?:\d+ s|\d+ min \d\d s|\d+ h \d\d min)(?=<)"),  # how long a stage took
    re.compile(r"(?<=, took )[^.]*? on [^.]*(?=\.\n)"),  # the model card: time and machine
    re.compile(r"(?<=--workers )\d+"),  # in the command, as it was typed
)

_REVERSED = """
import os, sys
if sys.argv.pop(1) == "reversed":
    listdir, scandir = os.listdir, os.scandir
    class Listing(list):
        def __enter__(self): return self
        def __exit__(self, *_): pass
        def __iter__(self): return self
        def __next__(self):
            if not self: raise StopIteration
            return self.pop()
        def close(self): pass
    os.listdir = lambda *args: sorted(listdir(*args), reverse=True)
    os.scandir = lambda *args: Listing(sorted(scandir(*args), key=lambda entry: entry.name))
from headstart.cli.main import main
main()
"""
"""The command line, in a system that lists folders in the reverse order of names if it is asked to.
Usually the order is that of the file system."""


@dataclass(frozen=True)
class Variant:
    """How one run differs from the first one."""

    name: str
    data: str = "here"
    cache: str = "one"
    workers: int = 1
    listing: str = "as it is"


VARIANTS = (
    Variant("cold cache, 1 worker"),
    Variant("another folder, reverse order, cold, 2 workers", "there", "two", 2, "reversed"),
    Variant("warm cache, 2 workers, reverse order", workers=2, listing="reversed"),
    Variant("warm cache, 1 worker"),
    Variant("cold, 2 workers", cache="three", workers=2),
    Variant("another folder, warm, 1 worker", "there"),
    Variant("reverse order, cold, 1 worker", cache="four", listing="reversed"),
    Variant("another folder, reverse order, warm", "there", "four", 2, "reversed"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="class folders; by default drawn pictures")
    parser.add_argument("--trials", type=int, help="search with as many trials")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=64)
    args = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    options = ["--epochs", str(args.epochs), "--set", f"backbone.resolution={args.resolution}"]
    options += [] if args.trials is None else ["--trials", str(args.trials)]
    runs = run_all(WORK, args.data or drawn(WORK / "drawn"), VARIANTS, options)
    failed = False
    for variant, run in zip(VARIANTS[1:], runs[1:], strict=True):
        different = differences(runs[0], run)
        failed |= bool(different)
        print(f"{variant.name}: {', '.join(different) or 'the same bytes'}")
    print(f"{len(runs)} runs, {len(comparable(runs[0]))} files each")
    sys.exit(failed)


def run_all(
    work: Path, data: Path, variants: Sequence[Variant], options: Sequence[str]
) -> list[Path]:
    """Runs all variants one after another and returns their run folders."""
    places = {"here": data, "there": work / "elsewhere" / "deeper" / data.name}
    if not places["there"].exists():
        files = sorted((file for file in data.rglob("*") if file.is_file()), reverse=True)
        for file in files:  # created in another order, too
            copy = places["there"] / file.relative_to(data)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    runs = []
    for number, variant in enumerate(variants):
        runs.append(work / f"runs {number}" / "run")
        runs[-1].parent.mkdir(parents=True)
        environment = {**os.environ, "HEADSTART_CACHE": str(work / "cache" / variant.cache)}
        command = ["fit", str(places[variant.data]), "--seed", "1", "--out", str(runs[-1])]
        command += ["--workers", str(variant.workers), *options]
        ended = subprocess.run(
            [sys.executable, "-c", _REVERSED, variant.listing, *command],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise RuntimeError(f"{variant.name}: {ended.stderr}")
    return runs


def differences(first: Path, second: Path) -> list[str]:
    """Returns the names of the files of two run folders that differ in what must not."""
    one, other = comparable(first), comparable(second)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def comparable(run: Path) -> dict[str, bytes]:
    """Returns every file of a run by its name, with what may differ replaced."""
    record = json.loads((run / "run.json").read_text())
    paths = {str(run): "RUN", record["data_root"]: "DATA", record["source"]: "DATA"}
    found = {}
    for file in sorted(run.rglob("*")):
        if not file.is_file():
            continue
        name, data = file.relative_to(run).as_posix(), file.read_bytes()
        if name in VARYING:
            read = json.loads if name.endswith(".json") else _lines
            known = read(data)
            for path in VARYING[name]:
                _replace(known, path.split("."))
            data = json.dumps(known).encode()
        elif name in PAGES:
            text = data.decode()
            for path in sorted(paths, key=len, reverse=True):
                text = re.sub(rf"'?{re.escape(path)}(/[\w.]+)?'?", paths[path], text)
            for epoch in _lines((run / "epochs.jsonl").read_bytes()):
                if epoch["images_per_s"] is not None:
                    row = [f"{epoch['lr']:.2g}", f"{epoch['images_per_s']:.0f}"]
                    cell = '</td><td class="number">'
                    text = text.replace(f"{cell.join(row)}</td></tr>", f"{row[0]}{cell}…</td></tr>")
            for pattern in _DRAWN:
                text = pattern.sub("…", text)
            data = text.encode()
        found[name] = data
    return found


def _lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


def _replace(known: Any, path: Sequence[str]) -> None:
    """Replaces the values at a path in place; a list of records is followed into each."""
    if isinstance(known, list):
        for each in known:
            _replace(each, path[1:] if path[0] == "*" else path)
    elif isinstance(known, dict) and path[0] in known:
        if len(path) == 1:
            known[path[0]] = "…"
        else:
            _replace(known[path[0]], path[1:])


def drawn(folder: Path, each: int = 26) -> Path:
    """Draws three classes of noisy stripes, enough for two decode workers."""
    y, x = np.mgrid[:72, :72]
    for number, (name, wave) in enumerate({"down": y, "across": x, "aslant": x + y}.items()):
        (folder / name).mkdir(parents=True)
        for image in range(each):
            rng = np.random.default_rng([number, image])
            stripes = 120 + 70 * np.sin(wave / rng.uniform(1, 3) + rng.uniform(0, 6))
            colours = stripes[..., None] * rng.uniform(0.6, 1.1, 3) + rng.normal(0, 20, (72, 72, 3))
            Image.fromarray(colours.clip(0, 255).astype(np.uint8)).save(
                folder / name / f"{image}.png"
            )
    return folder


if __name__ == "__main__":
    main()
