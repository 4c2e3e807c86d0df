"""A component that has heads and no whole: what each head of attention writes through."""

from collections.abc import Iterator, Sequence

from pico_analyze.components.spec import ComponentSpec, Labelled, Read, Unit
from pico_analyze.matrices.matrix import Dense, widened
from pico_analyze.stores.base import Data
from pico_schema import ModelSpec


def _site(unit: Unit) -> str:
    return f"layers.{unit.layer}.attn.o"


def _units(model: ModelSpec, _data: Data, _sites: Sequence[str]) -> list[Unit]:
    return [Unit(layer, "attn.o") for layer in range(model.n_layers)]


def _needs(data: Data, unit: Unit) -> list[tuple[Data, str]]:
    return [(data, _site(unit))]


def _build(read: Read, model: ModelSpec, data: Data, unit: Unit, heads: bool) -> Iterator[Labelled]:
    if heads:  # always so, because there is no whole
        array, width = widened(read(data, _site(unit))), model.head_dim
        for head in range(model.n_heads):
            yield Labelled(unit.layer, unit.site, head, Dense(array[:, head * width : (head + 1) * width]))


ATTENTION_OUTPUT = ComponentSpec(
    name="attention_output",
    definition="The columns of W_O that each head writes through (d_model x head_dim).",
    reference="",
    units=_units,
    needs=_needs,
    build=_build,
    accepts=frozenset({"weights", "gradients"}),
    has_heads=True,
    has_whole=False,
)
