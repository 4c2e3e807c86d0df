"""One architecture: what its configuration calls the numbers, and which tensor holds which site.

An `Architecture` is data; the table of all of them is `architectures.py`. Names are those inside a block, and those
that a model has once. What stands before the blocks (``model.``, ``model.language_model.``) is found out, for wrappers
add to it: each such prefix is a *tower*. Two towers that hold the same sites, as where an averaged copy lies beside a
model, are an error: names do not tell which one is meant. In a model of several parts (its configuration has a
`text_config`) a tower that lacks some of the attention's matrices is another part, such as one that reads pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pico_analyze.errors import DataError
from pico_analyze.stores.sites import MatrixSite
from pico_analyze.stores.transformers.cuts import WHOLE, Cut
from pico_analyze.stores.transformers.geometry import USUAL_FIELDS, foreign_spec
from pico_analyze.stores.transformers.missing import missing_sites
from pico_schema import ForeignSpec
from pico_schema.sites import KINDS

_LAYER = r"(0|[1-9][0-9]{0,3})"
_EXPERT = re.compile(rf"(?<=\.experts\.){_LAYER}(?=\.)")
_EXPERT_KIND = re.compile(r"mlp\.experts\.([0-9]+)\..+")
_SCALES = ("weight_scale", "weight_scale_inv", "SCB", "weight.absmax", "weight.quant_map", "scales")
"""What lies beside a weight that is stored as scaled small numbers."""
_PACKED = re.compile(r"(.+)\.(?:qweight|weight_packed|blocks)", re.DOTALL)
"""The name of a weight that is stored as packed integers, and the module's."""


@dataclass(frozen=True)
class Source:
    """The tensor that holds a site's weight, and how it is taken out."""

    tensor: str
    cut: Cut
    expert: int | None = None
    """Which entry of the tensor's first axis, where it holds the matrices of all experts; of one of two axes, which of
    as many equal parts of it."""

    def __str__(self) -> str:
        of = "" if self.expert is None else f"[{self.expert}]"
        return f"{self.tensor}{of} ({self.cut.name})"


@dataclass(frozen=True)
class Tensor:
    """A tensor inside a block, and the sites that it holds."""

    name: str
    """Its name inside the block, ``*`` for the number of an expert: ``mlp.experts.*.up_proj.weight``."""
    sites: tuple[tuple[str, Cut], ...]
    """Kinds of sites, each with how it is taken out; ``*`` for the number of an expert."""
    all_experts: bool = False
    """Whether the tensor's first axis counts the experts, or has the rows of one above those of the next."""
    optional: bool = False
    """Whether there are models, or blocks, of the architecture that have no such tensor."""


@dataclass(frozen=True)
class Found:
    """What the names of a model's tensors come to."""

    sites: Mapping[str, Source]
    """Site → where its weight is, in the order of computation."""
    beyond: tuple[int, ...] = ()
    """Blocks beyond those that the configuration counts, such as a predictor of further tokens."""
    quantized: tuple[str, ...] = ()
    """Tensors of sites that are stored as scaled small integers: matrices only once they are dequantized."""
    missing: tuple[str, ...] = ()
    """Sites that the architecture or other blocks have, and for which there is no tensor; the first ten thousand."""


def _everything_said(_config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Architecture:
    """A family of decoders whose tensors have the same names and layout."""

    name: str
    types: Mapping[str, Mapping[str, Any]]
    """Each `model_type` of the family → the geometry that holds where its configuration does not say."""
    block: str
    """What the blocks are called, before their number: ``layers``."""
    tensors: tuple[Tensor, ...]
    """What a block holds."""
    embed: str
    """The embedding, beside the blocks."""
    norm: str
    """The norm after the last block, beside the blocks."""
    head: str
    """The head, beside the blocks or beside what holds them."""
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the configuration calls a field of the geometry, where it is not one of `USUAL_FIELDS`."""
    derived: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _everything_said
    """Geometry that follows from other numbers of the configuration, and counts before what fields say."""
    norm_cut: Cut = WHOLE
    """How the norm's scale is taken out of its tensor."""
    bare: bool = False
    """Whether names are there without ``.weight`` too, as those of captures."""

    def spec(self, config: Mapping[str, Any], *, where: str) -> ForeignSpec:
        """The geometry that a configuration describes.

        Raises:
            DataError: a number is missing or no number, or the geometry cannot exist.
        """
        kind = config.get("model_type")
        defaults = self.types.get(kind, {}) if isinstance(kind, str) else {}
        derived = {name: value for name, value in self.derived(config).items() if value is not None}
        fields = USUAL_FIELDS | dict(self.fields)
        named = {name: names for name, names in fields.items() if name not in derived}
        return foreign_spec(config, fields=named, defaults=dict(defaults) | derived, where=where)

    @cached_property
    def _by_name(self) -> dict[str, Tensor]:
        named = {tensor.name: tensor for tensor in self.tensors}
        return named | {name.removesuffix(".weight"): one for name, one in named.items() if self.bare}

    @cached_property
    def _in_block(self) -> re.Pattern[str]:
        return re.compile(rf"((?:.*?\.)?){re.escape(self.block)}\.{_LAYER}\.(.+)", re.DOTALL)

    @cached_property
    def _attention(self) -> frozenset[str]:
        return frozenset(kind for one in self.tensors for kind, _ in one.sites if kind.startswith("attn."))

    @cached_property
    def _wanted(self) -> frozenset[str]:
        """Kinds of sites that every block has."""
        return frozenset(kind for one in self.tensors if not one.optional for kind, _ in one.sites)

    def _placed(self, name: str, n_experts: int = 0) -> tuple[str, list[tuple[MatrixSite, Source]]] | None:
        """The tower and the sites of a tensor inside a block; None if it holds none."""
        if (match := self._in_block.fullmatch(name)) is None:
            return None
        tower, layer, inside = match[1], int(match[2]), match[3]
        number = _EXPERT.search(inside)
        if (tensor := self._by_name.get(_EXPERT.sub("*", inside, 1))) is None:
            return None
        sites = [
            (MatrixSite(layer, kind.replace("*", str(expert))), Source(name, cut, None if number else expert))
            for kind, cut in tensor.sites
            for expert in ([int(number[1])] if number else range(n_experts) if tensor.all_experts else [None])
        ]
        return tower, sites

    def block_of(self, name: str) -> str | None:
        """The block that a tensor is in, by its whole name: ``model.layers.3``; None for one outside of blocks."""
        match = self._in_block.fullmatch(name)
        return None if match is None else f"{match[1]}{self.block}.{match[2]}"

    def _edge(self, name: str) -> tuple[str, str] | None:
        """Tower and kind of a tensor that a model has once; None if it is none, or that of a part inside a block."""
        if self.bare and not name.endswith(".weight"):
            name = f"{name}.weight"
        for kind, own in (("embed", self.embed), ("norm.final", self.norm), ("head", self.head)):
            if name == own or name.endswith(f".{own}"):
                tower = name[: len(name) - len(own)]
                return None if self._in_block.fullmatch(f"{tower}x") else (tower, kind)
        return None

    def holds_all_experts(self, name: str) -> bool:
        """Whether the first axis of a tensor of this name counts the experts."""
        match = self._in_block.fullmatch(name)
        tensor = self._by_name.get(match[3]) if match else None
        return tensor is not None and tensor.all_experts

    def sites_of(self, name: str) -> list[tuple[str, Cut]]:
        """The sites that one tensor of this name holds, whatever stands before it; empty for unknown names."""
        if placed := self._placed(name):
            return [(str(site), source.cut) for site, source in placed[1]]
        return [] if (edge := self._edge(name)) is None else [(edge[1], self._edge_cut(edge[1]))]

    def _edge_cut(self, kind: str) -> Cut:
        return self.norm_cut if kind == "norm.final" else WHOLE

    def found(
        self,
        names: Iterable[str],
        spec: ForeignSpec | None = None,
        *,
        prefix: str | None = None,
        parts: bool = False,
        unreadable: Set[str] = frozenset(),
        where: str,
    ) -> Found:
        """Which tensor is which site.

        Args:
            names: Names of a model's tensors.
            spec: Its geometry; without it nothing is known of how many blocks and experts there are.
            prefix: What the names of the wanted tower begin with, where there are several.
            parts: Whether the model has other parts than this decoder.
            unreadable: Names of tensors that do not hold floating-point numbers.
            where: The model's path, for messages.

        Raises:
            DataError: two tensors are there for one site, or no tower has the prefix.
        """
        there = dict.fromkeys(names)
        towers: dict[str, list[tuple[MatrixSite, Source]]] = {}
        edges: dict[tuple[str, str], str] = {}
        packed: dict[MatrixSite, str] = {}
        for name in there:
            if placed := self._placed(name, (spec and spec.n_experts) or 0):
                towers.setdefault(placed[0], []).extend(placed[1])
            elif edge := self._edge(name):
                edges[edge] = name
            elif (module := _PACKED.fullmatch(name)) and (placed := self._placed(f"{module[1]}.weight")):
                packed.update({site: name for site, _ in placed[1]})
        chosen = _chosen(towers, prefix, self._attention if parts else frozenset(), where)
        candidates = [pair for tower in chosen for pair in towers[tower]]
        once = _edges(edges, chosen, everywhere=prefix is None and not parts, nearest=prefix is not None)
        candidates += [(MatrixSite(None, kind), Source(name, self._edge_cut(kind))) for kind, name in once]
        sources: dict[MatrixSite, Source] = {}
        for site, source in candidates:
            if (first := sources.setdefault(site, source)) != source:
                pair = [first.tensor, source.tensor]
                between = [match[1] for name in pair if (match := self._in_block.fullmatch(name))] or chosen
                raise DataError(_two(site, pair, between, where))
        return self._sorted(sources, packed, there, unreadable, spec)

    def _sorted(
        self,
        sources: Mapping[MatrixSite, Source],
        packed: Mapping[MatrixSite, str],
        names: Container[str],
        unreadable: Set[str],
        spec: ForeignSpec | None,
    ) -> Found:
        known = {site: source for site, source in sources.items() if spec is None or (site.layer or 0) < spec.n_layers}
        scaled = {
            site: source.tensor
            for site, source in known.items()
            if source.tensor in unreadable or _is_scaled(source.tensor, names)
        }
        quantized = {**packed, **scaled}
        sites = {str(site): known[site] for site in sorted(known, key=_order) if site not in quantized}
        if spec is not None and spec.tie_embeddings and "head" not in sites and "embed" in sites:
            sites["head"] = sites["embed"]
        return Found(
            sites=sites,
            beyond=tuple(sorted({site.layer for site in sources if site not in known and site.layer is not None})),
            quantized=tuple(dict.fromkeys(quantized.values())),
            missing=() if spec is None else missing_sites(self._wanted, {*known, *quantized}, spec),
        )


def _chosen(
    towers: Mapping[str, Sequence[tuple[MatrixSite, Source]]], prefix: str | None, needed: frozenset[str], where: str
) -> list[str]:
    """The towers that are meant: those of the prefix; else all that have the kinds of sites that are needed."""
    if prefix is None:
        whole = [tower for tower, held in towers.items() if needed <= {site.kind for site, _ in held}]
        return whole or list(towers)
    begin = f"{prefix.rstrip('.')}." if prefix else ""
    chosen = [begin] if begin in towers else [tower for tower in towers if prefix and tower.startswith(begin)]
    if not chosen:
        there = ", ".join(_as_option(tower) for tower in list(towers)[:8]) or "none"
        raise DataError(f"{where}: no tensor of a block begins with {prefix[:200]!r}: there are {there}")
    return chosen


def _edges(
    edges: Mapping[tuple[str, str], str], chosen: Sequence[str], *, everywhere: bool, nearest: bool
) -> Iterator[tuple[str, str]]:
    """Kinds and tensors of what a model has once: embedding and norm beside the blocks, the head there or above. With
    `everywhere`, any embedding and head (of two, it is not clear which is meant); with `nearest`, of several heads the
    nearest one."""
    heads = []
    for (tower, kind), name in edges.items():
        beside = tower in chosen or not chosen
        if kind == "head" and (everywhere or beside or any(one.startswith(tower) for one in chosen)):
            heads.append((len(tower), name))
        elif kind != "head" and (beside or (everywhere and kind == "embed")):
            yield kind, name
    for _, name in [max(heads)] if heads and nearest else heads:
        yield "head", name


def _is_scaled(tensor: str, names: Container[str]) -> bool:
    module = tensor.removesuffix(".weight")
    return any(f"{module}.{scale}" in names for scale in _SCALES)


def _two(site: MatrixSite, names: Sequence[str], towers: Sequence[str], where: str) -> str:
    """What to say of two tensors for one site, with the prefixes that choose between them."""
    options = " or ".join(_as_option(tower) for tower in towers[:4])
    return (
        f"{where}: two tensors are there for site {str(site)!r}, {names[0][:200]!r} and {names[1][:200]!r}: choose "
        f"with {options}, or keep one model a directory (an average of its weights, such as ema, is another one)"
    )


def _as_option(tower: str) -> str:
    return f"--prefix {tower[:200].removesuffix('.') or chr(34) * 2}"


def _order(site: MatrixSite) -> tuple[int, int, int, str]:
    """Sorts sites by the order of computation."""
    expert = _EXPERT_KIND.fullmatch(site.kind)
    kind = KINDS.index(site.kind) if site.kind in KINDS else KINDS.index("mlp.down")
    layer = {"embed": -1, "norm.final": 10_000, "head": 10_001}.get(site.kind, site.layer or 0)
    return layer, kind, int(expert[1]) if expert else -1, site.kind
