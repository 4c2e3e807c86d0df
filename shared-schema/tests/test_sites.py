from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_schema import Site, SiteError, sites

some_site = st.one_of(
    st.sampled_from(sites.GLOBAL_KINDS).map(lambda kind: Site(None, kind)),
    st.builds(Site, st.integers(0, 4095), st.sampled_from(sites.LAYER_KINDS)),
)


@given(some_site)
def test_a_name_parses_back_to_its_site(site: Site) -> None:
    assert Site.parse(str(site)) == site


def test_names_are_those_of_the_contract() -> None:
    names = [str(site) for site in sites.expand(sites.KINDS, n_layers=1)]
    assert names == [
        "embed",
        "layers.0.attn.q",
        "layers.0.attn.k",
        "layers.0.attn.v",
        "layers.0.attn.z",
        "layers.0.attn.o",
        "layers.0.mlp.gate",
        "layers.0.mlp.up",
        "layers.0.mlp.act",
        "layers.0.mlp.down",
        "layers.0.resid",
        "norm.final",
        "head",
    ]


@pytest.mark.parametrize(
    "name", ["layers.01.attn.v", "layers.0", "layers.-1.attn.v", "attn.v", "layers.0.head", "", "x" * 500]
)
def test_what_is_not_a_site_is_refused(name: str) -> None:
    with pytest.raises(SiteError, match="is not a site"):
        Site.parse(name)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(SiteError, match=r"did you mean 'attn\.v'"):
        sites.check_kind("attn_v")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("layers.3.attn_v", "; did you mean 'attn.v': "),
        ("attn", "; did you mean 'attn.z': "),  # as near to four kinds: one is named
        ("layers.12.mlp.gat", "; did you mean 'mlp.gate': "),
        ("heads", "; did you mean 'head': "),
        ("nothing like it", ": "),
    ],
)
def test_the_nearest_kind_is_named_and_no_other(name: str, hint: str) -> None:
    with pytest.raises(SiteError) as refused:
        Site.parse(name)
    assert str(refused.value) == (
        f"{name!r} is not a site{hint}sites are embed, attn.q, attn.k, attn.v, attn.z, attn.o, mlp.gate, mlp.up, "
        "mlp.act, mlp.down, resid, norm.final, head, inside a block as layers.<i>.<kind>"
    )


def test_sites_of_blocks_are_in_order_of_their_numbers() -> None:
    shuffled = [Site(10, "attn.v"), Site(2, "resid"), Site(2, "attn.v")]
    assert sorted(shuffled) == [Site(2, "attn.v"), Site(2, "resid"), Site(10, "attn.v")]


def test_llama_names_are_those_of_transformers() -> None:
    assert sites.llama_parameter(Site(3, "mlp.down")) == "model.layers.3.mlp.down_proj.weight"
    assert sites.llama_parameter(Site(None, "embed")) == "model.embed_tokens.weight"
    assert sites.llama_parameter(Site(None, "head")) == "lm_head.weight"
    assert sites.llama_module(Site(2, "resid")) == "model.layers.2"


def test_heads_and_neurons_are_what_projections_take_in() -> None:
    assert sites.llama_module(Site(2, "attn.z")) == "model.layers.2.self_attn.o_proj"
    assert sites.llama_module(Site(2, "mlp.act")) == "model.layers.2.mlp.down_proj"
    assert [kind for kind in sites.LAYER_KINDS if Site(0, kind).is_input] == ["attn.z", "mlp.act"]
    assert not any(Site(None, kind).is_input for kind in sites.GLOBAL_KINDS)


@pytest.mark.parametrize(
    ("kind", "what"), [("resid", "residual stream"), ("attn.z", "what attn.o takes in"), ("mlp.act", "what mlp.down")]
)
def test_what_has_no_weight_says_what_it_is(kind: str, what: str) -> None:
    with pytest.raises(SiteError, match=f"'layers.0.{kind}' has no weight: it is .*{what}"):
        sites.llama_parameter(Site(0, kind))


def test_all_kinds_but_three_have_weights() -> None:
    assert set(sites.KINDS) - set(sites.WEIGHTED_KINDS) == {"resid", "attn.z", "mlp.act"} == set(sites.WITHOUT_WEIGHT)
    assert [kind for kind in sites.KINDS if kind in sites.WEIGHTED_KINDS] == list(sites.WEIGHTED_KINDS)
    assert all(site.has_weight for site in sites.expand(sites.WEIGHTED_KINDS, n_layers=2))


@pytest.mark.parametrize(("name", "layer"), [("layers.0.block", 0), ("layers.12.block", 12)])
def test_a_block_is_named_by_its_layer(name: str, layer: int) -> None:
    assert sites.parse_block(name) == layer and sites.block_name(layer) == name


@pytest.mark.parametrize("name", ["block", "layers.01.block", "layers.1.blocks", "layers.1.attn.v", "model", ""])
def test_other_names_are_no_blocks(name: str) -> None:
    assert sites.parse_block(name) is None
