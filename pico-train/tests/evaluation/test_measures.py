"""Standard errors: against the standard library's, and against what they are for outcomes that are 0 or 1."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_train.evaluation.measures import mean_error, share_error


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_the_error_of_a_share_is_the_spread_of_its_outcomes_over_the_root_of_their_number(outcomes):
    share = sum(outcomes) / len(outcomes)
    expected = statistics.pstdev(map(float, outcomes)) / math.sqrt(len(outcomes))
    assert share_error(share, len(outcomes)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_the_error_of_a_mean_is_the_sample_deviation_over_the_root_of_the_number(values):
    expected = statistics.stdev(values) / math.sqrt(len(values))
    assert mean_error(np.array(values)) == pytest.approx(expected, rel=1e-9, abs=1e-9)
