"""How much faster two Ray nodes are than one, with one CPU and one thread a node.

    python benchmarks/ray_speedup.py
    python benchmarks/ray_speedup.py trials

starts a local Ray cluster of one node and one of two, and does the same on each. `prefix` writes an
augmented view of `--images` images into the prefix cache, when all processes have started.
`predict` is `headstart.predict(..., engine="ray")` for as many, with its start. `trials`, which has
to be asked for, runs `headstart fit --trials --executor ray --address` and compares what the trials
took; another search loses one of its two nodes in the middle and must end with all of its trials.
On a machine with two cores the nodes share memory, disk and caches, and the driver takes its part,
so this is no promise for two machines.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

import headstart
from headstart.artifacts.records import RunRecord
from headstart.data.images_in import each_image_in
from headstart.data.sources import load_dataset
from headstart.data.views import View
from headstart.features.cache import cached_activations
from headstart.features.cluster import CHUNK, outputs_on
from headstart.features.extractor import open_prefix
from headstart.recipes.parsing import parse_recipe
from headstart.search.executors.ray import ray_session
from headstart.search.executors.ray_cluster import RayCluster
from headstart.training.boundary import boundary_without_clock
from headstart.training.experiment import SplitChoice, prepare
from headstart.training.run_context import Resources, RunContext
from records import BENCH, DATA, ON_CPU

WORK = BENCH / "ray_speedup"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", default=["prefix", "predict"], help="also: trials")
    parser.add_argument("--data", type=Path, default=DATA / "hymenoptera", help="folder of images")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--resolution", type=int, default=0, help="224; for trials 128")
    args = parser.parse_args()
    os.environ |= {**ON_CPU, "OMP_NUM_THREADS": "1", "HEADSTART_CACHE": str(WORK / "cache")}
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    seconds_of = {"prefix": _prefix, "predict": _predict, "trials": _search}
    if unknown := set(args.subjects) - set(seconds_of):
        parser.error(f"there is no subject {', '.join(unknown)}")
    for subject in args.subjects:
        one, two = (seconds_of[subject](args, nodes) for nodes in (1, 2))
        times = f"one node {one:.1f} s, two nodes {two:.1f} s"
        print(f"{subject}: {times}; {one / two:.2f} times faster", flush=True)
    if "trials" in args.subjects:
        _search(args, 2, lose_one=True)
        print("one of two nodes killed: the search ended with all of its trials")


@contextmanager
def _cluster(nodes: int) -> Iterator[tuple[Any, list[Any]]]:
    """Yields a cluster and its nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    # The driver's machine holds the cluster's state and does no job, so that it can lose any.
    cluster.add_node(num_cpus=0)
    try:
        workers = [cluster.add_node(num_cpus=1) for _ in range(nodes)]
        cluster.wait_for_nodes()
        yield cluster, workers
    finally:
        cluster.shutdown()


def _prefix(args: argparse.Namespace, nodes: int) -> float:
    """Returns the seconds in which a view of all images is cached, when processes have started."""
    recipe = parse_recipe({"backbone": {"resolution": args.resolution}})
    record = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=0, n_val=0, n_test=0,
        classes=(), backbone="", backbone_source="",
    )  # fmt: skip
    experiment = prepare(load_dataset(args.data), recipe, SplitChoice(), Resources())
    with _cluster(nodes) as (cluster, _), ray_session(0, cluster.address) as ray:
        on_ray = RayCluster(ray, RunContext(WORK, record, Resources()))
        extractor = replace(experiment.extractor, cluster=on_ray)
        engine = open_prefix(extractor, boundary_without_clock(extractor, recipe)).engine
        for number in (0, 1):
            began = time.monotonic()
            rows = np.resize(extractor.rows["train"], args.images if number else 6 * CHUNK)
            view = View(recipe.augmentation, 0, number)
            images = (extractor.pixels, rows, extractor.backbone.preprocessing, view)
            batches = partial(outputs_on, on_ray, engine, extractor.cache_dir, *images)
            place, key = WORK / f"cache-{nodes}", {"view": number}
            as_it_is = replace(engine, run=np.asarray, at_once=1)
            cached_activations(place, key, len(rows), batches, as_it_is, "")
            seconds = time.monotonic() - began
    if record.notes:
        sys.exit(record.notes[0])
    return seconds


def _predict(args: argparse.Namespace, nodes: int) -> float:
    """Returns the seconds that `predict` takes for all images."""
    run = WORK / "head"
    if not run.exists():
        resolution = f"backbone.resolution={args.resolution}"
        headstart.fit(args.data, strategy="head", out=run, settings=(resolution,))
    images = islice(cycle(each_image_in(args.data)), args.images)
    with _cluster(nodes) as (cluster, _):
        out = WORK / f"{nodes}.csv"
        done = headstart.predict(run, images, out=out, engine="ray", address=cluster.address)
    if done.failed:
        sys.exit(f"{done.failed} images were not classified: see {out}.")
    return done.seconds


def _search(args: argparse.Namespace, nodes: int, lose_one: bool = False) -> float:
    """Runs a search on so many nodes and returns the seconds from its first to its last trial."""
    name = f"{nodes}-{'lost' if lose_one else 'whole'}"
    out, log = WORK / name, WORK / f"{name}.log"
    command = [sys.executable, "-m", "headstart", "fit", str(args.data), "--out", str(out)]
    command += ["--trials", str(args.trials), "--epochs", str(args.epochs), "--executor", "ray"]
    command += ["--set", f"backbone.resolution={args.resolution or 128}", "--jobs", str(nodes)]
    began = ended = 0.0
    with _cluster(nodes) as (cluster, workers), log.open("w") as output:
        command += ["--address", cluster.address]
        process = subprocess.Popen(command, stdout=output, stderr=output)
        while process.poll() is None:
            time.sleep(0.1)
            # Said once when all is cached and trials begin, and once when they have ended.
            said = log.read_text().count("search: ")
            began = began or (time.monotonic() if said else 0.0)
            ended = ended or (time.monotonic() if said > 1 else 0.0)
            if lose_one and len(_trials(out)) >= 2:
                cluster.remove_node(workers.pop(), allow_graceful=False)
                lose_one = False
    if process.returncode:
        sys.exit(f"the search failed: see {log}.")
    states = [trial["state"] for trial in _trials(out)]
    if states.count("done") != len(states):
        sys.exit(f"{states.count('failed')} trials failed: see {out / 'trials.jsonl'}.")
    return ended - began


def _trials(out: Path) -> list[dict[str, Any]]:
    path = out / "trials.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines if line]


if __name__ == "__main__":
    main()
