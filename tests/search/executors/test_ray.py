"""Ray: a cluster of its own, one that loses a machine in the middle of a run, and none at all.

Each test is a program of its own: Ray leaves traces in a process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

OWN = """
import os, subprocess, sys
import toy_work
from headstart.search.executors.local import open_executor
os.environ["HOME"] = str(folder)
for name in [name for name in os.environ if name.startswith("RAY_AUTH")]:
    del os.environ[name]
with open_executor("ray", toy_work.times, toy_work.Shared(folder), jobs=2, threads=1) as own:
    import ray
    assert own.slots == 2
    assert {p: o.value for p, o in own.run([1, 2, 3])} == {0: 10, 1: 20, 2: 30}
    assert ray.cluster_resources()["CPU"] == 2
    where = ray.get_runtime_context().gcs_address
    join = [sys.executable, "-c", f"import ray; ray.init({where!r}, logging_level=50)"]
    theirs = {name: value for name, value in os.environ.items() if "RAY_AUTH" not in name}
    wrong = {**theirs, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    strangers = [subprocess.Popen(join, env=each, **silent) for each in (theirs, wrong)]
    assert all(stranger.wait() != 0 for stranger in strangers)
    with open_executor("ray", toy_work.fail, None, threads=1) as inner:
        assert [outcome.value for _, outcome in inner.run(["good"])] == ["good"]
    assert ray.is_initialized(), "the inner one did not start it"
assert not ray.is_initialized()
assert not (folder / ".ray").exists(), "the token is kept in memory"
"""

LOST = """
import numpy as np, ray, torch, toy_work
from ray.cluster_utils import Cluster
from headstart.artifacts.records import Request, RunRecord
from headstart.backbones.engine import Normalize, make_engine
from headstart.backbones.preprocessing import Preprocessing
from headstart.data.pixels import Facts, Pixels
from headstart.data.views import View, view_batches
from headstart.errors import InputError
from headstart.features.cluster import outputs_on
from headstart.methods.augmentation import TrivialAugment
from headstart.recipes.options import FitOptions
from headstart.search.executors.local import open_executor
from headstart.search.executors.ray_cluster import open_cluster
from headstart.training.run_context import Resources, RunContext
preprocessing = Preprocessing(32, 40, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
data = np.random.default_rng(0).integers(0, 256, 400 * 40 * 40 * 3, np.uint8)
sizes, offsets = np.full((400, 2), 40), np.arange(400) * 40 * 40 * 3
pixels = Pixels((Facts("ok"),) * 400, sizes, "lost", offsets, data)
normalize = Normalize(preprocessing.mean, preprocessing.std)
network = torch.nn.Sequential(normalize, torch.nn.Conv2d(3, 8, 3)).eval()
example = np.zeros((2, 32, 32, 3), np.uint8)
engine = make_engine(network, example, torch.device("cpu"), keep_file=True)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
other = cluster.add_node(num_cpus=1)
try:
    shared = (folder, other.node_id)
    with open_executor("ray", toy_work.square, shared, address=cluster.address) as executor:
        assert executor.slots == 2
        with open_executor("ray", toy_work.die, None, threads=1) as inner:
            ((_, killed),) = inner.run(["killed"])
        assert "lost 4 times" in killed.cause, killed
        outcomes = {}
        for position, outcome in executor.run(range(8)):
            assert not outcome.cause, outcome
            outcomes[position] = outcome.value
            if other is not None:  # It has begun a job that will never end there.
                cluster.remove_node(other, allow_graceful=False)
                other = None
        assert outcomes == {number: number**2 for number in range(8)}
        begun = [file.read_text() for file in folder.iterdir()]
        assert sorted(begun) == ["x"] * 7 + ["xx"], "one job was run again"
    assert not ray.is_initialized()
    other = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    record = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=0, n_val=0, n_test=0,
        classes=(), backbone="", backbone_source="",
        request=Request(options=FitOptions(executor="ray", address=cluster.address)),
    )
    whole = (pixels, np.arange(400)[::-1], preprocessing, View(TrivialAugment(), 3, 1))
    with open_cluster(RunContext(folder, record, Resources())) as machines:
        assert machines.slots == 2
        outputs = outputs_on(machines, engine, folder, *whole)
        found = [next(outputs)]
        cluster.remove_node(other, allow_graceful=False)
        found += outputs
    assert machines.slots == 0 and record.notes == [], record.notes
    here = map(engine.run, view_batches(*whole, engine.batch_size))
    assert [each.tobytes() for each in found] == [each.tobytes() for each in here]
    assert not ray.is_initialized()
    try:
        with open_executor("ray", toy_work.square, folder, threads=2, address=cluster.address):
            raise AssertionError
    except InputError as error:
        assert "No machine of the Ray cluster has 2 CPUs" in str(error)
finally:
    cluster.shutdown()
"""

DAEMON = """
import psutil, toy_work
from headstart.search.executors.local import open_executor
from headstart.search.executors.ray import LostRayError
try:
    with open_executor("ray", toy_work.die, None, jobs=1, threads=1) as own:
        for position, outcome in own.run(["slow"] * 6):
            assert not outcome.cause, outcome
            print(position, flush=True)
            for process in psutil.Process().children(recursive=True):
                if process.name() == "raylet":
                    process.kill()
    raise AssertionError
except LostRayError as error:
    print(error, flush=True)
"""

NOBODY = """
from headstart.errors import InputError
from headstart.search.executors.local import open_executor
for address in ("127.0.0.1:9", "ray://127.0.0.1:9", "nonsense"):
    try:
        with open_executor("ray", len, None, address=address):
            raise AssertionError
    except InputError as error:
        assert f"Cannot join a Ray cluster at {address} (" in str(error)
"""


def python(code: str, folder: Path, codes: tuple[int, ...] = (0,)) -> str:
    """Runs a program that knows `folder`, and returns what it printed where people look."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = f"from pathlib import Path\nfolder = Path({str(folder)!r})\n{code}"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode in codes, ended.stderr
    return ended.stdout


def test_without_an_address_it_is_a_cluster_of_its_own(tmp_path: Path) -> None:
    assert python(OWN, tmp_path) == ""


def test_jobs_of_a_lost_machine_are_run_again(tmp_path: Path) -> None:
    python(LOST, tmp_path)


def test_a_daemon_that_is_lost_fails_no_job_but_ends_the_run(tmp_path: Path) -> None:
    said = python(DAEMON, tmp_path, codes=(0, 1))  # Ray ends a process that has lost it with 1
    assert "resume the run" in said  # Ray may print after it


def test_an_address_where_nobody_answers_is_an_error_for_people(tmp_path: Path) -> None:
    python(NOBODY, tmp_path)
