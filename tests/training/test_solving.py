"""Heads in closed form: the mean of several as one linear layer."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from headstart.features.layout import FeatureLayout
from headstart.features.probe import fit_probe
from headstart.methods.head import Linear
from headstart.methods.head_layers import UnitParts
from headstart.training.solving import mean_of_heads, seen_by

LAYOUT = FeatureLayout(("c:covariance", "b", "c"), (5, 3, 2, 4))

SOLUTIONS = (
    {"features": "stages+covariance", "penalty": 3e-2, "smoothing": 0.1, "temperature": 0.5},
    {"features": "last+covariance", "penalty": 1e-2},
    {"features": "stages", "penalty": 3e-2, "temperature": 2.0},
    {"features": "last", "penalty": 1e-1},
)


def example() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (np.arange(60) % 3).astype(np.int64)
    return rng.normal(labels[:, None], 1.5, (60, LAYOUT.width)).astype(np.float32), labels


def test_the_mean_of_heads_has_the_mean_of_their_logits() -> None:
    features, labels = example()
    whole = {"features": "stages+covariance", "normalize": "unit"}
    method = Linear.model_validate({**whole, "mean_of": SOLUTIONS})
    columns = seen_by(method, LAYOUT, features)
    weight, bias = mean_of_heads(method, columns, LAYOUT, labels, 3)
    head = method.build(LAYOUT.widths, 3, nn.Identity())
    head.out[1].load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.tensor(bias)})

    wanted = np.zeros((60, 3))
    for each in SOLUTIONS:  # each on its own, from the features alone
        part = LAYOUT.only(str(each["features"]))
        seen = UnitParts(part.widths)(torch.from_numpy(LAYOUT.pick(features, part).copy())).numpy()
        smoothing = float(each.get("smoothing", 0.0))
        probe = fit_probe(seen, labels, 3, float(each["penalty"]), smoothing, one_scale=True)
        wanted += probe.logits(seen) / float(each.get("temperature", 1.0)) / len(SOLUTIONS)
    with torch.no_grad():
        found = head.eval()(torch.from_numpy(features)).numpy()
    assert np.abs(wanted).max() > 1
    assert np.allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


def test_a_network_with_fewer_parts_leaves_out_what_it_lacks() -> None:
    layout = replace(LAYOUT, taps=("b", "c"), widths=(3, 2, 4))
    features, labels = example()
    method = Linear.model_validate(
        {"features": "stages", "normalize": "unit", "mean_of": SOLUTIONS[2:]}
    )
    columns = seen_by(method, layout, features[:, 5:])
    weight, _ = mean_of_heads(method, columns, layout, labels, 3)
    assert weight.shape == (3, 9)
    assert np.abs(weight).min() > 0
