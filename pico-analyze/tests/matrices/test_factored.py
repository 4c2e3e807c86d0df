"""A circuit kept factored gives the number that the multiplied-out matrix gives."""

from pathlib import Path

import numpy as np
import pytest
from closeness import assert_close

from pico_analyze.components.spec import COMPONENTS, Unit
from pico_analyze.matrices import decompositions
from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.spec import METRICS
from pico_schema import ModelSpec

SINGLE = [m.name for m in METRICS.each() if m.kind == "single"]
PAIRS = [m.name for m in METRICS.each() if m.kind == "pair"]
N_SAMPLES = 130


def model(d_model, n_heads=12, n_kv_heads=4):
    return ModelSpec(
        vocab_size=64, d_model=d_model, n_layers=1, n_heads=n_heads, n_kv_heads=n_kv_heads, d_ff=2 * d_model
    )


def tensors(spec, seed, dtype=np.float64):
    """Random tensors of every site that the circuits read, as a `read` function."""
    d, kv, ff = spec.d_model, spec.kv_dim, spec.d_ff
    shapes = {
        "attn.q": (d, d),
        "attn.k": (kv, d),
        "attn.v": (kv, d),
        "attn.o": (d, d),
        "mlp.up": (ff, d),
        "mlp.down": (d, ff),
    }

    def read(data, site):
        kind = site.partition("layers.0.")[2]
        shape = shapes[kind] if data != "activations" else (N_SAMPLES, shapes[kind][0])
        # The same base for all seeds, so that pairs relate; it depends on what is read, not on the order of reading.
        base = np.random.default_rng([len(data), *kind.encode()]).standard_normal(shape)
        return (base + 0.3 * np.random.default_rng([seed, *kind.encode()]).standard_normal(shape)).astype(dtype)

    return read


def circuit(name, spec, data, seed=0, dtype=np.float64, heads=True, **params):
    component = COMPONENTS.get(name)
    (unit,) = component.units(spec, data, [])
    return list(component.build(tensors(spec, seed, dtype), spec, data, unit, heads=heads, **params))


def multiplied_out(labelled):
    return Dense(labelled.matrix.dense(), samples=labelled.matrix.samples)


CIRCUITS = [
    ("ov_circuit", "weights"),
    ("ov_circuit", "gradients"),
    ("ov_circuit", "activations"),
    ("qk_circuit", "weights"),
    ("qk_circuit", "gradients"),
]
SHAPES = [(24, 12, 4), (24, 4, 4), (96, 12, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("component", "data"), CIRCUITS)
def test_factored_equals_dense(component, data, shape):
    spec = model(*shape)
    first, second = (circuit(component, spec, data, seed) for seed in (1, 2))
    for x, y in [(first[0], second[0]), (first[3], second[3])]:  # the whole and one head
        assert_equal_metrics(x, y, data)


def test_factored_equals_dense_at_d_384():
    spec = model(384)
    for component, data in [("ov_circuit", "weights"), ("ov_circuit", "activations")]:
        first, second = (circuit(component, spec, data, seed) for seed in (1, 2))
        assert_equal_metrics(first[5], second[5], data)  # a head
        names = ("per", "gini") if data == "weights" else ("cka", "procrustes")
        assert_equal_metrics(first[0], second[0], data, names)


def assert_equal_metrics(x, y, data, names=None):
    dense_x, dense_y = multiplied_out(x), multiplied_out(y)
    k = {"subspace_overlap": {"k": 2}, "mutual_knn": {"k": 3}}
    for name in names or [*SINGLE, *PAIRS]:
        metric = METRICS.get(name)
        if data not in metric.accepts:
            continue
        params = k.get(name, {})
        if metric.kind == "single":
            factored, dense = metric(x.matrix, **params), metric(dense_x, **params)
        else:
            factored, dense = metric(x.matrix, y.matrix, **params), metric(dense_x, dense_y, **params)
        assert factored.value == pytest.approx(dense.value, rel=1e-10, abs=1e-12, nan_ok=True), name
        assert (factored.reason is None) == (dense.reason is None), name


def test_captured_activations_through_their_output_projection():
    """Two steps of a real run: 4 heads of 32 over 2 key/value heads, values in half precision."""
    with np.load(Path(__file__).parents[1] / "data" / "captured.npz") as arrays:
        captured = dict(arrays)
    spec = ModelSpec(vocab_size=64, d_model=128, n_layers=4, n_heads=4, n_kv_heads=2, d_ff=64)
    sides = []
    for step in (8, 40):

        def read(data, site, step=step):
            return captured[f"{step}/{data}/{site}"].astype(np.float64)

        component = COMPONENTS.get("ov_circuit")
        sides.append(list(component.build(read, spec, "activations", Unit(3, "attn.ov"))))
    for x, y in zip(*sides, strict=True):
        assert_equal_metrics(x, y, "activations", ("cka", "procrustes", "rsa", "rankme", "participation_ratio", "gini"))


@pytest.mark.parametrize("params", [{"debiased": True}, {"kernel": "rbf"}, {"batch": 40}])
def test_every_form_of_cka_is_the_same_factored_and_dense(params):
    first, second = (circuit("ov_circuit", model(24), "activations", seed) for seed in (1, 2))
    for x, y in zip(first, second, strict=True):
        factored = METRICS.get("cka")(x.matrix, y.matrix, **params).value
        dense = METRICS.get("cka")(multiplied_out(x), multiplied_out(y), **params).value
        assert factored == pytest.approx(dense, rel=1e-9, abs=1e-11)


def test_right_singular_vectors_of_a_circuit():
    x, y = (circuit("ov_circuit", model(24), "weights", seed)[1] for seed in (1, 2))
    overlap = METRICS.get("subspace_overlap")
    factored = overlap(x.matrix, y.matrix, k=2, side="right").value
    assert factored == pytest.approx(overlap(multiplied_out(x), multiplied_out(y), k=2, side="right").value, rel=1e-9)


def test_wide_matrices_and_logits_take_the_kernel_side():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 300)), rng.standard_normal((20, 200))
    narrow = np.linalg.qr(x.T)[1].T  # 20 x 20 with the same inner products of samples
    for name in ("cka", "procrustes", "mutual_knn"):
        assert METRICS.get(name)(x, y).value == pytest.approx(METRICS.get(name)(narrow, y).value, rel=1e-9)


def test_structure_of_a_matrix_that_is_factored():
    rng = np.random.default_rng(0)
    shared = Factored(rng.standard_normal((9, 2)), rng.standard_normal((5, 2)), samples=True)
    other = Factored(shared.left, rng.standard_normal((4, 2)), samples=True)
    matrix = Concatenated([shared, other])
    dense = matrix.dense()
    assert matrix.shape == dense.shape == (9, 9)
    assert (matrix.rank_bound, matrix.feature_dim, matrix.rank) == (2, 2, 2)
    rows = np.array([8, 0, 0, 3])
    # Sums of at most 9 terms, on two ways; a mean that cancels has the error of what it was made of.
    assert_close(matrix.take(rows).dense(), dense[rows], factor=8)
    assert_close(matrix.centred().dense(), dense - dense.mean(axis=0), factor=32)
    scale = np.abs(dense).max()
    assert_close(matrix.row_means() + scale, dense.mean(axis=1) + scale, factor=32)
    assert_close(matrix.sample_gram(), dense @ dense.T, factor=64)
    assert_close(matrix.reduced() @ matrix.reduced().T, dense @ dense.T, factor=64)
    weights = rng.standard_normal((3, 9))
    assert_close(np.hstack(list(matrix.left_product(weights))), weights @ dense, factor=64)
    redrawn = matrix.randomised(np.random.default_rng(1))
    assert redrawn.shape == matrix.shape and redrawn.rank == 2
    assert matrix.parts[0].left is matrix.parts[1].left
    assert redrawn.parts[0].left is redrawn.parts[1].left


def test_factors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="rank 2 and 3"):
        Factored(np.zeros((4, 2)), np.zeros((4, 3)))


def test_one_decomposition_serves_all_spectral_metrics(monkeypatch):
    calls = []
    real = decompositions.divide_and_conquer

    def counted(array):
        calls.append(array.shape)
        return real(array)

    monkeypatch.setattr(decompositions, "divide_and_conquer", counted)
    whole = circuit("ov_circuit", model(24), "weights")[0].matrix
    for name in ("per", "effective_rank", "condition_number", "stable_rank", "participation_ratio", "power_law_alpha"):
        METRICS.get(name)(whole)
    for kind in ("nuclear", "spectral", "frobenius"):
        METRICS.get("norm")(whole, kind=kind)
    assert calls == [(24, 24)]  # not 24 x (12 · 24)


def test_an_svd_that_does_not_converge_is_done_by_another_driver(monkeypatch):
    def fails(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", fails)
    monkeypatch.setattr(decompositions, "divide_and_conquer", fails)
    assert METRICS.get("per")(np.eye(4)).value == pytest.approx(1.0, abs=1e-12)
    x = np.random.default_rng(0).standard_normal((30, 4))
    assert METRICS.get("pwcca")(x, x).value == pytest.approx(1.0, abs=1e-12)


def test_tall_matrices_are_reduced_by_blocks_of_rows(monkeypatch):
    monkeypatch.setattr(decompositions, "_BLOCK_ELEMENTS", 64)
    tall = np.random.default_rng(0).standard_normal((501, 7)).astype(np.float32)
    expected = np.linalg.svd(tall.astype(np.float64), compute_uv=False)
    assert_close(decompositions.singular_values(tall), expected, factor=501, dtype=float)  # backward stable: a few · √N


def test_a_float32_product_is_formed_in_float32_and_summed_in_float64():
    whole = circuit("ov_circuit", model(96), "weights", dtype=np.float32)[0].matrix
    assert whole.dtype == np.float32
    assert all(block.dtype == np.float32 for block in whole.blocks())
    exact = circuit("ov_circuit", model(96), "weights", dtype=np.float32)[0].matrix
    wide = np.hstack([p.left.array.astype(np.float64) @ p.right.array.T for p in exact.parts])
    for name in ("gini", "hoyer", "kurtosis"):
        assert METRICS.get(name)(whole).value == pytest.approx(METRICS.get(name)(wide).value, rel=1e-6)


def test_units_name_the_layer():
    assert COMPONENTS.get("ov_circuit").units(model(24), "weights", []) == [Unit(0, "attn.ov")]


def _one_entry(shape: tuple[int, int], size: float) -> np.ndarray:
    array = np.zeros(shape)
    array[0, 0] = size
    return array


SOUND = Factored(np.ones((4, 2)), np.ones((3, 2)))


def _range_cases():
    for part in (
        lambda left, right: Factored(left, right),
        lambda left, right: Concatenated([SOUND, Factored(left, right)]),
    ):
        # 16 entries of the product, each a sum of 20: squares of 1e149 add up to 1e298 · 320
        yield part(_one_entry((4, 20), 1e74), _one_entry((4, 20), 1e75)), "1e+149, too large"
        yield part(_one_entry((4, 20), 1e73), _one_entry((4, 20), 1e75)), None
        yield part(_one_entry((4, 20), 1e-80), _one_entry((4, 20), 1e-80)), "1e-160, too small"
        yield part(_one_entry((4, 20), 1e150), _one_entry((4, 20), 1e-150)), "1e+150, too large"
        yield part(_one_entry((4, 20), 1.0), _one_entry((4, 20), 1.0)), None


@pytest.mark.parametrize(("matrix", "says"), list(_range_cases()))
def test_products_beyond_the_range_of_numbers_are_told_of_factors_too(matrix, says):
    told = matrix.out_of_range(2)
    assert told is None if says is None else told is not None and says in told
