"""How much faster trials run on two Ray nodes than on one, one CPU and one thread a node.

    python benchmarks/ray_speedup.py

starts a local Ray cluster of one node and one of two, runs the same search on each (`headstart fit
--trials --executor ray --address`), and compares what the trials took, from the first to the last.
A third search loses one of its two nodes in the middle and must end with all of its trials. On a
machine with two cores the nodes share memory, disk and caches, so this shows the trials' share of
the time, and what the driver costs, and is no promise for two machines.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from records import BENCH, DATA, ON_CPU

WORK = BENCH / "ray_speedup"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA / "hymenoptera", help="folder of images")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--resolution", type=int, default=128)
    args = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    one, two = (_search(args, nodes) for nodes in (1, 2))
    print(f"one node: {one:.1f} s of trials; two nodes: {two:.1f} s; {one / two:.2f} times faster")
    _search(args, 2, lose_one=True)
    print("one of two nodes killed: the search ended with all of its trials")


def _search(args: argparse.Namespace, nodes: int, lose_one: bool = False) -> float:
    """Runs a search on so many nodes and returns the seconds from its first to its last trial."""
    from ray.cluster_utils import Cluster

    name = f"{nodes}-{'lost' if lose_one else 'whole'}"
    cluster = Cluster()
    # The driver's machine holds the cluster's state and runs no trial, so that it can lose any.
    cluster.add_node(num_cpus=0)
    workers = [cluster.add_node(num_cpus=1) for _ in range(nodes)]
    cluster.wait_for_nodes()
    out = WORK / name
    command = [sys.executable, "-m", "headstart", "fit", str(args.data), "--out", str(out)]
    command += ["--trials", str(args.trials), "--epochs", str(args.epochs), "--executor", "ray"]
    command += ["--address", cluster.address, "--jobs", str(nodes)]
    command += ["--set", f"backbone.resolution={args.resolution}"]
    environment = {**os.environ, **ON_CPU, "OMP_NUM_THREADS": "1"}
    environment["HEADSTART_CACHE"] = str(WORK / "cache")
    log = WORK / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = ended = 0.0
    try:
        with log.open("w") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            while process.poll() is None:
                time.sleep(0.1)
                # Said once when all is cached and trials begin, and once when they have ended.
                said = log.read_text().count("search: ")
                began = began or (time.monotonic() if said else 0.0)
                ended = ended or (time.monotonic() if said > 1 else 0.0)
                if lose_one and len(_trials(out)) >= 2:
                    cluster.remove_node(workers.pop(), allow_graceful=False)
                    lose_one = False
    finally:
        cluster.shutdown()
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
