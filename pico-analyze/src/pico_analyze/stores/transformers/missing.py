"""Which sites a model should have and has not: what every block of its architecture has, or other blocks of it have."""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import islice
from typing import TYPE_CHECKING

from pico_analyze.stores.sites import MatrixSite
from pico_schema.sites import KINDS

if TYPE_CHECKING:
    from pico_schema import ForeignSpec

_MOST = 10_000
_EXPERTS = "mlp.experts."


def missing_sites(wanted: Set[str], there: Set[MatrixSite], spec: ForeignSpec) -> tuple[str, ...]:
    """The sites for which there is no tensor, the first ten thousand of them.

    Args:
        wanted: Kinds that every block of the architecture has.
        there: Sites for which there is a tensor, be it quantized.
        spec: How many blocks and experts there are, and whether the head is the embedding.
    """
    return tuple(map(str, islice(_missing(wanted, there, spec), _MOST)))


def _missing(wanted: Set[str], there: Set[MatrixSite], spec: ForeignSpec) -> Iterator[MatrixSite]:
    kinds = wanted | {site.kind for site in there if site.kind in KINDS and site.layer is not None}
    families = sorted({site.family for site in there if site.kind not in KINDS})
    mixed = {site.layer for site in there if site.kind not in KINDS}
    dense = {site.layer for site in there if site.kind.startswith("mlp.") and site.kind in KINDS}
    for layer in range(spec.n_layers):
        mixture = layer in mixed or bool(families and layer not in dense)  # a block has experts or is dense
        expected = [kind for kind in KINDS if kind in kinds and not (mixture and kind.startswith("mlp."))]
        for family in families if mixture else ():
            part = family.removeprefix(_EXPERTS)
            each = [f"{_EXPERTS}{expert}.{part}" for expert in range(spec.n_experts or 0)]
            expected += each if family.startswith(_EXPERTS) else [family]
        yield from (site for kind in expected if (site := MatrixSite(layer, kind)) not in there)
    for kind in ("embed",) if spec.tie_embeddings else ("embed", "head"):
        if (site := MatrixSite(None, kind)) not in there:
            yield site
