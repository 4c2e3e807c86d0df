"""Summaries of learning dynamics on series whose answers are known."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.errors import UsageError
from pico_analyze.statistics.dynamics import convergence_step, correlation_with_evaluation, rate_of_change, summarise

STEPS = [0, 1, 2, 4, 8, 16]


def test_convergence_is_the_first_step_after_the_last_dip():
    assert convergence_step(STEPS, [0.2, 0.95, 0.5, 0.9, 0.97, 1.0], tau=0.9) == 4
    assert convergence_step(STEPS, [0.95, 0.95, 0.95, 0.9, 0.97, 1.0], tau=0.9) == 0
    assert convergence_step(STEPS, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7], tau=0.9) is None
    assert convergence_step([], [], tau=0.9) is None


def test_an_undefined_step_is_not_taken_for_converged():
    assert convergence_step(STEPS, [1.0, 1.0, math.nan, 1.0, 1.0, 1.0]) == 4


def test_the_order_of_the_rows_does_not_matter():
    assert convergence_step([16, 0, 4, 1, 8, 2], [1.0, 0.2, 0.9, 0.95, 0.97, 0.5]) == 4


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_converges_earlier(values, one, other):
    steps = list(range(len(values)))
    low, high = sorted((one, other))
    first, second = convergence_step(steps, values, low), convergence_step(steps, values, high)
    assert second is None or (first is not None and first <= second)
    if first is not None:
        assert min(values[first:]) >= low


def test_rate_is_per_doubling_of_the_step():
    # a value that rises by 0.1 with each doubling of 1 + step
    steps = [0, 1, 3, 7]
    assert rate_of_change(steps, [0.1, 0.2, 0.3, 0.4]) == pytest.approx([0.1, 0.1, 0.1])
    assert rate_of_change([0, 3], [0.0, 1.0]) == pytest.approx([0.5])


def test_rates_next_to_an_undefined_value_are_undefined():
    rates = rate_of_change([0, 1, 3, 7], [0.0, math.nan, 1.0, 2.0])
    assert math.isnan(rates[0]) and math.isnan(rates[1]) and rates[2] == pytest.approx(1.0)


def test_a_repeated_step_is_no_series():
    with pytest.raises(ValueError, match="twice"):
        rate_of_change([1, 1], [0.0, 1.0])


def test_correlation_is_scipys_over_the_shared_steps():
    rng = np.random.default_rng(0)
    values = dict(zip(STEPS, rng.standard_normal(6), strict=True))
    evaluation = {step: 3 - 2 * values[step] + rng.standard_normal() for step in STEPS[1:]} | {99: 1.0}
    values[1] = math.nan
    shared = STEPS[2:]
    x, y = [values[s] for s in shared], [evaluation[s] for s in shared]
    line = scipy.stats.linregress(x, y)
    found = correlation_with_evaluation(values, evaluation)
    assert found.n == 4
    assert found.r == pytest.approx(line.rvalue)
    assert found.r2 == pytest.approx(line.rvalue**2)
    assert found.slope == pytest.approx(line.slope)
    assert found.rho == pytest.approx(scipy.stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize(
    ("values", "evaluation", "reason"),
    [
        ({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}, "2 steps"),
        ({0: 1.0, 1: 1.0, 2: 1.0}, {0: 1.0, 1: 2.0, 2: 0.0}, "metric does not vary"),
        ({0: 1.0, 1: 2.0, 2: 0.0}, {0: 5.0, 1: 5.0, 2: 5.0}, "evaluation does not vary"),
    ],
)
def test_a_correlation_that_does_not_exist_says_why(values, evaluation, reason):
    found = correlation_with_evaluation(values, evaluation)
    assert math.isnan(found.r2) and reason in found.reason


def table():
    rows = []
    for layer, values in enumerate([[0.1, 0.5, 0.92, 0.95, 1.0], [0.8, 0.91, 0.92, 0.95, 1.0]]):
        for step, value in zip([0, 1, 3, 7, 15], values, strict=True):
            rows.append(
                {
                    "run": "demo",
                    "step": step,
                    "layer": layer,
                    "head": None,
                    "metric": "cka",
                    "target_step": 15,
                    "value": value,
                }
            )
    return pd.DataFrame(rows)


def test_each_series_of_the_table_gets_one_row():
    perplexity = {0: 100.0, 1: 60.0, 3: 20.0, 7: 15.0, 15: 10.0}
    summary = summarise(table(), tau=0.9, evaluation=perplexity)
    assert summary["layer"].tolist() == [0, 1]
    assert summary["convergence_step"].tolist() == [3, 1]
    assert summary["fastest_rate"].tolist() == pytest.approx([0.42, 0.11])
    assert summary["fastest_from"].tolist() == [1, 0]
    assert (summary["r2"] > 0.8).all() and (summary["slope"] < 0).all()
    assert summary["last"].tolist() == [1.0, 1.0]


def test_comparisons_with_the_previous_step_are_one_series():
    moving = table()
    moving["target_step"] = moving["step"].map({0: 0, 1: 0, 3: 1, 7: 3, 15: 7})
    assert len(summarise(moving)) == 2


def test_all_pairs_of_steps_are_a_series_per_target():
    pairs = pd.concat([table().assign(target_step=t) for t in (0, 15)])
    assert len(summarise(pairs)) == 4


def test_rows_of_two_questions_are_not_mixed():
    twice = pd.concat([table().drop(columns="target_step")] * 2)
    with pytest.raises(UsageError, match="two values at one step"):
        summarise(twice)
    with pytest.raises(UsageError, match="'value'"):
        summarise(table().drop(columns="value"))
