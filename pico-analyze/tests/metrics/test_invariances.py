"""What must not change a value, what must, and where values may lie."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.spec import METRICS

few = settings(max_examples=20)
seeds = st.integers(0, 2**32 - 1)
widths = st.integers(2, 8)


def pair(seed, p=6, q=6, n=40, noise=0.7):
    """Two related representations of n samples."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) * np.linspace(0.5, 2.0, p)
    return x, x @ rng.standard_normal((p, q)) + noise * rng.standard_normal((n, q)), rng


def rotation(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


ROTATION_INVARIANT = [
    ("cka", {}),
    ("cka", {"debiased": True}),
    ("cka", {"kernel": "rbf"}),
    ("cka", {"batch": 10}),
    ("svcca", {}),
    ("mean_cca", {}),
    ("procrustes", {}),
    ("procrustes", {"form": "angular"}),
    ("rsa", {"dissimilarity": "euclidean"}),
    ("rsa", {"dissimilarity": "cosine", "compare": "pearson"}),
    ("mutual_knn", {"k": 5}),
    ("mutual_knn", {"k": 5, "distance": "euclidean"}),
    ("subspace_overlap", {"k": 2}),
]


@pytest.mark.parametrize(("name", "params"), ROTATION_INVARIANT)
@few
@given(seed=seeds, p=widths, q=widths)
def test_rotation_and_scale_of_the_features_change_nothing(name, params, seed, p, q):
    x, y, rng = pair(seed, p, q)
    metric = METRICS.get(name)
    before = metric(x, y, **params).value
    after = metric(3.0 * x @ rotation(p, rng), 0.2 * y @ rotation(q, rng), **params).value
    assert after == pytest.approx(before, abs=1e-8)


@pytest.mark.parametrize("name", ["cka", "svcca", "mean_cca", "procrustes"])
@few
@given(seed=seeds)
def test_a_shift_of_all_samples_changes_nothing(name, seed):
    x, y, rng = pair(seed)
    shifted = METRICS.get(name)(x + 5 * rng.standard_normal(6), y - 3.0)
    assert shifted.value == pytest.approx(METRICS.get(name)(x, y).value, abs=1e-9)


@pytest.mark.parametrize(("name", "params"), [*ROTATION_INVARIANT, ("cosine", {})])
@few
@given(seed=seeds)
def test_comparisons_are_symmetric(name, params, seed):
    x, y, _ = pair(seed)
    metric = METRICS.get(name)
    there, back = metric(x, y, **params).value, metric(y, x, **params).value
    assert back == pytest.approx(there, abs=1e-9, nan_ok=True)


@few
@given(seed=seeds)
def test_order_of_the_samples_does_not_matter_but_their_match_does(seed):
    x, y, rng = pair(seed, noise=0.1)
    order = rng.permutation(len(x))
    for name in ("cka", "svcca", "procrustes", "rsa", "mutual_knn"):
        metric = METRICS.get(name)
        assert metric(x[order], y[order]).value == pytest.approx(metric(x, y).value, abs=1e-9)
    assert METRICS.get("cka")(x[order], y).value < METRICS.get("cka")(x, y).value


@few
@given(seed=seeds, p=widths)
def test_canonical_correlations_of_linearly_related_data_are_1(seed, p):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((50, p))
    y = x @ (rotation(p, rng) * np.linspace(1, 3, p)) @ rotation(p, rng) + 2.0
    assert METRICS.get("mean_cca")(x, y).value == pytest.approx(1.0, abs=1e-9)
    assert METRICS.get("svcca")(x, y, variance=1.0).value == pytest.approx(1.0, abs=1e-9)
    assert METRICS.get("pwcca")(x, y, variance=1.0).value == pytest.approx(1.0, abs=1e-9)


@few
@given(seed=seeds)
def test_mean_cca_is_invariant_to_any_invertible_map_where_cka_is_not(seed):
    x, y, rng = pair(seed, p=4, q=4)
    stretch = np.diag([1.0, 5.0, 0.2, 2.0]) @ rotation(4, rng)
    assert METRICS.get("mean_cca")(x @ stretch, y).value == pytest.approx(METRICS.get("mean_cca")(x, y).value, abs=1e-9)
    assert abs(METRICS.get("cka")(x @ stretch, x).value - 1.0) > 1e-3


def test_debiased_cka_of_independent_noise_is_about_0_where_the_biased_is_not():
    rng = np.random.default_rng(0)
    cka = METRICS.get("cka")
    pairs = [(rng.standard_normal((50, 400)), rng.standard_normal((50, 400))) for _ in range(10)]
    biased = np.mean([cka(x, y).value for x, y in pairs])
    debiased = np.mean([cka(x, y, debiased=True).value for x, y in pairs])
    in_batches = np.mean([cka(x, y, batch=25).value for x, y in pairs])
    assert biased > 0.85
    assert abs(debiased) < 0.02
    assert abs(in_batches) < 0.03


def test_biased_cka_on_few_samples_warns_and_shows_the_debiased_value():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 30)), rng.standard_normal((50, 20))
    cka = METRICS.get("cka")
    result = cka(x, y)
    assert "n < 5d" in result.warning
    assert cka(x[:40], y[:40]).warning == result.warning  # one text, to be said once per study
    assert result.extra["debiased"] == pytest.approx(METRICS.get("cka")(x, y, debiased=True).value, abs=1e-12)
    assert (result.extra["n"], result.extra["d"], result.extra["d_target"]) == (50, 30, 20)
    enough = METRICS.get("cka")(x[:, :5], y[:, :5])
    assert enough.warning is None and "debiased" not in enough.extra


def test_a_stream_of_batches_is_the_minibatch_form():
    from pico_analyze.matrices.matrix import as_matrix
    from pico_analyze.metrics.kernel_alignment import StreamingCKA

    x, y, _ = pair(0, n=60)
    stream = StreamingCKA()
    for rows in np.random.default_rng([0, 60]).permutation(60).reshape(3, 20):
        stream.update(as_matrix(x[rows]), as_matrix(y[rows]))
    assert stream.result().value == pytest.approx(METRICS.get("cka")(x, y, batch=20).value, abs=1e-13)
    whole = METRICS.get("cka")(x, y, batch=60).value
    assert whole == pytest.approx(METRICS.get("cka")(x, y, debiased=True).value, abs=1e-13)


def test_the_minibatch_form_approaches_the_debiased_value():
    x, y, _ = pair(1, n=2000)
    cka = METRICS.get("cka")
    assert cka(x, y, batch=100).value == pytest.approx(cka(x, y, debiased=True).value, abs=0.01)


@pytest.mark.parametrize("name", ["per", "effective_rank", "stable_rank", "condition_number", "participation_ratio"])
@few
@given(seed=seeds, n=st.integers(2, 9), p=st.integers(2, 9))
def test_spectral_metrics_see_neither_rotation_nor_scale_nor_transposition(name, seed, n, p):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, p))
    before = METRICS.get(name)(matrix).value
    turned = 7.0 * rotation(n, rng) @ matrix @ rotation(p, rng)
    assert METRICS.get(name)(turned).value == pytest.approx(before, rel=1e-7)
    assert METRICS.get(name)(matrix.T).value == pytest.approx(before, rel=1e-7)


@pytest.mark.parametrize("name", ["gini", "hoyer", "kurtosis", "near_zero_fraction"])
@few
@given(seed=seeds)
def test_elementwise_metrics_see_neither_order_nor_scale(name, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((7, 5)) ** 3
    shuffled = 11.0 * rng.permutation(matrix.ravel()).reshape(5, 7)
    assert METRICS.get(name)(shuffled).value == pytest.approx(METRICS.get(name)(matrix).value, abs=1e-10)


@few
@given(seed=seeds, n=st.integers(2, 12), p=st.integers(2, 12), rank=st.integers(1, 12))
def test_values_lie_in_their_ranges(seed, n, p, rank):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p))
    count = min(n, p)
    assert 1 / count - 1e-9 <= METRICS.get("per")(matrix).value <= 1 + 1e-9
    assert 1 - 1e-9 <= METRICS.get("stable_rank")(matrix).value <= count + 1e-9
    assert METRICS.get("condition_number")(matrix).value >= 1 - 1e-9
    assert METRICS.get("condition_number")(matrix).extra["rank"] == min(rank, count)
    for name in ("gini", "hoyer", "near_zero_fraction"):
        assert -1e-12 <= METRICS.get(name)(matrix).value <= 1 + 1e-12
    norms = [METRICS.get("norm")(matrix, kind=k).value for k in ("max_abs", "spectral", "frobenius", "nuclear")]
    assert norms == sorted(norms) or np.allclose(norms, sorted(norms))


@few
@given(seed=seeds)
def test_similarities_lie_between_0_and_1(seed):
    x, y, _ = pair(seed, p=5, q=3, noise=5.0)
    for name in ("cka", "svcca", "pwcca", "mean_cca", "mutual_knn"):
        assert 0.0 <= METRICS.get(name)(x, y).value <= 1.0
    assert 0.0 <= METRICS.get("procrustes")(x, y).value <= 2.0
    assert -1.0 <= METRICS.get("rsa")(x, y).value <= 1.0


def test_pwcca_weighs_by_the_first_matrix():
    rng = np.random.default_rng(0)
    shared, own, other = (rng.standard_normal((500, 1)) for _ in range(3))
    mostly_shared = np.hstack([10 * shared, own])
    mostly_own = np.hstack([shared, 10 * own])
    y = np.hstack([shared, other])
    pwcca, mean_cca = METRICS.get("pwcca"), METRICS.get("mean_cca")
    assert mean_cca(mostly_shared, y).value == pytest.approx(mean_cca(mostly_own, y).value, abs=1e-9)
    assert pwcca(mostly_shared, y).value > 0.85 > 0.5 > pwcca(mostly_own, y).value


def test_mutual_knn_and_subspace_overlap_of_unrelated_data_are_near_chance():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((400, 20)), rng.standard_normal((400, 20))
    for name in ("mutual_knn", "subspace_overlap"):
        result = METRICS.get(name)(x, y)
        assert result.value == pytest.approx(result.extra["chance"], abs=0.02)


def test_a_nearly_unchanged_circuit_shows_its_small_change():
    from pico_analyze.matrices.factored import Factored

    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((50, 4)), rng.standard_normal((50, 4))
    moved = Factored(left * (1 + 1e-13), right)
    assert METRICS.get("relative_change")(moved, Factored(left, right)).value == pytest.approx(1e-13, rel=0.01, abs=0)


def test_the_numbers_are_not_swayed_by_a_large_common_offset():
    # float32 activations of size 1000 ± 1: centring in float64 keeps what float32 sums would lose
    rng = np.random.default_rng(0)
    x = (1000 + rng.standard_normal((300, 8))).astype(np.float32)
    y = (1000 + rng.standard_normal((300, 8))).astype(np.float32)
    exact = METRICS.get("cka")(x.astype(np.float64) - 1000, y.astype(np.float64) - 1000).value
    assert METRICS.get("cka")(Dense(x, samples=True), Dense(y, samples=True)).value == pytest.approx(exact, rel=1e-9)


def test_rsa_sees_through_a_monotone_change_of_distances_only_with_ranks():
    rng = np.random.default_rng(0)
    line = np.sort(rng.standard_normal((12, 1)), axis=0)
    rsa = METRICS.get("rsa")
    stretched = np.hstack([line, np.zeros_like(line)])
    assert rsa(line, stretched, dissimilarity="euclidean").value == pytest.approx(1.0, abs=1e-12)
    assert math.isnan(rsa(line, stretched).value)  # one feature: no correlation between samples
