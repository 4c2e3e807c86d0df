"""What other architectures call the sites, and how their tensors become ours.

An adapter is a list of rules from a tensor's name to the sites that it holds. Weights come out as (out, in): GPT-2's
Conv1D stores the transpose, and fused projections are cut into q, k and v (GPT-NeoX: head by head; GPT-2: in thirds;
Phi-3: q, then k and v, which may be narrower). A model that no rule matches has no known sites. What a model has once
(its embedding, its head) is not that of a part inside a block, such as the predictor of further tokens of DeepSeek.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from pico_analyze.errors import DataError
from pico_schema import ModelSpec
from pico_schema.sites import KINDS, Site

Cut = Callable[[np.ndarray, ModelSpec], np.ndarray]
"""A stored tensor → the site's weight, (out, in)."""


@dataclass(frozen=True)
class Source:
    """The tensor that holds a site's weight, and how it is taken out."""

    tensor: str
    cut: Cut


def _whole(array: np.ndarray, _model: ModelSpec) -> np.ndarray:
    return array


def _transposed(array: np.ndarray, _model: ModelSpec) -> np.ndarray:
    return np.ascontiguousarray(array.T)


def _third(index: int) -> Cut:
    """GPT-2: (in, 3 · out), q, k and v side by side."""
    return lambda array, _model: np.ascontiguousarray(np.split(_divisible(array, 3, 1), 3, axis=1)[index].T)


def _per_head(index: int) -> Cut:
    """GPT-NeoX: (heads · 3 · head_dim, in), q, k and v of one head after those of another."""

    def cut(array: np.ndarray, model: ModelSpec) -> np.ndarray:
        _divisible(array, 3 * model.n_heads, 0)
        by_head = array.reshape(model.n_heads, 3, -1, array.shape[1])
        return np.ascontiguousarray(by_head[:, index].reshape(-1, array.shape[1]))

    return cut


def _stacked(index: int) -> Cut:
    """Phi-3: (d + 2 · kv, in), q above k above v; k and v of the same height."""

    def cut(array: np.ndarray, model: ModelSpec) -> np.ndarray:
        kv = model.kv_dim
        bounds = [0, len(array) - 2 * kv, len(array) - kv, len(array)]
        if bounds[1] <= 0:
            raise DataError(f"a fused projection has {len(array)} rows, but keys and values alone take {2 * kv}")
        return array[bounds[index] : bounds[index + 1]]

    return cut


def _half(index: int) -> Cut:
    return lambda array, _model: np.split(_divisible(array, 2, 0), 2)[index]


def _divisible(array: np.ndarray, parts: int, axis: int) -> np.ndarray:
    if array.ndim != 2 or array.shape[axis] % parts:
        raise DataError(f"a fused projection of shape {array.shape} cannot be cut into {parts} along axis {axis}")
    return array


_RULES: tuple[tuple[str, tuple[tuple[str, Cut], ...]], ...] = (
    # Llama and its kin: Mistral, Qwen, OLMo, Gemma, SmolLM, Pico
    (r"layers\.(0|[1-9][0-9]{0,3})\.self_attn\.([qkvo])_proj\.weight", (("attn.{2}", _whole),)),
    (r"layers\.(0|[1-9][0-9]{0,3})\.mlp\.(gate|up|down)_proj\.weight", (("mlp.{2}", _whole),)),
    (r"embed_tokens\.weight", (("embed", _whole),)),
    (r"^(?:(?:.*\.)?model\.)?norm\.weight", (("norm.final", _whole),)),
    (r"lm_head\.weight", (("head", _whole),)),
    # Phi-3
    (
        r"layers\.(0|[1-9][0-9]{0,3})\.self_attn\.qkv_proj\.weight",
        tuple((f"attn.{k}", _stacked(i)) for i, k in enumerate("qkv")),
    ),
    (r"layers\.(0|[1-9][0-9]{0,3})\.mlp\.gate_up_proj\.weight", (("mlp.gate", _half(0)), ("mlp.up", _half(1)))),
    # GPT-NeoX, Pythia
    (
        r"layers\.(0|[1-9][0-9]{0,3})\.attention\.query_key_value\.weight",
        tuple((f"attn.{k}", _per_head(i)) for i, k in enumerate("qkv")),
    ),
    (r"layers\.(0|[1-9][0-9]{0,3})\.attention\.dense\.weight", (("attn.o", _whole),)),
    (r"layers\.(0|[1-9][0-9]{0,3})\.mlp\.dense_h_to_4h\.weight", (("mlp.up", _whole),)),
    (r"layers\.(0|[1-9][0-9]{0,3})\.mlp\.dense_4h_to_h\.weight", (("mlp.down", _whole),)),
    (r"embed_in\.weight", (("embed", _whole),)),
    (r"embed_out\.weight", (("head", _whole),)),
    (r"final_layer_norm\.weight", (("norm.final", _whole),)),
    # GPT-2
    (r"h\.(0|[1-9][0-9]{0,3})\.attn\.c_attn\.weight", tuple((f"attn.{k}", _third(i)) for i, k in enumerate("qkv"))),
    (r"h\.(0|[1-9][0-9]{0,3})\.attn\.c_proj\.weight", (("attn.o", _transposed),)),
    (r"h\.(0|[1-9][0-9]{0,3})\.mlp\.c_fc\.weight", (("mlp.up", _transposed),)),
    (r"h\.(0|[1-9][0-9]{0,3})\.mlp\.c_proj\.weight", (("mlp.down", _transposed),)),
    (r"wte\.weight", (("embed", _whole),)),
    (r"ln_f\.weight", (("norm.final", _whole),)),
    # Pico 1.0, with or without a wrapper's prefix; captures have no `.weight`
    (r"layers\.(0|[1-9][0-9]{0,3})\.attention\.([qkvo])_proj(?:\.weight)?", (("attn.{2}", _whole),)),
    (r"layers\.(0|[1-9][0-9]{0,3})\.swiglu\.w_0(?:\.weight)?", (("mlp.gate", _whole),)),
    (r"layers\.(0|[1-9][0-9]{0,3})\.swiglu\.w_1(?:\.weight)?", (("mlp.up", _whole),)),
    (r"layers\.(0|[1-9][0-9]{0,3})\.swiglu\.w_2(?:\.weight)?", (("mlp.down", _whole),)),
    (r"embedding_proj(?:\.weight)?", (("embed", _whole),)),
    (r"de_embedding_proj(?:\.weight)?", (("head", _whole),)),
    (r"output_norm(?:\.weight)?", (("norm.final", _whole),)),
)
_COMPILED = tuple(
    (re.compile(pattern if pattern.startswith("^") else rf"(?:.*\.)?{pattern}"), sites) for pattern, sites in _RULES
)


_IN_BLOCK = re.compile(r"(?:.*\.)?(?:layers|h)\.[0-9]+\..*")


def sites_of(tensor: str) -> list[tuple[str, Cut]]:
    """The sites that a tensor of this name holds, each with how it is taken out; empty for unknown names."""
    for pattern, sites in _COMPILED:
        if match := pattern.fullmatch(tensor):
            groups = match.groups()
            layer = int(groups[0]) if groups else None
            if layer is None and _IN_BLOCK.fullmatch(tensor):
                return []
            kinds = [(kind.replace("{2}", groups[1] if len(groups) > 1 else ""), cut) for kind, cut in sites]
            return [(str(Site(layer, kind)), cut) for kind, cut in kinds]
    return []


def sources(tensors: Iterable[str], *, where: str) -> dict[str, Source]:
    """Site → where its weight is, in the order of computation.

    Args:
        tensors: Names of the tensors of a model.
        where: The model's path, for messages.

    Raises:
        DataError: two tensors are there for one site, as where an averaged copy lies beside a model: their names do
            not tell which one is meant.
    """
    found: dict[str, Source] = {}
    for name in tensors:
        for site, cut in sites_of(name):
            if site in found:
                first = found[site].tensor
                raise DataError(
                    f"{where}: two tensors are there for site {site!r}, {first[:200]!r} and {name[:200]!r}: keep one "
                    "model a directory (an average of its weights, such as ema, is another one)"
                )
            found[site] = Source(name, cut)

    def place(site: str) -> tuple[int, int]:
        parsed = Site.parse(site)
        edge = {"embed": -1, "norm.final": 10_000, "head": 10_001}
        return (edge.get(parsed.kind, parsed.layer or 0), KINDS.index(parsed.kind))

    return {site: found[site] for site in sorted(found, key=place)}
