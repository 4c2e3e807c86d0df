"""Sites: the canonical names of a decoder's matrices, whatever the architecture calls them.

    embed · layers.3.attn.q|k|v|z|o · layers.3.mlp.gate|up|act|down · layers.3.resid · norm.final · head

The activation at a site is the output of that module, the gradient at a site is that of its weight. Three sites have an
activation only: `resid`, the residual stream after a block, `attn.z`, the outputs of the heads side by side, which
`attn.o` takes in, and `mlp.act`, the neurons, which `mlp.down` takes in. A *site kind* is a name without its layer:
`attn.v`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from pico_schema.errors import SiteError

LAYER_KINDS: tuple[str, ...] = (
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.z",
    "attn.o",
    "mlp.gate",
    "mlp.up",
    "mlp.act",
    "mlp.down",
    "resid",
)
"""Site kinds that every block has, in the order of computation."""

GLOBAL_KINDS: tuple[str, ...] = ("embed", "norm.final", "head")
"""Site kinds that a model has once."""

KINDS: tuple[str, ...] = ("embed", *LAYER_KINDS, "norm.final", "head")
"""All site kinds."""

INPUT_OF: dict[str, str] = {"attn.z": "attn.o", "mlp.act": "mlp.down"}
"""Site kinds whose activation is what the module of another site takes in, and that site's kind. Since schema 1.2."""

WITHOUT_WEIGHT: dict[str, str] = {
    "resid": "the residual stream after a block",
    "attn.z": "what attn.o takes in, the outputs of the heads",
    "mlp.act": "what mlp.down takes in, the neurons",
}
"""The site kinds that have an activation only, and what each is."""

WEIGHTED_KINDS: tuple[str, ...] = tuple(kind for kind in KINDS if kind not in WITHOUT_WEIGHT)
"""The site kinds whose module has a weight (and so a gradient and optimizer moments): all but `WITHOUT_WEIGHT`. What a
checkpoint's weights are expanded from."""

WHOLE_MODEL = "model"
"""Name of all parameters of a model, where something is told of parameters together: of gradient noise."""
_BLOCK = re.compile(r"layers\.(0|[1-9][0-9]{0,3})\.block")

_LLAMA_MODULES = {
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.o": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "resid": "",
    "embed": "model.embed_tokens",
    "norm.final": "model.norm",
    "head": "lm_head",
}
_LAYER_SITE = re.compile(r"layers\.(0|[1-9][0-9]{0,3})\.([a-z.]+)")


@dataclass(frozen=True, order=True)
class Site:
    """One site: its layer (None for the sites a model has once) and its kind."""

    layer: int | None
    kind: str

    def __post_init__(self) -> None:
        expected = LAYER_KINDS if self.layer is not None else GLOBAL_KINDS
        if self.kind not in expected:
            raise SiteError(_unknown(str(self), expected))

    @classmethod
    def parse(cls, name: str) -> Site:
        """The site of this name, such as ``layers.3.attn.v`` or ``head``.

        Raises:
            SiteError: no site has this name; the message names the nearest kind.
        """
        if name in GLOBAL_KINDS:
            return cls(None, name)
        match = _LAYER_SITE.fullmatch(name)
        if match is None or match[2] not in LAYER_KINDS:
            raise SiteError(_unknown(name, KINDS))
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"layers.{self.layer}.{self.kind}"

    @property
    def has_weight(self) -> bool:
        """Whether a parameter belongs to the site (to all but `WITHOUT_WEIGHT`)."""
        return self.kind in WEIGHTED_KINDS

    @property
    def is_input(self) -> bool:
        """Whether the activation is what the module takes in, and not what it gives (`INPUT_OF`)."""
        return self.kind in INPUT_OF


def _unknown(name: str, kinds: tuple[str, ...]) -> str:
    near = get_close_matches(name.rpartition("layers.")[2].lstrip("0123456789."), kinds, n=1, cutoff=0.5)
    hint = "".join(f"; did you mean {kind!r}" for kind in near)
    return f"{name!r} is not a site{hint}: sites are {', '.join(kinds)}, inside a block as layers.<i>.<kind>"


def check_kind(kind: str) -> str:
    """Return `kind` if it is a site kind.

    Raises:
        SiteError: it is not; the message lists the kinds and the nearest one.
    """
    if kind not in KINDS:
        raise SiteError(_unknown(kind, KINDS))
    return kind


def expand(kinds: Iterable[str], n_layers: int) -> list[Site]:
    """All sites of these kinds in a model of `n_layers` blocks, in the order of computation."""
    wanted = {check_kind(kind) for kind in kinds}
    sites = [Site(None, "embed")] if "embed" in wanted else []
    for layer in range(n_layers):
        sites += [Site(layer, kind) for kind in LAYER_KINDS if kind in wanted]
    return sites + [Site(None, kind) for kind in ("norm.final", "head") if kind in wanted]


def block_name(layer: int) -> str:
    """Name of all parameters of a block, norms included: ``layers.3.block``."""
    return f"layers.{layer}.block"


def parse_block(name: str) -> int | None:
    """The layer of a name that `block_name` made, or None."""
    match = _BLOCK.fullmatch(name)
    return int(match[1]) if match else None


def llama_module(site: Site) -> str:
    """Dotted name of the module whose output is the site's activation, in a Llama-style model; whose input it is, where
    the site `is_input`."""
    module = _LLAMA_MODULES[INPUT_OF.get(site.kind, site.kind)]
    if site.layer is None:
        return module
    return f"model.layers.{site.layer}" + (f".{module}" if module else "")


def llama_parameter(site: Site) -> str:
    """Name of the site's weight in a Llama-style state dict, such as ``model.layers.0.self_attn.v_proj.weight``.

    Raises:
        SiteError: the site has no weight.
    """
    if not site.has_weight:
        raise SiteError(f"site {str(site)!r} has no weight: it is {WITHOUT_WEIGHT[site.kind]}")
    return f"{llama_module(site)}.weight"
