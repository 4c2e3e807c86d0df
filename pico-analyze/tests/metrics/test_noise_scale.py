"""The noise scale: that of gradients whose law is known, as the two batch sizes of the paper give it, and its interval.

Oracles: the estimators of McCandlish et al. 2018, appendix A.1, written from their equations for two batch sizes; the
jackknife by leaving gradients out, one after the other.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from synthetic import make_run, noise_lines

from pico_analyze.metrics import gradient_noise
from pico_analyze.metrics.spec import METRICS


def lines(gradients, rows=1):
    """What is captured of the gradients of parts, (n, P), of so many rows each."""
    whole = gradients.mean(axis=0)
    n = len(gradients)
    return np.column_stack(
        [
            [rows] * n + [rows * n],
            [*np.square(gradients).sum(axis=1), whole @ whole],
            [*np.square(gradients - whole).sum(axis=1), 0.0],
        ]
    )


def of_two_sizes(gradients, rows):
    """|G|² and tr(Σ) by equations A.2 and A.3, from mean squared norms at the small and the large batch size."""
    whole = gradients.mean(axis=0)
    small, large = rows, rows * len(gradients)
    of_small, of_large = np.mean([g @ g for g in gradients]), whole @ whole
    signal = (large * of_large - small * of_small) / (large - small)
    noise = (of_small - of_large) / (1 / small - 1 / large)
    return signal, noise


def by_leaving_out(gradients, rows, level=0.95):
    """The interval of signal over noise by a plain jackknife, turned over."""
    n = len(gradients)

    def share(kept):
        signal, noise = of_two_sizes(kept, rows)
        return signal / noise

    without = np.array([share(np.delete(gradients, i, axis=0)) for i in range(n)])
    error = math.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    low, high = share(gradients) + np.array([-1, 1]) * stats.t.ppf(0.5 + level / 2, n - 1) * error
    return (1 / high if high > 0 else math.inf), (1 / low if low > 0 else math.inf)


cases = st.tuples(st.integers(0, 2**31), st.integers(2, 12), st.integers(1, 30), st.sampled_from([1, 4, 7]))


@given(cases, st.floats(0.0, 4.0))
def test_signal_and_noise_are_the_papers_and_the_interval_a_jackknifes(case, strength):
    seed, n, width, rows = case
    rng = np.random.default_rng(seed)
    gradients = strength * rng.standard_normal(width) + rng.standard_normal((n, width))
    result = gradient_noise(lines(gradients, rows))
    signal, noise = of_two_sizes(gradients, rows)
    scale = float(np.square(gradients).sum())
    assert result.extra["signal"] == pytest.approx(signal, rel=1e-9, abs=1e-12 * scale)
    assert result.extra["noise"] == pytest.approx(noise, rel=1e-9, abs=1e-12 * scale)
    if signal > 1e-9 * scale:
        assert result == pytest.approx(noise / signal, rel=1e-6) and result.reason is None
    if n == 2:
        assert math.isnan(result.extra["ci_low"]) and "two parts have no interval" in result.extra["ci_reason"]
    elif n > 3:  # of three, what is left of one that is left out is two: its noise may be as good as nothing
        low, high = by_leaving_out(gradients, rows)
        assert result.extra["ci_low"] == pytest.approx(low, rel=1e-5)
        assert result.extra["ci_high"] == pytest.approx(high, rel=1e-5)
        assert 0 < low <= high


@given(cases, st.floats(1e-3, 1e3), st.integers(2, 9))
def test_the_scale_of_the_loss_changes_nothing_and_rows_count_in_their_own_number(case, factor, times):
    seed, n, width, rows = case
    rng = np.random.default_rng(seed)
    gradients = 2.0 * rng.standard_normal(width) + 0.5 * rng.standard_normal((n, width))
    plain, scaled = gradient_noise(lines(gradients, rows)), gradient_noise(lines(gradients * factor, rows))
    more = gradient_noise(lines(gradients, rows * times))
    assert scaled == pytest.approx(float(plain), rel=1e-9, nan_ok=True)
    assert more == pytest.approx(float(plain) * times, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("rows", [1, 8])
def test_the_noise_scale_of_a_known_law_is_found(rows):
    rng = np.random.default_rng(0)
    mean = np.zeros(400)
    mean[0] = 2.0
    gradients = mean + 0.3 * math.sqrt(1 / rows) * rng.standard_normal((4000, 400))
    assert gradient_noise(lines(gradients, rows)) == pytest.approx(400 * 0.09 / 4, rel=0.02)


def test_by_hand():
    # two parts (3, 1) and (3, -1): G = (3, 0), each is 1 away; tr Σ = 2 rows · 2, |G|² = 9 - 4 / 4
    result = gradient_noise([[2, 10, 1], [2, 10, 1], [4, 9, 0]])
    assert (result.extra["noise"], result.extra["signal"], result.extra["parts"]) == (4.0, 8.0, 2.0)
    assert result == 0.5


@pytest.mark.parametrize("parts", [4, 8, 16])
@pytest.mark.parametrize("scale", [0.5, 4.0, 64.0])
def test_intervals_hold_the_true_scale(parts, scale):
    """Of 400 batches of parts with 60 directions of falling variance, at least nine of ten: docs/uncertainty.md."""
    rng = np.random.default_rng(parts)
    variances = np.arange(1, 61.0) ** -1
    mean = rng.standard_normal(60)
    mean *= math.sqrt(variances.sum() / scale) / np.linalg.norm(mean)
    held = 0
    for _ in range(400):
        extra = gradient_noise(lines(mean + rng.standard_normal((parts, 60)) * np.sqrt(variances))).extra
        held += extra["ci_low"] <= scale <= extra["ci_high"]
    assert held >= 0.91 * 400


def test_where_no_signal_is_seen_there_is_a_lower_end_alone():
    result = gradient_noise(lines(np.array([[1.0, 0.3], [-1, 0.1], [0.2, 1], [-0.1, -1.3]])))
    assert math.isnan(result) and "cannot be told from noise" in str(result.reason)
    assert result.extra["ci_high"] == math.inf and 0 < result.extra["ci_low"] < math.inf


@pytest.mark.parametrize(
    ("given_lines", "reason"),
    [
        (np.tile([2.0, 0.0, 0.0], (4, 1)), "do not make up the batch"),
        ([[1, 0, 0], [1, 0, 0], [2, 0, 0]], "every gradient is zero"),
        ([[1, 4, 1], [2, 4, 1], [3, 4, 0]], "not equally large"),
        ([[1, 4, 1], [1, 4, 1], [3, 4, 0]], "do not make up the batch"),
        ([[1, 4, 1], [2, 4, 1], [2, 4, 0]], "not equally large"),
        ([[2, 4, 1], [1, 4, 1], [4, 4, 0]], "not equally large"),
        ([[0, 4, 1], [0, 4, 1], [0, 4, 0]], "do not make up the batch"),
        ([[1, -4, 1], [1, 4, 1], [2, 4, 0]], "below zero"),
        ([[1, 4, 1], [2, 4, 0]], "at least two"),
        ([[1, 4], [1, 4], [2, 4]], "at least two"),
        (np.ones((5, 12)), "at least two"),
    ],
)
def test_what_are_no_norms_of_parts_has_no_value(given_lines, reason):
    result = gradient_noise(given_lines)
    assert math.isnan(result) and reason in str(result.reason)


def test_noise_that_is_that_of_one_part_has_no_interval():
    """Without the first part nothing lies apart: (6 − 4·3/2)/(3 − 2) = 0."""
    result = gradient_noise([[1, 20, 4], [1, 14, 1], [1, 14, 1], [3, 14, 0]])
    assert result == pytest.approx(3 / 13)
    assert math.isnan(result.extra["ci_low"]) and math.isnan(result.extra["ci_high"])
    assert result.extra["ci_reason"] == "all noise is that of one part"


def test_an_interval_that_ends_where_there_is_no_signal_is_open():
    """Four parts at the same distance in directions that tell nothing: no signal, without and with each of them."""
    result = gradient_noise([[1, 4, 3]] * 4 + [[4, 1, 0]])
    assert math.isnan(result) and result.extra["signal"] == 0.0
    assert result.extra["ci_low"] == result.extra["ci_high"] == math.inf


def test_without_noise_the_scale_is_zero():
    result = gradient_noise([[1, 4, 0], [1, 4, 0], [1, 4, 0], [3, 4, 0]])
    assert result == 0.0 and "ci_low" not in result.extra


# -- of runs


@pytest.fixture
def noisy(runs):
    """A run called demo that kept noise, beside where the tests are."""
    make_run(runs, noise=6)


@pytest.mark.usefixtures("noisy")
def test_the_noise_of_every_site_block_and_of_the_model_is_in_the_table(pico):
    answer = pico("compute", "gradient_noise", "demo", "--format", "json", "--no-plot")
    assert answer.code == 0, answer.err
    rows = pd.DataFrame(json.loads(answer.out))
    assert set(rows["data"]) == {"noise"} and set(rows["split"]) == {"train"}
    last = rows[rows["step"] == rows["step"].max()]
    for site, layer, group in (
        ("model", None, "model"),
        ("block", 1, "layers.1.block"),
        ("attn.v", 0, "layers.0.attn.v"),
    ):
        of_site = last[(last["site"] == site) & (last["layer"].isna() if layer is None else last["layer"] == layer)]
        expected = gradient_noise(noise_lines(6, 42, int(last["step"].iloc[0]), group))
        row = of_site.iloc[0]
        assert len(of_site) == 1 and row["value"] == pytest.approx(float(expected), nan_ok=True)
        assert row["ci_low"] == pytest.approx(expected.extra["ci_low"])


@pytest.mark.usefixtures("noisy")
@pytest.mark.parametrize("site", ["model", "block", "layers.1.block", "attn.v", "embed"])
def test_sites_choose_what_it_is_the_noise_of(pico, site):
    answer = pico(
        "compute", "gradient_noise", "demo", "--site", site, "--steps", "last", "--format", "json", "--no-plot"
    )
    assert answer.code == 0, answer.err
    assert {row["site"] for row in json.loads(answer.out)} == {site.rpartition("layers.1.")[2]}


@pytest.mark.usefixtures("noisy")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "gradients"], "metric 'gradient_noise' is not defined for gradients: it takes noise"),
        (["--target", "prev"], "describes one checkpoint: --target goes with comparisons"),
        (["--bootstrap", "100"], "--bootstrap is not for noise"),
        (["--null", "random_init"], "--null is not for noise"),
        (["--component", "ov_circuit"], "have no kind of data in common"),
    ],
)
def test_pairs_of_other_weights_and_what_it_is_not_are_refused(pico, options, said):
    answer = pico("compute", "gradient_noise", "demo", "--no-plot", *options)
    assert answer.code == 2 and said in answer.error


def test_a_run_that_kept_no_noise_says_what_it_holds(runs, pico):
    make_run(runs)
    answer = pico("compute", "gradient_noise", "demo", "--no-plot")
    assert answer.code == 3 and "holds no train noise" in answer.error and "captures.noise" in answer.error


@pytest.mark.usefixtures("noisy")
def test_other_metrics_are_not_of_noise(pico):
    answer = pico("compute", "norm", "demo", "--data", "noise", "--no-plot")
    assert answer.code == 2 and "metric 'norm' is not defined for noise" in answer.error
    assert [spec.name for spec in METRICS.each() if "noise" in spec.accepts] == ["gradient_noise"]  # type: ignore[union-attr]


@pytest.mark.usefixtures("noisy")
def test_the_list_says_where_noise_was_kept(pico):
    assert "(noise)" in pico("list", "demo").out
