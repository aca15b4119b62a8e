"""The root of the covariance, against an eigendecomposition and plain loops."""

import math

import numpy as np
import pytest
import torch

from headstart.backbones.pooling import (
    CHANNELS,
    STEPS,
    _projection,
    _root,
    boundary_of_tap,
    covariance_tap,
    covariance_width,
    root_covariance,
)

CPU = torch.device("cpu")


def by_loops(places: np.ndarray) -> list[float]:
    """Returns the features of one image from its places (P, C), by plain loops."""
    number, channels = places.shape
    mean = [sum(places[p][c] for p in range(number)) / number for c in range(channels)]
    covariance = np.zeros((channels, channels))
    for one in range(channels):
        for other in range(channels):
            for p in range(number):
                gap = (places[p][one] - mean[one]) * (places[p][other] - mean[other])
                covariance[one, other] += gap / number
    trace = sum(covariance[c, c] for c in range(channels))
    root, inverse = covariance / trace, np.eye(channels)
    for _ in range(STEPS):
        step = (3 * np.eye(channels) - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    root = root * math.sqrt(trace)
    return [
        root[one, other] * (1 if one == other else math.sqrt(2))
        for one in range(channels)
        for other in range(one, channels)
    ]


@pytest.mark.parametrize("channels", [2, 5, 24])
def test_it_is_what_plain_loops_give(channels: int) -> None:
    maps = torch.rand(3, channels, 4, 5)
    found = root_covariance(maps, (2, 3), channels)
    assert found.shape == (3, covariance_width(channels))
    for image in range(3):
        places = maps[image].flatten(1).T.double().numpy()
        assert found[image].tolist() == pytest.approx(by_loops(places), rel=1e-3, abs=1e-5)


def test_many_channels_are_projected_first() -> None:
    maps = torch.rand(2, 100, 6, 6)
    found = root_covariance(maps, (2, 3), 100)
    assert found.shape == (2, 2080)
    places = (maps[1].flatten(1).T @ _projection(100, CPU).T).double().numpy()
    assert found[1].tolist() == pytest.approx(by_loops(places), rel=2e-3, abs=1e-4)


def test_five_steps_come_near_the_root_of_a_well_conditioned_matrix() -> None:
    turned = torch.linalg.qr(torch.rand(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    matrix = turned @ torch.diag(torch.linspace(1, 4, 8)) @ turned.T
    found = _root(matrix[None], 8)[0]
    torch.testing.assert_close(found @ found, matrix, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(found, found.T)


@pytest.mark.parametrize("channels", [65, 320, 768])
def test_the_projection_is_orthonormal_and_always_the_same(channels: int) -> None:
    rows = _projection(channels, CPU)
    assert rows.shape == (CHANNELS, channels)
    torch.testing.assert_close(rows @ rows.T, torch.eye(CHANNELS), rtol=0, atol=1e-5)
    assert torch.equal(rows, _projection(channels, CPU))


def test_the_projection_does_not_change_between_versions() -> None:
    # The bundles that were shipped depend on it.
    rows = _projection(320, CPU)
    assert [round(float(value), 4) for value in rows[:3, 0]] == [-0.04, -0.0177, -0.0429]


def test_maps_and_tokens_of_any_order_give_the_same() -> None:
    maps = torch.rand(2, 7, 3, 4)
    expected = root_covariance(maps, (2, 3), 7)
    torch.testing.assert_close(root_covariance(maps.permute(0, 2, 3, 1), (1, 2), 7), expected)
    torch.testing.assert_close(root_covariance(maps.flatten(2).transpose(1, 2), (1,), 7), expected)
    # The mean does not matter, and the scale is that of the activations.
    torch.testing.assert_close(root_covariance(maps + 5, (2, 3), 7), expected, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(root_covariance(3 * maps, (2, 3), 7), 3 * expected)


def test_an_even_map_has_no_covariance_and_a_finite_slope() -> None:
    maps = torch.ones(2, 5, 3, 3, requires_grad=True)
    found = root_covariance(maps, (2, 3), 5)
    assert not found.any()
    found.sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_half_precision_is_not_used_inside() -> None:
    maps = torch.rand(2, 70, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = root_covariance(maps, (2, 3), 70)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, root_covariance(maps, (2, 3), 70))


def test_names_of_taps() -> None:
    assert boundary_of_tap(covariance_tap("layer4")) == "layer4"
    assert boundary_of_tap("layer4") == "layer4"
