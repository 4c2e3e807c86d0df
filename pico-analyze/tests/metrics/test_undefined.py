"""Where a metric has no value it says so; it never gives a wrong number."""

import math

import numpy as np
import pytest

from pico_analyze.errors import DataError, UsageError
from pico_analyze.matrices.distinct import n_distinct_samples
from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import Dense, activations, as_matrix
from pico_analyze.metrics.spec import METRICS

SINGLE = [m.name for m in METRICS.each() if m.kind == "single" and m.accepts != {"noise"}]
PAIRS = [m.name for m in METRICS.each() if m.kind == "pair"]
RNG = np.random.default_rng(0)
GOOD = RNG.standard_normal((30, 12))


def undefined(result, *words):
    assert math.isnan(result.value)
    assert result.reason and all(word in result.reason for word in words), result.reason
    return True


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_entry_that_is_not_finite_leaves_single_metrics_undefined(name, bad):
    matrix = GOOD.copy()
    matrix[3, 4] = bad
    assert undefined(METRICS.get(name)(matrix), "1 entry is not finite")


@pytest.mark.parametrize("name", PAIRS)
def test_an_entry_that_is_not_finite_leaves_comparisons_undefined_and_says_on_which_side(name):
    matrix = GOOD.copy()
    matrix[3, 4] = np.nan
    assert undefined(METRICS.get(name)(matrix, GOOD), "first matrix", "not finite")
    assert undefined(METRICS.get(name)(GOOD, matrix), "second matrix", "not finite")


@pytest.mark.parametrize("name", SINGLE)
def test_an_empty_matrix_is_undefined(name):
    assert undefined(METRICS.get(name)(np.zeros((0, 4))), "empty")


DEFINED_OF_ZEROS = ("norm", "near_zero_fraction", "dead_fraction", "dense_fraction", "massive_activations")


@pytest.mark.parametrize("name", [n for n in SINGLE if n not in DEFINED_OF_ZEROS])
def test_the_zero_matrix_is_undefined(name):
    assert undefined(METRICS.get(name)(np.zeros((20, 20))))


def test_the_zero_matrix_has_norm_zero_and_is_all_near_zero():
    for kind in ("frobenius", "nuclear", "spectral", "max_abs"):
        assert METRICS.get("norm")(np.zeros((3, 4)), kind=kind).value == 0.0
    assert METRICS.get("near_zero_fraction")(np.zeros((3, 4))).value == 1.0


@pytest.mark.parametrize("name", PAIRS)
def test_comparisons_with_zero_are_undefined(name):
    assert undefined(METRICS.get(name)(GOOD, np.zeros_like(GOOD)))


@pytest.mark.parametrize("name", ["cka", "svcca", "pwcca", "mean_cca", "procrustes"])
def test_samples_that_are_all_equal_have_no_similarity(name):
    constant = np.tile(RNG.standard_normal(12), (30, 1))  # its mean is exact only up to rounding
    assert undefined(METRICS.get(name)(GOOD, constant), "second", "does not vary")
    assert undefined(METRICS.get(name)(constant, GOOD), "first", "does not vary")


@pytest.mark.parametrize("name", ["cka", "svcca", "pwcca", "mean_cca", "procrustes", "rsa", "mutual_knn"])
def test_one_sample_is_too_few(name):
    assert undefined(METRICS.get(name)(GOOD[:1], GOOD[:1]))


@pytest.mark.parametrize(
    ("params", "n", "enough"), [({}, 2, 3), ({"debiased": True}, 3, 4), ({"batch": 8}, 3, 4), ({"kernel": "rbf"}, 2, 3)]
)
def test_cka_says_how_many_samples_it_needs(params, n, enough):
    assert undefined(METRICS.get("cka")(GOOD[:n], GOOD[:n], **params), f"needs {enough}")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((enough, 2))
    assert not math.isnan(METRICS.get("cka")(x, x, **params).value)


@pytest.mark.parametrize("name", ["svcca", "pwcca", "mean_cca"])
def test_canonical_correlations_of_as_many_directions_as_samples_are_refused(name):
    x, y = RNG.standard_normal((10, 40)), RNG.standard_normal((10, 40))
    assert undefined(METRICS.get(name)(x, y, variance=1.0), "too few")
    assert METRICS.get("mean_cca")(x[:, :6], y[:, :6]).warning  # 6 + 6 directions of 9: some correlate by chance


def test_rbf_cka_of_equal_samples_has_no_scale():
    mostly_equal = np.ones((20, 3))
    mostly_equal[0] = 2.0
    assert undefined(METRICS.get("cka")(mostly_equal, GOOD[:20], kernel="rbf"), "rbf")


@pytest.mark.parametrize("name", ["gini", "hoyer", "kurtosis"])
def test_one_entry_has_no_distribution(name):
    assert undefined(METRICS.get(name)(np.array([[2.0]])))


def test_kurtosis_of_equal_entries_is_undefined():
    assert undefined(METRICS.get("kurtosis")(np.full((4, 4), 0.1)), "equal")


def test_a_power_law_needs_ten_eigenvalues_that_differ():
    assert undefined(METRICS.get("power_law_alpha")(RNG.standard_normal((50, 9))), "9 eigenvalues")
    assert undefined(METRICS.get("power_law_alpha")(np.eye(20)), "equal")


def test_rank_deficiency_changes_no_more_than_it_should():
    thin = RNG.standard_normal((30, 3)) @ RNG.standard_normal((3, 12))
    assert METRICS.get("condition_number")(thin).extra["rank"] == 3
    assert undefined(METRICS.get("subspace_overlap")(thin, GOOD, k=5), "rank 3", "k = 5")
    assert METRICS.get("mean_cca")(thin, GOOD).extra["k"] == 3
    assert METRICS.get("cka")(thin, thin).value == pytest.approx(1.0, abs=1e-12)


def test_too_few_samples_for_neighbours():
    assert undefined(METRICS.get("mutual_knn")(GOOD[:10], GOOD[:10], k=10), "below 12 all others are")


def test_a_sample_without_direction_has_no_neighbours_by_cosine():
    with_zero = GOOD.copy()
    with_zero[4] = 0.0
    assert undefined(METRICS.get("mutual_knn")(GOOD, with_zero), "second", "zero")
    assert not math.isnan(METRICS.get("mutual_knn")(GOOD, with_zero, distance="euclidean").value)


def test_different_numbers_of_samples_are_refused():
    with pytest.raises(UsageError, match="30 rows and the other 20"):
        METRICS.get("cka")(GOOD, GOOD[:20])
    with pytest.raises(UsageError, match="30 samples and the other 20"):
        METRICS.get("cka")(Dense(GOOD, samples=True), GOOD[:20])


@pytest.mark.parametrize("name", ["cosine", "relative_change"])
def test_widths_that_differ_are_refused_where_they_may_not(name):
    with pytest.raises(UsageError, match="12 columns and the other 5"):
        METRICS.get(name)(GOOD, GOOD[:, :5])


def test_widths_may_differ_where_samples_are_compared():
    for name in ("cka", "svcca", "pwcca", "mean_cca", "procrustes", "rsa", "mutual_knn"):
        assert not math.isnan(METRICS.get(name)(GOOD, GOOD[:, :5]).value)
    with pytest.raises(UsageError, match="side=left"):
        METRICS.get("subspace_overlap")(GOOD, GOOD[:, :5], side="right")


def test_a_second_matrix_is_neither_missing_nor_too_many():
    with pytest.raises(UsageError, match="compares two"):
        METRICS.get("cka")(GOOD)
    with pytest.raises(UsageError, match="describes one"):
        METRICS.get("gini")(GOOD, GOOD)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "frobenious"}, "did you mean 'frobenius'"),
        ({"knid": "nuclear"}, "did you mean 'kind'"),
    ],
)
def test_unknown_parameters_name_the_nearest(given, message):
    with pytest.raises(UsageError, match=message):
        METRICS.get("norm")(GOOD, **given)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("cka", {"debiased": "perhaps"}),
        ("cka", {"bandwidth": "wide"}),
        ("cka", {"bandwidth": -1}),
        ("cka", {"bandwidth": float("nan")}),
        ("mutual_knn", {"k": 2.5}),
        ("mutual_knn", {"k": True}),
        ("mutual_knn", {"k": 0}),
        ("svcca", {"variance": 1.5}),
        ("norm", {"kind": 3}),
    ],
)
def test_parameters_of_the_wrong_type_or_range_are_refused(name, given):
    with pytest.raises(UsageError, match=f"metric '{name}'"):
        METRICS.get(name).resolve(given)


def test_parameters_may_come_as_text():
    assert METRICS.get("cka").resolve({"debiased": "true", "bandwidth": "0.5"}) == {
        "debiased": True,
        "kernel": "linear",
        "bandwidth": 0.5,
        "batch": 0,
    }
    assert METRICS.get("cka").resolve({"debiased": "no"})["debiased"] is False


def test_batches_below_four_rows_are_refused():
    with pytest.raises(UsageError, match="batch=3"):
        METRICS.get("cka")(GOOD, GOOD, batch=3)


@pytest.mark.parametrize(
    ("name", "data"),
    [("cka", "weights"), ("cosine", "activations"), ("rankme", "weights"), ("gradient_noise", "weights")],
)
def test_data_that_a_metric_is_not_defined_for_is_refused(name, data):
    with pytest.raises(UsageError, match=f"{name}.* is not defined for {data}: it takes"):
        METRICS.get(name).check_data(data)


def test_a_product_that_overflows_its_type_is_undefined():
    from pico_analyze.matrices.factored import Factored

    huge = np.full((6, 2), 1e25, dtype=np.float32) * np.array([1, -1], dtype=np.float32)
    with np.errstate(all="ignore"):
        assert undefined(METRICS.get("gini")(Factored(huge, huge[:, ::-1].copy())), "too large")


def test_what_is_no_matrix_is_refused():
    for wrong in (np.zeros((2, 2, 2)), np.zeros((2, 2), dtype=complex), np.array([["a"]])):
        with pytest.raises(DataError):
            as_matrix(wrong)


def test_half_precision_is_widened_before_anything_else():
    values = RNG.standard_normal((200, 40)) * 300
    half = values.astype(np.float16)
    assert as_matrix(half).dtype == np.float32
    # 8,000 squares of size 90,000 overflow float16, whose largest number is 65,504
    expected = np.linalg.norm(half.astype(np.float64))
    assert METRICS.get("norm")(half).value == pytest.approx(expected, rel=1e-12)
    assert METRICS.get("cka")(half, half).value == pytest.approx(1.0, abs=1e-12)


def test_extreme_sizes_neither_overflow_nor_vanish():
    for scale in (1e-30, 1e30):
        matrix = (GOOD * scale).astype(np.float32)
        for name in SINGLE:
            reference = METRICS.get(name)(GOOD).value * (scale if name == "norm" else 1.0)
            assert METRICS.get(name)(matrix).value == pytest.approx(reference, rel=1e-4)
        assert METRICS.get("cka")(matrix, GOOD).value == pytest.approx(1.0, abs=1e-6)


def repeated(n_distinct, n, d, seed=0):
    """Two representations of the same n samples, of which n_distinct differ: as values of a first layer, which are a
    function of the token alone."""
    rng = np.random.default_rng(seed)
    which = np.concatenate([np.arange(n_distinct), rng.integers(0, n_distinct, n - n_distinct)])
    return tuple(rng.standard_normal((n_distinct, d)).astype(np.float32)[which] for _ in range(2))


@pytest.mark.parametrize("name", ["mean_cca", "svcca", "pwcca"])
def test_repeated_samples_are_not_enough_for_canonical_correlations(name):
    """Independent networks, 104 tokens in 1024 samples of 256 features: any 103 directions fit any others."""
    x, y = repeated(104, 1024, 256)
    result = METRICS.get(name)(x, y, variance=1.0)
    assert undefined(result, "1024 samples, of which 104 differ, are too few for 103 directions")
    alone = METRICS.get(name)(*(np.unique(side, axis=0) for side in (x, y)), variance=1.0)
    assert undefined(alone, "104 samples are too few for 103 directions")
    some = METRICS.get(name)(x[:, :60], y[:, :60], variance=1.0)  # 60 + 60 directions of 103
    assert some.extra["n_distinct"] == 104 and "by chance alone" in some.warning
    assert METRICS.get(name)(x[:, :40], y[:, :40], variance=1.0).warning is None


def test_cka_counts_different_samples_before_it_is_taken_for_sound():
    x, y = repeated(40, 400, 12)
    assert METRICS.get("cka")(*repeated(80, 400, 12)).warning is None
    biased = METRICS.get("cka")(x, y)
    assert biased.extra["n_distinct"] == 40 and "so is the debiased one" in biased.warning
    assert "read the debiased value" in METRICS.get("cka")(x[:30], y[:30]).warning  # nothing repeats: as ever
    assert "debiased" in biased.extra
    for params in ({"debiased": True}, {"batch": 100}, {"debiased": True, "kernel": "rbf"}):
        assert "samples repeat" in METRICS.get("cka")(x, y, **params).warning
    few = np.tile(RNG.standard_normal((3, 12)), (10, 1))
    assert undefined(METRICS.get("cka")(few, few, debiased=True), "3 different samples are too few")


def test_two_samples_however_often_have_no_pattern_and_few_have_no_neighbours():
    x, y = repeated(2, 50, 5)
    assert undefined(METRICS.get("rsa")(x, y, dissimilarity="euclidean"), "2 different samples")
    x, y = repeated(8, 50, 5)
    assert undefined(METRICS.get("mutual_knn")(x, y, k=7), "8 different samples are too few for 7 neighbours")
    assert not math.isnan(METRICS.get("mutual_knn")(x, y, k=6).value)
    samples = [activations(side) for side in repeated(20, 100, 12)]
    assert METRICS.get("subspace_overlap")(*samples, k=4).extra["chance"] == 4 / 20


def test_a_sample_is_counted_once_whatever_its_last_bits_are():
    x, _ = repeated(30, 200, 6)
    shaken = x * (1 + np.finfo(np.float32).eps * RNG.integers(-1, 2, x.shape)).astype(np.float32)
    for rows in (x, shaken, 1e-30 * x, 1e30 * x, np.where(x > 1, -0.0, x)):
        assert n_distinct_samples(activations(rows.astype(np.float32))) == 30
    far = RNG.standard_normal((200, 6)) + 1e3
    assert n_distinct_samples(activations(far)) == 200
    assert n_distinct_samples(activations(far.astype(np.float32))) == 200
    assert n_distinct_samples(activations(np.full((7, 3), np.finfo(float).max))) >= 1
    assert n_distinct_samples(activations(x), activations(np.arange(200.0)[:, None])) == 200  # the other side differs


def test_repeated_values_are_repeated_in_a_circuit_of_them():
    values, _ = repeated(30, 200, 6)
    parts = [Factored(values[:, 3 * h : 3 * h + 3], RNG.standard_normal((12, 3)), samples=True) for h in range(2)]
    assert n_distinct_samples(Concatenated(parts)) == n_distinct_samples(parts[0]) == 30


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("cka", {}),
        ("cka", {"kernel": "rbf"}),
        ("cka", {"debiased": True}),
        ("rsa", {}),
        ("rsa", {"dissimilarity": "euclidean"}),
        ("mutual_knn", {"k": 1}),
        ("procrustes", {}),
        ("mean_cca", {}),
        ("svcca", {}),
        ("pwcca", {}),
        ("subspace_overlap", {"k": 1}),
    ],
)
def test_any_two_samples_are_alike_so_that_comparing_them_has_no_value(name, params):
    x, y = (activations(RNG.standard_normal((2, width))) for width in (3, 5))
    repeated_x, repeated_y = x.take(np.array([0, 1, 0, 1, 0])), y.take(np.array([0, 1, 0, 1, 0]))
    for sides in ((x, y), (repeated_x, repeated_y)):
        result = METRICS.get(name)(*sides, **params)
        assert math.isnan(result) and result.reason


EXTREMES = [1e160, 1e-160, 1e300, 1e-300]


@pytest.mark.parametrize("scale", EXTREMES)
@pytest.mark.parametrize("name", METRICS.names())
@pytest.mark.filterwarnings("error")
def test_entries_too_large_or_small_give_the_right_value_or_a_reason(name, scale):
    """Never a wrong number, an infinity or a warning of numpy's; what is made of shares has its value."""
    spec = METRICS.get(name)
    x, y = RNG.standard_normal((40, 12)), RNG.standard_normal((40, 12))
    left, right = RNG.standard_normal((40, 3)), RNG.standard_normal((12, 3))
    for small, large in (
        (activations(x), activations(x * scale)),
        (Factored(left, right, samples=True), Factored(left * scale, right, samples=True)),
    ):
        others = (activations(y),) if spec.kind == "pair" else ()
        expected, found = spec(small, *others), spec(large, *others)
        if found.reason is None:
            unit = scale if name == "norm" else 1.0
            assert found / unit == pytest.approx(expected, rel=1e-6)
        else:
            assert math.isnan(found)
            assert expected.reason is not None or "to be multiplied: scale them" in found.reason
