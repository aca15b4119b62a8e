"""What is frozen stays as it was; a change is found, however it came about."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart.artifacts.records import EpochRecord
from headstart.errors import HeadstartError
from headstart.methods.freezing import LPFT, Gradual, LastBlocks
from headstart.methods.head import Linear
from headstart.recipes.recipe import Recipe
from headstart.training import freezing as guard_module
from headstart.training import loop as train_module
from headstart.training.activity import Observed
from headstart.training.freezing import Guard, put_under_guard, train_mode, wake
from headstart.training.loop import TrainData, train
from headstart.training.network import TrainableNetwork


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def data() -> TrainData:
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 3
    activations = (np.eye(8)[labels][:, :, None, None] * 3 + rng.normal(size=(48, 8, 4, 4))).astype(
        np.float16
    )
    return TrainData([activations], labels, activations[:15], labels[:15], space=(2, 3))


def run(
    suffix: nn.Sequential,
    epochs: int = 4,
    frozen: dict[str, torch.Tensor] | None = None,
    **changes: Any,
) -> list[EpochRecord]:
    recipe = Recipe.model_validate({"batch_size": 16, "optimizer": "adamw", **changes})
    head = Linear().build((8,), 3, nn.ReLU())
    blocks = [tuple(suffix[:3].parameters()), tuple(suffix[3:].parameters())]
    return list(train(TrainableNetwork(suffix, head, blocks, frozen or {}), data(), recipe, epochs))


def test_setting_only_requires_grad_does_not_freeze_batchnorm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The statistics of a BatchNorm layer move in train mode, whatever requires_grad says."""

    def only_requires_grad(model: nn.Module, guard: Guard) -> None:
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    monkeypatch.setattr(train_module, "train_mode", only_requires_grad)
    with pytest.raises(HeadstartError, match=r"Training changed .* frozen tensor.*running_mean"):
        run(network(), freezing=LastBlocks(batchnorm="frozen"))


def test_a_frozen_tensor_outside_the_suffix_that_changes_is_an_error() -> None:
    suffix = network()
    # The prefix's first weight is, by mistake, one that the suffix trains.
    with pytest.raises(HeadstartError, match="conv_stem"):
        run(suffix, frozen={"conv_stem.weight": suffix[0].weight})


def test_blocks_sleep_until_their_turn() -> None:
    suffix = network()
    start = {name: tensor.clone() for name, tensor in suffix.state_dict().items()}
    groups = [
        {"params": list(suffix[:3].parameters()), "start": 0.5},
        {"params": list(suffix[3:].parameters()), "start": 0.0},
    ]
    guard = put_under_guard(suffix, {}, False, groups)
    optimizer = torch.optim.AdamW([p for g in groups for p in g["params"]], lr=0.1)
    seen = Observed()
    for progress in (0.0, 0.25, 0.5, 0.75):
        woke = wake(guard, progress, seen)
        assert woke == (progress == 0.5)
        train_mode(suffix, guard)
        assert suffix[1].training == (progress >= 0.5)
        assert suffix[4].training
        optimizer.zero_grad()
        suffix(torch.randn(4, 8, 4, 4)).square().sum().backward()
        optimizer.step()
        now = suffix.state_dict()
        moved = {name for name in start if not torch.equal(start[name], now[name])}
        first = {name for name in moved if name[0] in "01"}
        assert bool(first) == (progress >= 0.5)
        assert moved - first
    assert seen.woken == [(1, 4)]


def test_a_tensor_that_changes_in_its_sleep_is_an_error() -> None:
    suffix = network()
    guard = put_under_guard(suffix, {}, False, [{"params": [suffix[0].weight], "start": 0.5}])
    with torch.no_grad():
        suffix[0].weight[0, 0, 0, 0] += 1e-6
    with pytest.raises(HeadstartError, match=r"0\.weight"):
        wake(guard, 0.6, Observed())


@pytest.mark.parametrize(
    ("freezing", "woken"), [(LPFT(head_share=0.5), 8), (Gradual(until=0.5), 8)]
)
def test_what_woke_is_told(freezing: LPFT | Gradual, woken: int) -> None:
    last = run(network(), freezing=freezing)[-1]
    evidence = [each for each in last.acted if "unfrozen" in each.evidence]
    assert [f"{woken} tensors" in each.evidence for each in evidence] == [True]
    assert evidence[0].first_step is not None
    assert evidence[0].first_step > 1


def test_what_never_woke_is_told_and_is_unchanged() -> None:
    suffix = network()
    before = suffix[0].weight.clone()
    last = run(suffix, epochs=1, freezing=LPFT(head_share=0.99))[-1]
    assert torch.equal(suffix[0].weight, before)
    assert any(each.state == "not due" and each.family == "freezing" for each in last.acted)
    assert all(parameter.requires_grad for parameter in suffix.parameters())


def test_layer_decay_sets_a_rate_for_each_block() -> None:
    suffix, head = network(), Linear().build((8,), 3, nn.ReLU())
    recipe = Recipe.model_validate(
        {"freezing": LastBlocks(layer_decay=0.5), "optimizer": {"name": "sgd", "lr": 0.1}}
    )
    blocks = [tuple(suffix[:3].parameters()), tuple(suffix[3:].parameters())]
    groups = train_module.parameter_groups(TrainableNetwork(suffix, head, blocks), None, recipe)
    rates = {group["place"]: set() for group in groups}
    for group in groups:
        rates[group["place"]].add(round(group["lr"], 6))
    assert rates == {"backbone": {0.05, 0.1}, "head": {0.1}}


def test_digests_see_every_bit() -> None:
    tensor = torch.zeros(3)
    before = guard_module.digests({"x": tensor})
    tensor[1] = -0.0
    assert guard_module.digests({"x": tensor}) != before
