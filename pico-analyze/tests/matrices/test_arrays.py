"""What people give as a matrix: arrays of any real type, nested lists, vectors."""

import numpy as np
import pytest

from pico_analyze.errors import DataError
from pico_analyze.matrices.factored import Factored
from pico_analyze.matrices.matrix import Dense, activations, as_matrix, widened

VALUES = [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.float16, np.float32),
        (np.int8, np.float64),
        (np.int64, np.float64),
        (np.uint16, np.float64),
        (bool, np.float32),
    ],
)
def test_numbers_are_widened_to_a_type_that_holds_them(given, computed):
    array = np.array(VALUES, given)
    found = widened(array)
    assert found.dtype == computed
    assert np.array_equal(found, array.astype(float))


def test_an_integer_that_single_precision_cannot_hold_stays_what_it_is():
    assert widened([[2**24 + 1]])[0, 0] == 2**24 + 1


def test_an_array_that_needs_no_widening_is_not_copied():
    array = np.array(VALUES, np.float32)
    assert widened(array) is array


@pytest.mark.parametrize(
    ("given", "shape"), [(VALUES, (2, 3)), ([1, 2, 3], (1, 3)), ([7], (1, 1)), ([[7], [8]], (2, 1))]
)
def test_a_vector_is_one_row(given, shape):
    assert widened(given).shape == as_matrix(given).shape == activations(given).shape == shape


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3.0, r"of shape \(\) and type float64"),
        (np.ones((2, 2, 2)), r"of shape \(2, 2, 2\) and type float64"),
        (np.ones((2, 2), complex), r"of shape \(2, 2\) and type complex128"),
        (np.ones(2, complex), r"of shape \(1, 2\) and type complex128"),
        ([["a", "b"]], r"of shape \(1, 2\) and type <U1"),
        ([[b"a", b"b"]], r"of shape \(1, 2\) and type \|S1"),
        (np.array([[None, 1]]), r"of shape \(1, 2\) and type object"),
        ([[1, 2], [3]], "is not a matrix of real numbers: "),
    ],
)
@pytest.mark.parametrize("work", [widened, as_matrix, activations])
def test_what_is_no_matrix_of_real_numbers_is_refused(given, says, work):
    with pytest.raises(DataError, match=says) as refused:
        work(given)
    assert str(refused.value).startswith("an array ") and "is not a matrix of real numbers" in str(refused.value)


def test_a_refusal_names_what_was_given():
    with pytest.raises(DataError, match=r"^weights of embed of shape"):
        widened(np.ones((1, 1, 1)), name="weights of embed")


def test_rows_are_samples_where_it_is_said():
    assert not Dense(np.ones((2, 3))).samples
    assert not as_matrix(VALUES).samples
    assert activations(VALUES).samples
    rng = np.random.default_rng(0)
    for matrix, samples in ((as_matrix(VALUES), False), (activations(VALUES), True)):
        derived = [matrix.centred(), matrix.take(np.array([1])), matrix.randomised(rng)]
        assert [one.samples for one in derived] == [samples] * 3


def test_a_matrix_stays_as_it_is():
    for matrix in (Dense(np.ones((2, 3))), Factored(np.ones((4, 1)), np.ones((2, 1)), samples=True)):
        assert as_matrix(matrix) is matrix
