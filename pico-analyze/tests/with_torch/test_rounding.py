"""Which singular values are rounding: known ranks of rounded matrices, against simulation and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.components.circuits import MLP, OV_CIRCUIT, QK_CIRCUIT
from pico_analyze.components.spec import Unit
from pico_analyze.errors import UsageError
from pico_analyze.matrices import rounding
from pico_analyze.matrices.factored import Concatenated, Factor, Factored
from pico_analyze.matrices.matrix import Dense, activations, as_matrix
from pico_analyze.stored import PRECISIONS, marked
from pico_schema import ModelSpec

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
EACH_TYPE = pytest.mark.parametrize("stored", TYPES)
RNG = np.random.default_rng(13)


def rounded(array, stored):
    """The array after torch stored it in this type, held as float32 (or float64) with the mark of a reader."""
    back = torch.from_numpy(np.ascontiguousarray(array, np.float64)).to(TYPES[stored])
    return marked(back.to(torch.float64 if stored == "float64" else torch.float32).numpy(), stored)


def low_rank(rng, n, p, rank, decay=1.0):
    """A matrix of exactly this rank, whose singular values fall by `decay` from one to the next."""
    u, v = (np.linalg.qr(rng.standard_normal((size, rank)))[0] for size in (n, p))
    return (u * decay ** np.arange(rank)) @ v.T * math.sqrt(n * p)


@EACH_TYPE
@pytest.mark.parametrize(("n", "p", "rank"), [(1600, 384, 20), (300, 300, 7), (40, 500, 12), (60, 6, 3), (8, 8, 1)])
def test_a_matrix_of_known_rank_has_it_after_it_was_stored(stored, n, p, rank):
    exact = low_rank(RNG, n, p, rank)
    for matrix in (Dense(rounded(exact, stored)), Dense(rounded(exact, stored), samples=True)):
        assert matrix.rank == rank and matrix.stored == stored
        assert matrix.numerical_rank.facts() == {"rank": rank, "tolerance": matrix.tolerance, "stored": stored}
        assert matrix.singular_values[rank - 1] > matrix.tolerance
    held = np.asarray(rounded(exact, stored))
    assert stored not in ("bfloat16", "float16") or Dense(held).rank > rank  # the type it is held in would not tell


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 120),
    p=st.integers(2, 120),
    rank=st.integers(1, 6),
    stored=st.sampled_from(sorted(TYPES)),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e30]),
    offset=st.sampled_from([0.0, 3.0]),
)
def test_rounding_is_never_counted_and_what_is_clearly_above_it_always_is(seed, n, p, rank, stored, scale, offset):
    rank = min(rank, n, p)
    if stored == "float16" and not 1e-3 <= scale <= 10:
        scale = 1.0  # half precision holds neither
    rng = np.random.default_rng(seed)
    exact = low_rank(rng, n, p, rank, decay=0.7) + offset
    matrix = Dense(rounded(exact * scale, stored), samples=True)
    for found, before in ((matrix, exact), (matrix.centred(), exact - exact.mean(axis=0))):
        values = np.linalg.svd(before, compute_uv=False) * scale
        possible = min(rank + (offset != 0.0), n, p)
        clearly = np.count_nonzero(values > 2 * found.tolerance)
        assert clearly <= found.rank <= possible
        assert found.tolerance < {"bfloat16": 0.1, "float16": 0.02, "float32": 1e-4}.get(stored, 1e-12) * values[0] or (
            found is not matrix  # of little variation around a mean much may be rounding
        )


@EACH_TYPE
@pytest.mark.parametrize("sizes", ["alike", "one column of all", "one row of all", "log-normal"])
def test_what_is_expected_of_rounding_is_what_a_simulation_finds(stored, sizes):
    x = RNG.standard_normal((400, 150))
    if sizes == "one column of all":
        x[:, 3] *= 1000
    elif sizes == "one row of all":
        x[7] *= 1000
    elif sizes == "log-normal":
        x = np.exp(2 * RNG.standard_normal((400, 150)))
    wide = x.astype(np.longdouble) if stored == "float64" else x
    if stored == "float64":  # of doubles that are rounded from more digits
        wide = wide * (1 + np.longdouble(2) ** -58 * RNG.integers(-32, 33, x.shape))
    error = (np.asarray(rounded(x, stored), np.longdouble) - wide).astype(np.float64)
    found = np.linalg.norm(error, 2)
    expected = rounding.of_array(np.asarray(rounded(x, stored)), PRECISIONS[stored])
    assert found < rounding.MARGIN * expected
    if sizes != "log-normal":  # there one entry is most of the matrix, and may happen to be exact
        assert found > 0.3 * expected


def test_the_expected_size_is_the_formula_entry_by_entry():
    x = RNG.standard_normal((7, 4)).astype(np.float32)
    longest = max(math.sqrt(sum(float(v) ** 2 for v in row)) for row in x)
    widest = max(math.sqrt(sum(float(v) ** 2 for v in column)) for column in x.T)
    expected = 2.0**-8 / math.sqrt(3) * (longest + widest)
    assert rounding.of_array(x, PRECISIONS["bfloat16"]) == pytest.approx(expected, rel=1e-12)
    assert rounding.of_array(x, PRECISIONS["float32"]) == pytest.approx(expected * 2.0**-16, rel=1e-12)
    assert rounding.of_array(np.zeros((3, 2)), PRECISIONS["bfloat16"]) == 0.0


def test_of_numbers_that_are_small_for_their_type_the_absolute_error_counts():
    x = RNG.standard_normal((300, 40)) @ np.diag(np.r_[np.ones(5), np.zeros(35)]) @ RNG.standard_normal((40, 40))
    tiny = rounded(x * 3e-7, "float16")  # a few steps of 2⁻²⁴
    assert Dense(tiny).rank == 5
    found = np.linalg.norm(np.asarray(tiny, np.float64) - x * 3e-7, 2)
    assert found < rounding.MARGIN * Dense(tiny).rounding < 4 * found


@EACH_TYPE
def test_rows_that_are_there_many_times_have_their_rounding_as_often(stored):
    few = low_rank(RNG, 50, 384, 20, decay=0.9)
    exact = few[RNG.integers(0, 50, 1600)]
    assert Dense(rounded(exact, stored), samples=True).rank == 20
    counts = rounding._multiplicities(np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [1.0, 2.0]]))
    assert counts.tolist() == [3, 1, 3, 3]


@EACH_TYPE
def test_a_mean_far_from_zero_has_the_rounding_of_its_size_after_centring(stored):
    exact = low_rank(RNG, 300, 60, 4, decay=0.2) + 1000.0 * RNG.standard_normal(60)
    matrix = Dense(rounded(exact, stored), samples=True)
    assert matrix.centred().rounding == matrix.rounding > 0
    directions = matrix.centred().rank
    assert directions == 4 if stored in ("float32", "float64") else directions < 4  # bfloat16 has steps of 4 at 1000
    taken = matrix.centred().take(np.arange(150))
    assert taken.rounding == matrix.rounding and taken.stored == stored


def test_variation_below_the_rounding_of_the_mean_is_none():
    exact = 100.0 + 0.05 * RNG.standard_normal((200, 10))  # bfloat16 has steps of ½ there
    rows = Dense(rounded(exact + 0.3 * RNG.standard_normal((200, 1)), "bfloat16"), samples=True)
    assert rows.centred().rank <= 1
    assert activations(exact).centred().rank == 10


@pytest.mark.parametrize("types", [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "float16")])
def test_a_product_has_the_rounding_of_both_its_factors(types):
    exact = [low_rank(RNG, size, 16, 5, decay=0.8) for size in (200, 90)]
    # Both have the same rows' directions: of two random spaces one direction may happen to be nearly lost.
    exact[1] = exact[1] @ np.linalg.svd(exact[1])[2].T @ np.linalg.svd(exact[0])[2]
    left, right = (rounded(side, stored) for side, stored in zip(exact, types, strict=True))
    product = Factored(left, right)
    assert product.rank == 5 and product.stored == ("bfloat16" if "bfloat16" in types else "float16")
    error = np.asarray(left, np.float64) @ np.asarray(right, np.float64).T - exact[0] @ exact[1].T
    found = np.linalg.norm(error, 2)
    assert 0.1 * product.rounding < found < rounding.MARGIN * product.rounding
    one, other = (PRECISIONS[name] for name in types)
    dense = rounding.of_product(np.asarray(left), one, np.asarray(right).T, other)
    assert dense == pytest.approx(product.rounding, rel=0.9) and found < rounding.MARGIN * dense
    scaled = Factored(marked(np.asarray(left) * 2.0**4, types[0]), marked(np.asarray(right) * 2.0**-4, types[1]))
    assert scaled.rounding == pytest.approx(product.rounding, rel=1e-2)  # which factor is large tells nothing


def test_columns_of_different_sizes_beside_each_other_keep_the_rank_of_their_sum():
    """As the gradient of a circuit: small gradients times large weights, and the other way round."""
    grads, weights = (low_rank(RNG, 80, 8, 3, 0.9) * size for size in (1e-5, 1.0))
    others, more = (low_rank(RNG, 70, 8, 3, 0.9) * size for size in (1.0, 1e-5))
    left = np.hstack([rounded(grads, "bfloat16"), rounded(weights, "bfloat16")])
    right = np.hstack([rounded(others, "bfloat16"), rounded(more, "bfloat16")])
    matrix = Factored(marked(left, "bfloat16"), marked(right, "bfloat16"))
    assert matrix.rank == 6
    error = left.astype(float) @ right.T.astype(float) - (grads @ others.T + weights @ more.T)
    assert np.linalg.norm(error, 2) < rounding.MARGIN * matrix.rounding < 40 * np.linalg.norm(error, 2)


def test_matrices_side_by_side_have_the_rounding_of_all():
    parts = [
        Factored(Factor(rounded(RNG.standard_normal((50, 4)), stored)), RNG.standard_normal((9, 4)))
        for stored in ("bfloat16", "float32")
    ]
    whole = Concatenated(parts)
    assert whole.stored == "bfloat16" and whole.rounding == pytest.approx(math.hypot(*(p.rounding for p in parts)))
    assert whole.centred().stored == whole.take(np.arange(20)).stored == "bfloat16"
    assert whole.randomised(np.random.default_rng(0)).stored == "bfloat16"


MODEL = ModelSpec(d_model=24, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=6, d_ff=40, vocab_size=50, max_seq_len=8)


@pytest.mark.parametrize("data", ["weights", "gradients"])
@pytest.mark.parametrize(
    ("component", "params"), [(OV_CIRCUIT, {}), (OV_CIRCUIT, {"form": "head"}), (QK_CIRCUIT, {}), (MLP, {})]
)
def test_circuits_know_the_type_their_factors_were_stored_in(component, params, data):
    params = component.resolve(params)
    exact = {}

    def tensor(kind, site):
        key = kind, site
        if key not in exact:
            shape = MODEL.weight_shape(site.removeprefix("layers.0."))
            rank = 2 if component is MLP else min(shape)
            exact[key] = low_rank(np.random.default_rng(len(exact)), *shape, rank) * (
                1e-4 if kind == "gradients" else 1
            )
        return exact[key]

    def built(read):
        units = Unit(0, component.name)
        return component.matrices(read, MODEL, data, units, heads=component.has_heads, params=params)

    stored = built(lambda kind, site: rounded(tensor(kind, site), "bfloat16"))
    before = built(tensor)
    for one, true in zip(stored, before, strict=True):
        assert one.matrix.stored == "bfloat16" and true.matrix.stored == "float64"
        error = np.linalg.norm(one.matrix.dense().astype(np.float64) - true.matrix.dense(), 2)
        assert 0 < error < rounding.MARGIN * one.matrix.rounding
        assert one.matrix.rank <= true.matrix.rank
    if component is MLP:
        assert stored[0].matrix.rank == before[0].matrix.rank == (2 if data == "weights" else 4)


def test_a_type_that_is_coarser_can_be_told_of_an_array_and_a_finer_one_cannot():
    x = np.asarray(rounded(low_rank(RNG, 60, 30, 4), "bfloat16"))
    assert activations(x).stored == "float32" and activations(x).rank > 4
    assert activations(x, stored="bfloat16").stored == "bfloat16" and activations(x, stored="bfloat16").rank == 4
    assert activations(x, stored="float64").stored == "float32"
    with pytest.raises(UsageError, match="stored='bfloat' is not one of bfloat16, float16, float32, float64"):
        activations(x, stored="bfloat")
    assert as_matrix(x.astype(np.float16)).stored == "float16" and as_matrix(np.eye(3, dtype=int)).stored == "float64"
    assert as_matrix(rounded(np.eye(3), "bfloat16")).stored == "bfloat16"


def test_the_expected_size_is_computed_when_it_is_first_asked_for_and_once():
    calls = []
    once = rounding.Once(lambda: calls.append(1) or 2.5)
    assert not calls and once() == once() == 2.5 and len(calls) == 1
