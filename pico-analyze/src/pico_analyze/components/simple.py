"""Components that are one tensor of a checkpoint: any captured site, and the three that have names of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pico_analyze.components.spec import ComponentSpec, Labelled, Read, Unit
from pico_analyze.matrices.matrix import Dense, widened
from pico_analyze.stores.base import ALL_DATA, Data
from pico_analyze.stores.sites import MatrixSite
from pico_schema import ModelSpec
from pico_schema.sites import LAYER_KINDS


def site_name(unit: Unit) -> str:
    """Canonical name of the site a unit of a one-tensor component stands for."""
    return str(MatrixSite(unit.layer, unit.site))


def _units(kinds: frozenset[str] | None) -> Callable[[ModelSpec, Data, Sequence[str]], list[Unit]]:
    def units(_model: ModelSpec, data: Data, sites: Sequence[str]) -> list[Unit]:
        parsed = [MatrixSite.parse(name) for name in sites]
        return [
            Unit(site.layer, site.kind)
            for site in parsed
            if (kinds is None or site.kind in kinds) and (data == "activations" or site.has_weight)
        ]

    return units


def _needs(data: Data, unit: Unit) -> list[tuple[Data, str]]:
    return [(data, site_name(unit))]


def _build(read: Read, _model: ModelSpec, data: Data, unit: Unit) -> Iterator[Labelled]:
    site = site_name(unit)
    array = widened(read(data, site), name=f"{data} of {site}")
    yield Labelled(unit.layer, unit.site, None, Dense(array, samples=data == "activations"))


SIMPLE = ComponentSpec(
    name="simple",
    definition=(
        "Any captured site as it is: the output of a module (activations, samples x features), its weight "
        "or the gradient of that weight (out x in; the scale of a norm is one row). Choose with --site: "
        f"embed, {', '.join(LAYER_KINDS)}, norm.final, head; of noise also block and model; in a mixture of experts "
        "also mlp.experts.up (of all), mlp.experts.5.up (of one) and mlp.shared.up. Of models of other makers --tensor "
        "chooses whole tensors."
    ),
    reference="",
    units=_units(None),
    needs=_needs,
    build=_build,
    accepts=ALL_DATA | {"noise"},
    takes_sites=True,
)

EMBEDDING = ComponentSpec(
    name="embedding",
    definition=(
        "The token embedding: the table (vocabulary x d_model), its gradient, or the embedded tokens "
        "(samples x d_model)."
    ),
    reference="",
    units=_units(frozenset({"embed"})),
    needs=_needs,
    build=_build,
    accepts=ALL_DATA,
)

UNEMBEDDING = ComponentSpec(
    name="unembedding",
    definition=(
        "The output head: its weight (vocabulary x d_model), the gradient of that, or the logits (samples x "
        "vocabulary)."
    ),
    reference="",
    units=_units(frozenset({"head"})),
    needs=_needs,
    build=_build,
)

RESID = ComponentSpec(
    name="resid",
    definition="The residual stream after each block (samples x d_model); it has activations only.",
    reference="Elhage et al. 2021, A Mathematical Framework for Transformer Circuits, transformer-circuits.pub",
    units=_units(frozenset({"resid"})),
    needs=_needs,
    build=_build,
    accepts=frozenset({"activations"}),
)

NEURONS = ComponentSpec(
    name="neurons",
    definition=(
        "The neurons of a block (samples x d_ff): what the gate lets through, which W_down takes in. Activations only, "
        "of site mlp.act, which has to be captured."
    ),
    reference="Voita et al. 2023, Neurons in Large Language Models: Dead, N-gram, Positional (arXiv:2309.04827)",
    units=_units(frozenset({"mlp.act"})),
    needs=_needs,
    build=_build,
    accepts=frozenset({"activations"}),
)


def _build_heads(read: Read, model: ModelSpec, data: Data, unit: Unit, heads: bool = True) -> Iterator[Labelled]:
    [whole] = _build(read, model, data, unit)
    yield whole
    if heads:
        array, width = whole.matrix.dense(), model.activation_width(unit.site) // model.n_heads
        for head in range(model.n_heads):
            part = Dense(array[:, head * width : (head + 1) * width], samples=True, stored=whole.matrix.stored)
            yield Labelled(unit.layer, unit.site, head, part)


HEAD_OUTPUTS = ComponentSpec(
    name="head_outputs",
    definition=(
        "What attention brings to a position, per head (samples x head_dim) and whole (all heads side by side): the "
        "values, mixed by the attention pattern, before W_O. Activations only, of site attn.z, which has to be "
        "captured."
    ),
    reference=(
        "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits, transformer-circuits.pub/2021/framework"
    ),
    units=_units(frozenset({"attn.z"})),
    needs=_needs,
    build=_build_heads,
    accepts=frozenset({"activations"}),
    has_heads=True,
)
