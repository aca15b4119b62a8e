import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headstart.backbones.engine import Engine, identity_engine
from headstart.data.cache_dir import default_cache_dir
from headstart.data.locks import this_process
from headstart.errors import DiskFullError, InputError
from headstart.features.cache import (
    cache_key,
    cached_activations,
    evict,
    prefetched,
)

VIEWS = np.arange(7 * 4, dtype=np.uint8).reshape(7, 4)


def batches() -> Iterator[np.ndarray]:
    for start in range(0, 7, 3):
        yield VIEWS[start : start + 3]


def counting(scale: float = 0.5) -> tuple[Engine, list[int]]:
    calls: list[int] = []

    def run(batch: np.ndarray) -> np.ndarray:
        calls.append(len(batch))
        return batch.astype(np.float32) * scale

    return Engine(run, {"engine": "test"}, batch_size=3), calls


def cached(folder: Path, engine: Engine, **depends_on: object) -> np.ndarray:
    return cached_activations(folder, depends_on, 7, batches, engine, "test")


def test_computes_once_then_reads(tmp_path: Path) -> None:
    engine, calls = counting()
    first = cached(tmp_path, engine, seed=1)
    assert first.dtype == np.float16
    assert np.array_equal(first, VIEWS * 0.5)
    assert calls == [3, 3, 1]
    assert np.array_equal(cached(tmp_path, engine, seed=1), first)
    assert calls == [3, 3, 1]


def test_everything_it_depends_on_makes_another_entry(tmp_path: Path) -> None:
    engine, calls = counting()
    other, other_calls = Engine(counting()[0].run, {"engine": "other"}, 3), calls
    cached(tmp_path, engine, seed=1)
    cached(tmp_path, engine, seed=2)
    cached(tmp_path, other, seed=1)
    assert len(other_calls) == 6
    assert len(list((tmp_path / "activations").iterdir())) == 3


def test_what_overflows_float16_is_kept_as_float32(tmp_path: Path) -> None:
    engine, _ = counting(scale=1e5)
    stored = cached(tmp_path, engine)
    assert stored.dtype == np.float32
    assert np.array_equal(stored, VIEWS.astype(np.float32) * np.float32(1e5))


def test_an_empty_prefix_keeps_bytes(tmp_path: Path) -> None:
    stored = cached(tmp_path, identity_engine())
    assert stored.dtype == np.uint8
    assert np.array_equal(stored, VIEWS)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def run(batch: np.ndarray) -> np.ndarray:
        if len(batch) == 1:
            raise RuntimeError("boom")
        return batch.astype(np.float32)

    with pytest.raises(RuntimeError, match="boom"):
        cached(tmp_path, Engine(run, {}, 3))
    assert list((tmp_path / "activations").iterdir()) == []


def test_a_full_disk_is_said_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskFullError, match="HEADSTART_CACHE"):
        cached(tmp_path, counting()[0])
    assert list((tmp_path / "activations").iterdir()) == []


def test_eviction_takes_the_oldest_and_mapped_arrays_stay_readable(tmp_path: Path) -> None:
    engine, _ = counting()
    arrays = [cached(tmp_path, engine, seed=seed) for seed in range(3)]
    for folder in (tmp_path / "activations").iterdir():
        seed = json.loads((folder / "index.json").read_text())["depends_on"]["seed"]
        for file in folder.iterdir():
            os.utime(file, (seed, seed))
    freed = evict(tmp_path, limit_bytes=15_000)
    assert freed > 0
    left = [json.loads(p.read_text())["depends_on"]["seed"] for p in tmp_path.rglob("index.json")]
    assert left == [2]
    assert np.array_equal(arrays[0], VIEWS * 0.5)
    assert evict(tmp_path, limit_bytes=15_000) == 0


@pytest.mark.parametrize("damage", ["no index", "no data", "empty index", "cut data"])
def test_a_damaged_entry_is_made_again(damage: str, tmp_path: Path) -> None:
    engine, calls = counting()
    cached(tmp_path, engine)
    (folder,) = (tmp_path / "activations").iterdir()
    index, data = folder / "index.json", folder / "data"
    if damage.startswith("no"):
        (index if damage == "no index" else data).unlink()
    else:
        (index if damage == "empty index" else data).write_bytes(b"")
    assert np.array_equal(cached(tmp_path, engine), VIEWS * 0.5)
    assert len(calls) == 6
    assert np.array_equal(cached(tmp_path, engine), VIEWS * 0.5)
    assert len(calls) == 6
    assert [each.name for each in (tmp_path / "activations").iterdir()] == [folder.name]


def test_what_is_being_decoded_is_not_evicted(tmp_path: Path) -> None:
    draft = tmp_path / "pixels" / "0123.tmp"
    draft.mkdir(parents=True)
    (draft / "pixels.u8").write_bytes(b"x" * 100_000)
    assert evict(tmp_path, limit_bytes=1) == 0
    assert draft.exists()


def test_key_ignores_order_and_nothing_else() -> None:
    assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})
    assert cache_key({"a": 1}) != cache_key({"a": 2})


def test_places_and_limits_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    for wrong in ("much", "inf", "20GB", "-1", "-0.001", "nan"):
        monkeypatch.setenv("HEADSTART_CACHE_LIMIT_GB", wrong)
        with pytest.raises(InputError, match="HEADSTART_CACHE_LIMIT_GB"):
            evict(tmp_path)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HEADSTART_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/headstart"),
        ({"HOME": "/c"}, "/c/.cache/headstart"),
    ],
)
def test_the_cache_folder_of_a_user(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEADSTART_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_cache_dir() == Path(expected)


def test_a_user_without_a_home_is_told_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HEADSTART_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InputError, match="Set HEADSTART_CACHE"):
        default_cache_dir()


def test_prefetching_keeps_order_and_raises_where_it_is_read() -> None:
    assert list(prefetched(iter(range(100)), depth=4)) == list(range(100))

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken image")

    items = prefetched(broken(), depth=4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken image"):
        next(items)
    endless = prefetched(iter(int, 1), depth=4)
    next(endless)
    endless.close()  # type: ignore[attr-defined]


def test_drafts_of_killed_processes_are_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = this_process().partition("-")[0]
    alive = {f".draft-{here}-{os.getpid()}-abc", f".draft-elsewhere-{gone.pid}-abc"}
    for name in (*alive, f".draft-{here}-{gone.pid}-abc"):
        (tmp_path / "activations" / name).mkdir(parents=True)
    evict(tmp_path, 10**9)
    assert {p.name for p in (tmp_path / "activations").iterdir()} == alive


@pytest.mark.parametrize(
    ("name", "hours", "written", "stays"),
    [
        (".draft-elsewhere-12-abc", 25, None, False),
        (".draft-elsewhere-12-abc", 23, None, True),
        (".draft-elsewhere-12-abc", 25, 1, True),
        (".draft-elsewhere-12-abc", 48, 25, False),
        (".draft-odd", 25, None, False),
        (".draft-", 1, None, True),
    ],
)
def test_drafts_of_other_machines_are_removed_after_a_day_without_writing(
    name: str, hours: int, written: int | None, stays: bool, tmp_path: Path
) -> None:
    draft = tmp_path / "activations" / name
    draft.mkdir(parents=True)
    now = time.time()
    if written is not None:
        (draft / "data").touch()
        os.utime(draft / "data", (now - 3600 * written,) * 2)
    os.utime(draft, (now - 3600 * hours,) * 2)
    evict(tmp_path, 10**9)
    assert draft.exists() == stays
