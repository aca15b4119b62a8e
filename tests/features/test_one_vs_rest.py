"""The probe of several labels: one logistic regression a label, as scikit-learn finds it."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from headstart.features.one_vs_rest import sigmoid_loss
from headstart.features.probe import LabelledFeatures, cross_validate, fit_probe, out_of_fold

RANDOM = np.random.default_rng(1)
FEATURES = RANDOM.standard_normal((200, 12)).astype(np.float32)
MARKS = (FEATURES[:, :3] + RANDOM.standard_normal((200, 3)) > 0.5).astype(np.int64)


def test_the_gradient_is_that_of_the_loss() -> None:
    strength = 0.01
    point = RANDOM.standard_normal(13 * 3) / 3

    def value(at: np.ndarray) -> float:
        return sigmoid_loss(at, strength, FEATURES, MARKS, 0.1)[0]

    _, gradient = sigmoid_loss(point, strength, FEATURES, MARKS, 0.1)
    assert gradient == pytest.approx(approx_fprime(point, value, 1e-3), abs=2e-3)


def test_each_label_is_the_logistic_regression_of_its_own() -> None:
    strength = 1e-2
    probe = fit_probe(FEATURES, MARKS, 3, strength)
    standard = (FEATURES - FEATURES.mean(0)) / FEATURES.std(0)
    for label in range(3):
        alone = LogisticRegression(C=1 / (strength * len(FEATURES)), tol=1e-8, max_iter=1000)
        wanted = alone.fit(standard, MARKS[:, label]).decision_function(standard)
        found = probe.logits(FEATURES)[:, label]
        assert np.corrcoef(wanted, found)[0, 1] > 0.999
        assert np.abs(wanted - found).mean() < 0.1


def test_cross_validation_keeps_groups_together_and_returns_held_out_logits() -> None:
    data = LabelledFeatures(FEATURES, MARKS, 3, np.arange(200) // 2)
    found = cross_validate(data)
    assert found.held is not None
    assert found.held.shape == (200, 3)
    assert np.isfinite(found.held).all()
    assert 0.6 < found.accuracy < 1  # the mean average precision
    again = out_of_fold(data, [*[s for s in (1e-1, 1e-2) if s > found.strength], found.strength])
    assert again[-1] == pytest.approx(found.held, abs=0.2)
    copies = np.concatenate([FEATURES, FEATURES]), np.concatenate([MARKS, MARKS])
    apart = cross_validate(LabelledFeatures(*copies, 3, np.arange(400)), [1e-6])
    together = cross_validate(LabelledFeatures(*copies, 3, np.tile(np.arange(200), 2)), [1e-6])
    assert apart.accuracy > together.accuracy + 0.02  # a copy in another fold gives the answer
