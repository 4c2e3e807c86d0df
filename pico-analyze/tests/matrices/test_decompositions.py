import ctypes
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import scipy.linalg
from closeness import assert_close
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.matrices import decompositions

SIZES = st.integers(1, 40)


@given(m=SIZES, n=SIZES, scale=st.sampled_from([1e-150, 1e-3, 1.0, 1e150]), seed=st.integers(0, 2**32 - 1))
def test_singular_values_are_those_of_another_driver(m, n, scale, seed):
    matrix = np.random.default_rng(seed).standard_normal((m, n)) * scale
    expected = scipy.linalg.svd(matrix, compute_uv=False, lapack_driver="gesvd")
    found = decompositions.divide_and_conquer(matrix)
    assert_close(found, expected, factor=100)  # backward stable: each value is right to a few epsilons of the largest
    assert (np.diff(found) <= 0).all()


@given(m=SIZES, n=SIZES, seed=st.integers(0, 2**32 - 1))
def test_the_triangular_factor_has_the_inner_products_of_the_columns(m, n, seed):
    matrix = np.random.default_rng(seed).standard_normal((m, n)).astype(np.float32)
    factor = decompositions.triangular_factor(matrix)
    assert factor.shape == (min(m, n), n) and np.array_equal(factor, np.triu(factor))
    wide = matrix.astype(np.float64)
    assert_close(factor.T @ factor, wide.T @ wide, factor=10 * m, dtype=float)  # sums of m terms


@pytest.mark.parametrize("work", [decompositions.divide_and_conquer, decompositions.triangular_factor])
def test_the_matrix_stays_as_it_is(work):
    for order in ("C", "F"):
        matrix = np.asarray(np.random.default_rng(0).standard_normal((9, 6)), order=order)
        before = matrix.copy()
        work(matrix)
        assert np.array_equal(matrix, before)


def test_no_rows_or_columns_give_no_singular_values():
    assert decompositions.divide_and_conquer(np.zeros((0, 4))).shape == (0,)
    assert decompositions.triangular_factor(np.zeros((0, 4))).shape == (0, 4)


def test_a_routine_with_other_arguments_is_not_called(monkeypatch):
    matrix = np.random.default_rng(0).standard_normal((6, 4))
    monkeypatch.setattr(decompositions, "_dgesdd", lambda: None)
    assert_close(decompositions.divide_and_conquer(matrix), np.linalg.svd(matrix, compute_uv=False), factor=50)


def test_the_routine_is_found_with_the_installed_scipy():
    assert isinstance(decompositions._dgesdd(), ctypes._CFuncPtr)


@pytest.mark.parametrize("work", [decompositions.divide_and_conquer, decompositions.triangular_factor])
def test_other_threads_run_meanwhile(work):
    """A thread that wakes once a millisecond does so many times during one call, although the width is below 500."""
    matrix = np.random.default_rng(0).standard_normal((6000, 384))
    ended, wakes = threading.Event(), []

    def wake():
        while not ended.is_set():
            time.sleep(0.001)
            wakes.append(time.monotonic())

    thread = threading.Thread(target=wake)
    thread.start()
    begin = time.monotonic()
    work(matrix)
    end = time.monotonic()
    ended.set()
    thread.join()
    assert sum(begin < at < end for at in wakes) >= 5


def test_threads_that_need_scipy_first_at_the_same_moment_do_not_lock_each_other_out():
    """In a fresh process, since it can be seen once only; several, since it does not happen each time."""
    code = """
import threading
import numpy as np
from pico_analyze.matrices import decompositions, factored
x = np.random.default_rng(0).standard_normal((30, 4))
parts = [factored.Factored(x, x.copy()) for _ in range(2)]
gate, failures = threading.Barrier(4), []
def work(what):
    gate.wait()
    try:
        what()
    except BaseException as error:
        failures.append(error)
works = [
    lambda: decompositions.triangular_root(x), lambda: decompositions.singular_values(x),
    lambda: factored.Concatenated(parts).sample_form(), lambda: decompositions._by_qr_iteration(x, vectors=False),
]
threads = [threading.Thread(target=work, args=(one,)) for one in works]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not failures, failures
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
