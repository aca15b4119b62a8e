import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from headstart.features.extractor import Picked
from headstart.features.layout import FeatureLayout
from headstart.inputs import large_arrays
from headstart.inputs.large_arrays import copied, joined, large_array


def in_file(array: np.ndarray) -> bool:
    """Returns whether an array is a map of a file."""
    base = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base  # type: ignore[assignment]
    return isinstance(base, np.memmap)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Puts every array of 1 kB into a file of the folder that is returned."""
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_only_large_arrays_are_in_a_file_which_nobody_sees(on_disk: Path) -> None:
    small, large = large_array((10, 25)), large_array((10, 26))
    assert [in_file(small), in_file(large)] == [False, True]
    assert (small.shape, large.shape) == ((10, 25), (10, 26))
    assert list(on_disk.iterdir()) == []
    large[:] = 7
    assert large.sum() == 7 * 260
    assert type(large) is np.ndarray, "what is computed from it is an ordinary array"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EOPNOTSUPP])
def test_without_space_for_a_file_it_is_in_memory(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    array = large_array((100, 100), np.float64)
    assert not in_file(array)
    assert array.dtype == np.float64


def test_without_a_call_that_reserves_or_a_folder_it_is_in_memory(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(on_disk / "missing"))
    assert not in_file(large_array((100, 100)))
    monkeypatch.setattr(tempfile, "tempdir", str(on_disk))
    monkeypatch.delattr(os, "posix_fallocate")
    assert not in_file(large_array((100, 100)))


def test_a_copy_has_the_rows_that_are_asked_for(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_arrays, "_AT_ONCE", 21)  # three rows at a time
    table = np.arange(700).reshape(100, 7).astype(np.float16)
    rows = np.random.default_rng(0).permutation(100)[:50]
    for source in (table, Picked(table, np.arange(100))):
        assert np.array_equal(copied(source), table)
        assert np.array_equal(copied(source, rows), table[rows])
    assert copied(table).dtype == np.float32
    assert copied(table, dtype=np.float16).dtype == np.float16
    assert in_file(copied(table)), "2.8 kB"
    assert copied(table, rows[:0]).shape == (0, 7)
    assert copied(table[:, 0], rows).tolist() == table[rows, 0].tolist()


def test_batches_are_joined_into_a_file(on_disk: Path) -> None:
    parts = [np.full((100, 2), value, np.float32) for value in range(3)]
    whole = joined(iter(parts), 300)
    assert in_file(whole)
    assert np.array_equal(whole, np.concatenate(parts))


def test_parts_of_features_that_are_not_adjacent_are_put_into_a_file(on_disk: Path) -> None:
    layout = FeatureLayout(("c:covariance", "b"), (30, 10, 20))
    table = np.arange(6000, dtype=np.float32).reshape(100, 60)
    seen = layout.pick(table, layout.only("last+covariance"))
    assert in_file(seen)
    assert np.array_equal(seen, np.delete(table, np.s_[30:40], axis=1))
