"""The mean of several solved heads, and when it is worth more than the best."""

import numpy as np
import pytest

from headstart.evaluation.calibration import fit_temperature
from headstart.methods.head import Linear
from headstart.search.head_average import HeldOut, mean_head


def linear(features: str, penalty: float = 1e-3, smoothing: float = 0.0) -> Linear:
    fields = {"features": features, "normalize": "unit", "penalty": penalty}
    return Linear.model_validate({**fields, "smoothing": smoothing})


def unsure(rows: int, flaws: int, seed: int, scale: float = 2.0) -> np.ndarray:
    """Logits for labels that alternate between two classes; those of some images are wrong."""
    labels = np.arange(rows) % 2
    sign = np.ones(rows)
    sign[np.random.default_rng(seed).permutation(rows)[:flaws]] = -1
    own = scale * sign
    return np.where(labels[:, None] == [0, 1], own[:, None], 0).astype(np.float32)


def test_heads_that_err_on_other_images_are_better_together() -> None:
    labels = np.arange(60) % 2
    heads = [
        HeldOut(linear("stages", 1e-4), unsure(60, 12, seed=1)),
        HeldOut(linear("last+covariance", 1e-2, 0.1), unsure(60, 12, seed=2, scale=40.0)),
        HeldOut(linear("stages", 1e-3, 0.2), unsure(60, 12, seed=3)),
    ]
    found = mean_head(heads, labels, heads[0].logits)
    assert found is not None
    assert found.head.features == "stages+covariance"
    assert found.head.normalize == "unit"
    kinds = [(each.features, each.penalty, each.smoothing) for each in found.head.solutions]
    assert kinds == [("stages", 1e-4, 0.0), ("last+covariance", 1e-2, 0.1), ("stages", 1e-3, 0.2)]
    total = np.zeros_like(heads[0].logits)
    for each, solution in zip(heads, found.head.solutions, strict=True):
        assert solution.temperature == pytest.approx(fit_temperature(each.logits, labels))
        total += each.logits / solution.temperature / 3
    assert np.allclose(found.logits, total, atol=1e-5)


def test_a_much_better_head_stays_alone() -> None:
    labels = np.arange(200) % 2
    best = unsure(200, 0, seed=1)
    poor = [HeldOut(linear("last"), unsure(200, 50, seed=2)) for _ in range(9)]
    heads = [HeldOut(linear("stages"), best), *poor]
    assert mean_head(heads, labels, best) is None


@pytest.mark.parametrize(("wrong", "kept"), [(1, True), (3, True), (5, False)])
def test_a_mean_may_seem_a_little_worse_than_the_best_of_many(wrong: int, kept: bool) -> None:
    """The other head is right about one image more, and wrong about some that the best knows."""
    labels = np.arange(100) % 2
    best = unsure(100, 20, seed=1)
    right = best.argmax(1) == labels
    other = best.copy()
    other[[*np.flatnonzero(~right)[:1], *np.flatnonzero(right)[:wrong]]] *= -1
    heads = [HeldOut(linear("stages"), best), HeldOut(linear("last"), other)]
    assert (mean_head(heads, labels, best) is not None) == kept


@pytest.mark.parametrize("number", [0, 1])
def test_one_head_has_no_mean(number: int) -> None:
    logits = unsure(20, 4, seed=1)
    heads = [HeldOut(linear("stages"), logits)] * number
    assert mean_head(heads, np.arange(20) % 2, logits) is None


def test_no_tested_image_says_nothing() -> None:
    nothing = np.zeros((0, 2), np.float32)
    heads = [HeldOut(linear("stages"), nothing), HeldOut(linear("last"), nothing)]
    assert mean_head(heads, np.zeros(0, np.int64), nothing) is None
