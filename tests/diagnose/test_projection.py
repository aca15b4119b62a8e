import numpy as np
import pytest

from headstart.diagnose.projection import FEWEST, project


def clusters(each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), each)
    centres = 6 * np.eye(3, 40)
    return centres[labels] + rng.normal(0, 0.5, (3 * each, 40)), labels


def test_neighbours_stay_neighbours() -> None:
    vectors, labels = clusters(20)
    places = project(vectors)
    assert places.shape == (60, 2)
    assert places.min(axis=0) == pytest.approx([0, 0])
    assert places.max(axis=0) == pytest.approx([1, 1])
    away = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(away, np.inf)
    assert (labels[away.argmin(axis=1)] == labels).mean() > 0.95


def test_it_repeats() -> None:
    vectors, _ = clusters(6)
    np.testing.assert_array_equal(project(vectors, 3), project(vectors, 3))


def test_few_images_and_few_dimensions_do() -> None:
    assert np.isfinite(project(np.random.default_rng(0).normal(size=(FEWEST, 2)))).all()
    for alike in (np.ones((FEWEST, 5)), np.zeros((FEWEST, 5))):
        assert project(alike).tolist() == [[0.5, 0.5]] * FEWEST
