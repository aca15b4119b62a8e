"""Each method's own mathematics, against values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.methods.augmentation import FlipCrop, NoAugmentation, TrivialAugment
from headstart.methods.averaging import EMA, NoAveraging
from headstart.methods.criterion import CrossEntropy, LabelSmoothing
from headstart.methods.head import Linear
from headstart.methods.optimizer import SGD, AdamW

LOGITS = torch.tensor([[1.0, 2.0, 0.5]])


def log_softmax(logits: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in logits))
    return [value - total for value in logits]


def test_cross_entropy() -> None:
    expected = -log_softmax([1.0, 2.0, 0.5])[1]
    assert float(CrossEntropy().build()(LOGITS, torch.tensor([1]))) == pytest.approx(expected)


def test_label_smoothing() -> None:
    logs = log_softmax([1.0, 2.0, 0.5])
    expected = -(0.9 * logs[1] + 0.1 / 3 * sum(logs))
    criterion = LabelSmoothing(smoothing=0.1).build()
    assert float(criterion(LOGITS, torch.tensor([1]))) == pytest.approx(expected)


def test_adamw_first_step_is_the_rate_and_decay_is_decoupled() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = AdamW(lr=0.1).build([{"params": [weight], "lr": 0.1, "weight_decay": 0.5}])
    (3 * weight).sum().backward()
    optimizer.step()
    # Bias-corrected moments of the first gradient give a step of lr; decay takes lr * 0.5 of 2.
    assert float(weight.detach()) == pytest.approx(2.0 - 0.1 * 0.5 * 2.0 - 0.1, abs=1e-5)


def test_sgd_with_nesterov_momentum() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    method = SGD(lr=0.1, momentum=0.9, nesterov=True)
    optimizer = method.build([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])
    for _ in range(2):
        optimizer.zero_grad()
        (2 * weight).sum().backward()
        optimizer.step()
    # v1 = 2, step 2 + .9 * 2 = 3.8; v2 = .9 * 2 + 2 = 3.8, step 2 + .9 * 3.8 = 5.42
    assert float(weight.detach()) == pytest.approx(1.0 - 0.1 * 3.8 - 0.1 * 5.42)


def test_ema_decay() -> None:
    ema = EMA(half_life=0.1)
    assert ema.decay(0, 1000) == pytest.approx(0.1)
    assert ema.decay(8, 1000) == pytest.approx(0.5)
    # After a tenth of all steps a weight has lost half of its share.
    assert ema.decay(10_000, 1000) ** 100 == pytest.approx(0.5)
    assert NoAveraging().decay(5, 10) == 0.0


def test_linear_head_takes_a_probe() -> None:
    method = Linear()
    head = method.build(features=2, classes=2)
    method.load_probe(head, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.5, -0.5]))
    output = head.eval()(torch.tensor([[1.0, -1.0]]))
    assert output.tolist() == [[-0.5, -1.5]]


def test_flip_happens_only_where_it_is_allowed() -> None:
    ramp = np.tile(np.arange(0, 250, 5, dtype=np.uint8)[None, :, None], (50, 1, 3))
    image = Image.fromarray(ramp)
    torch.manual_seed(0)
    for flip, expected in ((True, {True, False}), (False, {False})):
        augment = FlipCrop(flip=flip, min_area=1.0, stretch=1.0).build(32, "bilinear")
        views = [np.asarray(augment(image))[:, :, 0].astype(int) for _ in range(20)]
        assert {bool(view[0, 0] > view[0, -1]) for view in views} == expected


def test_crop_shows_at_least_the_smallest_area() -> None:
    columns = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (200, 1, 3))
    image = Image.fromarray(columns)
    augment = FlipCrop(flip=False, min_area=0.49, stretch=1.0).build(64, "bilinear")
    torch.manual_seed(0)
    for _ in range(30):
        view = np.asarray(augment(image))[:, :, 0].astype(int)
        assert view.max() - view.min() >= 0.7 * 199 - 6


def test_trivial_augment_changes_pictures_and_none_does_not() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    augment = TrivialAugment(flip=False, min_area=1.0, stretch=1.0).build(64, "bilinear")
    torch.manual_seed(0)
    views = [np.asarray(augment(Image.fromarray(noise))) for _ in range(10)]
    assert sum(not np.array_equal(view, noise) for view in views) >= 5
    assert NoAugmentation().build(64, "bilinear") is None
