"""Training on a GPU, where there is one."""

import numpy as np
import pytest
import torch
from torch import nn

from headstart.backbones.engine import Normalize, make_engine
from headstart.methods.head import Linear
from headstart.methods.optimizer import AdamW
from headstart.recipes.recipe import Recipe
from headstart.training.activity import Observed
from headstart.training.loop import TrainData, predict, train
from headstart.training.network import TrainableNetwork
from headstart.training.step import Stepper, make_stepper, note_clipping, take_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

GPU = torch.device("cuda")
ROWS, CLASSES = 96, 3


def network() -> TrainableNetwork:
    torch.manual_seed(0)
    suffix = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip
    head = Linear().build((16,), CLASSES, nn.ReLU())
    return TrainableNetwork(suffix.to(GPU), head.to(GPU), device=GPU)


def data() -> TrainData:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, ROWS)
    signal = np.eye(8)[labels][:, :, None, None] * 3
    plain, *views = ((signal + rng.normal(size=(ROWS, 8, 4, 4))).astype(np.float16) for _ in "abc")
    return TrainData(views, labels, plain[:30], labels[:30], plain=plain, space=(2, 3))


def recipe() -> Recipe:
    return Recipe.model_validate({"optimizer": AdamW(lr=1e-2, clip_norm=0.01), "batch_size": 16})


def test_training_learns_and_its_losses_are_read_back_once_an_epoch() -> None:
    net = network()
    records = list(train(net, data(), recipe(), epochs=6))
    first, last = records[0].train_loss, records[-1].train_loss
    assert first is not None
    assert last is not None
    assert last < first
    assert records[-1].val_accuracy > 0.9
    evidence = [each.evidence for each in records[-1].acted]
    assert "gradients clipped to norm 0.01 in 36 of 36 steps" in evidence, evidence


def stepper(net: TrainableNetwork) -> Stepper:
    settings = recipe()
    parameters = [*net.suffix.parameters(), *net.head.parameters()]
    groups = [{"params": parameters, "lr": 1e-2, "full_lr": 1e-2}]
    optimizer = settings.optimizer.build(groups)
    counts = np.bincount(data().labels)
    return make_stepper(net, counts, settings, optimizer, None, (2, 3), Observed())


def test_a_step_does_not_wait_for_the_gpu() -> None:
    net = network()
    work, rng = stepper(net), np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(16, 8, 4, 4)).astype(np.float32)).to(GPU)
    labels = torch.from_numpy(rng.integers(0, CLASSES, 16)).to(GPU)
    for _ in range(3):  # the first steps are observed
        take_step(work, inputs, labels)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = take_step(work, inputs, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(float(loss))
    note_clipping(work)
    assert work.seen.clipped == 4


def test_the_frozen_part_answers_as_on_the_processor() -> None:
    torch.manual_seed(0)
    normalize = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    frozen = nn.Sequential(normalize, nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    views = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    here = make_engine(frozen, views, torch.device("cpu")).run(views)
    there = make_engine(frozen, views, GPU).run(views)
    np.testing.assert_allclose(there, here, rtol=0.02, atol=0.05)  # 8 bits of bfloat16


def test_predictions_come_back_to_the_processor() -> None:
    net = network()
    found = predict(net.model.eval(), data().val, device=GPU)
    expected = predict(network().model.cpu().eval(), data().val)
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.01)
