"""Expected rounding, entry by entry: sums over Python's own numbers, which know nothing of pieces, scales or Gram
matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from pico_analyze.matrices import rounding
from pico_analyze.matrices.rounding import StoredFactor, numerical_rank, of_array, of_factors, of_product, spectral_norm
from pico_analyze.stored import PRECISIONS, Precision

COARSE, FINE = PRECISIONS["bfloat16"], PRECISIONS["float32"]
SMALL = PRECISIONS["float16"]


def expected(array: np.ndarray, stored: Precision, scale: Sequence[float] | None = None, *, samples: bool) -> float:
    """‖E‖ ≈ (u · (longest row + longest column) + smallest · (Frobenius-like spread)) / √3, an entry at a time."""
    rows = [[float(value) for value in row] for row in array]
    by = [1.0] * len(rows[0]) if scale is None else [float(one) for one in scale]
    times = [rows.count(row) if samples else 1 for row in rows]
    lengths = [n * sum((x * s) ** 2 for x, s in zip(row, by, strict=True)) for row, n in zip(rows, times, strict=True)]
    widths = [sum((row[j] * by[j]) ** 2 for row in rows) for j in range(len(by))]
    if max(widths) == 0:
        return 0.0
    spread = math.sqrt(len(rows)) * max(by) + math.sqrt(sum(s * s for s in by))
    return (stored.unit * (math.sqrt(max(lengths)) + math.sqrt(max(widths))) + stored.smallest * spread) / math.sqrt(3)


def arrays() -> list[np.ndarray]:
    """Of both shapes; one with rows that are there several times, of which none is the longest; of small entries."""
    rng = np.random.default_rng(5)
    repeated = np.concatenate([np.repeat(rng.standard_normal((1, 3)), 6, axis=0), 1.5 * rng.standard_normal((2, 3))])
    few = [rng.standard_normal((5, 3)) * 7, rng.standard_normal((2, 6)) * 0.1, repeated]
    return [*few, *(array * 1e-5 for array in few), *(array * 1e3 for array in few)]


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize("stored", [COARSE, SMALL, FINE], ids=lambda one: one.name)
@pytest.mark.parametrize("array", arrays(), ids=lambda array: f"{array.shape}, {np.abs(array).max():.0e}")
class TestOneArray:
    def test_as_it_is(self, array: np.ndarray, stored: Precision, samples: bool, monkeypatch) -> None:
        for elements in (1, 4, 2**22):  # pieces of one row, of some, of all
            monkeypatch.setattr(rounding, "_PIECE_ELEMENTS", elements)
            found = of_array(array, stored, samples=samples)
            assert found == pytest.approx(expected(array, stored, samples=samples), rel=1e-12)

    def test_with_its_columns_scaled(self, array: np.ndarray, stored: Precision, samples: bool) -> None:
        scale = np.linspace(0.3, 2.5, array.shape[1])[::-1]
        factor = StoredFactor(array, stored)
        for by in (scale, np.ones(array.shape[1]), 0.1 * scale):  # what is kept of the first serves the others
            found = factor.rounding(by, samples=samples)
            assert found == pytest.approx(expected(array, stored, by, samples=samples), rel=1e-12)


def test_zeros_are_stored_as_they_are() -> None:
    zeros = np.zeros((4, 3))
    assert of_array(zeros, COARSE) == 0.0
    assert StoredFactor(zeros, COARSE).rounding(np.ones(3), samples=True) == 0.0


def by_hand(left: np.ndarray, right: np.ndarray, *, samples: bool, of_left: Precision, of_right: Precision) -> float:
    """‖E‖·‖right‖ + ‖left‖·‖E′‖ where columns of both are equally long."""
    scale = []
    for a, b in zip(left.T, right.T, strict=True):
        lengths = math.sqrt(sum(float(x) ** 2 for x in a)), math.sqrt(sum(float(x) ** 2 for x in b))
        scale.append(math.sqrt(lengths[1] / lengths[0]) if all(lengths) else 1.0)
    norms = np.linalg.norm(left * scale, 2), np.linalg.norm(right / scale, 2)
    errors = (
        expected(left, of_left, scale, samples=samples),
        expected(right, of_right, [1 / one for one in scale], samples=False),
    )
    return float(errors[0] * norms[1] + norms[0] * errors[1])


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize(("empty_left", "empty_right"), [((), ()), ((1,), ()), ((), (2,)), ((1,), (1,))])
@pytest.mark.parametrize("size", [1.0, 40.0, 0.02])
def test_a_product_kept_as_its_factors(samples: bool, empty_left, empty_right, size: float) -> None:
    rng = np.random.default_rng(6)
    left = np.repeat(rng.standard_normal((4, 3)), 3, axis=0) * [1.0, 5.0, 0.2]
    right = np.repeat(rng.standard_normal((2, 3)), 4, axis=0) * size
    left[:, list(empty_left)], right[:, list(empty_right)] = 0.0, 0.0
    for of_left, of_right in ((COARSE, FINE), (FINE, SMALL)):
        found = of_factors(
            StoredFactor(left, of_left),
            StoredFactor(right, of_right),
            (left.T @ left, right.T @ right),
            samples=samples,
        )
        told = by_hand(left, right, samples=samples, of_left=of_left, of_right=of_right)
        assert found == pytest.approx(told, rel=1e-7)  # norms come from Gram matrices


def test_a_product_with_nothing_in_it_has_no_rounding() -> None:
    left, right = np.ones((3, 2)), np.zeros((4, 2))
    grams = left.T @ left, right.T @ right
    assert of_factors(StoredFactor(left, COARSE), StoredFactor(right, COARSE), grams) == 0.0
    assert of_factors(StoredFactor(right, COARSE), StoredFactor(left, COARSE), grams[::-1]) == 0.0


@pytest.mark.parametrize("array", arrays(), ids=lambda array: f"{array.shape}, {np.abs(array).max():.0e}")
def test_the_spectral_norm_is_that_of_an_svd(array: np.ndarray) -> None:
    for one in (array, array.T):
        assert spectral_norm(one) == pytest.approx(np.linalg.norm(one, 2), rel=1e-7)


def test_a_product_of_two_stored_matrices() -> None:
    rng = np.random.default_rng(7)
    left, right = rng.standard_normal((5, 3)), rng.standard_normal((3, 4)) * 9
    told = expected(left, COARSE, samples=False) * np.linalg.norm(right, 2)
    told += np.linalg.norm(left, 2) * expected(right, FINE, samples=False)
    assert of_product(left, COARSE, right, FINE) == pytest.approx(told, rel=1e-7)


@pytest.mark.parametrize(("stored", "terms"), [(COARSE, 2.0**-16), (FINE, 1.0), (PRECISIONS["float64"], 1.0)])
def test_the_rank_counts_what_is_more_than_the_larger_of_both_roundings(stored: Precision, terms: float) -> None:
    """(MARGIN + √max(N, P) · min(1, 2⁻²⁴/u)) · ‖E‖, or max(N, P) · eps · s₁ where that is more."""
    for shape in ((9, 4), (4, 9)):
        tolerance = (1.5 + 3 * terms) * 0.25
        values = np.array([50.0, tolerance * (1 + 1e-12), tolerance, 0.1])
        found = numerical_rank(values, shape, 0.25, stored)
        assert (found.rank, found.stored) == (2, stored.name)
        assert found.tolerance == pytest.approx(tolerance, rel=1e-14)
        computed = numerical_rank(values, shape, 1e-300, stored)
        assert computed.tolerance == pytest.approx(9 * 2.0**-52 * 50.0, rel=1e-14) and computed.rank == 4
    assert numerical_rank(np.zeros(0), (0, 3), 0.0, stored).rank == 0
