"""Which rows of a table make one series, what a summary says of it, and the evaluation results it is held against."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from pico_analyze.errors import DataError
from pico_analyze.output.dynamics_text import trend_warning
from pico_analyze.statistics.dynamics import correlation_with_evaluation, evaluation_results, summarise


def rows(values: dict[int, float], **columns: object) -> pd.DataFrame:
    return pd.DataFrame([{"step": step, "value": value, **columns} for step, value in values.items()])


def joined(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


def test_a_summary_has_the_ends_of_a_series_and_the_two_steps_of_its_fastest_change():
    (row,) = summarise(rows({7: 0.5, 0: 0.1, 3: 0.9, 1: 0.2}, layer=0)).to_dict("records")
    assert (row["layer"], row["n_steps"], row["first"], row["last"]) == (0, 4, 0.1, 0.5)
    assert (row["fastest_from"], row["fastest_to"]) == (1, 3)
    assert row["fastest_rate"] == pytest.approx(0.7)


def test_a_series_has_converged_from_nine_tenths_on_unless_another_threshold_is_given():
    table = rows({0: 0.1, 1: 0.89, 2: 0.9, 3: 0.95})
    assert summarise(table)["convergence_step"].tolist() == [2]
    assert summarise(table, tau=0.89)["convergence_step"].tolist() == [1]


def test_a_table_of_steps_and_values_alone_is_one_series():
    summary = summarise(rows({0: 1.0, 1: 2.0}), evaluation={})
    assert summary["n_steps"].tolist() == [2]
    assert summary.columns.tolist()[0] == "n_steps" and summary["n_shared"].tolist() == [0]


@pytest.mark.parametrize("columns", [["step", "value"], ["step", "value", "metric"], ["step", "value", "layer"]])
def test_a_table_without_rows_has_no_series(columns):
    assert len(summarise(pd.DataFrame(columns=columns))) == 0


def test_metrics_stay_in_the_order_of_the_table_and_the_layers_of_each_are_sorted():
    table = joined(
        *(rows({0: 0.0, 1: 1.0}, metric=metric, layer=layer) for metric in ("rsa", "cka") for layer in (2, 0, 1))
    )
    summary = summarise(table)
    assert list(zip(summary["metric"], summary["layer"], strict=True)) == [
        *(("rsa", layer) for layer in (0, 1, 2)),
        *(("cka", layer) for layer in (0, 1, 2)),
    ]
    assert summary.index.tolist() == list(range(6))


def test_rows_whose_parameters_are_missing_are_summarised_too():
    table = joined(rows({0: 0.0, 1: 1.0}, metric="cka", params=None), rows({0: 0.0, 1: 1.0}, metric="cka", params="{}"))
    assert len(summarise(table)) == 2


def test_one_target_of_all_steps_is_named_in_the_summary():
    summary = summarise(rows({0: 0.2, 1: 0.5, 3: 1.0}, target_step=3, layer=0))
    assert summary["target_step"].tolist() == [3]


def test_two_steps_that_are_compared_with_the_one_before_are_a_series():
    table = joined(rows({1: 0.2}, target_step=0, layer=0), rows({3: 0.5}, target_step=1, layer=0))
    summary = summarise(table)
    assert summary["n_steps"].tolist() == [2] and "target_step" not in summary.columns


def test_one_metric_moves_its_target_along_and_another_keeps_it():
    kept = rows({0: 0.2, 1: 0.5, 3: 1.0}, metric="cka", target_step=3)
    moving = rows({1: 0.2, 3: 0.5}, metric="rsa").assign(target_step=[0, 1])
    summary = summarise(joined(kept, moving))
    assert summary["n_steps"].tolist() == [3, 2]
    assert summary["target_step"].iloc[0] == 3 and np.isnan(summary["target_step"].iloc[1])


def test_the_correlation_of_a_straight_line_is_never_beyond_one():
    rng = np.random.default_rng(0)
    for _ in range(300):
        x, (a, b) = rng.standard_normal(5), rng.uniform(0.1, 3, 2)
        up = correlation_with_evaluation(dict(enumerate(x)), dict(enumerate(a * x + b)))
        down = correlation_with_evaluation(dict(enumerate(x)), dict(enumerate(b - a * x)))
        assert 1 - 1e-12 < up.r <= 1 and 1 - 1e-12 < up.rho <= 1
        assert -1 <= down.r < -1 + 1e-12 and -1 <= down.rho < -1 + 1e-12


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1e4, 1.0), (-3.0, 1e5)])
def test_the_slope_is_that_of_least_squares_wherever_the_values_lie(shift, scale):
    rng = np.random.default_rng(1)
    x = shift + scale * rng.standard_normal(9)
    y = 2e3 - 0.7 * x + scale * rng.standard_normal(9)
    found = correlation_with_evaluation(dict(enumerate(x)), dict(enumerate(y)))
    assert found.slope == pytest.approx(scipy.stats.linregress(x, y).slope, rel=1e-8)


@pytest.mark.parametrize(
    ("values", "varies"),
    [
        ([0.0, 0.0, 0.0], False),
        ([1e6, 1e6, 1e6 + 1e-7], False),
        ([1e6, 1e6, 1e6 + 1e-5], True),
        ([1e-9, 2e-9, 3e-9], True),
        ([-1e-9, -1e-9, -1e-9 * (1 + 1e-13)], False),
    ],
)
def test_whether_values_vary_is_a_matter_of_their_own_size(values, varies):
    found = correlation_with_evaluation(dict(enumerate(values)), {0: 1.0, 1: 2.0, 2: 4.0})
    assert found.reason == (None if varies else "the metric does not vary over these steps")


def run_with(evaluations: dict[int, dict[str, float]]) -> SimpleNamespace:
    return SimpleNamespace(run="demo", evaluations=lambda: evaluations)


def test_evaluation_results_are_those_of_a_name_at_the_steps_that_have_it():
    run = run_with({0: {"val_loss": 9.0}, 1: {"val_loss": 5.0, "paloma.perplexity": 40.0}, 2: {"val_loss": 4.0}})
    assert evaluation_results(run, "val_loss") == {0: 9.0, 1: 5.0, 2: 4.0}
    assert evaluation_results(run, "paloma.perplexity") == {1: 40.0}


def test_an_evaluation_that_a_run_does_not_have_is_told_with_those_that_it_has():
    run = run_with({0: {"val_loss": 9.0}, 1: {"paloma.perplexity": 40.0, "val_loss": 5.0}})
    with pytest.raises(DataError) as error:
        evaluation_results(run, "val_los")
    assert str(error.value) == (
        "run 'demo' has no evaluation 'val_los'; did you mean 'val_loss'? (it has paloma.perplexity, val_loss)"
    )
    with pytest.raises(DataError) as error:
        evaluation_results(run_with({}), "val_loss")
    assert str(error.value) == "run 'demo' has no evaluation 'val_loss' (it has none)"


class TestTrends:
    """Two things that follow the step go together whatever they are: what is left is in their changes."""

    def test_two_independent_walks_with_a_trend_correlate_and_their_changes_do_not(self):
        draw = np.random.default_rng(0)
        n = 400
        x, y = (np.cumsum(1.0 + draw.normal(0, 0.5, n)) for _ in range(2))
        found = correlation_with_evaluation(dict(enumerate(x)), dict(enumerate(y)))
        assert found.r2 > 0.99 and found.trending
        assert abs(found.r_detrended) < 0.15  # three deviations of 1/sqrt(400)

    def test_changes_that_go_together_are_found_under_opposite_trends(self):
        draw = np.random.default_rng(1)
        common = np.cumsum(draw.normal(0, 1, 300))
        x, y = common + 5 * np.arange(300), common - 5 * np.arange(300)
        found = correlation_with_evaluation(dict(enumerate(x)), dict(enumerate(y)))
        assert found.r < -0.9 and found.r_detrended == pytest.approx(1) and found.trending

    def test_against_numpy_on_differences(self):
        draw = np.random.default_rng(2)
        x, y = draw.normal(size=(2, 20))
        found = correlation_with_evaluation(dict(enumerate(x)), dict(enumerate(y)))
        assert found.r_detrended == pytest.approx(np.corrcoef(np.diff(x), np.diff(y))[0, 1])
        assert not found.trending

    def test_straight_lines_have_no_changes_that_vary(self):
        found = correlation_with_evaluation({n: 2.0 * n for n in range(9)}, {n: 1.0 - n for n in range(9)})
        assert found.r == pytest.approx(-1) and math.isnan(found.r_detrended) and found.trending

    def test_a_warning_names_how_many_series_move_with_the_step(self):
        table = joined(rows({n: float(n) for n in range(6)}, layer=0), rows({n: n % 2 for n in range(6)}, layer=1))
        summary = summarise(table, evaluation={n: n**2 for n in range(6)})
        assert summary["trending"].tolist() == [True, False]
        assert "1 of 2 series and pairs.accuracy both move with the step" in trend_warning(summary, "pairs.accuracy")
        assert trend_warning(summary[1:], "pairs.accuracy") is None
