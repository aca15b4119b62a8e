"""Pseudo-labels: they help where images lie in clusters, and nothing held out is seen."""

import numpy as np
import pytest

from headstart.evaluation.metrics import calibrated_losses
from headstart.features.probe import LabelledFeatures, fit_path
from headstart.features.pseudo_labels import (
    HeadKind,
    hard,
    held_out,
    pseudo_labels,
    solved_with,
    try_unlabelled,
)
from headstart.features.soft_labels import soft_loss

WIDTH = 40
LINEAR, MEANS = HeadKind(1e-2), HeadKind(0.0)


def clusters(each: int, seed: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of four classes around corners, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), each)
    values = apart * np.eye(4, WIDTH)[labels] + rng.normal(0, 1, (len(labels), WIDTH))
    return values.astype(np.float32), labels


def labelled(values: np.ndarray, labels: np.ndarray) -> LabelledFeatures:
    return LabelledFeatures(values, labels, int(labels.max()) + 1, np.arange(len(labels)))


@pytest.mark.parametrize("kind", [LINEAR, MEANS])
def test_they_help_where_images_lie_in_clusters(kind: HeadKind) -> None:
    data, (pool, truth) = labelled(*clusters(4, 0, 3.0)), clusters(60, 1, 3.0)
    tried = try_unlabelled(kind, data, pool)
    assert tried.helps and tried.gain > 0.05
    new, labels = clusters(200, 2, 3.0)
    heads = kind.solve(data.features, hard(data.labels, 4)), solved_with(kind, data, pool)
    right = [float((head.logits(new).argmax(1) == labels).mean()) for head in heads]
    assert right[1] > right[0] + 0.05
    said = pseudo_labels(data, pool)
    assert said.sum(1).max() <= 1 + 1e-6 and (said.argmax(1) == truth).mean() > 0.6


def test_they_do_not_help_where_the_images_are_of_no_class() -> None:
    """They all lie between two classes, and draw the mean of one towards the other."""
    data = labelled(*clusters(12, 0, 3.0))
    between = 3 * (0.9 * np.eye(4, WIDTH)[0] + 0.6 * np.eye(4, WIDTH)[1])
    spread = np.random.default_rng(1).normal(0, 0.3, (300, WIDTH))
    tried = try_unlabelled(MEANS, data, np.asarray(between + spread, np.float32))
    assert not tried.helps and tried.gain < -0.05
    worse = solved_with(MEANS, data, np.asarray(between + spread, np.float32))
    new, labels = clusters(200, 2, 3.0)
    alone = MEANS.solve(data.features, hard(data.labels, 4))
    right = [(head.logits(new).argmax(1) == labels).mean() for head in (alone, worse)]
    assert right[1] < right[0]


@pytest.mark.parametrize("kind", [LINEAR, MEANS])
def test_a_held_out_label_is_not_seen(kind: HeadKind) -> None:
    """Labels by chance: only copies of held-out images with their labels could tell them."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (80, WIDTH)).astype(np.float32)
    data = labelled(values, np.arange(80) % 4)
    tried = try_unlabelled(kind, data, values.copy())
    assert (tried.after.argmax(1) == data.labels).mean() < 0.45
    # What a leak would give: labels from a head that has seen all.
    shares = np.concatenate([hard(data.labels, 4)] * 2)
    seen = kind.solve(np.concatenate([values, values]), shares)
    assert (seen.logits(values).argmax(1) == data.labels).mean() > 0.6


def test_a_group_is_held_out_as_a_whole_and_counts_once() -> None:
    """Every image four times: by single images, three copies would stay in the training part."""
    values, _ = clusters(5, 3, 0.0)
    labels = np.arange(20) % 4
    four = LabelledFeatures(
        np.repeat(values, 4, 0), np.repeat(labels, 4), 4, np.repeat(np.arange(20), 4)
    )
    assert (held_out(LINEAR, four).argmax(1) == four.labels).mean() < 0.6
    tried = try_unlabelled(MEANS, four, values)
    losses = [calibrated_losses(each, four.labels) for each in (tried.before, tried.after)]
    gains = (losses[0] - losses[1])[::4]  # that of each image
    assert tried.gain == pytest.approx(gains.mean())
    assert tried.noise == pytest.approx(gains.std(ddof=1) / 20**0.5)


def test_views_of_a_held_out_image_are_averaged() -> None:
    """By hand: class means in two dimensions, the first view on an axis and the second between."""
    values = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    data, between = labelled(values, np.array([0, 0, 1, 1])), np.ones((4, 2), np.float32)
    plain = held_out(MEANS, data)
    np.testing.assert_allclose(plain[0], [20, 0], atol=1e-5)
    both = held_out(MEANS, data, views=[between])
    np.testing.assert_allclose(both[0], [(20 + 200**0.5) / 2, 200**0.5 / 2], atol=1e-4)


def test_a_fold_with_one_class_left_has_no_logits() -> None:
    values, _ = clusters(1, 0, 3.0)
    data = LabelledFeatures(values[:2], np.array([0, 1]), 2, np.arange(2))
    assert np.isnan(held_out(LINEAR, data, values)).all()
    tried = try_unlabelled(LINEAR, data, values)
    assert (tried.gain, tried.helps) == (0.0, False)


def test_whole_labels_as_shares_give_the_same_head() -> None:
    values, labels = clusters(10, 0, 2.0)
    by_number = fit_path(values, labels, 4, [1e-1], 0.1)[0].logits(values)
    by_share = fit_path(values, hard(labels, 4), 4, [1e-1], 0.1)[0].logits(values)
    np.testing.assert_allclose(by_number, by_share, atol=1e-3)
    # Weights count: two copies of an image with half the weight are one.
    twice = np.concatenate([values, values]), np.concatenate([hard(labels, 4) / 2] * 2)
    halved = fit_path(*twice, 4, [1e-1], 0.1)[0].logits(values)
    np.testing.assert_allclose(halved, by_share, atol=0.02)
    other = fit_path(
        twice[0], np.concatenate([hard(labels, 4), hard(1 - labels % 2, 4)]), 4, [1e-1]
    )
    assert abs(other[0].logits(values) - by_share).max() > 0.5


def test_the_loss_by_hand_and_its_gradient() -> None:
    features = np.array([[1.0], [-1.0]], np.float32)
    shares = np.array([[0.5, 0.0], [0.25, 0.75]], np.float32)
    zero = np.zeros(4)
    loss, _ = soft_loss(zero, 0.0, features, shares)
    assert loss == pytest.approx(np.log(2))  # weights 0.5 and 1, each at even odds
    point = np.array([0.3, -0.2, 0.1, 0.4])
    strength = 0.1
    _, slope = soft_loss(point, strength, features, shares, 0.1)
    for place in range(4):
        step = np.zeros(4)
        step[place] = 1e-2
        ends = [
            soft_loss(point + sign * step, strength, features, shares, 0.1)[0] for sign in (1, -1)
        ]
        assert slope[place] == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=1e-4)
