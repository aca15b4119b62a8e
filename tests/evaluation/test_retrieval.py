import numpy as np
import pytest
import torch

from headstart.evaluation.retrieval import nearest, retrieval, unit


def test_by_hand() -> None:
    angles = np.radians([0, 10, 20, 80, 90])
    gallery = np.stack([np.cos(angles), np.sin(angles)], 1)
    labels = np.array([0, 1, 0, 1, 1])
    query = np.array([[5.0, 0.0]])
    rows, cosines = nearest(query, gallery, 3)
    assert rows.tolist() == [[0, 1, 2]]
    assert cosines[0].tolist() == pytest.approx(np.cos(angles[:3]).tolist())
    found = retrieval(query, np.array([0]), gallery, labels)
    assert found.recall_at == {1: 1.0, 5: 1.0, 10: 1.0}
    # Two images are of the class; the first is right, the second is not.
    assert found.map_at_r == pytest.approx((1 + 0) / 2)
    found = retrieval(query, np.array([1]), gallery, labels)
    assert found.recall_at[1] == 0.0
    assert found.recall_at[5] == 1.0
    # Of the first three, ranks 2 is right: 1/2 over R = 3.
    assert found.map_at_r == pytest.approx((1 / 2) / 3)


@pytest.mark.parametrize("k", [1, 3, 40, 59, 60, 100])
def test_the_nearest_are_those_of_a_whole_sort_with_equal_ones_in_order(k: int) -> None:
    rng = np.random.default_rng(0)
    gallery = rng.integers(-1, 2, (60, 3)).astype(np.float32)  # many equal ones, and some zeros
    queries = rng.integers(-2, 3, (20, 3)).astype(np.float32)
    rows, cosines = nearest(queries, gallery, k)
    whole = unit(queries) @ unit(gallery).T
    expected = np.argsort(-whole, axis=1, kind="stable")[:, :k]
    assert np.array_equal(rows, expected)
    assert np.array_equal(cosines, np.take_along_axis(whole, expected, axis=1))
    assert len(np.unique(whole)) < 100, "of 1,200"


@pytest.mark.parametrize("unknown", [1, 58, 60])
def test_what_is_not_a_number_is_the_farthest(unknown: int) -> None:
    gallery = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    gallery[:unknown] = np.nan
    rows, _ = nearest(np.ones((1, 3)), gallery, 5)
    known = min(5, 60 - unknown)
    assert (rows[0, :known] >= unknown).all()
    assert rows[0, known:].tolist() == list(range(5 - known))


def test_no_query_has_no_neighbours_and_no_image_is_none() -> None:
    assert nearest(np.empty((0, 3)), np.ones((4, 3)), 2)[0].shape == (0, 2)
    assert nearest(np.ones((2, 3)), np.empty((0, 3)), 2)[0].shape == (2, 0)


@pytest.mark.parametrize("most", [1, 500, 10**9])
def test_the_number_of_queries_at_a_time_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    rng = np.random.default_rng(1)
    gallery, labels = rng.normal(size=(90, 4)), rng.integers(0, 3, 90)
    queries, wanted = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)
    found = retrieval(queries, wanted, gallery, labels)
    monkeypatch.setattr("headstart.evaluation.retrieval._COSINES", most)
    again = retrieval(queries, wanted, gallery, labels)
    assert again.recall_at == found.recall_at
    assert again.map_at_r == pytest.approx(found.map_at_r)


def test_agrees_with_pytorch_metric_learning() -> None:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    rng = np.random.default_rng(0)
    labels, query_labels = rng.integers(0, 5, 300), rng.integers(0, 5, 400)
    centres = rng.normal(size=(5, 8))
    gallery = centres[labels] + rng.normal(size=(300, 8))
    queries = centres[query_labels] + rng.normal(size=(400, 8))
    found = retrieval(queries, query_labels, gallery, labels)
    judge = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"),
        k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity()),
    )
    expected = judge.get_accuracy(
        torch.from_numpy(queries), torch.from_numpy(query_labels),
        torch.from_numpy(gallery), torch.from_numpy(labels),
    )  # fmt: skip
    assert found.recall_at[1] == pytest.approx(expected["precision_at_1"])
    assert found.map_at_r == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-6)
