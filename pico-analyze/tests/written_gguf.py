"""Files of GGUF as llama.cpp's converter (convert_hf_to_gguf.py) writes them: names by gguf's own table, and its
changes of layout: q and k of Llama permuted, norms that compute with 1 + w one larger, Conv1D turned, experts in one
tensor."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np

_PLUS_ONE = ("gemma2", "gemma3", "nemotron")


def permute(array: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's converter has it, word by word."""
    return array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def in_three(array: np.ndarray, heads: int) -> np.ndarray:
    """BLOOM's q, k and v of each head, as all q, all k, all v."""
    by_head = array.reshape(heads, 3, array.shape[0] // heads // 3, *array.shape[1:])
    return np.concatenate([by_head[:, part].reshape(-1, *array.shape[1:]) for part in range(3)])


def changed(name: str, array: np.ndarray, arch: str, config) -> np.ndarray:
    """A tensor of transformers' as the converter of an architecture stores it."""
    if arch == "llama" and ("attn_q." in name or "attn_k." in name):
        return permute(array, config.num_attention_heads if "attn_q." in name else config.num_key_value_heads)
    if arch in _PLUS_ONE and name.endswith("norm.weight"):
        return array + np.float32(1)
    if arch == "gpt2" and re.search(r"(attn_qkv|attn_output|ffn_up|ffn_down)\.weight", name):
        return np.ascontiguousarray(array.T)
    if arch == "bloom" and "attn_qkv" in name:
        return in_three(array, config.n_head)
    return array


def together(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With all experts' matrices in one tensor, gate above up taken apart."""
    found: dict[str, np.ndarray] = {}
    for name, array in state.items():
        if name.endswith("mlp.experts.gate_up_proj"):
            begin = name.removesuffix("gate_up_proj")
            found[f"{begin}gate_proj.weight"], found[f"{begin}up_proj.weight"] = np.split(array, 2, axis=1)
        else:
            found[f"{name}.weight" if name.endswith("mlp.experts.down_proj") else name] = array
    return found


def write_gguf(path: Path, arch: str, config, state: dict[str, np.ndarray], kind: str = "F32") -> Path:
    """A model as a file of GGUF; vectors stay F32, as llama.cpp keeps them."""
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    layers = getattr(config, "num_hidden_layers", None) or config.n_layer
    heads = getattr(config, "num_attention_heads", None) or config.n_head
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(getattr(config, "max_position_embeddings", 32))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(layers)
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_vocab_size(config.vocab_size)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if (experts := getattr(config, "num_experts", None)) is not None:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        if getattr(config, "shared_expert_intermediate_size", None):
            writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    writer.add_pad_token_id(0)
    writer.add_token_list([f"token {index}" for index in range(config.vocab_size)])
    names = gguf.get_tensor_name_map(number, layers)
    for name, array in together(state).items():
        name = name.removeprefix("transformer.") if arch == "bloom" else name
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert own is not None, name
        array = np.ascontiguousarray(changed(own, array, arch, config).squeeze())
        kept = gguf.GGMLQuantizationType[kind if array.ndim > 1 else "F32"]
        writer.add_tensor(own, gguf.quantize(array, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
