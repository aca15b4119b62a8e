import os

import pytest

from headstart.backbones.sessions import thread_count


@pytest.mark.parametrize(
    ("stated", "threads"), [("3", 3), ("2,4", 2), ("0", 5), ("", 5), ("many", 5), ("-1", 5)]
)
def test_threads_are_those_that_were_asked_for_or_the_cores_of_the_process(
    stated: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 7})
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert thread_count() == threads


def test_without_a_wish_all_cores_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_count() == 1
