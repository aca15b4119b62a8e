import numpy as np
import pytest

from headstart.training.batches import epoch_batches, gather


def test_batches_cover_every_row_once_and_none_is_tiny() -> None:
    batches = epoch_batches(np.zeros(33, np.int64), 16, seed=0, epoch=3)
    assert sorted(np.concatenate(batches).tolist()) == list(range(33))
    assert min(len(batch) for batch in batches) == 11


@pytest.mark.parametrize("epoch", range(5))
def test_images_of_a_class_come_together(epoch: int) -> None:
    labels = np.repeat(np.arange(6), [20, 13, 8, 30, 5, 1])
    batches = epoch_batches(labels, 16, seed=1, epoch=epoch, per_class=4)
    assert sorted(np.concatenate(batches).tolist()) == list(range(77))
    for batch in batches:
        found, counts = np.unique(labels[batch], return_counts=True)
        assert len(found) >= 2
        assert all(count >= 4 or label == 5 for label, count in zip(found, counts, strict=True))
        assert 8 <= len(batch) <= 24


def test_rare_classes_are_spread_over_the_epoch() -> None:
    labels = np.repeat([0, 1], [900, 100])
    batches = epoch_batches(labels, 32, seed=0, epoch=0, per_class=4)
    rare = [int((labels[batch] == 1).sum()) for batch in batches]
    assert sum(rare) == 100
    assert max(rare) <= 8
    assert sum(count > 0 for count in rare) >= 20, "25 groups of 4 for 32 batches"
    thirds = np.array_split(rare, 3)
    assert all(25 <= part.sum() <= 42 for part in thirds)


def test_pairs_leave_no_single_image() -> None:
    batches = epoch_batches(np.zeros(7, np.int64), 2, seed=0, epoch=0)
    assert sorted(map(len, batches)) == [2, 2, 3]
    assert [len(batch) for batch in epoch_batches(np.zeros(1, np.int64), 2, 0, 0)] == [1]


def test_a_batch_of_two_chunks_holds_two_classes() -> None:
    labels = np.repeat([0, 1], 16)
    for epoch in range(20):
        for batch in epoch_batches(labels, 8, seed=0, epoch=epoch, per_class=4):
            assert len(np.unique(labels[batch])) == 2


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    labels = np.repeat(np.arange(3), 20)
    for per_class in (0, 4):
        orders = {
            tuple(np.concatenate(epoch_batches(labels, 8, seed, epoch, per_class)).tolist())
            for seed, epoch in ((0, 0), (0, 1), (1, 0))
        }
        assert len(orders) == 3


def test_every_image_shows_each_view_once_in_as_many_epochs() -> None:
    views = [np.full((4, 1), number) for number in range(3)]
    rows = np.arange(4)
    seen = np.concatenate([gather(views, rows, epoch) for epoch in range(3)], axis=1)
    assert [sorted(row) for row in seen.tolist()] == [[0, 1, 2]] * 4
    assert len(set(gather(views, rows, 0).ravel().tolist())) == 3


def test_no_batch_is_a_single_image() -> None:
    labels = np.repeat([0, 1, 2], [1, 8, 1])
    for seed in range(30):
        batches = epoch_batches(labels, 8, seed=seed, epoch=0, per_class=4)
        assert sorted(np.concatenate(batches).tolist()) == list(range(10))
        assert min(len(batch) for batch in batches) > 1
