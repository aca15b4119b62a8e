import numpy as np
import pytest
from scipy.optimize import minimize
from threadpoolctl import threadpool_info, threadpool_limits

from headstart.data.threads import scipy_in_one_thread, threads_apart


def threads() -> dict[str, int]:
    """Returns the threads of the linear algebra of NumPy and SciPy."""
    assert minimize(np.sum, np.ones(2), method="L-BFGS-B", bounds=[(0, 1)] * 2).success
    found = {}
    for each in threadpool_info():
        for library in ("numpy", "scipy"):
            if f"{library}.libs" in each["filepath"]:
                found[library] = each["num_threads"]
    return found


def test_scipy_has_one_thread_and_numpy_keeps_its_own() -> None:
    if len(threads()) < 2:
        pytest.skip("NumPy and SciPy share their linear algebra")
    with threadpool_limits(2, user_api="blas"):
        with scipy_in_one_thread():
            assert threads() == {"numpy": 2, "scipy": 1}
        assert threads() == {"numpy": 2, "scipy": 2}


def test_threads_come_back_after_an_error() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with pytest.raises(ZeroDivisionError), scipy_in_one_thread():
            1 / 0  # noqa: B018
        assert threads() == before


def test_within_threads_apart_nothing_changes() -> None:
    with threadpool_limits(2, user_api="blas"):
        with threads_apart() as number:
            assert number == 2
            with scipy_in_one_thread():
                assert set(threads().values()) == {1}
            assert set(threads().values()) == {1}
        assert set(threads().values()) == {2}
