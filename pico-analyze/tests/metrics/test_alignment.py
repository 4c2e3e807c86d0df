"""Centred kernel alignment: what stands beside the value, when it warns, and each of its forms against a formula."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest
from correlated_rows import comparable
from scipy.spatial.distance import pdist
from sklearn.gaussian_process.kernels import RBF

from pico_analyze.errors import UsageError
from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import as_matrix
from pico_analyze.metrics.kernel_alignment import StreamingCKA, cka, rbf_kernel

RNG = np.random.default_rng(31)
FORMS = [{}, {"debiased": True}, {"kernel": "rbf"}, {"kernel": "rbf", "debiased": True}, {"batch": 8}]


def noise(*shape):
    return RNG.standard_normal(shape)


def unbiased(k, h):
    """HSIC by Song et al. 2012, equation 5, with loops over samples that differ: no sample is compared with itself."""
    n = len(k)
    k, h = k - np.diag(np.diag(k)), h - np.diag(np.diag(h))
    pairs, triples, quadruples = np.sum(k * h), np.sum(k.sum(0) * h.sum(0)), k.sum() * h.sum()
    return (pairs - 2 / (n - 2) * triples + quadruples / ((n - 1) * (n - 2))) / (n * (n - 3))


def gaussian(x, bandwidth):
    """With σ² the bandwidth² times the median of the squared distances of two samples."""
    return RBF(bandwidth * math.sqrt(np.median(pdist(x, "sqeuclidean"))))(x)


def ratio(sums):
    return sums[0] / math.sqrt(sums[1] * sums[2])


@pytest.mark.parametrize("form", FORMS)
def test_beside_a_value_stand_the_samples_and_the_dimensions_and_nothing_more(form):
    result = cka(noise(40, 3), noise(40, 5), **form)
    assert result.extra == {"n": 40, "d": 3, "d_target": 5} | ({"n_batches": 5} if form.get("batch") else {})
    assert result.warning is None and result.reason is None
    circuit = Factored(noise(40, 2), noise(5, 2), samples=True)
    assert cka(circuit, noise(40, 3), **form).extra["d"] == 2


@pytest.mark.parametrize("widths", [(2, 3), (3, 2)])
def test_five_times_the_larger_dimension_is_enough_and_one_sample_less_is_not(widths):
    few, enough = (cka(noise(n, widths[0]), noise(n, widths[1])) for n in (14, 15))
    assert few.warning.startswith("biased CKA is too high on few samples") and "debiased" in few.extra
    assert enough.warning is None and "debiased" not in enough.extra and "n_distinct" not in few.extra


def test_the_debiased_companion_needs_four_samples():
    x, y = noise(4, 3), noise(4, 3)
    four, three = cka(x, y), cka(x[:3], y[:3])
    k, h = x @ x.T, y @ y.T
    expected = ratio([unbiased(k, h), unbiased(k, k), unbiased(h, h)])
    assert four.extra["debiased"] == pytest.approx(expected, rel=1e-9)
    assert math.isnan(three.extra["debiased"]) and 0 <= three <= 1


@pytest.mark.parametrize("form", [form for form in FORMS if "debiased" in form or "batch" in form])
def test_the_debiased_forms_warn_where_samples_repeat_and_too_few_differ(form):
    def result(n_distinct, n=30):
        which = np.arange(n) % n_distinct
        return cka(noise(n_distinct, 3)[which], noise(n_distinct, 2)[which], **form)

    assert result(15).warning is None and result(15).extra["n_distinct"] == 15
    assert result(14).warning.startswith("samples repeat") and result(14).reason is None
    assert result(14, n=14).warning is None  # few, but none repeats


def test_the_biased_form_warns_of_repeated_samples_in_its_own_words():
    which = np.arange(30) % 14
    few = cka(noise(14, 3)[which], noise(14, 2)[which])
    assert few.warning.startswith("biased CKA is too high on few different samples") and few.extra["n_distinct"] == 14
    enough = cka(noise(15, 3)[np.arange(30) % 15], noise(15, 2)[np.arange(30) % 15])
    assert enough.warning is None and enough.extra == {"n": 30, "d": 3, "d_target": 2, "n_distinct": 15}


@pytest.mark.parametrize("sides", [("corners", "any"), ("any", "corners"), ("corners", "corners")])
def test_a_self_similarity_of_zero_has_no_debiased_value(sides):
    """The four corners of a simplex are equally far from each other: the unbiased HSIC with itself is exactly zero."""
    matrices = [np.eye(4) if side == "corners" else noise(4, 3) for side in sides]
    result = cka(*matrices, debiased=True)
    assert math.isnan(result) and result.warning is None
    assert result.reason == "the estimated self-similarity is not positive: too few samples for this data"
    assert result.extra == {"n": 4, "d": matrices[0].shape[1], "d_target": matrices[1].shape[1]}
    in_batches = cka(*matrices, batch=4)
    assert in_batches.reason == "the estimated self-similarity is not positive: larger batches are needed"
    assert in_batches.extra == {**result.extra, "n_batches": 1}
    assert math.isnan(cka(*matrices).extra["debiased"]) and cka(*matrices) > 0
    stream = StreamingCKA()
    stream.update(*map(as_matrix, matrices))
    assert stream.result().extra == {"n_batches": 1} and stream.result().reason == in_batches.reason


def test_an_undefined_value_is_not_warned_of_where_samples_repeat():
    corners = np.repeat(np.eye(4), [1, 1, 1, 2], axis=0) * 1e-3
    corners[4] = corners[3]
    result = cka(np.vstack([np.zeros((30, 4)), corners])[:, :1], noise(35, 1), kernel="rbf", debiased=True)
    assert result.reason == "more than half of the samples are equal: the rbf kernel has no scale"
    assert result.warning is None


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("form", [{"kernel": "rbf"}, {"kernel": "rbf", "debiased": True}])
def test_where_most_samples_are_equal_the_rbf_kernel_has_no_scale_at_any_size(form, side):
    for scale in (1e-8, 1.0, 1e8):
        mostly_equal = np.full((12, 2), 3.0)
        mostly_equal[:2] = noise(2, 2)
        matrices = [noise(12, 2), noise(12, 2)]
        matrices[side] = mostly_equal * scale
        assert cka(*matrices, **form).reason.startswith("more than half of the samples are equal")
        in_batches = cka(*matrices, **form, batch=6)
        assert in_batches.reason == "the estimated self-similarity is not positive: larger batches are needed"


@pytest.mark.parametrize("bandwidth", [0.001, 0.3, 1.0, 4.0, 1000.0])
def test_the_rbf_kernel_is_a_gaussian_of_so_many_median_distances_at_any_size(bandwidth):
    x = noise(15, 3)
    for scale in (1e-9, 1.0, 1e9):
        kernel = rbf_kernel(as_matrix(x * scale), bandwidth)
        np.testing.assert_allclose(kernel, gaussian(x, bandwidth), rtol=1e-9, atol=1e-300)
        np.testing.assert_array_equal(np.diag(kernel), 1.0)


def test_samples_nearer_than_rounding_are_no_nearer_than_the_same_sample():
    x = noise(30, 3) + 1e4
    x[15:] = x[:15] + 1e-9 * noise(15, 3)
    kernel = rbf_kernel(as_matrix(x), 1.0)
    assert kernel.max() == 1.0 and kernel[np.arange(15), np.arange(15, 30)] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 4.0])
def test_rbf_cka_is_that_of_gaussian_kernels(bandwidth):
    x, y = noise(20, 3), noise(20, 2)
    k, h = gaussian(x, bandwidth), gaussian(y, bandwidth)
    centre = np.eye(20) - 1 / 20
    terms = [float(np.sum((centre @ a @ centre) * b)) for a, b in ((k, h), (k, k), (h, h))]
    assert cka(x, y, kernel="rbf", bandwidth=bandwidth) == pytest.approx(ratio(terms), rel=1e-9)
    terms = [unbiased(k, h), unbiased(k, k), unbiased(h, h)]
    assert cka(x, y, kernel="rbf", bandwidth=bandwidth, debiased=True) == pytest.approx(ratio(terms), rel=1e-9)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_debiased_values_below_zero_stay_below_zero(kernel):
    below = 0
    for _ in range(20):
        x, y = noise(12, 3), noise(12, 3)
        k, h = (x @ x.T, y @ y.T) if kernel == "linear" else (gaussian(x, 1.0), gaussian(y, 1.0))
        expected = ratio([unbiased(k, h), unbiased(k, k), unbiased(h, h)])
        below += expected < -0.01
        for form in ({"debiased": True}, {"batch": 12}):
            assert cka(x, y, kernel=kernel, **form) == pytest.approx(expected, abs=1e-9)
    assert below > 3


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_rounding_never_leads_the_biased_form_out_of_its_range(kernel):
    for n in range(20, 50):
        x = noise(n, 3)
        assert cka(x, 7 * x, kernel=kernel) <= 1.0
    levels = np.array([[-1.3], [0.2], [0.7], [1.9], [2.1], [5.0]])
    x, y = np.tile(levels, (6, 1)), np.repeat(levels, 6, axis=0)  # each of one with each of the other: independent
    for scale in range(1, 20):
        assert 0.0 <= cka(scale * x, y, kernel=kernel, bandwidth=scale / 4) < 1e-12


@pytest.mark.parametrize(
    ("n", "batch", "sizes"),
    [
        (4, 4, [4]),
        (8, 4, [4, 4]),
        (12, 8, [8, 4]),
        (11, 8, [11]),  # three rows are too few for a batch of their own
        (19, 8, [8, 11]),
        (20, 8, [8, 8, 4]),
        (7, 4, [7]),
        (5, 100, [5]),
    ],
)
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_the_minibatch_form_goes_over_all_rows_once_and_weighs_batches_by_their_rows(n, batch, sizes, kernel):
    x = noise(n, 2)
    y = x @ noise(2, 3) + 0.1 * noise(n, 3)
    terms, start = np.zeros(3), 0
    order = np.random.default_rng([0, n]).permutation(n)
    for size in sizes:
        rows = order[start : (start := start + size)]
        sides = x[rows], y[rows]
        k, h = (side @ side.T if kernel == "linear" else gaussian(side, 2.0) for side in sides)
        terms += size * np.array([unbiased(k, h), unbiased(k, k), unbiased(h, h)])
    assert start == n
    result = cka(x, y, batch=batch, kernel=kernel, bandwidth=2.0)
    assert result == pytest.approx(ratio(terms), rel=1e-9)
    assert result.extra == {"n": n, "d": 2, "d_target": 3, "n_batches": len(sizes)}


def test_batches_are_drawn_at_random_and_the_same_for_every_pair_of_as_many_samples(monkeypatch):
    drawn = []

    def watch(self, x, y):
        assert np.array_equal(x.array[:, 0], y.array[:, 0])
        drawn.append(x.array[:, 0].tolist())
        return update(self, x, y)

    update = StreamingCKA.update
    monkeypatch.setattr(StreamingCKA, "update", watch)
    number = np.arange(40.0)[:, None]
    first, second = (cka(np.hstack([number, noise(40, 2)]), np.hstack([number, noise(40, 3)]), batch=8) for _ in "12")
    assert drawn[:5] == drawn[5:] and sorted(chain(*drawn[:5])) == list(range(40)) and first != second
    # Eight of forty in order span seven; of random ones that never happens.
    assert all(max(batch) - min(batch) > 12 for batch in drawn)


def test_batches_of_rows_with_alike_positions_estimate_what_all_samples_do():
    """In order, a batch would hold the positions of one row, of which nothing can be learned about others."""
    x, y = (side.dense() for side in comparable(400, 0.9, np.random.default_rng(0)))
    assert cka(x, y, batch=40) == pytest.approx(cka(x, y, debiased=True), abs=0.02)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_of_fewer_than_four_rows_are_refused(batch):
    expected = f"metric 'cka': batch={batch} is below 4, the fewest rows an unbiased estimate needs"
    with pytest.raises(UsageError, match=f"^{expected}$"):
        cka(noise(12, 2), noise(12, 3), batch=batch)
    for n in (1, 3):
        for form in ({"batch": 4}, {"batch": 9, "kernel": "rbf"}, {"debiased": True}):
            assert cka(noise(n, 2), noise(n, 3), **form).reason.endswith("too few: this needs 4")


def test_a_stream_takes_batches_of_four_rows_of_both_and_no_fewer():
    stream = StreamingCKA()
    before = stream.result()
    assert before.reason == "no batch came" and before.extra == {"n_batches": 0}
    for n, m in ((3, 3), (4, 5), (5, 4), (3, 8)):
        with pytest.raises(ValueError, match=f"^a batch needs the same 4 or more rows twice, not {n} and {m}$"):
            stream.update(as_matrix(noise(n, 2)), as_matrix(noise(m, 2)))
    assert (stream.n_rows, stream.n_batches) == (0, 0)
    x = noise(9, 2)
    stream.update(as_matrix(x[:4]), as_matrix(x[:4]))
    stream.update(as_matrix(x[4:]), as_matrix(x[4:]))
    assert (stream.n_rows, stream.n_batches) == (9, 2)
    assert stream.result() == pytest.approx(1.0, abs=1e-12) and stream.result().extra == {"n_batches": 2}


def test_a_stream_is_linear_with_a_bandwidth_of_one_median_unless_told():
    x, y = noise(10, 2), noise(10, 2)
    plain, gaussians = StreamingCKA(), StreamingCKA("rbf")
    for stream in (plain, gaussians):
        stream.update(as_matrix(x), as_matrix(y))
    assert plain.result() == pytest.approx(cka(x, y, debiased=True), abs=1e-12)
    assert gaussians.result() == pytest.approx(cka(x, y, debiased=True, kernel="rbf"), abs=1e-12)


@pytest.mark.parametrize("n", [6, 60])
@pytest.mark.parametrize("form", [{}, {"debiased": True}, {"batch": 6}])
def test_a_circuit_is_aligned_as_its_product_is_whether_samples_or_features_are_more(n, form):
    head = Factored(noise(n, 4), noise(9, 4), samples=True)
    heads = Concatenated([head, Factored(noise(n, 5), noise(9, 5), samples=True)])
    x = noise(n, 8)
    for circuit in (head, heads):
        expected = cka(circuit.dense(), x, **form)
        assert cka(circuit, x, **form) == pytest.approx(expected, rel=1e-8, nan_ok=True)
        assert cka(x, circuit, **form) == pytest.approx(expected, rel=1e-8, nan_ok=True)
    assert cka(head, heads) == pytest.approx(cka(head.dense(), heads.dense()), rel=1e-9)
