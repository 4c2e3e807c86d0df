"""Weights of the first Pico (pico-decoder), turned into this decoder's.

Pico 1.0 names its tensors `pico_decoder.*` and rotates interleaved pairs of features, (0, 1), (2, 3), …, where this
decoder rotates (0, C/2), (1, C/2 + 1), …: the rows of each head's query and key matrices are put in that order. Scores
are sums over the features of a head, so the same permutation on both sides changes no attention weight, and values,
outputs and everything else stay as they are.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pico_schema import ModelSpec, layout
from pico_train.errors import CheckpointError
from pico_train.model.huggingface import expected_shapes, read_config, read_tensors, spec_of

_FIELDS = {
    "vocab_size": "vocab_size",
    "d_model": "d_model",
    "n_layers": "n_layers",
    "n_heads": "attention_n_heads",
    "n_kv_heads": "attention_n_kv_heads",
    "d_ff": "activation_hidden_dim",
    "max_seq_len": "max_seq_len",
    "rope_theta": "position_emb_theta",
    "norm_eps": "norm_eps",
}
_BLOCK = {
    "attention_norm": "input_layernorm",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.o_proj": "self_attn.o_proj",
    "swiglu_norm": "post_attention_layernorm",
    "swiglu.w_0": "mlp.gate_proj",
    "swiglu.w_1": "mlp.up_proj",
    "swiglu.w_2": "mlp.down_proj",
}


def import_pico_v1(directory: Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Return the geometry and the weights, under this decoder's names, of a Pico 1.0 checkpoint.

    Args:
        directory: holds the checkpoint's `config.json` and `model.safetensors`.

    Raises:
        CheckpointError: a file is missing or damaged, or is not a Pico 1.0 model's.
    """
    config = read_config(directory)
    if config.get("model_type") != "pico_decoder":
        raise CheckpointError(
            f"{directory / layout.MODEL_CONFIG}: model_type is {config.get('model_type')!r}, not 'pico_decoder': "
            "this is no Pico 1.0 checkpoint; models of other makers are not trained on, but measured: "
            "`pico-analyze list`, `capture` and `convert` take this directory"
        )
    missing = [theirs for theirs in _FIELDS.values() if theirs not in config]
    if missing:
        raise CheckpointError(f"{directory / layout.MODEL_CONFIG} has no {', '.join(missing)}: it is incomplete")
    spec = spec_of({ours: config[theirs] for ours, theirs in _FIELDS.items()}, directory / layout.MODEL_CONFIG)
    names = _names(spec)
    ours = expected_shapes(spec)
    theirs = read_tensors(directory / layout.WEIGHTS, {names[name]: shape for name, shape in ours.items()})
    weights = {name: theirs[names[name]] for name in ours}
    for name in weights:
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weights[name] = half_split_rows(weights[name], spec.head_dim)
    return spec, weights


def half_split_rows(matrix: Tensor, head_dim: int) -> Tensor:
    """Return a query or key matrix, (heads · C, D), with each head's rows 0, 1, 2, 3, … put as 0, 2, …, 1, 3, ….

    A rotation of interleaved pairs of the old rows is then a rotation of the pairs (i, i + C/2) of the new ones.
    """
    pairs = matrix.reshape(-1, head_dim // 2, 2, matrix.shape[1])
    return pairs.transpose(1, 2).flatten(0, 2).contiguous()


def _names(spec: ModelSpec) -> dict[str, str]:
    """Pico 1.0's tensor name of each of our parameters."""
    names = {
        "model.embed_tokens.weight": "pico_decoder.embedding_proj.weight",
        "model.norm.weight": "pico_decoder.output_norm.weight",
        "lm_head.weight": "pico_decoder.de_embedding_proj.weight",
    }
    for layer in range(spec.n_layers):
        for theirs, ours in _BLOCK.items():
            names[f"model.layers.{layer}.{ours}.weight"] = f"pico_decoder.layers.{layer}.{theirs}.weight"
    return names
