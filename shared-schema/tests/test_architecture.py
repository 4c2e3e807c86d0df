from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pico_schema import ModelSpec, SiteError, sites


def spec(**changes: object) -> ModelSpec:
    fields = {"vocab_size": 64, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 32}
    return ModelSpec.model_validate(fields | changes)


def test_parameters_are_counted_matrix_by_matrix() -> None:
    # embedding and head 64·16 each; a block: q, o 16·16, k, v 8·16, three of 16·32, two norms of 16; the final norm
    assert spec().n_params == 2 * 64 * 16 + 2 * (2 * 256 + 2 * 128 + 3 * 512 + 32) + 16
    assert spec().n_params_matmul == spec().n_params - 64 * 16


def test_a_tied_head_is_counted_once_and_still_multiplied() -> None:
    tied = spec().model_copy(update={"tie_embeddings": True})
    assert tied.n_params == spec().n_params - 64 * 16
    assert tied.n_params_matmul == tied.n_params


def test_flops_are_six_per_matrix_parameter_plus_causal_attention() -> None:
    matrices = 64 * 16 + 2 * (2 * 256 + 2 * 128 + 3 * 512)
    assert spec().flops_per_token(seq_len=8) == 6 * matrices + 6 * 2 * 16 * 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"d_model": 18}, "d_model=18 is not divisible by n_heads=4: choose d_model=16"),
        ({"d_model": 21}, "d_model=21 is not divisible by n_heads=4: choose d_model=24"),
        ({"d_model": 13}, "choose d_model=16"),  # 12 is nearer, but gives heads of three features
        ({"d_model": 1}, "choose d_model=8"),
        ({"n_kv_heads": 3}, r"n_kv_heads must be one of 1, 2, 4 \["),
        ({"n_heads": 8, "n_kv_heads": 5}, r"n_kv_heads must be one of 1, 2, 4, 8 \["),
        ({"d_model": 12}, "odd"),
        ({"n_layers": 0}, "greater than 0"),
    ],
)
def test_an_impossible_geometry_names_the_numbers_and_a_way_out(changes: dict[str, int], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spec(**changes)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 0.0, -1.0, -0.0, 5e-324, 1e-31, 1.7e308, "", None])
@pytest.mark.parametrize("field", ["rope_theta", "norm_eps"])
def test_a_number_that_no_model_can_be_computed_with_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        spec(**{field: value})
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_bases_and_epsilons_of_published_models_are_taken() -> None:
    for theta in (1e4, 1e5, 5e5, 1e6, 5e6, 1e7, 1e8):
        assert spec(rope_theta=theta).rope_theta == theta
    for eps in (1e-12, 1e-8, 1e-6, 1e-5, 1e-3):
        assert spec(norm_eps=eps).norm_eps == eps


@given(d_model=st.integers(1, 200), heads=st.integers(1, 40))
def test_a_width_that_is_proposed_would_do(d_model: int, heads: int) -> None:
    try:
        spec(d_model=d_model, n_heads=heads, n_kv_heads=1)
    except ValidationError as error:
        proposed = re.search(r"choose d_model=(\d+)", str(error))
        if proposed:
            width = int(proposed[1])
            assert spec(d_model=width, n_heads=heads, n_kv_heads=1).d_model == width
            assert abs(width - d_model) <= heads or width == 2 * heads


def test_sizes_are_whole_numbers() -> None:
    made = spec()
    sizes = (made.head_dim, made.q_dim, made.kv_dim, made.group_size, made.n_params, *made.weight_shape("attn.k"))
    assert repr(sizes) == "(4, 16, 8, 2, 6736, 8, 16)"


@given(heads=st.integers(1, 8), pairs=st.integers(1, 8), layers=st.integers(1, 5), kv=st.integers(1, 8))
def test_every_accepted_geometry_has_whole_heads_and_groups(heads: int, pairs: int, layers: int, kv: int) -> None:
    d_model = heads * pairs * 2
    if heads % kv:
        with pytest.raises(ValidationError):
            spec(d_model=d_model, n_heads=heads, n_kv_heads=kv, n_layers=layers)
        return
    made = spec(d_model=d_model, n_heads=heads, n_kv_heads=kv, n_layers=layers)
    assert made.head_dim * made.n_heads == made.d_model
    assert made.group_size * made.n_kv_heads == made.n_heads
    assert made.kv_dim <= made.d_model


def test_shapes_of_weights_and_widths_of_activations_are_those_of_the_modules() -> None:
    # a made-up geometry in which no two of the numbers are equal: 12 wide, 6 heads of 2, 3 of them key/value
    odd = spec(vocab_size=50, d_model=12, n_heads=6, n_kv_heads=3, d_ff=20)
    assert {kind: odd.weight_shape(kind) for kind in sites.WEIGHTED_KINDS} == {
        "embed": (50, 12),
        "attn.q": (12, 12),
        "attn.k": (6, 12),
        "attn.v": (6, 12),
        "attn.o": (12, 12),
        "mlp.gate": (20, 12),
        "mlp.up": (20, 12),
        "mlp.down": (12, 20),
        "norm.final": (12,),
        "head": (50, 12),
    }
    assert {kind: odd.activation_width(kind) for kind in sites.KINDS} == {
        "embed": 12,
        "attn.q": 12,
        "attn.k": 6,
        "attn.v": 6,
        "attn.z": 12,
        "attn.o": 12,
        "mlp.gate": 20,
        "mlp.up": 20,
        "mlp.act": 20,
        "mlp.down": 12,
        "resid": 12,
        "norm.final": 12,
        "head": 50,
    }


@given(heads=st.integers(1, 6), pairs=st.integers(1, 4), layers=st.integers(1, 4), ff=st.integers(1, 64))
def test_the_shapes_of_all_sites_add_up_to_the_parameters(heads: int, pairs: int, layers: int, ff: int) -> None:
    made = spec(d_model=heads * pairs * 2, n_heads=heads, n_kv_heads=1, n_layers=layers, d_ff=ff)
    shapes = [made.weight_shape(site.kind) for site in sites.expand(sites.WEIGHTED_KINDS, layers)]
    norms_in_blocks = 2 * layers * made.d_model  # the two norms of a block are no sites
    assert sum(map(math.prod, shapes)) + norms_in_blocks == made.n_params


def test_the_residual_stream_and_unknown_kinds_have_no_weight_shape() -> None:
    with pytest.raises(SiteError, match="'resid' has no weight"):
        spec().weight_shape("resid")
    for ask in (spec().weight_shape, spec().activation_width):
        with pytest.raises(SiteError, match=r"did you mean 'attn\.v'"):
            ask("attn_v")
