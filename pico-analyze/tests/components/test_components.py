"""What each component is, against products written out by hand."""

import numpy as np
import pytest
from closeness import assert_close

from pico_analyze.components.spec import COMPONENTS, Unit
from pico_analyze.errors import DataError, UsageError
from pico_schema import ModelSpec

SPEC = ModelSpec(vocab_size=40, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=48)
C, GROUP = SPEC.head_dim, SPEC.group_size  # 6, 2


def make(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


WEIGHTS = {
    "embed": make((40, 24), 1),
    "layers.1.attn.q": make((24, 24), 2),
    "layers.1.attn.k": make((12, 24), 3),
    "layers.1.attn.v": make((12, 24), 4),
    "layers.1.attn.o": make((24, 24), 5),
    "layers.1.mlp.up": make((48, 24), 6),
    "layers.1.mlp.down": make((24, 48), 7),
    "norm.final": make((24,), 8),
    "head": make((40, 24), 9),
}
GRADIENTS = {site: make(w.shape, 100 + i) for i, (site, w) in enumerate(WEIGHTS.items())}
ACTIVATIONS = {"layers.1.attn.v": make((15, 12), 20), "layers.1.resid": make((15, 24), 21), "embed": make((15, 24), 22)}
SOURCES = {"weights": WEIGHTS, "gradients": GRADIENTS, "activations": ACTIVATIONS}


def build(name, data, unit, reads=None, **params):
    component = COMPONENTS.get(name)

    def read(kind, site):
        if reads is not None:
            reads.append((kind, site))
        return SOURCES[kind][site]

    return list(component.build(read, SPEC, data, unit, **params))


def head_parts(h):
    g = h // GROUP
    q, k, v, o = (WEIGHTS[f"layers.1.attn.{kind}"] for kind in "qkvo")
    gq, gk, gv, go = (GRADIENTS[f"layers.1.attn.{kind}"] for kind in "qkvo")
    mine, shared = slice(h * C, (h + 1) * C), slice(g * C, (g + 1) * C)
    return {
        "q": q[mine], "k": k[shared], "v": v[shared], "o": o[:, mine],
        "gq": gq[mine], "gk": gk[shared], "gv": gv[shared], "go": go[:, mine],
        "values": ACTIVATIONS["layers.1.attn.v"][:, shared],
    }  # fmt: skip


FORMULAS = {
    ("ov_circuit", "weights", "residual"): lambda p: p["o"] @ p["v"],
    ("ov_circuit", "activations", "residual"): lambda p: p["values"] @ p["o"].T,
    ("ov_circuit", "gradients", "residual"): lambda p: p["go"] @ p["v"] + p["o"] @ p["gv"],
    ("ov_circuit", "weights", "head"): lambda p: p["v"] @ p["o"],
    ("ov_circuit", "gradients", "head"): lambda p: p["gv"] @ p["o"] + p["v"] @ p["go"],
    ("qk_circuit", "weights", None): lambda p: p["q"].T @ p["k"],
    ("qk_circuit", "gradients", None): lambda p: p["gq"].T @ p["k"] + p["q"].T @ p["gk"],
}


@pytest.mark.parametrize(("name", "data", "form"), FORMULAS, ids=str)
def test_circuits_are_the_products_they_say(name, data, form):
    label = {"ov_circuit": "attn.ov", "qk_circuit": "attn.qk"}[name]
    built = build(name, data, Unit(1, label), **({"form": form} if form else {}))
    assert [(b.layer, b.site, b.head) for b in built] == [(1, label, h) for h in (None, 0, 1, 2, 3)]
    expected = [FORMULAS[name, data, form](head_parts(h)) for h in range(4)]
    for head, product in zip(built[1:], expected, strict=True):
        assert_close(head.matrix.dense(), product, factor=16)  # two products of sums of 6 terms
        assert head.matrix.samples == (data == "activations")
    assert_close(built[0].matrix.dense(), np.hstack(expected), factor=16)


def test_the_gradient_of_a_circuit_is_its_directional_change():
    step = 1e-6
    for h in range(4):
        p = head_parts(h)
        moved = (p["o"] + step * p["go"]) @ (p["v"] + step * p["gv"])
        expected = (moved - p["o"] @ p["v"]) / step
        actual = build("ov_circuit", "gradients", Unit(1, "attn.ov"))[1 + h].matrix.dense()
        # What the step leaves out is its second order, step · dO·dV; rounding of the difference is eps / step of O·V.
        second = step * np.abs(p["go"] @ p["gv"]).max()
        rounding = 16 * np.finfo(float).eps / step * np.abs(p["o"] @ p["v"]).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2 * second + rounding)


def test_heads_can_be_left_out():
    assert [b.head for b in build("ov_circuit", "weights", Unit(1, "attn.ov"), heads=False)] == [None]


def test_grouped_heads_share_their_values():
    built = build("ov_circuit", "activations", Unit(1, "attn.ov"))
    heads = [b.matrix for b in built[1:]]
    assert heads[0].left is heads[1].left is not heads[2].left
    assert built[0].matrix.feature_dim == SPEC.kv_dim


@pytest.mark.parametrize("data", ["weights", "gradients"])
def test_mlp_is_down_times_up(data):
    (built,) = build("mlp", data, Unit(1, "mlp"))
    up, down = WEIGHTS["layers.1.mlp.up"], WEIGHTS["layers.1.mlp.down"]
    g_up, g_down = GRADIENTS["layers.1.mlp.up"], GRADIENTS["layers.1.mlp.down"]
    expected = down @ up if data == "weights" else g_down @ up + down @ g_up
    assert_close(built.matrix.dense(), expected, factor=48)  # sums of 48 terms


@pytest.mark.parametrize("name", COMPONENTS.names())
@pytest.mark.parametrize("data", ["weights", "gradients", "activations"])
def test_a_component_reads_what_it_says_it_needs_and_nothing_twice(name, data):
    component = COMPONENTS.get(name)
    if data not in component.accepts:
        with pytest.raises(UsageError, match=f"'{name}' has no {data}"):
            component.check(data, {})
        return
    for unit in component.units(SPEC, data, list(SOURCES[data])):
        if unit.layer == 0:
            continue  # the tensors above are those of layer 1
        reads = []
        wanted = component.needs(data, unit)
        if all(site in SOURCES[kind] for kind, site in wanted):
            assert build(name, data, unit, reads)
            assert sorted(reads) == sorted(wanted)


def test_simple_takes_any_site_and_a_scale_is_one_row():
    component = COMPONENTS.get("simple")
    units = component.units(SPEC, "weights", ["layers.1.attn.v", "norm.final", "layers.1.resid"])
    assert units == [Unit(1, "attn.v"), Unit(None, "norm.final")]  # the residual stream has no weight
    (scale,) = build("simple", "weights", Unit(None, "norm.final"))
    assert scale.matrix.shape == (1, 24)
    (values,) = build("simple", "activations", Unit(1, "attn.v"))
    assert values.matrix.samples and values.matrix.shape == (15, 12)


def test_named_sites_have_components_of_their_own():
    assert build("embedding", "weights", Unit(None, "embed"))[0].matrix.shape == (40, 24)
    assert build("unembedding", "weights", Unit(None, "head"))[0].matrix.shape == (40, 24)
    assert build("resid", "activations", Unit(1, "resid"))[0].matrix.shape == (15, 24)
    assert COMPONENTS.get("resid").units(SPEC, "activations", ["layers.1.resid", "layers.1.attn.v"]) == [
        Unit(1, "resid")
    ]


def test_form_head_has_no_activations():
    component = COMPONENTS.get("ov_circuit")
    with pytest.raises(UsageError, match="form=residual"):
        component.check("activations", component.resolve({"form": "head"}))


def test_tensors_that_contradict_the_model_are_refused():
    wrong = ModelSpec(vocab_size=40, d_model=24, n_layers=2, n_heads=6, n_kv_heads=6, d_ff=48)
    component = COMPONENTS.get("ov_circuit")
    with pytest.raises(DataError, match=r"weights of layers.1.attn.v has 12 rows, but the model has 6 heads of 4"):
        list(component.build(lambda data, site: SOURCES[data][site], wrong, "weights", Unit(1, "attn.ov")))


def test_a_tensor_that_is_no_matrix_is_named():
    with pytest.raises(DataError, match=r"weights of layers.1.attn.v"):
        list(COMPONENTS.get("simple").build(lambda *_: np.zeros((2, 3, 4)), SPEC, "weights", Unit(1, "attn.v")))


def test_bfloat16_and_float16_captures_are_widened_first():
    values = make((15, 12), 20).astype(np.float16)
    component = COMPONENTS.get("simple")
    (built,) = component.build(lambda *_: values, SPEC, "activations", Unit(1, "attn.v"))
    assert built.matrix.dtype == np.float32
    np.testing.assert_array_equal(built.matrix.dense(), values.astype(np.float32))
