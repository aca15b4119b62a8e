"""A budget holds where the machine becomes slower, with a clock that a test can turn."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart.api.fit import late, slower, unused
from headstart.artifacts.records import RunRecord
from headstart.features.layout import FeatureLayout
from headstart.methods.averaging import NoAveraging
from headstart.methods.head import Linear
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.report import collect
from headstart.training import finetune, loop, pace, speed, transfer
from headstart.training import reserve as reserve_module
from headstart.training.budget import Clock
from headstart.training.network import TrainableNetwork
from headstart.training.pace import Deadline, Pace, reserve, watched
from headstart.training.reserve import (
    deadline_of,
    proof_seconds,
    seconds_for_training,
    solving_seconds,
)
from headstart.training.run_context import Resources, RunContext


class Machine:
    """A machine whose clock moves only by work, and which may be slower from a moment on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.loaded_from = float("inf")
        self.slowdown = 2.0

    @property
    def factor(self) -> float:
        return self.slowdown if self.now >= self.loaded_from else 1.0

    def monotonic(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        """Does work that takes so long without load."""
        while seconds > 0:
            part = min(seconds, 0.01)
            self.now += part * self.factor
            seconds -= part

    def yardstick(self) -> tuple[float, float]:
        factor = self.factor
        self.work(0.25)
        return 0.1 * factor, factor


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    for name in ("budget", "loop", "pace", "reserve", "run_context", "speed", "transfer"):
        monkeypatch.setattr(f"headstart.training.{name}.time", made)
    monkeypatch.setattr(collect, "time", made)
    monkeypatch.setattr(pace, "yardstick", made.yardstick)
    return made


def test_the_pace_is_the_slowest_of_two_measurements_in_a_row() -> None:
    seen = Pace()
    for seconds, now, slowest in [
        (0.1, 1.0, 1.0), (0.1, 1.0, 1.0), (0.3, 3.0, 2.0), (0.1, 1.0, 2.0), (0.1, 1.0, 2.0),
        (0.3, 3.0, 2.0), (0.3, 3.0, 3.0), (0.05, 0.5, 3.0),
    ]:  # fmt: skip
        seen.see(seconds, 1.0)
        assert (seen.now, seen.slowest) == pytest.approx((now, slowest))
    for contention in (2.0, 1.0, 3.0, 2.0, 1.0):
        seen.see(0.1, contention)
    assert seen.contention == 2.5
    assert reserve(20.0, 10.0, seen) == pytest.approx(60 + 25)


def test_the_yardstick_measures_this_machine() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    seconds, contention = pace.yardstick()
    assert seconds > 0
    assert contention > 0.9
    assert torch.equal(torch.get_rng_state(), state), "training draws as without it"


def test_a_deadline_is_earlier_on_a_slower_machine(machine: Machine) -> None:
    deadline = Deadline(ends=100.0, pace=Pace(), work_s=20.0, single_s=10.0, began=10.0)
    assert deadline.at == 70.0
    assert deadline.part(0.5) == 40.0
    assert replace(deadline, share=0.5).at == 40.0, "the first of two networks"
    deadline.pace.see(0.1, 1.0)
    deadline.pace.see(0.2, 1.5)
    deadline.pace.see(0.2, 1.5)
    assert deadline.at == 100 - 2 * 20 - 1.5 * 10
    late = replace(deadline, ends=60.0)
    assert late.at == 10.0, "at once"
    assert replace(late, least_s=1.0).at == 11.0


def rates(machine: Machine, deadline: Deadline, *seconds: float) -> int:
    """Trains batches of 10 images that take so long, and counts the measurements."""
    before = machine.now
    batches = [np.arange(10)] * len(seconds)
    for _, each in zip(watched(batches, deadline), seconds, strict=True):
        machine.work(each)
    return round((machine.now - before - sum(seconds) * machine.factor) / (0.5 * machine.factor))


def test_the_pace_is_measured_again_where_training_becomes_slower(machine: Machine) -> None:
    deadline = Deadline(1000.0, Pace(), 20.0, 10.0)
    deadline.pace.measure()
    assert rates(machine, deadline, *[0.5] * 40) == 0, "no slower"
    assert rates(machine, deadline, *[0.6] * 20) == 0, "within the noise"
    assert rates(machine, deadline, *[1.0] * 4) == 1
    assert rates(machine, deadline, *[1.0] * 20) == 0, "that is known"
    assert deadline.pace.slowest == 1.0, "blocks that were unfrozen, and no slower machine"
    assert rates(machine, deadline, *[2.0] * 2) == 1, "still slower"
    machine.work(500)
    assert rates(machine, deadline, *[2.0] * 4) == 0, "time between epochs is no training"


ROWS, STEP_S, EPOCHS = 96, 0.5, 60

SEEN_S = 9.0
"""Seconds until a load is seen: two windows and two measurements, each three times as long."""


def trained(machine: Machine, deadline: Deadline | None) -> int:
    """Trains a small network whose every step takes a known time; returns the epochs."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, ROWS)
    view = (np.eye(8)[labels] * 3 + rng.normal(size=(ROWS, 8))).astype(np.float16)
    data = loop.TrainData([view], labels, view[:9], labels[:9])
    settings = Recipe.model_validate({"batch_size": 16, "averaging": NoAveraging()})
    torch.manual_seed(0)
    suffix, head = nn.Sequential(nn.Linear(8, 8)), Linear().build((8,), 3, nn.ReLU())
    records = list(loop.train(TrainableNetwork(suffix, head), data, settings, EPOCHS, deadline))
    assert records[-1].progress == 1.0, "the schedule is whole, if shorter"
    return records[-1].epoch


@pytest.fixture
def timed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    real = loop.take_step

    def take_step(*arguments: Any) -> torch.Tensor:
        machine.work(STEP_S)
        return real(*arguments)

    monkeypatch.setattr(loop, "take_step", take_step)
    return machine


@pytest.mark.parametrize("load_from", [0, 10, 25, 40, 60, 80, 100, 115, 125, 1000])
@pytest.mark.parametrize("slowdown", [1.5, 2.0, 3.0])
def test_a_budget_holds_whenever_a_load_begins(
    timed: Machine, load_from: float, slowdown: float
) -> None:
    budget_s, proof_s, single_s = 180.0, 20.0, 10.0
    clock = Clock(0.0, budget_s)
    clock.pace.measure()
    timed.work(5)  # images and features
    timed.loaded_from, timed.slowdown = load_from, slowdown
    clock.pace.measure()  # a stage begins
    clock.pace.measure()
    epochs = trained(timed, Deadline(budget_s, clock.pace, proof_s, single_s))
    before = timed.now
    timed.work(proof_s + single_s)
    if load_from < before - 10:
        assert clock.pace.slowest == pytest.approx(slowdown)
    # Where the load leaves too little time for the proof, training ends as soon as it is seen.
    soonest = load_from + SEEN_S + slowdown * (proof_s + single_s)
    assert timed.now <= max(budget_s + 5, soonest)
    if epochs < EPOCHS:
        assert timed.now >= 0.8 * budget_s, "and it is used"


def test_without_a_budget_nothing_is_measured(timed: Machine) -> None:
    timed.loaded_from = 30.0
    assert trained(timed, None) == EPOCHS
    assert deadline_of(SimpleNamespace(), Recipe(), Clock(0.0)) is None  # type: ignore[arg-type]


def experiment(images: int = 200) -> Any:
    """What the reserve reads: 0.1 s to decode an image, and 0.05 s in the network."""
    places = {"features": 1.0, "input": 0.0, "late": 0.8}
    boundary = lambda name: SimpleNamespace(name=name, position=places[name])  # noqa: E731
    extractor = SimpleNamespace(traced=SimpleNamespace(boundary=boundary))
    split = SimpleNamespace(
        train=np.arange(6 * images), val=np.arange(2 * images), test=np.arange(images)
    )
    return SimpleNamespace(
        split=split,
        extractor=extractor,
        decode_s=0.1,
        features_s=0.05,
        background=(),
        unlabelled=None,
    )


def test_the_proof_is_reserved_at_the_slowest_pace_that_was_seen(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(0.0, 600.0)
    # 200 x (0.05 + 0.15 + 0.002) = 40.4 s for the test, 1600 x 0.025 = 40 s for the gallery.
    assert proof_seconds(experiment(), Recipe()) == pytest.approx(80.4)
    flipped = Recipe.model_validate({"test_time_flip": True})
    assert proof_seconds(experiment(), flipped) == pytest.approx(90.4)
    # 1600 x 4 x 0.025 = 160 s in PyTorch behind the boundary, and a head of 3000 features.
    here = experiment()
    here.extractor.backbone = SimpleNamespace(features=1000)
    here.extractor.classes = ("a", "b")
    layout = FeatureLayout(("c:covariance",), (2000, 1000))
    monkeypatch.setattr(reserve_module, "layout_behind", lambda *_: layout)
    again = proof_seconds(here, Recipe(retrain_head=True))
    assert again == pytest.approx(80.4 + 160 + 5.9e-9 * 1600 * 3000 * (92 + 2))
    last = Recipe.model_validate({"head": {"name": "linear", "features": "last"}})
    assert solving_seconds(here, last) == pytest.approx(5.9e-9 * 1600 * 1000 * (92 + 2))
    clock.pace.measure()
    left = 600.0 - machine.now
    assert seconds_for_training(experiment(), Recipe(), clock) == pytest.approx(left - 80.4 - 10)
    machine.loaded_from = 0.0
    clock.pace.measure()
    clock.pace.measure()
    machine.loaded_from = float("inf")
    clock.pace.measure()  # the load is gone, and may come back
    left = 600.0 - machine.now
    assert seconds_for_training(experiment(), Recipe(), clock) == pytest.approx(left - 160.8 - 20)
    deadline = deadline_of(experiment(), Recipe(), clock, before_s=30.0)
    assert deadline is not None
    assert deadline.at == pytest.approx(600 - 2 * (80.4 + 30) - 20)


@pytest.mark.parametrize(
    ("freezing", "gallery_s"),
    [
        ({"name": "head_only"}, 0.0),  # the embeddings are cached
        ({"name": "full"}, 80.0),  # 1600 x 0.05 s
        ({"name": "lp_ft", "boundary": "late"}, 16.0),  # a fifth of the network
        ({}, 40.0),  # a half, as long as the boundary is open
    ],
)
def test_the_proof_is_reserved_for_what_lies_behind_the_boundary(
    freezing: dict[str, str], gallery_s: float
) -> None:
    recipe = parse_recipe({"freezing": freezing} if freezing else {})
    assert proof_seconds(experiment(), recipe) == pytest.approx(40.4 + gallery_s)


def test_every_stage_measures_the_pace(machine: Machine, tmp_path: Path) -> None:
    record = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=1, n_val=1, n_test=1,
        classes=("a",), backbone="", backbone_source="",
    )  # fmt: skip
    for budget_s, took in ((60.0, 0.75), (None, 0.0)):
        machine.now = 0.0
        run = RunContext(tmp_path, record, Resources(Clock(0.0, budget_s), tmp_path))
        for stage in ("heads", "views", "training"):
            with run.step(stage, ""):
                pass
        assert machine.now == pytest.approx(took)


def with_views(monkeypatch: pytest.MonkeyPatch, augmented: Callable[..., str]) -> Any:
    """Stands in for making views of four images; returns extractor and transfer model in one."""
    monkeypatch.setattr(transfer, "augmented", augmented)
    monkeypatch.setattr(transfer, "TrainData", SimpleNamespace)
    monkeypatch.setattr(transfer, "space_dims", lambda *_: ())
    return SimpleNamespace(
        cached={"train": [], "val": []}, prefix=SimpleNamespace(boundary=""), traced=None,
        labels={"train": [0] * 4, "val": []}, classes=(),
    )  # fmt: skip


def test_a_view_that_would_take_too_long_is_left_out(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def augmented(*_: Any) -> str:
        machine.work(10)
        return "view"

    nothing = with_views(monkeypatch, augmented)
    recipe = Recipe.model_validate({"views": 8})

    def made(until: float | None) -> int:
        machine.now = 0.0
        return len(transfer.training_data(nothing, recipe, nothing, 8, until).views)

    assert [made(until) for until in (None, 1000.0, 45.0, 39.0, 5.0, -1.0)] == [8, 8, 4, 3, 1, 1]
    machine.loaded_from = 15.0
    assert made(45.0) == 3, "10, 15 and 20 s; a fourth would end at 65 s"


def test_views_from_the_cache_say_nothing_of_others(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last training began a view of 120 s with 54 s left: the one before it was cached."""

    def augmented(extractor: Any, recipe: Any, transfer: Any, number: int) -> str:
        machine.work(0 if number < 2 else 10)
        return "view"

    nothing = with_views(monkeypatch, augmented)
    recipe = Recipe.model_validate({"views": 8})

    def made(until: float, view_s: float) -> int:
        machine.now = 0.0
        return len(transfer.training_data(nothing, recipe, nothing, 8, until, 2, view_s).views)

    assert [made(until, 2.5) for until in (1000.0, 25.0, 9.0, 0.5)] == [8, 4, 2, 2]
    assert made(9.0, 0.0) == 3, "where nothing is known, one view is tried"


def test_measuring_ends_in_time_and_keeps_the_latest_boundaries(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def training(extractor: Any, recipe: Any, boundary: Any) -> float:
        machine.work(boundary.train_s)
        return float(boundary.train_s)

    monkeypatch.setattr(speed, "_training_seconds", training)
    monkeypatch.setattr(speed, "_view_seconds", lambda *_: 0.0)
    bounds: Any = [
        SimpleNamespace(name=name, position=0.5, shape=(1,), train_s=seconds)
        for name, seconds in (("a", 8.0), ("b", 4.0), ("c", 2.0))
    ]

    def measured(until: float | None) -> list[str]:
        machine.now = 0.0
        nothing: Any = None
        return list(speed.measure_speeds(nothing, Recipe(), bounds, 0.01, until))

    # c ends at 2 s, b at 6 s; a would end at 10 s, as far as b tells.
    assert [measured(until) for until in (None, 11.0, 9.0, 3.0, 0.0)] == [
        ["a", "b", "c"], ["a", "b", "c"], ["b", "c"], ["c"], ["c"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("elapsed", "contention", "until"),
    [(50.0, 1.0, 58.5), (50.0, 4.0, 54.0), (59.0, 1.0, 61.5), (61.0, 1.0, 63.5), (63.0, 1.0, 61.5)],
)
def test_heat_maps_and_the_map_leave_time_for_the_report(
    machine: Machine, elapsed: float, contention: float, until: float
) -> None:
    clock = Clock(0.0, 60.0, pace=Pace(contention=contention))
    machine.now = elapsed
    found = collect._until(clock)
    assert found == pytest.approx(max(until, elapsed) if elapsed > 62.5 else until)
    assert collect._until(Clock(0.0)) is None


@pytest.mark.parametrize(("took", "left"), [(40.0, 33), (47.0, 22)])
def test_a_run_that_leaves_much_of_its_budget_says_why(
    machine: Machine, tmp_path: Path, took: float, left: int
) -> None:
    record = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=1, n_val=1, n_test=1,
        classes=("a",), backbone="", backbone_source="",
        stop_reason="fine-tuning does not help",
    )  # fmt: skip
    run = RunContext(tmp_path, record, Resources(Clock(0.0, 60.0), tmp_path))
    machine.now = took
    assert unused(run, 20.0, 12.0) == (
        f"{left}% of the budget of 1 min 00 s was not used. Why training ended: fine-tuning does "
        "not help. For the bundle, the sealed test and the report, 20 s were reserved, and they "
        "took 12 s."
    )
    machine.now = 48.5
    assert not unused(run, 20.0, 12.0)
    unlimited = RunContext(tmp_path, record, Resources(Clock(0.0), tmp_path))
    assert not unused(unlimited, 20.0, 12.0)
    assert "2.3 times slower" in slower(Clock(0.0, 60.0, pace=Pace(slowest=2.3)))
    assert not slower(Clock(0.0, 60.0, pace=Pace(slowest=1.3)))
    assert not late(Clock(0.0, 60.0))
    assert not late(Clock(0.0))
    machine.now = 75.0
    assert late(Clock(0.0, 60.0)).startswith("The run took 15 s longer than its budget")


def test_a_training_without_time_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(*_: Any) -> Iterator[Any]:
        yield from ()

    monkeypatch.setattr(finetune, "train", train)
    monkeypatch.setattr(finetune, "trainable", lambda *_: None)
    nothing: Any = None
    with pytest.raises(finetune.HeadstartError, match="no time to train"):
        finetune.train_silently(nothing, nothing, nothing, Recipe(), 3)


@pytest.mark.parametrize("so_far", [1.0, 1.5, 3.0])
def test_another_process_goes_on_from_the_pace_of_the_run(machine: Machine, so_far: float) -> None:
    deadline = Deadline(500.0, Pace(0.0, so_far, so_far), work_s=20.0, single_s=10.0)
    assert pace.begin(deadline) == deadline.began == 0.25, "it measures before it begins"
    assert (deadline.pace.now, deadline.pace.slowest) == (so_far, so_far)
    assert pace.begin(deadline) == 0.25, "once"
    assert rates(machine, deadline, *[0.5] * 20) == 0
    machine.loaded_from = machine.now
    assert rates(machine, deadline, *[0.5] * 20) == 1
    assert deadline.pace.slowest == pytest.approx(2 * so_far)
    assert deadline.at == pytest.approx(0.25 + 499.75 - 2 * so_far * 20 - 2 * 10)


@pytest.mark.parametrize("now", [1.0, 2.0, 5.0])
def test_the_length_is_planned_at_the_present_pace(
    now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def measure_speeds(*arguments: Any) -> dict[str, speed.Speed]:
        asked.append(arguments[3])
        return {"late": speed.Speed(prefix_s=arguments[3], train_s=0.001, bytes_per_view=1)}

    monkeypatch.setattr(finetune, "measure_speeds", measure_speeds)
    monkeypatch.setattr(finetune, "seconds_for_training", lambda *_: 100.0)
    extractor = SimpleNamespace(
        labels={"train": np.zeros(100)},
        traced=SimpleNamespace(boundary=lambda name: SimpleNamespace(name=name)),
    )
    run: Any = SimpleNamespace(clock=Clock(0.0, 200.0, pace=Pace(now=now)))
    images: Any = SimpleNamespace(extractor=extractor, features_s=0.05)
    transfer: Any = SimpleNamespace(prefix=SimpleNamespace(boundary="late"), solved=None)
    finetune._length(run, images, Recipe(), transfer)
    assert asked == [pytest.approx(0.05 * now)]
