"""The table of architectures: which `model_type` calls the sites what, and how their tensors become ours.

What decides is the architecture that `config.json` names, never the first name that matches. Each entry is checked
against the model's own forward pass, as transformers has it (tests/with_torch/test_architectures.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pico_analyze.errors import UsageError, nearest
from pico_analyze.stores.transformers.architecture import Architecture, Found, Source, Tensor
from pico_analyze.stores.transformers.cuts import (
    PARTS,
    TRANSPOSED,
    WHOLE,
    Cut,
    every_other,
    grouped,
    half,
    half_transposed,
    in_four,
    stacked,
    stacked_transposed,
)

__all__ = [
    "ARCHITECTURES",
    "NANOGPT",
    "PICO",
    "Architecture",
    "Found",
    "Source",
    "architecture_of",
    "why_unknown",
]


def _one(name: str, kind: str, cut: Cut = WHOLE, *, optional: bool = False) -> Tensor:
    """A tensor that is one site."""
    return Tensor(f"{name}.weight", ((kind, cut),), optional=optional)


def _qkvo(inside: str, o: str = "o_proj", qkv: str = "{}_proj") -> tuple[Tensor, ...]:
    """Four projections of their own."""
    return (*(_one(f"{inside}.{qkv.format(x)}", f"attn.{x}") for x in PARTS), _one(f"{inside}.{o}", "attn.o"))


def _fused(name: str, layout: Any, o: str, cut: Cut = WHOLE) -> tuple[Tensor, ...]:
    """One projection of queries, keys and values, and that of the output."""
    return Tensor(f"{name}.weight", tuple((f"attn.{x}", layout(x)) for x in PARTS)), _one(o, "attn.o", cut)


def _mlp(
    inside: str, up: str, down: str, gate: str | None = None, *, cut: Cut = WHOLE, optional: bool = False
) -> tuple[Tensor, ...]:
    """The projections of a feed-forward, as they are called."""
    named = (("gate", gate), ("up", up), ("down", down))
    return tuple(_one(f"{inside}.{name}", f"mlp.{part}", cut, optional=optional) for part, name in named if name)


def _experts(inside: str, up: str, down: str, gate: str, *, shared: str | None = None) -> tuple[Tensor, ...]:
    """A mixture of experts, be each stored for itself or all in two tensors, and the expert for every token."""
    named = {"gate": gate, "up": up, "down": down}
    gate_up = (("mlp.experts.*.gate", half(0)), ("mlp.experts.*.up", half(1)))
    together = (("gate_up_proj", gate_up), ("down_proj", (("mlp.experts.*.down", WHOLE),)))
    return (
        *(_one(f"{inside}.experts.*.{name}", f"mlp.experts.*.{part}", optional=True) for part, name in named.items()),
        *(
            Tensor(f"{place}.experts.{name}", sites, all_experts=True, optional=True)
            for place in dict.fromkeys((inside, "mlp"))
            for name, sites in together
        ),
        *(_one(f"mlp.{shared}.{name}", f"mlp.shared.{part}", optional=True) for part, name in named.items() if shared),
    )


def _together(gate_up: tuple[str, Cut, Cut], down: tuple[str, Cut]) -> tuple[Tensor, ...]:
    """All experts in two tensors: gate and up of each, and down."""
    sites = (("mlp.experts.*.gate", gate_up[1]), ("mlp.experts.*.up", gate_up[2]))
    return (
        Tensor(gate_up[0], sites, all_experts=True, optional=True),
        Tensor(down[0], (("mlp.experts.*.down", down[1]),), all_experts=True, optional=True),
    )


_GATED = ("up_proj", "down_proj", "gate_proj")
_TIED: dict[str, Any] = {"tie_embeddings": True}
_WIDE: dict[str, Any] = {"own_head_dim": 128}
_GEMMA: dict[str, Any] = {"tie_embeddings": True, "own_head_dim": 256}
_EXPERT_FIELDS = {
    "n_experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "d_expert": ("moe_intermediate_size", "intermediate_size"),
    "d_shared": ("shared_expert_intermediate_size",),
}


def _multi_query(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """GPTBigCode: one head of keys and values, unless it says otherwise."""
    return {"n_kv_heads": 1 if config.get("multi_query", True) else config.get("n_head")}


def _falcon(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Falcon: heads of keys and values are counted by the newer decoder alone, which was first called RefinedWeb."""
    heads = config.get("num_attention_heads", config.get("n_head"))
    if config.get("new_decoder_architecture", config.get("model_type") == "RefinedWeb"):
        return {"n_kv_heads": config.get("num_kv_heads", config.get("n_head_kv")) or heads}
    return {"n_kv_heads": 1 if config.get("multi_query", True) else heads}


def _mpt(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """MPT: the feed-forward is a multiple of the width."""
    width, ratio = config.get("d_model"), config.get("expansion_ratio", 4)
    return {"d_ff": width * ratio if isinstance(width, int) and isinstance(ratio, int) else None}


def _latent(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """DeepSeek: queries are wider than values; `head_dim` is that of the rotated part alone."""
    rotated, plain = config.get("qk_rope_head_dim", 64), config.get("qk_nope_head_dim", 128)
    width, shared = config.get("moe_intermediate_size"), config.get("n_shared_experts")
    return {
        "own_head_dim": rotated + plain if isinstance(rotated, int) and isinstance(plain, int) else None,
        "value_head_dim": config.get("v_head_dim", 128),
        "d_shared": width * shared if isinstance(width, int) and isinstance(shared, int) and shared else None,
    }


def _dbrx(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """DBRX: attention and experts have configurations of their own."""
    attention, experts = (config.get(f"{part}_config") for part in ("attn", "ffn"))
    attention, experts = (one if isinstance(one, dict) else {} for one in (attention, experts))
    width = experts.get("ffn_hidden_size", 3584)
    heads = attention.get("kv_n_heads", 1)
    return {"n_kv_heads": heads, "n_experts": experts.get("moe_num_experts", 4), "d_expert": width, "d_ff": width}


LLAMA = Architecture(
    name="llama",
    types={
        "llama": {},
        "mistral": {},
        "ministral": {},
        "ministral3": {"own_head_dim": 128},
        "qwen2": {},
        "qwen2_vl_text": {},
        "qwen2_5_vl_text": {},
        "qwen3": _WIDE,
        "qwen3_vl_text": _WIDE,
        "gemma": _GEMMA,
        "gemma2": _GEMMA,
        "gemma3_text": _GEMMA,
        "vaultgemma": _GEMMA,
        "olmo": {},
        "olmo2": {},
        "olmo3": {},
        "smollm3": _TIED,
        "stablelm": {},
        "granite": {},
        "cohere": _TIED,
        "cohere2": _TIED,
        "helium": _WIDE,
        "seed_oss": _WIDE,
        "ernie4_5": _TIED | _WIDE,
        "exaone4": {},
        "hunyuan_v1_dense": {},
        "cwm": _WIDE,
    },
    block="layers",
    tensors=(*_qkvo("self_attn"), *_mlp("mlp", *_GATED)),
    embed="embed_tokens.weight",
    norm="norm.weight",
    head="lm_head.weight",
)
"""Llama and those that keep its names, whatever they add: norms of queries and keys, norms after a sublayer, biases,
attention and feed-forward side by side."""

UNGATED = replace(
    LLAMA,
    name="nemotron",
    types={"nemotron": {}, "arcee": {}, "apertus": {}},
    tensors=(*_qkvo("self_attn"), *_mlp("mlp", "up_proj", "down_proj")),
)
PHI = replace(
    LLAMA,
    name="phi",
    types={"phi": {}},
    tensors=(*_qkvo("self_attn", "dense"), *_mlp("mlp", "fc1", "fc2")),
    norm="final_layernorm.weight",
)
_GATE_UP = (
    Tensor("mlp.gate_up_proj.weight", (("mlp.gate", half(0)), ("mlp.up", half(1)))),
    _one("mlp.down_proj", "mlp.down"),
)
PHI3 = replace(
    LLAMA,
    name="phi3",
    types={"phi3": {}},
    tensors=(*_fused("self_attn.qkv_proj", stacked, "self_attn.o_proj"), *_GATE_UP),
)
GLM = replace(LLAMA, name="glm", types={"glm": _WIDE, "glm4": _WIDE}, tensors=(*_qkvo("self_attn"), *_GATE_UP))
STARCODER2 = replace(
    LLAMA,
    name="starcoder2",
    types={"starcoder2": _TIED},
    tensors=(*_qkvo("self_attn"), *_mlp("mlp", "c_fc", "c_proj")),
)
PERSIMMON = replace(
    LLAMA,
    name="persimmon",
    types={"persimmon": {}},
    tensors=(
        *_fused("self_attn.query_key_value", grouped, "self_attn.dense"),
        *_mlp("mlp", "dense_h_to_4h", "dense_4h_to_h"),
    ),
    norm="final_layernorm.weight",
)
MIXTRAL = replace(
    LLAMA,
    name="mixtral",
    types={"mixtral": {}, "phimoe": {}},
    tensors=(*_qkvo("self_attn"), *_experts("block_sparse_moe", "w3", "w2", "w1")),
    fields=_EXPERT_FIELDS | {"d_expert": ("intermediate_size",)},
)
QWEN_MOE = replace(
    LLAMA,
    name="qwen_moe",
    types={"qwen2_moe": {}, "qwen3_moe": {}, "olmoe": {}},
    tensors=(
        *_qkvo("self_attn"),
        *_mlp("mlp", *_GATED, optional=True),
        *_experts("mlp", *_GATED, shared="shared_expert"),
    ),
    fields=_EXPERT_FIELDS,
)
DEEPSEEK = replace(
    LLAMA,
    name="deepseek",
    types={"deepseek_v2": {}, "deepseek_v3": {}},
    tensors=(
        _one("self_attn.q_proj", "attn.q", optional=True),
        _one("self_attn.o_proj", "attn.o"),
        *_mlp("mlp", *_GATED, optional=True),
        *_experts("mlp", *_GATED, shared="shared_experts"),
    ),
    fields=_EXPERT_FIELDS,
    derived=_latent,
)
"""Keys and values come from a latent of their own, and queries may: those have no matrix that is the site's."""
GRANITE_MOE = replace(
    LLAMA,
    name="granitemoe",
    types={"granitemoe": {}},
    tensors=(
        *_qkvo("self_attn"),
        *(
            tensor
            for gate_up, down in (
                ("input_linear.weight", "output_linear.weight"),
                ("experts.gate_up_proj", "experts.down_proj"),
            )
            for tensor in _together(
                (f"block_sparse_moe.{gate_up}", half(0), half(1)), (f"block_sparse_moe.{down}", WHOLE)
            )
        ),
    ),
    fields=_EXPERT_FIELDS | {"d_expert": ("intermediate_size",)},
)
"""Under the names of its files, and under those that transformers gives them since."""
GPT_OSS = replace(
    LLAMA,
    name="gpt_oss",
    types={"gpt_oss": {"own_head_dim": 64}},
    tensors=(
        *_qkvo("self_attn"),
        *_together(("mlp.experts.gate_up_proj", every_other(0), every_other(1)), ("mlp.experts.down_proj", TRANSPOSED)),
    ),
    fields=_EXPERT_FIELDS | {"d_expert": ("intermediate_size",)},
)
"""As it is published, its experts are packed (MXFP4), and are told of as quantized."""
LLAMA4 = replace(
    LLAMA,
    name="llama4",
    types={"llama4_text": _WIDE},
    tensors=(
        *_qkvo("self_attn"),
        *_mlp("feed_forward", *_GATED, optional=True),
        *_together(
            ("feed_forward.experts.gate_up_proj", half_transposed(0), half_transposed(1)),
            ("feed_forward.experts.down_proj", TRANSPOSED),
        ),
        *(
            _one(f"feed_forward.shared_expert.{x}_proj", f"mlp.shared.{x}", optional=True)
            for x in ("gate", "up", "down")
        ),
    ),
    fields=_EXPERT_FIELDS
    | {"d_ff": ("intermediate_size_mlp",), "d_expert": ("intermediate_size",)}
    | {"d_shared": ("intermediate_size",)},
)
DBRX = replace(
    LLAMA,
    name="dbrx",
    types={"dbrx": {}},
    block="blocks",
    tensors=(
        *_fused("norm_attn_norm.attn.Wqkv", stacked, "norm_attn_norm.attn.out_proj"),
        *(
            Tensor(f"ffn.experts.mlp.{name}", ((f"mlp.experts.*.{part}", cut),), all_experts=True)
            for name, part, cut in (("w1", "gate", WHOLE), ("v1", "up", WHOLE), ("w2", "down", TRANSPOSED))
        ),
    ),
    embed="wte.weight",
    norm="norm_f.weight",
    fields={"n_heads": ("n_heads",)},
    derived=_dbrx,
)
"""Each tensor has the rows of an expert above those of the next."""
GPT2 = Architecture(
    name="gpt2",
    types={"gpt2": _TIED},
    block="h",
    tensors=(
        *_fused("attn.c_attn", stacked_transposed, "attn.c_proj", TRANSPOSED),
        *_mlp("mlp", "c_fc", "c_proj", cut=TRANSPOSED),
    ),
    embed="wte.weight",
    norm="ln_f.weight",
    head="lm_head.weight",
)
NANOGPT = replace(
    GPT2,
    name="nanogpt",
    types={"nanogpt": _TIED},
    tensors=(*_fused("attn.c_attn", stacked, "attn.c_proj"), *_mlp("mlp", "c_fc", "c_proj")),
    fields={"max_seq_len": ("block_size",)},
)
"""GPT-2 with `nn.Linear`; its checkpoints say `model_args` themselves."""
GPT_BIGCODE = replace(
    GPT2,
    name="gpt_bigcode",
    types={"gpt_bigcode": _TIED},
    tensors=(*_fused("attn.c_attn", grouped, "attn.c_proj"), *_mlp("mlp", "c_fc", "c_proj")),
    derived=_multi_query,
)
GPT_NEO = replace(
    GPT2,
    name="gpt_neo",
    types={"gpt_neo": _TIED},
    tensors=(*_qkvo("attn.attention", "out_proj"), *_mlp("mlp", "c_fc", "c_proj")),
    fields={"n_layers": ("num_layers",), "n_heads": ("num_heads",)},
)
GPTJ = replace(
    GPT2,
    name="gptj",
    types={"gptj": {}},
    tensors=(*_qkvo("attn", "out_proj"), *_mlp("mlp", "fc_in", "fc_out")),
)
CODEGEN = replace(
    GPTJ,
    name="codegen",
    types={"codegen": {}},
    tensors=(*_fused("attn.qkv_proj", in_four, "attn.out_proj"), *_mlp("mlp", "fc_in", "fc_out")),
)
GPT_NEOX = Architecture(
    name="gpt_neox",
    types={"gpt_neox": {}},
    block="layers",
    tensors=(
        *_fused("attention.query_key_value", grouped, "attention.dense"),
        *_mlp("mlp", "dense_h_to_4h", "dense_4h_to_h"),
    ),
    embed="embed_in.weight",
    norm="final_layer_norm.weight",
    head="embed_out.weight",
)
BLOOM = Architecture(
    name="bloom",
    types={"bloom": _TIED},
    block="h",
    tensors=(
        *_fused("self_attention.query_key_value", grouped, "self_attention.dense"),
        *_mlp("mlp", "dense_h_to_4h", "dense_4h_to_h"),
    ),
    embed="word_embeddings.weight",
    norm="ln_f.weight",
    head="lm_head.weight",
    fields={"d_model": ("hidden_size", "n_embed"), "d_ff": ()},
)
FALCON = replace(
    BLOOM,
    name="falcon",
    types={"falcon": _TIED, "RefinedWeb": _TIED, "RefinedWebModel": _TIED},
    fields={"d_ff": ("ffn_hidden_size",), "own_head_dim": ()},
    derived=_falcon,
)
MPT = Architecture(
    name="mpt",
    types={"mpt": _TIED},
    block="blocks",
    tensors=(*_fused("attn.Wqkv", stacked, "attn.out_proj"), *_mlp("ffn", "up_proj", "down_proj")),
    embed="wte.weight",
    norm="norm_f.weight",
    head="lm_head.weight",
    fields={"n_heads": ("n_heads",)},
    derived=_mpt,
)
OPT = Architecture(
    name="opt",
    types={"opt": _TIED},
    block="layers",
    tensors=(*_qkvo("self_attn", "out_proj"), _one("fc1", "mlp.up"), _one("fc2", "mlp.down")),
    embed="embed_tokens.weight",
    norm="final_layer_norm.weight",
    head="lm_head.weight",
    fields={"d_ff": ("ffn_dim",), "embed_dim": ("word_embed_proj_dim",)},
)
BIOGPT = replace(
    OPT,
    name="biogpt",
    types={"biogpt": _TIED},
    norm="layer_norm.weight",
    head="output_projection.weight",
    fields={},
)
PICO = Architecture(
    name="pico",
    types={"pico_decoder": {}, "pico": {}},
    block="layers",
    tensors=(*_qkvo("attention"), *_mlp("swiglu", "w_1", "w_2", "w_0")),
    embed="embedding_proj.weight",
    norm="output_norm.weight",
    head="de_embedding_proj.weight",
    bare=True,
)
"""Pico 1.0. Its captures call the sites so too, without ``.weight``."""

ARCHITECTURES: tuple[Architecture, ...] = (
    LLAMA,
    UNGATED,
    PHI,
    PHI3,
    GLM,
    STARCODER2,
    PERSIMMON,
    MIXTRAL,
    QWEN_MOE,
    DEEPSEEK,
    GRANITE_MOE,
    GPT_OSS,
    LLAMA4,
    DBRX,
    GPT2,
    NANOGPT,
    GPT_BIGCODE,
    GPT_NEO,
    GPTJ,
    CODEGEN,
    GPT_NEOX,
    BLOOM,
    FALCON,
    MPT,
    OPT,
    BIOGPT,
    PICO,
)
_BY_TYPE = {kind: one for one in ARCHITECTURES for kind in (one.name, *one.types)}


def architecture_of(
    config: Mapping[str, Any], chosen: str | None = None, more: Mapping[str, Architecture] = MappingProxyType({})
) -> Architecture | None:
    """The architecture that a decoder's configuration names, or that was chosen in its place; None if it is not known.

    Args:
        config: The decoder's configuration.
        chosen: A name to take in place of its `model_type`.
        more: Those that are in no table here, by their types.

    Raises:
        UsageError: what was chosen is not in the table.
    """
    by_type = _BY_TYPE | dict(more)
    if chosen is not None:
        if chosen not in by_type:
            raise UsageError(f"no architecture is called {chosen[:100]!r}{nearest(chosen, by_type)} ({_known(more)})")
        return by_type[chosen]
    kind = config.get("model_type")
    return by_type.get(kind) if isinstance(kind, str) else None


def why_unknown(config: Mapping[str, Any], more: Iterable[str] = (), *, where: str) -> str:
    """What to say of a model whose architecture is not in the table, and what can be done."""
    kind = config.get("model_type")
    named = f"model_type {kind[:100]!r}" if isinstance(kind, str) else "a model that names no model_type"
    near = nearest(kind, [*_BY_TYPE, *more]) if isinstance(kind, str) else ""
    return (
        f"{where}: the sites of {named} are not known{near} ({_known(more)}): name its matrices with --tensor, such as "
        "--tensor 'model.layers.*.mlp.up_proj.weight', or with --architecture the one whose names and layout it has"
    )


def _known(more: Iterable[str]) -> str:
    kinds = (kind for one in ARCHITECTURES for kind in one.types)
    return f"known are {', '.join(dict.fromkeys([*kinds, *more]))}"
