"""Which images to label: the greedy choice by hand, and what uncertainty and density change."""

import numpy as np
import pytest

from headstart.diagnose import acquisition
from headstart.diagnose.acquisition import margins, rank_to_label, set_margins
from headstart.evaluation.retrieval import unit


def by_hand(embeddings, probabilities, labelled, count):  # type: ignore[no-untyped-def]
    """The same in plain loops: each step tries every image."""
    embeddings, labelled = unit(embeddings), unit(labelled)
    mean = np.concatenate([embeddings, labelled]).mean(0)
    points, known = unit(embeddings - mean), unit(labelled - mean)
    top = np.sort(probabilities, 1)
    weight = 1 - (top[:, -1] - top[:, -2])
    covered = np.array([max(0.0, *(float(p @ k) for k in known)) for p in points])
    chosen: list[int] = []
    for _ in range(count):
        gains = []
        for row, point in enumerate(points):
            reach = np.maximum(points @ point, 0)
            gain = (weight * np.maximum(reach - covered, 0)).sum()
            gains.append(-1.0 if row in chosen else gain)
        chosen.append(int(np.argmax(gains)))
        covered = np.maximum(covered, points @ points[chosen[-1]])
    return chosen


def drawn(seed: int, images: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(images, 6)).astype(np.float32)
    return embeddings, rng.dirichlet(np.ones(3), images), rng.normal(size=(5, 6)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_greedy_choice(seed: int) -> None:
    given = drawn(seed)
    assert rank_to_label(*given, 10).tolist() == by_hand(*given, 10)


def test_margins_are_those_of_the_two_largest() -> None:
    assert margins(np.array([[0.2, 0.7, 0.1], [0.4, 0.3, 0.3]])) == pytest.approx([0.5, 0.1])
    assert margins(np.ones((2, 1))).tolist() == [1, 1]


def test_of_images_that_look_alike_one_comes_first() -> None:
    """Three clusters, one of them labelled: the first two are of the other two."""
    rng = np.random.default_rng(0)
    centres = np.eye(3, 8)
    points = np.repeat(centres, 10, 0) + rng.normal(0, 0.05, (30, 8))
    unsure = np.full((30, 2), 0.5)
    first = rank_to_label(points, unsure, centres[:1], 2)
    assert sorted((first // 10).tolist()) == [1, 2]


def test_what_the_run_is_sure_of_comes_last() -> None:
    rng = np.random.default_rng(0)
    points = np.repeat(np.eye(4, 8), 10, 0) + rng.normal(0, 0.05, (40, 8))
    sure = np.tile([1.0, 0.0], (40, 1))
    sure[20:30] = 0.5
    assert rank_to_label(points, sure, np.eye(1, 8), 1)[0] // 10 == 2


def test_an_outlier_comes_after_what_many_are_like() -> None:
    rng = np.random.default_rng(0)
    points = np.repeat(np.eye(2, 8), [20, 1], 0) + rng.normal(0, 0.05, (21, 8))
    labelled = np.eye(1, 8, 2)
    assert rank_to_label(points, np.full((21, 2), 0.5), labelled, 1)[0] != 20


def test_more_images_than_are_wanted_or_fewer() -> None:
    embeddings, probabilities, labelled = drawn(0, images=4)
    assert sorted(rank_to_label(embeddings, probabilities, labelled, 9).tolist()) == [0, 1, 2, 3]


def test_a_large_set_is_compared_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the images is compared, and still the choice covers nearly as much."""
    embeddings, probabilities, labelled = drawn(1, images=300)
    whole = rank_to_label(embeddings, probabilities, labelled, 10)
    monkeypatch.setattr(acquisition, "MOST", 60)
    part = rank_to_label(embeddings, probabilities, labelled, 10)
    assert len(set(part.tolist())) == 10

    def covered(chosen: np.ndarray) -> float:
        mean = np.concatenate([embeddings, labelled]).mean(0)
        points = unit(embeddings - mean)
        near = np.maximum(
            (points @ points[chosen].T).max(1), (points @ unit(labelled - mean).T).max(1)
        )
        return float(((1 - margins(probabilities)) * near).sum())

    assert covered(part) > 0.9 * covered(whole)


def test_the_margin_of_sets_is_the_mean_entropy_of_decisions() -> None:
    told = np.array([[0.5, 0.5], [1.0, 0.0], [0.5, 1.0], [0.11, 0.11]])
    # H(0.11) = 0.4999 bits
    assert set_margins(told) == pytest.approx([0, 1, 0.5, 0.5], abs=1e-3)


def test_with_several_labels_undecided_images_come_first() -> None:
    """Two labels of 90% are sure as sets, although as one class they would be undecided."""
    points = np.eye(4, 8) + 0.01
    told = np.array([[0.95, 0.95], [0.95, 0.05], [0.5, 0.5], [0.9, 0.9]])
    labelled = np.eye(1, 8, 7)
    assert rank_to_label(points, told, labelled, 1, several=True).tolist() == [2]
    assert rank_to_label(points, told, labelled, 3)[0] in {0, 2, 3}
