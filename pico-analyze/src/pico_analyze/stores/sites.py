"""What a matrix of a checkpoint is called: the contract's sites, and what only some models have.

    layers.3.attn.v · embed                      sites, see `pico_schema.sites`
    layers.3.mlp.experts.5.up                    a matrix of one expert of a mixture; `mlp.experts.up` names all
    layers.3.mlp.shared.up                       a matrix of the expert that every token goes through
    model · layers.3.block                       all parameters of the model or of a block (gradient noise)
    tensor:model.layers.3.mlp.router.weight      a whole tensor by its own name; its layer is the first part of the name
                                                 that is a number

The *kind* of a name is what is left without the layer; of a tensor, its name with ``*`` for the layer's number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pico_schema import SiteError
from pico_schema.sites import KINDS, WHOLE_MODEL, WITHOUT_WEIGHT, Site, check_kind, parse_block

TENSOR = "tensor:"
"""What the name of a whole tensor begins with."""
BLOCK = "block"
"""The kind of all parameters of a block."""
_LAYER = r"layers\.(0|[1-9][0-9]{0,3})\."
_EXPERTS = re.compile(rf"{_LAYER}(mlp\.(?:experts\.(0|[1-9][0-9]{{0,4}})|shared)\.(?:gate|up|down))")
_FAMILIES = {f"mlp.{of}.{part}" for of in ("experts", "shared") for part in ("gate", "up", "down")}
_NUMBER = re.compile(r"(?:^|(?<=\.))(0|[1-9][0-9]{0,5})(?=\.|$)")
_MARK = re.compile(r"(?:^|(?<=\.))\*(?=\.|$)")


@dataclass(frozen=True)
class MatrixSite:
    """A name taken apart: its layer (None where it has none) and its kind."""

    layer: int | None
    kind: str

    @classmethod
    def parse(cls, name: str) -> MatrixSite:
        """The parts of a name.

        Raises:
            SiteError: it is none.
        """
        if name.startswith(TENSOR):
            return cls._of_tensor(name)
        if match := _EXPERTS.fullmatch(name):
            return cls(int(match[1]), match[2])
        if name == WHOLE_MODEL or (layer := parse_block(name)) is not None:
            return cls(None, name) if name == WHOLE_MODEL else cls(layer, BLOCK)
        site = Site.parse(name)
        return cls(site.layer, site.kind)

    @classmethod
    def _of_tensor(cls, name: str) -> MatrixSite:
        own = name.removeprefix(TENSOR)
        if (number := _NUMBER.search(own)) is None:
            return cls(None, name)
        return cls(int(number[1]), f"{TENSOR}{own[: number.start()]}*{own[number.end() :]}")

    def __str__(self) -> str:
        if self.layer is None:
            return self.kind
        if self.kind.startswith(TENSOR):
            return TENSOR + _MARK.sub(str(self.layer), self.kind.removeprefix(TENSOR), 1)
        return f"layers.{self.layer}.{self.kind}"

    @property
    def family(self) -> str:
        """The kind without the expert's number: `mlp.experts.up`."""
        return re.sub(r"^mlp\.experts\.[0-9]+\.", "mlp.experts.", self.kind)

    @property
    def tensor(self) -> str | None:
        """The tensor's own name, where it is a whole tensor that is named."""
        name = str(self)
        return name.removeprefix(TENSOR) if name.startswith(TENSOR) else None

    @property
    def has_weight(self) -> bool:
        """Whether a parameter belongs to it: to all but those that are activations only."""
        return self.kind not in WITHOUT_WEIGHT

    def is_named_by(self, wanted: str) -> bool:
        """Whether a person who writes this means it: its name, its kind, its kind for all experts, or a glob."""
        if wanted.startswith(TENSOR):
            return fnmatchcase(str(self), wanted)
        return wanted in (str(self), self.kind, self.family)


def nameable(tensor: str) -> bool:
    """Whether a tensor can be named: patterns of names, and what cannot be printed, are kept apart from names."""
    return tensor.isprintable() and not set(tensor) & set("*?[]")


def check_site(name: str) -> None:
    """Raise SiteError unless this could name a site, a kind, experts or tensors of some model."""
    if name in (WHOLE_MODEL, BLOCK) or parse_block(name) is not None:
        return
    if name.startswith(TENSOR) or name in _FAMILIES or _EXPERTS.fullmatch(f"layers.0.{name}"):
        return
    if name.startswith("layers."):
        MatrixSite.parse(name)
    else:
        check_kind(name)


def in_order(names: Iterable[str]) -> list[str]:
    """Each once: as given for names, in the order of computation for kinds of sites."""
    unique = list(dict.fromkeys(names))
    return sorted(unique, key=KINDS.index) if all(name in KINDS for name in unique) else unique


__all__ = ["TENSOR", "MatrixSite", "SiteError", "check_site", "in_order", "nameable"]
