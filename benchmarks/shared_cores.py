"""How much slower the parts of a run become when other work takes a core.

    python benchmarks/shared_cores.py

times steps of training, batches of the prefix in ONNX Runtime, and linear algebra, each in a new
process, alone and beside a process that computes without a pause. Threads that wait by spinning
keep a core from the thread that they wait for; the settings that are compared say how long they
spin. The runs are interleaved, and the figures are medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib import import_module

SETTINGS: dict[str, dict[str, str]] = {
    "libraries' own": {"GOMP_SPINCOUNT": "300000"},  # libgomp's, where threads fit the cores
    "headstart": {},
}
BUSY = "while True: pass"
PARTS = ("training", "prefix", "algebra")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], help="further settings, A=1,B=2")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(_measured()))
        return
    settings = dict(SETTINGS)
    for text in args.set:
        settings[text] = dict(pair.split("=") for pair in text.split(","))
    found: dict[tuple[str, bool], list[dict[str, float]]] = {}
    for _ in range(args.repeats):
        for name, environment in settings.items():
            for busy in (False, True):
                found.setdefault((name, busy), []).append(_timed(environment, busy))
    print("| setting | other work | " + " | ".join(f"{part}, s" for part in PARTS) + " |")
    print("|-|-|" + "-|" * len(PARTS))
    for (name, busy), runs in found.items():
        cells = [f"{statistics.median(run[part] for run in runs):.2f}" for part in PARTS]
        print(f"| {name} | {'one core' if busy else 'none'} | " + " | ".join(cells) + " |")


def _timed(environment: dict[str, str], busy: bool) -> dict[str, float]:
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        told = subprocess.run(
            [sys.executable, __file__, "--part"],
            env={**os.environ, **environment}, check=True, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        if other is not None:
            other.kill()
            other.wait()
    found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return found


def _measured() -> dict[str, float]:
    """Returns the seconds of each part in this process."""
    import_module("headstart")  # it sets how long threads spin, before torch is there
    import numpy as np
    import torch

    from headstart.backbones.catalog import load_backbone
    from headstart.backbones.cut import prefix, suffix, trace
    from headstart.backbones.engine import make_engine

    backbone = load_backbone()
    traced = trace(backbone.model, 224)
    images = torch.rand(16, 3, 224, 224)
    engine = make_engine(prefix(traced, "blocks.3"), images.numpy(), torch.device("cpu"))
    found = {"prefix": _seconds(lambda: engine.run(images.numpy()), 6)}
    start = torch.from_numpy(engine.run(images.numpy())).float()
    network = suffix(traced, "blocks.3").train()
    found["training"] = _seconds(lambda: network(start).square().mean().backward(), 6)
    columns = np.random.default_rng(0).normal(size=(400, 2000)).astype(np.float32)

    def algebra() -> None:
        np.linalg.eigh(columns @ columns.T)
        for _ in range(100):
            columns @ (columns.T @ columns[:, :17])

    found["algebra"] = _seconds(algebra, 2)
    return found


def _seconds(work: object, times: int) -> float:
    assert callable(work)
    work()
    began = time.monotonic()
    for _ in range(times):
        work()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
