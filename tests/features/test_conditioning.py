import numpy as np
import pytest

from headstart.features.conditioning import pays_to_rotate, rotated, standardized


@pytest.mark.parametrize(
    ("rows", "features", "classes", "pays"),
    [
        (6_092, 4_144, 196, True),
        (2_440, 4_144, 60, True),
        (50_000, 4_144, 10, False),
        (50_000, 1_280, 2, True),
        (1_000, 4_144, 2, True),
        (7_000, 6_500, 5_000, False),
    ],
)
def test_features_are_made_uncorrelated_where_that_saves_time(
    rows: int, features: int, classes: int, pays: bool
) -> None:
    assert pays_to_rotate(rows, features, classes) is pays


@pytest.mark.parametrize("one_scale", [False, True])
def test_features_are_standardised_by_those_that_are_learned_from(one_scale: bool) -> None:
    features = np.array([[1, 10], [3, 30], [100, -100]], np.float32)
    standard, mean, scale = standardized(features, one_scale, np.array([True, True, False]))
    assert mean.tolist() == [2, 20]
    root = float(np.sqrt((1 + 100) / 2))
    assert scale == pytest.approx([root, root] if one_scale else [1, 10], rel=1e-6)
    assert standard == pytest.approx(np.array([[-1, -10], [1, 10]]) / scale, rel=1e-6)
    assert features[2].tolist() == [100, -100]


@pytest.mark.parametrize(("rows", "width"), [(40, 6), (6, 40)])
def test_rotated_features_are_uncorrelated_and_the_same_points(rows: int, width: int) -> None:
    features = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    features[:, 1] = features[:, 0] + 0.1 * features[:, 1]
    columns, sizes, basis = rotated(features, classes=3)
    assert basis is not None
    assert columns.T @ columns == pytest.approx(np.diag(sizes**2), abs=1e-3)
    assert columns @ basis.T == pytest.approx(features, abs=1e-4)
