import numpy as np
import pytest
import torch

from headstart.evaluation.retrieval import nearest, retrieval


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
