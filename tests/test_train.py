import time

import numpy as np
import pytest
import torch
from torch import nn

from headstart.errors import HeadstartError
from headstart.methods.averaging import EMA, NoAveraging
from headstart.methods.freezing import LastBlocks
from headstart.methods.optimizer import SGD, AdamW
from headstart.methods.schedule import Constant
from headstart.recipe import Recipe
from headstart.train import EpochRecord, TrainData, _batches, _gather, predict, score, train

ROWS, CLASSES = 96, 3


def data(views: int = 2) -> TrainData:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, ROWS)
    signal = np.eye(8)[labels][:, :, None, None] * 3
    arrays = [(signal + rng.normal(size=(ROWS, 8, 4, 4))).astype(np.float16) for _ in range(views)]
    return TrainData(arrays, labels, arrays[0][:30], labels[:30])


def network() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    suffix = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(0.1),
    )  # fmt: skip
    return suffix, nn.Linear(16, CLASSES)


def recipe(**changes: object) -> Recipe:
    base = {"optimizer": AdamW(lr=1e-2), "batch_size": 16}
    return Recipe.model_validate(base | changes)


def run(settings: Recipe, epochs: int = 6) -> tuple[list[EpochRecord], nn.Module]:
    suffix, head = network()
    return list(train(suffix, head, data(), settings, epochs)), nn.Sequential(suffix, head)


def test_learns_and_yields_one_record_an_epoch() -> None:
    records, model = run(recipe())
    assert [record.epoch for record in records] == [1, 2, 3, 4, 5, 6]
    assert records[-1].progress == 1.0
    first, last = records[0].train_loss, records[-1].train_loss
    assert first is not None
    assert last is not None
    assert last < first
    assert records[-1].val_accuracy > 0.9
    # What is kept is what the last record tells of.
    _, accuracy = score(predict(model, data().val), data().val_labels)
    assert accuracy == records[-1].val_accuracy


def test_repeats_bit_by_bit_and_the_seed_matters() -> None:
    weights = [
        torch.cat([p.flatten() for p in run(recipe(seed=seed))[1].parameters()])
        for seed in (1, 1, 2)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_batchnorm_statistics_move_only_where_the_recipe_says_so() -> None:
    for batchnorm, moves in (("frozen", False), ("trained", True)):
        settings = recipe(freezing=LastBlocks(batchnorm=batchnorm), averaging=NoAveraging())
        _, model = run(settings, epochs=1)
        statistics = dict(model.named_buffers())["0.1.running_mean"]
        assert bool(statistics.any()) == moves


def test_average_is_kept_and_the_path_goes_on_from_the_raw_weights() -> None:
    raw = run(recipe(averaging=NoAveraging()))[1]
    averaged = run(recipe(averaging=EMA(half_life=0.5)))[1]
    again = run(recipe(averaging=NoAveraging()))[1]
    pairs = zip(raw.parameters(), averaged.parameters(), again.parameters(), strict=True)
    for a, b, c in pairs:
        assert not torch.equal(a, b)
        assert torch.equal(a, c)


def test_average_follows_its_formula() -> None:
    # One batch an epoch, gradient always -1 at rate 1: raw weights are 1, 2, 3.
    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 0 + self.w

    class Minus(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x[:, 0], x[:, 0] * 0], 1)

    suffix, head = Slope(), Minus()
    one = TrainData([np.ones((2, 1), np.float32)], np.array([0, 0]), np.ones((2, 1), np.float32),
                    np.array([0, 0]))  # fmt: skip
    settings = recipe(
        optimizer=SGD(lr=1, momentum=0, weight_decay=0, clip_norm=0),
        schedule=Constant(),
        averaging=EMA(half_life=1.0),
        criterion="cross_entropy",
    )
    list(train(suffix, head, one, settings, epochs=3))
    weight, average = 0.0, 0.0
    for step in range(3):
        weight += 1 / (1 + np.exp(weight))  # minus the gradient of log(1 + e^-w)
        decay = min(0.5 ** (1 / 3), (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert float(suffix.w.detach()) == pytest.approx(average, rel=1e-5)


def test_divergence_is_an_error_that_names_the_rate() -> None:
    with pytest.raises(HeadstartError, match=r"optimizer\.lr"):
        run(recipe(optimizer=SGD(lr=10, clip_norm=0), schedule=Constant()), epochs=50)


def test_deadline_shortens_the_schedule_and_still_ends_it() -> None:
    suffix, head = network()
    deadline = time.monotonic() + 1.0
    records = list(train(suffix, head, data(), recipe(), epochs=100_000, deadline=deadline))
    assert 1 <= len(records) < 100_000
    assert records[-1].lr < 0.1 * max(record.lr for record in records)


def test_a_deadline_in_the_past_trains_nothing() -> None:
    suffix, head = network()
    before = head.weight.detach().clone()
    past = time.monotonic() - 1
    assert list(train(suffix, head, data(), recipe(), epochs=3, deadline=past)) == []
    assert torch.equal(head.weight, before)


def test_stopping_early_is_possible() -> None:
    suffix, head = network()
    records = train(suffix, head, data(), recipe(), epochs=50)
    next(records)
    records.close()


def test_every_image_shows_each_view_once_in_as_many_epochs() -> None:
    views = [np.full((4, 1), number) for number in range(3)]
    rows = np.arange(4)
    seen = np.concatenate([_gather(views, rows, epoch) for epoch in range(3)], axis=1)
    assert [sorted(row) for row in seen.tolist()] == [[0, 1, 2]] * 4
    assert len(set(_gather(views, rows, 0).ravel().tolist())) == 3


def test_batches_cover_every_row_once_and_none_is_tiny() -> None:
    batches = _batches(33, 16, seed=0, epoch=3)
    assert sorted(np.concatenate(batches).tolist()) == list(range(33))
    assert min(len(batch) for batch in batches) == 11


def test_norms_and_biases_are_not_decayed() -> None:
    from headstart.train import _parameter_groups

    suffix, head = network()
    groups = _parameter_groups(
        suffix, head, recipe(optimizer=AdamW(lr=0.1, weight_decay=0.2, head_lr_factor=5))
    )
    summary = [(sorted({p.ndim for p in g["params"]}), g["lr"], g["weight_decay"]) for g in groups]
    assert summary == [([4], 0.1, 0.2), ([1], 0.1, 0.0), ([2], 0.5, 0.2), ([1], 0.5, 0.0)]


def test_score_by_hand() -> None:
    loss, accuracy = score(np.array([[0.0, 0.0], [0.0, np.log(3.0)]], np.float32), np.array([0, 1]))
    assert loss == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
    assert accuracy == 1.0
