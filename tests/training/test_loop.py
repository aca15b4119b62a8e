import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from headstart.artifacts.records import EpochRecord
from headstart.errors import DivergedError, HeadstartError
from headstart.evaluation.calibration import score
from headstart.methods.averaging import EMA, NoAveraging
from headstart.methods.freezing import LastBlocks
from headstart.methods.head import Linear
from headstart.methods.head_layers import Head
from headstart.methods.optimizer import SGD, AdamW
from headstart.methods.schedule import Constant
from headstart.recipes.recipe import Recipe
from headstart.training import loop
from headstart.training.loop import TrainData, parameter_groups, predict, train
from headstart.training.network import TrainableNetwork
from headstart.training.pace import Deadline, Pace

ROWS, CLASSES = 96, 3


def data(views: int = 2) -> TrainData:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, ROWS)
    signal = np.eye(8)[labels][:, :, None, None] * 3
    arrays = [(signal + rng.normal(size=(ROWS, 8, 4, 4))).astype(np.float16) for _ in range(views)]
    plain = (signal + rng.normal(size=(ROWS, 8, 4, 4))).astype(np.float16)
    return TrainData(arrays, labels, arrays[0][:30], labels[:30], plain=plain, space=(2, 3))


def network() -> tuple[nn.Module, Head]:
    torch.manual_seed(0)
    suffix = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(0.1),
    )  # fmt: skip
    return suffix, Linear().build((16,), CLASSES, nn.ReLU())


def recipe(**changes: object) -> Recipe:
    base = {"optimizer": AdamW(lr=1e-2), "batch_size": 16}
    return Recipe.model_validate(base | changes)


def run(settings: Recipe, epochs: int = 6) -> tuple[list[EpochRecord], nn.Module]:
    suffix, head = network()
    return list(train(TrainableNetwork(suffix, head), data(), settings, epochs)), nn.Sequential(
        suffix, head
    )


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
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x[:, 0], x[:, 0] * 0], 1)

    suffix, head = Slope(), Head(nn.Identity(), Minus())
    one = TrainData([np.ones((2, 1), np.float32)], np.array([0, 0]), np.ones((2, 1), np.float32),
                    np.array([0, 1]))  # fmt: skip
    settings = recipe(
        optimizer=SGD(lr=1, momentum=0, weight_decay=0, clip_norm=0),
        schedule=Constant(),
        averaging=EMA(half_life=1.0),
        criterion="cross_entropy",
    )
    list(train(TrainableNetwork(suffix, head), one, settings, epochs=3))
    weight, average = 0.0, 0.0
    for step in range(3):
        weight += 1 / (1 + np.exp(weight))  # minus the gradient of log(1 + e^-w)
        decay = min(0.5 ** (1 / 3), (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert float(suffix.w.detach()) == pytest.approx(average, rel=1e-5)


def test_divergence_is_an_error_that_names_the_rate() -> None:
    with pytest.raises(HeadstartError, match=r"optimizer\.lr"):
        run(recipe(optimizer=SGD(lr=10, clip_norm=0), schedule=Constant()), epochs=50)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_a_divergence(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step can break a network whose losses were finite."""

    def logits(model: nn.Module, data: TrainData, device: torch.device) -> np.ndarray:
        found = loop.predict(model, data.val)
        found[0, 0] = value
        return found

    monkeypatch.setattr(loop, "validation_logits", logits)
    with pytest.raises(DivergedError, match=r"not finite.*optimizer\.lr"):
        run(recipe(), epochs=2)


def ending(seconds: float) -> Deadline:
    """A deadline so many seconds from now, with nothing reserved."""
    return Deadline(time.monotonic() + seconds, Pace(), work_s=0.0, single_s=0.0)


def test_deadline_shortens_the_schedule_and_still_ends_it() -> None:
    suffix, head = network()
    deadline = ending(1.0)
    records = list(
        train(TrainableNetwork(suffix, head), data(), recipe(), epochs=100_000, deadline=deadline)
    )
    assert 1 <= len(records) < 100_000
    assert records[-1].lr < 0.1 * max(record.lr for record in records)


def test_a_deadline_in_the_past_trains_nothing() -> None:
    suffix, head = network()
    before = head.out[1].weight.detach().clone()
    past = ending(-1.0)
    assert (
        list(train(TrainableNetwork(suffix, head), data(), recipe(), epochs=3, deadline=past)) == []
    )
    assert torch.equal(head.out[1].weight, before)


def test_stopping_early_is_possible() -> None:
    suffix, head = network()
    records = train(TrainableNetwork(suffix, head), data(), recipe(), epochs=50)
    next(records)
    records.close()


def test_norms_and_biases_are_not_decayed() -> None:
    suffix, head = network()
    settings = recipe(optimizer=AdamW(lr=0.1, weight_decay=0.2, head_lr_factor=5))
    groups = parameter_groups(TrainableNetwork(suffix, head), None, settings)
    summary = [(sorted({p.ndim for p in g["params"]}), g["lr"], g["weight_decay"]) for g in groups]
    assert summary == [([4], 0.1, 0.2), ([1], 0.1, 0.0), ([2], 0.5, 0.2), ([1], 0.5, 0.0)]


def test_score_by_hand() -> None:
    loss, accuracy = score(np.array([[0.0, 0.0], [0.0, np.log(3.0)]], np.float32), np.array([0, 1]))
    assert loss == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
    assert accuracy == 1.0


def test_each_record_says_what_the_methods_did_so_far() -> None:
    records, _ = run(recipe())
    assert ("criterion", "acted") in {(each.family, each.state) for each in records[0].acted}
    assert all(record.acted for record in records)
    acted = {(each.family, each.state) for each in records[-1].acted}
    assert {
        ("augmentation", "acted"), ("optimizer", "acted"), ("schedule", "acted"),
        ("criterion", "acted"), ("freezing", "acted"), ("averaging", "acted"),
    } <= acted  # fmt: skip


def test_views_that_are_no_views_are_an_error() -> None:
    suffix, head = network()
    same = replace(data(), plain=data().views[0], views=data().views[:1])
    with pytest.raises(HeadstartError, match="trivial_augment had no effect"):
        list(train(TrainableNetwork(suffix, head), same, recipe(), 2))


def test_maps_that_are_their_own_mirror_images_are_an_error() -> None:
    narrow = data().views[0][..., :1]
    thin = replace(data(), views=[narrow], plain=narrow, val=narrow[:30])
    settings = recipe(augmentation="none", feature_flip=True)
    suffix, head = network()
    with pytest.raises(HeadstartError, match="feature_flip had no effect"):
        list(train(TrainableNetwork(suffix, head), thin, settings, 2))


def test_few_maps_that_equal_their_mirror_images_may_be_chance() -> None:
    rows = data()
    few = TrainData([rows.views[0][:8, ..., :1]], rows.labels[:8], None, rows.labels[:0],
                    space=(2, 3), outputs=CLASSES)  # fmt: skip
    settings = recipe(augmentation="none", feature_flip=True, batch_size=8)
    suffix, head = network()
    *_, last = train(TrainableNetwork(suffix, head), few, settings, 2)
    states = {each.family: each.state for each in last.acted}
    assert states["feature_flip"] == "not due"


def test_mirrored_maps_change_the_training_and_are_counted() -> None:
    plain, _ = run(recipe())
    flipped, _ = run(recipe(feature_flip=True))
    assert flipped[-1].train_loss != plain[-1].train_loss
    (acted,) = [each for each in flipped[-1].acted if each.family == "feature_flip"]
    assert (acted.state, acted.first_step) == ("acted", 1)
    assert acted.evidence.endswith(f"of {6 * ROWS} feature maps mirrored")
    assert not [each for each in plain[-1].acted if each.family == "feature_flip"]


def test_a_metric_loss_without_pairs_is_an_error() -> None:
    suffix, head = network()
    alone = TrainData(data().views, np.arange(ROWS), data().val, np.arange(30))
    head = Linear().build((16,), ROWS, nn.ReLU())
    settings = recipe(metric_loss={"name": "supcon", "per_class": 2})
    with pytest.raises(HeadstartError, match="supcon had no effect"):
        list(train(TrainableNetwork(suffix, head), alone, settings, 2))


def test_lookahead_that_was_not_yet_due_is_no_error() -> None:
    suffix, head = network()
    records = list(
        train(TrainableNetwork(suffix, head), data(), recipe(optimizer="ranger", batch_size=48), 2)
    )
    states = [each.state for each in records[-1].acted if each.family == "optimizer"]
    assert "not due" in states


def test_mixed_labels_and_unmixed_pairs() -> None:
    """The criterion sees mixed images, the metric term the same images unmixed."""
    suffix, head = network()
    seen: list[torch.Tensor] = []
    suffix.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    settings = recipe(
        batch_mixing={"name": "mixup", "alpha": 1.0, "probability": 1.0},
        metric_loss={"name": "triplet"},
    )
    generator = train(TrainableNetwork(suffix, head), data(), settings, 1)
    list(generator)
    mixed, unmixed = seen[1], seen[2]  # the first forward asks for the embedding's width
    assert mixed.shape == unmixed.shape
    assert not torch.equal(mixed, unmixed)
    rows = torch.from_numpy(np.concatenate(data().views)).float()
    found = [(rows == each).all((1, 2, 3)).any() for each in unmixed]
    assert all(found), "what the metric term saw are the images themselves"


def test_a_class_may_have_no_image_at_all() -> None:
    """In a part of the data, as a certificate trains on: the head still tells it apart."""
    suffix, _ = network()
    head = Linear().build((16,), CLASSES + 2, nn.ReLU())
    known = replace(data(), outputs=CLASSES + 2)
    assert known.counts.tolist()[-2:] == [0, 0]
    records = list(
        train(TrainableNetwork(suffix, head), known, recipe(criterion={"name": "cross_entropy"}), 2)
    )
    assert records[-1].train_loss is not None


def test_a_soup_is_made_of_epochs_and_is_as_good_as_the_best() -> None:
    suffix, head = network()
    settings = recipe(averaging="soup", schedule="constant")
    records = list(train(TrainableNetwork(suffix, head), data(), settings, 6))
    (acted,) = [each for each in records[-1].acted if each.family == "averaging"]
    assert "epochs" in acted.evidence
    assert records[-1].val_loss <= min(record.val_loss for record in records[:-1]) + 1e-6


def test_swa_averages_the_end_and_takes_statistics_anew() -> None:
    suffix, head = network()
    settings = recipe(averaging="swa", freezing={"name": "full"}, schedule="constant")
    list(train(TrainableNetwork(suffix, head), data(), settings, 4))
    batchnorm = suffix[1]
    with torch.inference_mode():
        inputs = torch.from_numpy(np.concatenate(data().views)).float()
        outputs = suffix[0](inputs)
    torch.testing.assert_close(batchnorm.running_mean, outputs.mean((0, 2, 3)), rtol=0.2, atol=0.2)


def test_a_neighbours_head_learns_by_the_metric_loss_alone() -> None:
    from headstart.methods.head import NearestNeighbours

    suffix, _ = network()
    method = NearestNeighbours(k=5)
    head = method.build((16,), CLASSES, nn.ReLU())
    with torch.inference_mode():
        features = suffix.eval()(torch.from_numpy(np.array(data().plain)).float())
    method.start(
        head, features.clone(), torch.from_numpy(data().labels), lambda _: (features, features)
    )
    settings = recipe(head=method, metric_loss="supcon")
    records = list(train(TrainableNetwork(suffix, head), data(), settings, 5))
    assert records[-1].val_accuracy > 0.9
    criterion = [each for each in records[-1].acted if each.family == "criterion"]
    assert criterion[0].state == "idle"
    # What it remembers are embeddings of the weights that are kept.
    with torch.inference_mode():
        now = suffix.eval()(torch.from_numpy(np.array(data().plain)).float())
    torch.testing.assert_close(head.out.memory, nn.functional.normalize(now, dim=1))


def test_a_mix_that_cannot_be_seen_is_not_a_dead_method() -> None:
    suffix, head = network()
    tiny = recipe(batch_mixing={"name": "cutmix", "alpha": 0.01, "probability": 1.0})
    records = list(train(TrainableNetwork(suffix, head), data(), tiny, 1))
    (acted,) = [each for each in records[-1].acted if each.family == "batch_mixing"]
    assert acted.state in {"acted", "not due"}


def test_a_first_step_without_gradient_does_not_condemn_the_optimizer() -> None:
    from headstart.methods.head import NearestNeighbours

    suffix, _ = network()
    method = NearestNeighbours(k=5)
    head = method.build((16,), CLASSES, nn.ReLU())
    with torch.inference_mode():
        features = suffix.eval()(torch.from_numpy(np.array(data().plain)).float())
    labels = torch.from_numpy(data().labels)
    method.start(head, 1 * features.clone(), labels, lambda _: (features, features))
    settings = recipe(
        head=method,
        optimizer=AdamW(weight_decay=0),
        # A margin so small that next to no triplet lies within it.
        metric_loss={"name": "triplet", "miner": "semi_hard", "margin": 1e-9},
    )
    records = list(train(TrainableNetwork(suffix, head), data(), settings, 1))
    states = {each.family: each.state for each in records[-1].acted}
    assert states["metric_loss"] == "idle"
    assert states["optimizer"] in {"not due", "idle"}


def test_a_dead_method_is_found_in_the_first_epoch() -> None:
    suffix, head = network()
    same = replace(data(), plain=data().views[0], views=data().views[:1])
    records = train(TrainableNetwork(suffix, head), same, recipe(), 50)
    with pytest.raises(HeadstartError, match="had no effect"):
        next(records)


def test_mirroring_needs_height_and_width() -> None:
    from headstart.errors import RecipeError

    suffix, head = network()
    flat = replace(data(), space=())
    with pytest.raises(RecipeError, match="feature_flip mirrors feature maps"):
        next(train(TrainableNetwork(suffix, head), flat, recipe(feature_flip=True), 1))


def test_boxes_need_height_and_width() -> None:
    from headstart.errors import RecipeError

    suffix, head = network()
    settings = recipe(batch_mixing="cutmix")
    with pytest.raises(RecipeError, match="no height and width"):
        list(train(TrainableNetwork(suffix, head), replace(data(), space=()), settings, 1))
