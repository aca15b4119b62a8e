"""How long `headstart fit` takes beside the sum of the limits of its stages.

    python benchmarks/stage_limits.py

A limit is what the stage's work takes in a plain loop: the images decoded by Pillow, the views
drawn, the network run by ONNX Runtime, the part behind the boundary trained in PyTorch, nothing
else. Each loop runs in one thread on some of the images; its seconds are divided by the number of
cores, as if everything could be spread over them, and multiplied by what the run says that it did.
The imports of the libraries count as they are. Solving the head, the search for near-duplicates,
the heat maps, the bundle and the report count as nothing. Loops and fit run in turn.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measure import run_measured, tail
from ratios import Subject, facts, keep, row, table
from records import BENCH, DATA, HERE, ON_CPU

SOURCE = HERE.parent / "src"
NETWORK, BOUNDARY, BATCH = "tf_efficientnet_lite0", "blocks.3", 16
GOAL = 0.77
"""At most 1.3 times as long as the limits."""

SAMPLE = 64
IMPORTS = "import numpy, PIL.Image, torch, torchvision, timm, onnxruntime"

HEAD = ("--strategy", "head")
FINETUNE = (
    "--strategy", "finetune", "--set", f"freezing.boundary={BOUNDARY}", "--epochs", "2",
    "--set", "views=2",
)  # fmt: skip
EVERY = 2
"""Of the images, every so many are fine-tuned on."""


@dataclass(frozen=True)
class Limits:
    """Seconds an image in one thread, and those of the imports."""

    imports: float
    decode: float
    draw: float
    network: float
    frozen: float
    train: float


@dataclass(frozen=True)
class Done:
    """What a run did: its seconds, and numbers of images, views and epochs."""

    seconds: float
    train: int
    val: int
    test: int
    views: int
    epochs: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA / "flowers17")
    parser.add_argument("--loops", action="store_true", help="print the loops of one process")
    args = parser.parse_args()
    if args.loops:
        print(json.dumps(asdict(loops(args.data))))
        return
    subject = measure(args.rounds, args.data)
    print(table(subject))
    print(keep(subject))


def measure(rounds: int, data: Path = DATA / "flowers17") -> Subject:
    """Runs the loops and both fits `rounds` times in turn, after loops that fill caches."""
    cores = len(os.sched_getaffinity(0))
    found: dict[str, list[tuple[float, float]]] = {"head": [], "finetune": []}
    with tempfile.TemporaryDirectory() as temporary:
        half = some_of(data, Path(temporary, "images"), EVERY)
        _loops(data)
        for _ in range(rounds):
            limits = _loops(data)
            done = _fit(data, HEAD)
            found["head"].append((head_limit(limits, done, cores), done.seconds))
            done = _fit(half, FINETUNE)
            found["finetune"].append((finetune_limit(limits, done, cores), done.seconds))
    names = {
        "head": f"`fit --strategy head`, {data.name}",
        "finetune": f"`fit --strategy finetune --epochs 2`, two views, half of {data.name}",
    }
    rows = tuple(row(names[kind], each, GOAL) for kind, each in found.items())
    compared = {**facts(), "before": "limits of the stages"}
    return Subject("limits", "`fit` beside the limits of its stages", "s", rows, rounds, compared)


def head_limit(each: Limits, done: Done, cores: int) -> float:
    """Returns the seconds for decoding every image and running the whole network on it once.

    Example:
        >>> head_limit(Limits(3, 0.01, 0, 0.03, 0, 0), Done(9, 60, 20, 20, 0, 0), cores=2)
        5.0
    """
    images = done.train + done.val + done.test
    return each.imports + images * (each.decode + each.network) / cores


def finetune_limit(each: Limits, done: Done, cores: int) -> float:
    """Returns the seconds of a head, of the views, and of training and validating on them."""
    views = done.views * done.train * (each.draw + each.frozen)
    rest = each.network - each.frozen
    training = done.epochs * (done.train * each.train + done.val * rest)
    return head_limit(each, done, cores) + (views + training) / cores


def some_of(data: Path, folder: Path, every: int) -> Path:
    """Copies every so manieth image of each class."""
    for label in sorted(path for path in data.iterdir() if path.is_dir()):
        (folder / label.name).mkdir(parents=True)
        for file in sorted(path for path in label.iterdir() if path.is_file())[::every]:
            shutil.copy(file, folder / label.name)
    return folder


def _fit(data: Path, options: tuple[str, ...]) -> Done:
    folder = BENCH / "stage_limits"
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable, "-m", "headstart", "fit", str(data), *options, "--out",
        str(folder / "run"),
    ]  # fmt: skip
    environment = {**_environment(), "HEADSTART_CACHE": str(folder / "cache")}
    taken = run_measured(command, folder / "log.txt", environment)
    if taken.returncode:
        sys.exit(f"exit status {taken.returncode}:\n{tail(folder / 'log.txt')}")
    record = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    parts = (record["n_train"], record["n_val"], record["n_test"])
    return Done(taken.wall_s, *parts, record["views"] or 0, record["epochs"] or 0)


def _loops(data: Path) -> Limits:
    command = [sys.executable, __file__, "--loops", "--data", str(data)]
    done = subprocess.run(
        command, env={**os.environ, **_environment(), "OMP_NUM_THREADS": "1"},
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return Limits(**json.loads(done.stdout))


def _environment() -> dict[str, str]:
    return {
        **ON_CPU,
        "PYTHONPATH": str(SOURCE),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(BENCH / "compiled"),
    }


def loops(data: Path) -> Limits:
    """Measures every loop in this process, in one thread."""
    import numpy as np
    import torch
    from PIL import Image
    from torch import nn

    from headstart.backbones.catalog import load_backbone
    from headstart.backbones.cut import prefix, suffix, trace
    from headstart.backbones.engine import Normalize
    from headstart.data.eval_view import eval_view
    from headstart.recipes.recipe import Recipe

    torch.set_num_threads(1)
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in {".jpg", ".png"})
    files = files[:: max(1, len(files) // SAMPLE)][:SAMPLE]
    backbone = load_backbone(NETWORK)
    how = backbone.preprocessing
    images: list[Image.Image] = []

    def decode() -> None:
        images.clear()
        for file in files:
            image = Image.open(file)
            image.draft("RGB", (how.resize, how.resize))
            scale = how.resize / min(image.size)
            sides = (round(scale * image.width), round(scale * image.height))
            images.append(image.convert("RGB").resize(sides, Image.Resampling.BICUBIC))

    decoding = _seconds(decode)
    draw = Recipe().augmentation.build(how.resolution, how.interpolation, how.fill)
    assert draw is not None
    drawing = _seconds(lambda: [draw(image) for image in images])
    views = np.stack([eval_view(image, how) for image in images])
    traced = trace(backbone.model, how.resolution)
    normalize = Normalize(how.mean, how.std)
    frozen = nn.Sequential(normalize, prefix(traced, BOUNDARY)).eval()
    whole = nn.Sequential(normalize, prefix(traced, "features")).eval()
    imports = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    imports = time.monotonic() - imports
    count = len(images)
    return Limits(
        imports,
        decoding / count,
        drawing / count,
        _seconds(_running(whole, views)) / count,
        _seconds(_running(frozen, views)) / count,
        _training(suffix(traced, BOUNDARY), traced.boundary(BOUNDARY).shape),
    )


def _running(network: Any, views: Any) -> Callable[[], None]:
    """Returns a loop of ONNX Runtime over the batches of some views."""
    import torch

    from headstart.backbones.onnx import run_onnx, verified_session

    with tempfile.TemporaryDirectory() as folder:
        example = torch.from_numpy(views[:2])
        session = verified_session(network, example, Path(folder, "network.onnx"), threads=1)

    def loop() -> None:
        for start in range(0, len(views), BATCH):
            run_onnx(session, views[start : start + BATCH])

    return loop


def _training(network: Any, shape: tuple[int, ...], classes: int = 17, batch: int = 32) -> float:
    """Returns the seconds an image of plain steps of AdamW, with frozen statistics."""
    import torch
    from torch import nn

    model = nn.Sequential(network, nn.LazyLinear(classes)).eval()
    inputs, labels = torch.relu(torch.randn(batch, *shape)), torch.arange(batch) % classes
    model(inputs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return _seconds(step, 3) / batch


def _seconds(work: Callable[[], Any], times: int = 2) -> float:
    """Returns the least seconds of some runs, after one more."""
    work()
    taken = []
    for _ in range(times):
        began = time.monotonic()
        work()
        taken.append(time.monotonic() - began)
    return min(taken)


if __name__ == "__main__":
    main()
