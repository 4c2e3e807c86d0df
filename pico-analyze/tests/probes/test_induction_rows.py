"""Repeated random tokens, and scores of a context."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.probes import induction


@given(st.integers(4, 60), st.integers(0, 2**63 - 1))
def test_rows_are_two_copies_of_distinct_tokens(length: int, seed: int) -> None:
    rows = induction.repeated_tokens(60, length, 3, seed)
    assert rows.shape == (3, 2 * length) and rows.min() >= 0 and rows.max() < 60
    np.testing.assert_array_equal(rows[:, :length], rows[:, length:])
    assert all(len(set(row[:length])) == length for row in rows.tolist())
    np.testing.assert_array_equal(rows, induction.repeated_tokens(60, length, 3, seed))


def test_two_copies_fit_into_what_the_model_reads_and_knows() -> None:
    assert [induction.repeated_length(*of) for of in ((16, 64), (33, 64), (2048, 50_000), (256, 40))] == [
        8,
        16,
        128,
        40,
    ]


@pytest.mark.parametrize(
    ("seq_len", "positions"), [(1024, (50, 500)), (500, (50, 500)), (499, (50, 499)), (256, (26, 256)), (20, (2, 20))]
)
def test_positions_are_50_and_500_or_scaled(seq_len: int, positions: tuple[int, int]) -> None:
    assert induction.context_positions(seq_len) == positions


def test_the_score_is_the_loss_after_50_tokens_less_that_after_500() -> None:
    losses = np.zeros((2, 600))
    losses[:, 49], losses[:, 499] = (5.0, 7.0), (4.0, 5.0)  # after 50 read, after 500 read
    score, error = induction.in_context_score(losses)
    assert score == pytest.approx(1.5) and error == pytest.approx(0.5)  # of 1 and 2: sd 1/√2, over √2
    assert math.isnan(induction.in_context_score(losses[:1])[1])


def test_a_loss_that_does_not_depend_on_the_position_scores_nothing() -> None:
    assert induction.in_context_score(np.full((3, 700), 2.5)) == (0.0, 0.0)


def test_the_curve_ends_with_the_row() -> None:
    assert induction.curve_positions(16) == [1, 2, 4, 8, 16]
    assert induction.curve_positions(20) == [1, 2, 4, 8, 16, 20]
    assert induction.curve_positions(1) == [1]
