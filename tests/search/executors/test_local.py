"""Executors: the same behaviour wherever jobs run, and jobs that take their process along."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import toy_work

from headstart.errors import (
    DiskFullError,
    HeadstartError,
    InputError,
    RunError,
    first_line,
)
from headstart.search.executors.local import ExecutorName, Outcome, open_executor
from headstart.search.executors.processes import (
    default_memory_limit,
    private_memory,
)

EXECUTORS = ["here", "processes", pytest.param("ray", marks=pytest.mark.slow)]
MB = 10**6


@pytest.fixture(scope="module")
def _ray_here() -> Iterator[None]:
    """One Ray for all tests of this module: to start it takes seconds."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(params=EXECUTORS)
def place(request: pytest.FixtureRequest) -> ExecutorName:
    if request.param == "ray":
        request.getfixturevalue("_ray_here")
    name: ExecutorName = request.param
    return name


def run(
    place: ExecutorName,
    work: Callable[[Any, Any], Any],
    shared: Any,
    todo: list[Any],
    **options: Any,
) -> list[Outcome[Any]]:
    """Returns the outcomes in the order of the jobs."""
    with open_executor(place, work, shared, threads=1, **options) as executor:
        ended = dict(executor.run(todo))
    assert sorted(ended) == list(range(len(todo)))
    return [ended[position] for position in range(len(todo))]


@pytest.mark.parametrize(
    ("asked", "jobs", "threads"),
    [("1", 1, 1), ("1", 2, 1), ("2", 1, 2), ("2", 2, 1), ("64", 1, 4), ("4,2", 1, 4), ("", 2, 2)],
)
def test_jobs_compute_with_no_more_threads_than_the_user_allows(
    asked: str, jobs: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setenv("OMP_WAIT_POLICY", "")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    with open_executor("processes", toy_work.environment, None, jobs=jobs) as executor:
        ((_, outcome),) = executor.run([["OMP_NUM_THREADS", "OMP_WAIT_POLICY"]])
    assert outcome.value == [str(threads), "PASSIVE"]


def is_gone(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within 30 seconds")


def test_every_job_has_its_outcome_and_the_executor_can_be_used_again(
    place: ExecutorName, tmp_path: Path
) -> None:
    shared = toy_work.Shared(tmp_path)
    with open_executor(place, toy_work.times, shared, jobs=2, threads=1) as executor:
        assert executor.slots == (1 if place == "here" else 2)
        ended = dict(executor.run(range(7)))
        assert {position: outcome.value for position, outcome in ended.items()} == {
            number: 10 * number for number in range(7)
        }
        assert not any(o.cause or o.traceback or o.out_of_memory for o in ended.values())
        assert [(p, o.value) for p, o in executor.run([5])] == [(0, 50)]
        assert list(executor.run([])) == []


def test_what_is_shared_is_sent_once_to_each_process(place: ExecutorName, tmp_path: Path) -> None:
    shared = toy_work.Shared(tmp_path)
    run(place, toy_work.times, shared, list(range(6)), jobs=2)
    packed = [file.read_text() for file in tmp_path.glob("packed-*")]
    unpacked = [file.read_text() for file in tmp_path.glob("unpacked-*")]
    assert packed == ([] if place == "here" else ["x"])
    assert set(unpacked) == (set() if place == "here" else {"x"})


def test_a_job_that_fails_is_an_outcome_and_the_others_go_on(place: ExecutorName) -> None:
    jobs = ["data", "arithmetic", "good", "memory", "numpy", "torch"]
    data, arithmetic, good, memory, numpy, torch = run(place, toy_work.fail, None, jobs)
    assert good.value == "good"
    assert data.value is None
    assert data.cause == "the images are gone."
    assert "DataError: the images are gone.\nAnd more" in data.traceback
    assert "toy_work.py" in data.traceback
    assert arithmetic.cause == "integer division or modulo by zero"
    assert memory.cause == "MemoryError"
    assert numpy.cause.startswith("Unable to allocate")
    assert "can't allocate memory" in torch.cause
    outcomes = [data, arithmetic, good, memory, numpy, torch]
    assert [o.out_of_memory for o in outcomes] == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    ("job", "error"), [("full", DiskFullError), ("changed", RunError)], ids=["full", "changed"]
)
def test_what_no_job_would_escape_ends_the_run(
    place: ExecutorName, job: str, error: type[HeadstartError]
) -> None:
    with pytest.raises(error, match=r"^(there is no space left|the images changed)"):
        run(place, toy_work.fail, None, ["good", job])


def test_a_mistake_in_the_program_is_raised(place: ExecutorName) -> None:
    with pytest.raises(TypeError, match="has no len"):
        run(place, toy_work.fail, None, ["good", "mistake"])


def test_seconds_are_those_of_the_job(place: ExecutorName) -> None:
    slow, fast = run(place, toy_work.die, None, ["slow", "fast"], jobs=2)
    assert slow.seconds >= 0.5 > fast.seconds


def test_keyboard_interrupt_goes_through_here() -> None:
    def interrupt(shared: None, job: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("here", interrupt, None, [1])


def test_a_cause_is_one_line() -> None:
    assert first_line(RuntimeError("\n  \nfirst\nsecond")) == "first"
    assert first_line(RuntimeError()) == "RuntimeError"


def test_a_mistake_in_another_process_says_where() -> None:
    with pytest.raises(TypeError) as caught:
        run("processes", toy_work.fail, None, ["mistake"])
    assert "toy_work.py" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(("job", "text"), [("odd", "1 and 2"), ("unpackable", "lambda")])
def test_what_cannot_be_sent_back_is_a_mistake(job: str, text: str) -> None:
    with pytest.raises(Exception, match=text):
        run("processes", toy_work.fail, None, [job])


@pytest.mark.parametrize(
    ("job", "cause", "out_of_memory"),
    [
        ("crash", "its process was killed (signal 11)", False),
        ("exit", "its process ended by itself (exit code 3)", False),
        ("killed", "its process was killed (signal 9)", True),
    ],
)
def test_a_process_that_dies_fails_its_own_job_only(
    job: str, cause: str, out_of_memory: bool
) -> None:
    first, died, last = run("processes", toy_work.die, None, ["first", job, "last"])
    assert (first.value, last.value) == ("first", "last")
    assert (died.value, died.cause, died.out_of_memory) == (None, cause, out_of_memory)


@pytest.mark.parametrize(
    ("job", "deaths", "runs", "out_of_memory"),
    [
        ("SIGKILL", 1, 2, False),
        ("SIGTERM", 1, 2, False),
        ("SIGKILL", 2, None, True),  # as the system kills when memory runs out
        ("SIGTERM", 2, None, False),
        ("SIGSEGV", 1, None, False),  # a crash would come again
    ],
)
def test_a_job_that_is_killed_from_outside_runs_once_more(
    job: str, deaths: int, runs: int | None, out_of_memory: bool, tmp_path: Path
) -> None:
    shared = (tmp_path, deaths)
    outcome, spared = run("processes", toy_work.die_at_first, shared, [job, "spared"], jobs=2)
    assert (outcome.value, outcome.out_of_memory) == (runs, out_of_memory)
    assert spared.value == 1
    assert (tmp_path / job).read_text() == "x" * (1 if job == "SIGSEGV" else 2)


def test_a_job_beyond_its_memory_is_killed_alone() -> None:
    jobs = ["hungry", "slow", "fast", "last"]
    hungry, *others = run("processes", toy_work.die, None, jobs, jobs=2, memory_limit=300 * MB)
    assert hungry.cause == "used more than 0.3 GB of memory"
    assert hungry.out_of_memory
    assert [outcome.value for outcome in others] == jobs[1:]


def test_mapped_files_do_not_count_as_memory(tmp_path: Path) -> None:
    file = tmp_path / "mapped"
    file.write_bytes(bytes(400 * MB))
    (outcome,) = run("processes", toy_work.die, file, ["mapped"], memory_limit=300 * MB)
    assert outcome.value == "mapped"


def test_processes_compute_in_their_threads_and_ignore_ctrl_c() -> None:
    with open_executor("processes", toy_work.process_and_threads, None, threads=2) as executor:
        ((_, first),) = executor.run([1])
        ((_, second),) = executor.run([1])
    assert first.value is not None
    assert first.value[1:] == ("2", 2, True)
    assert second.value == first.value, "the process is kept"


def test_a_process_killed_between_jobs_is_replaced() -> None:
    with open_executor("processes", toy_work.process_and_threads, None, threads=1) as executor:
        ((_, first),) = executor.run([1])
        assert first.value is not None
        os.kill(first.value[0], signal.SIGKILL)
        os.waitid(os.P_PID, first.value[0], os.WEXITED | os.WNOWAIT)
        ((_, second),) = executor.run([1])
    assert second.value is not None
    assert second.value[0] != first.value[0]


def test_no_process_is_left_where_nobody_listens_any_more(tmp_path: Path) -> None:
    with open_executor("processes", toy_work.sleep_long, tmp_path, jobs=2) as executor:
        outcomes = executor.run(["return", "sleep", "sleep"])
        next(outcomes)
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        outcomes.close()  # type: ignore[attr-defined]
        started = [int(file.name) for file in tmp_path.iterdir()]
        wait_until(lambda: all(map(is_gone, started)))


DRIVER = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # not so where tests run in background
from toy_work import sleep_long
from headstart.search.executors.local import open_executor
with open_executor("processes", sleep_long, Path(sys.argv[1]), jobs=2) as executor:
    list(executor.run(["sleep", "sleep"]))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_driver(how: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, tmp_path],
        env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: len(list(tmp_path.iterdir())) == 4)
    os.killpg(driver.pid, how)  # as a terminal does
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == -how
    assert ("KeyboardInterrupt" in said) == (how == signal.SIGINT)
    started = [int(file.name) for file in tmp_path.iterdir()]
    wait_until(lambda: all(map(is_gone, started)))


def test_memory_is_what_only_the_process_has() -> None:
    before = private_memory(os.getpid())
    kept = b"x" * (200 * MB)
    assert private_memory(os.getpid()) - before > 150 * MB
    assert len(kept) == 200 * MB
    assert 0 < default_memory_limit(2) < psutil.virtual_memory().total / 2


def test_arguments_are_checked() -> None:
    with pytest.raises(InputError, match="did you mean 'processes'"):
        run("proceses", toy_work.times, None, [])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="number of jobs is 0; it must be at least 1"):
        run("processes", toy_work.times, None, [], jobs=0)
    with (
        pytest.raises(InputError, match="number of threads per job is 0; it must be"),
        open_executor("processes", toy_work.times, None, jobs=1, threads=0),
    ):
        pass


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'headstart\[ray\]'"):
        run("ray", toy_work.times, None, [])
