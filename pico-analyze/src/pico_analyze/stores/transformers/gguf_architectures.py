"""Architectures as GGUF has them: the same names for all, and the layout that llama.cpp's converter makes.

Only those are here whose layout a second implementation undoes too, transformers' own reader of GGUF: each is checked
against the model that the file was made of (tests/with_torch/test_gguf.py). Matrices of others are named by --tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pico_analyze.stores.transformers.architecture import Architecture, Tensor
from pico_analyze.stores.transformers.cuts import LESS_ONE, PARTS, WHOLE, Cut, Part, half, stacked, unpermuted

_BLOCK_EXPERTS = tuple(
    Tensor(f"ffn_{part}_{of}.weight", ((f"mlp.{kind}.{part}", WHOLE),), all_experts=of == "exps", optional=True)
    for of, kind in (("exps", "experts.*"), ("shexp", "shared"))
    for part in ("gate", "up", "down")
)


def _one(name: str, kind: str, cut: Cut = WHOLE) -> Tensor:
    return Tensor(f"{name}.weight", ((kind, cut),))


def _attention(q: Cut = WHOLE, k: Cut = WHOLE) -> tuple[Tensor, ...]:
    cuts = {"q": q, "k": k, "v": WHOLE}
    return (*(_one(f"attn_{part}", f"attn.{part}", cuts[part]) for part in PARTS), _one("attn_output", "attn.o"))


def _fused(layout: Callable[[Part], Cut]) -> tuple[Tensor, ...]:
    sites = tuple((f"attn.{part}", layout(part)) for part in PARTS)
    return Tensor("attn_qkv.weight", sites), _one("attn_output", "attn.o")


def _mlp(*parts: str) -> tuple[Tensor, ...]:
    return tuple(_one(f"ffn_{part}", f"mlp.{part}") for part in parts)


_GATED = _mlp("gate", "up", "down")
_EXPERT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "n_experts": ("num_experts",),
    "d_expert": ("moe_intermediate_size", "intermediate_size"),
    "d_shared": ("shared_expert_intermediate_size",),
}


def _types(*names: str) -> dict[str, dict[str, Any]]:
    return {f"gguf_{name}": {} for name in names}


GGUF_LLAMA = Architecture(
    name="gguf_llama",
    types=_types("llama"),
    block="blk",
    tensors=(*_attention(unpermuted("q"), unpermuted("k")), *_GATED, *_BLOCK_EXPERTS),
    embed="token_embd.weight",
    norm="output_norm.weight",
    head="output.weight",
    fields=_EXPERT_FIELDS,
)
"""Llama, Mistral, Mixtral and SmolLM: their q and k are permuted."""
GGUF_QWEN = replace(
    GGUF_LLAMA,
    name="gguf_qwen",
    types=_types("qwen2", "qwen3", "qwen2moe", "qwen3moe", "stablelm"),
    tensors=(*_attention(), *_GATED, *_BLOCK_EXPERTS),
)
GGUF_GEMMA = replace(
    GGUF_QWEN,
    name="gguf_gemma",
    types=_types("gemma2", "gemma3"),
    tensors=(*_attention(), *_GATED),
    norm_cut=LESS_ONE,
)
GGUF_STARCODER2 = replace(
    GGUF_QWEN, name="gguf_starcoder2", types=_types("starcoder2"), tensors=(*_attention(), *_mlp("up", "down"))
)
GGUF_NEMOTRON = replace(GGUF_STARCODER2, name="gguf_nemotron", types=_types("nemotron"), norm_cut=LESS_ONE)
GGUF_PHI3 = replace(
    GGUF_QWEN,
    name="gguf_phi3",
    types=_types("phi3"),
    tensors=(
        *_fused(stacked),
        Tensor("ffn_up.weight", (("mlp.gate", half(0)), ("mlp.up", half(1)))),
        _one("ffn_down", "mlp.down"),
    ),
)
GGUF_GPT2 = replace(
    GGUF_QWEN, name="gguf_gpt2", types=_types("gpt2", "bloom"), tensors=(*_fused(stacked), *_mlp("up", "down"))
)
"""GPT-2, whose matrices are turned to (out, in), and BLOOM, whose heads are one above the other."""

_ALL = (GGUF_LLAMA, GGUF_QWEN, GGUF_GEMMA, GGUF_STARCODER2, GGUF_NEMOTRON, GGUF_PHI3, GGUF_GPT2)
OF_GGUF: Mapping[str, Architecture] = {kind: one for one in _ALL for kind in one.types}
"""The `model_type` that the reader of headers makes of GGUF's name of an architecture → the architecture."""
