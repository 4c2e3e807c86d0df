"""Long matrices are reduced to small triangles, block by block; and what is done where the fast way fails."""

import numpy as np
import pytest
import scipy.linalg
from closeness import assert_close

from pico_analyze.matrices import decompositions

RNG = np.random.default_rng(0)


@pytest.fixture
def watch(monkeypatch):
    """Shapes that a function of `decompositions` is called with."""

    def put(name):
        shapes, real = [], getattr(decompositions, name)
        monkeypatch.setattr(decompositions, name, lambda matrix: shapes.append(matrix.shape) or real(matrix))
        return shapes

    return put


@pytest.fixture
def fast_way_fails(monkeypatch):
    def fails(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", fails)
    monkeypatch.setattr(decompositions, "divide_and_conquer", fails)


@pytest.mark.parametrize(
    ("shape", "decomposed"),
    [
        ((40, 5), (5, 5)),
        ((10, 5), (5, 5)),
        ((9, 5), (9, 5)),
        ((5, 5), (5, 5)),
        ((5, 9), (9, 5)),
        ((5, 10), (5, 5)),
        ((5, 40), (5, 5)),
        ((1, 1), (1, 1)),
        ((1, 7), (1, 1)),
        ((7, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_matrix_twice_as_long_as_wide_is_reduced_before_it_is_decomposed(watch, shape, decomposed, dtype):
    shapes, matrix = watch("divide_and_conquer"), RNG.standard_normal(shape).astype(dtype)
    found = decompositions.singular_values(matrix)
    assert shapes == [decomposed]
    expected = scipy.linalg.svd(matrix.astype(np.float64), compute_uv=False, lapack_driver="gesvd")
    assert found.dtype == np.float64
    assert_close(found, expected, factor=100)


@pytest.mark.parametrize(
    ("shape", "blocks"),
    [
        ((64, 1), 1),  # 64 elements
        ((65, 1), 2),
        ((128, 1), 2),
        ((129, 1), 3),
        ((21, 3), 1),  # 63 elements: whole rows
        ((22, 3), 2),
        ((32, 8), 1),  # four times as many rows as columns, however many elements
        ((33, 8), 2),
        ((64, 8), 2),
        ((65, 8), 3),
        ((5, 0), 1),
        ((0, 3), 1),
    ],
)
def test_a_block_has_the_elements_agreed_upon_or_four_times_as_many_rows_as_columns(monkeypatch, watch, shape, blocks):
    monkeypatch.setattr(decompositions, "_BLOCK_ELEMENTS", 64)
    shapes, matrix = watch("triangular_factor"), RNG.standard_normal(shape)
    root = decompositions.triangular_root(matrix)
    assert len(shapes) == blocks
    assert np.array_equal(root, np.triu(root)) and root.shape == (min(shape), shape[1])
    assert_close(root.T @ root, matrix.T @ matrix, factor=10 * max(shape))  # sums of so many terms


@pytest.mark.parametrize("driver", ["the fast one", "the slower one"])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (1, 1)])
def test_either_driver_gives_thin_vectors(request, shape, driver):
    if driver == "the slower one":
        request.getfixturevalue("fast_way_fails")
    matrix = RNG.standard_normal(shape)
    u, s, v = decompositions.thin_svd(matrix)
    m = min(shape)
    assert (u.shape, s.shape, v.shape) == ((shape[0], m), (m,), (m, shape[1]))
    assert_close((u * s) @ v, matrix, factor=50)
    assert_close(u.T @ u, np.eye(m), factor=50)
    assert_close(decompositions.singular_values(matrix), s, factor=50)


@pytest.mark.usefixtures("fast_way_fails")
def test_what_overflows_on_the_way_gives_no_number_rather_than_an_error():
    """The matrix is finite, its triangle is not."""
    assert np.isnan(decompositions.singular_values(np.full((10, 3), 1e308))).all()
