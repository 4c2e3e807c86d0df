"""The decoder as a Hugging Face checkpoint: the two JSON files beside the weights, and the way back.

The parameter names are Llama's already (see `model.decoder`), so weights pass through unchanged; this file decides
what `config.json` and `generation_config.json` say, and reads the model of such a directory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pico_schema import ModelSpec, TensorHeaderError, layout, strict_json
from pico_schema.files import read_regular
from pico_schema.tensor_header import TensorHeader, read_file_header
from pico_train.errors import CheckpointError
from pico_train.finite import is_finite
from pico_train.model.decoder import INIT_STD
from pico_train.model.tokenizer_export import ExportedTokenizer, export_tokenizer

MAX_CONFIG_BYTES = 2**20
"""A config.json is a few hundred bytes; one beyond this is not read."""


def checkpoint_files(
    spec: ModelSpec, dtype: str, tokenizer_dir: Path | None, *, eos_id: int | None = None
) -> dict[str, bytes]:
    """Return name → content of everything that transformers needs beside the weights.

    Args:
        spec: the model's geometry.
        dtype: type of the stored weights, as torch names it.
        tokenizer_dir: the tokenizer; None where there is none.
        eos_id: id of the token that ends a text, where no tokenizer says it.

    Raises:
        DataError: the tokenizer is damaged.
    """
    exported = ExportedTokenizer({})
    if tokenizer_dir is not None:
        exported = export_tokenizer(tokenizer_dir, max_seq_len=spec.max_seq_len)
    end, pad = (eos_id, eos_id) if exported.eos_id is None else (exported.eos_id, exported.pad_id)
    ids = {"bos_id": end, "eos_id": end, "pad_id": pad}
    documents = {
        layout.MODEL_CONFIG: config_json(spec, **ids, dtype=dtype),
        layout.GENERATION_CONFIG: generation_config_json(**ids),
    }
    files = {name: json.dumps(content, indent=2).encode() + b"\n" for name, content in documents.items()}
    return files | exported.files


def config_json(
    spec: ModelSpec,
    *,
    bos_id: int | None = None,
    eos_id: int | None = None,
    pad_id: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Return the content of `config.json`: the geometry, as `transformers.LlamaConfig` names it.

    Args:
        spec: the model's geometry.
        bos_id: id of the token that stands before a text, where the tokenizer has one.
        eos_id: id of the token that ends a text, where the tokenizer has one.
        pad_id: id of the token that fills up a batch, where the tokenizer has one.
        dtype: type of the stored weights, as torch names it.
    """
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.d_model,
        "intermediate_size": spec.d_ff,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads,
        "num_key_value_heads": spec.n_kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": spec.max_seq_len,
        "initializer_range": INIT_STD,
        "rms_norm_eps": spec.norm_eps,
        # transformers 4 reads the first of these two, transformers 5 the second.
        "rope_theta": spec.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_theta},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": spec.tie_embeddings,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        # transformers gives the embedding of this token no gradient. Where end of text fills up batches, as most models
        # have it, that would keep fine-tuning from learning when to stop: then generation_config.json alone says it.
        "pad_token_id": None if pad_id == eos_id else pad_id,
        "dtype": dtype,
        "torch_dtype": dtype,
        "use_cache": True,
    }


def generation_config_json(
    *, bos_id: int | None = None, eos_id: int | None = None, pad_id: int | None = None
) -> dict[str, Any]:
    """Return the content of `generation_config.json`: where a text begins and ends, and what fills up a batch."""
    return {"_from_model_config": True, "bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": pad_id}


def load_spec(directory: Path) -> ModelSpec:
    """Return the geometry that a directory's `config.json` describes.

    Raises:
        CheckpointError: no such file, not JSON, too large, or a model that this decoder does not compute.
    """
    config = read_config(directory)
    path = directory / layout.MODEL_CONFIG
    rope = config.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise CheckpointError(f"{path}: rope_parameters is {rope!r}, not an object")
    required = {
        "model_type": (config.get("model_type"), "llama"),
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "attention_bias": (config.get("attention_bias", False), False),
        "mlp_bias": (config.get("mlp_bias", False), False),
        "rope_scaling": (config.get("rope_scaling"), None),
        "rope_type": (rope.get("rope_type", "default"), "default"),
    }
    for key, (found, wanted) in required.items():
        if found != wanted:
            raise CheckpointError(f"{path}: {key} is {found!r}, but this decoder computes {wanted!r} only")
    heads = config.get("num_attention_heads")
    fields = {
        "vocab_size": config.get("vocab_size"),
        "d_model": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "n_heads": heads,
        "n_kv_heads": heads if config.get("num_key_value_heads") is None else config["num_key_value_heads"],
        "d_ff": config.get("intermediate_size"),
        "max_seq_len": config.get("max_position_embeddings", 2048),
        "rope_theta": rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
        "norm_eps": config.get("rms_norm_eps", 1e-6),
        "tie_embeddings": config.get("tie_word_embeddings", False),
    }
    spec = spec_of(fields, path)
    if config.get("head_dim") not in (None, spec.head_dim):
        raise CheckpointError(
            f"{path}: head_dim is {config['head_dim']}, but only {spec.head_dim} = width / heads works"
        )
    return spec


def load_weights(directory: Path, spec: ModelSpec | None = None) -> dict[str, Tensor]:
    """Return the tensors of a directory's `model.safetensors` by parameter name, on the CPU.

    Args:
        directory: holds the weights, and `config.json` where `spec` is not given.
        spec: geometry to check names and shapes against, before any tensor is read.

    Raises:
        CheckpointError: no such file, damaged, or not the weights of that geometry.
    """
    spec = spec or load_spec(directory)
    return read_tensors(directory / layout.WEIGHTS, expected_shapes(spec))


def expected_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a stored model by parameter name; a tied head is stored once."""
    norm = (spec.d_model,)
    block = {
        "input_layernorm": norm,
        "self_attn.q_proj": spec.weight_shape("attn.q"),
        "self_attn.k_proj": spec.weight_shape("attn.k"),
        "self_attn.v_proj": spec.weight_shape("attn.v"),
        "self_attn.o_proj": spec.weight_shape("attn.o"),
        "post_attention_layernorm": norm,
        "mlp.gate_proj": spec.weight_shape("mlp.gate"),
        "mlp.up_proj": spec.weight_shape("mlp.up"),
        "mlp.down_proj": spec.weight_shape("mlp.down"),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": spec.weight_shape("embed")}
    for layer in range(spec.n_layers):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    shapes["model.norm.weight"] = norm
    if not spec.tie_embeddings:
        shapes["lm_head.weight"] = spec.weight_shape("head")
    return shapes


def read_config(directory: Path, name: str = layout.MODEL_CONFIG) -> dict[str, Any]:
    """Return a directory's `config.json`, or another of its JSON files.

    Raises:
        CheckpointError: missing, unreadable, larger than `MAX_CONFIG_BYTES`, or not a JSON object.
    """
    path = directory / name
    try:
        content = read_regular(path, MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes: it is not a model's configuration")
        config = strict_json.parse(content, own=False)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): give a directory that holds a model"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return config


def spec_of(fields: dict[str, Any], path: Path) -> ModelSpec:
    """Return the geometry made of these fields, which came from `path`.

    Raises:
        CheckpointError: a field is missing or impossible; the message names the first one.
    """
    try:
        return ModelSpec.model_validate(fields, strict=True)  # a text, or true, is not a number
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "geometry"
        found = f" (found {str(first['input'])[:40]})" if first["loc"] else ""
        raise CheckpointError(f"{path}: {where}: {first['msg']}{found}") from None


def read_tensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, after checking its header against the names and shapes expected.

    Raises:
        CheckpointError: missing or damaged file, also where tensors overlap or are there twice; tensors that are
            missing or unexpected, one of another shape or type, or one with a value that is not finite.
    """
    try:
        header = read_file_header(path)  # refuses what the library does not: tensors that overlap, or are there twice
        _check_header(path, header, shapes)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in shapes}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, TensorHeaderError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise CheckpointError(f"{path}: tensor {name!r} holds values that are not finite: the model is of no use")
    return tensors


def _check_header(path: Path, header: TensorHeader, shapes: dict[str, tuple[int, ...]]) -> None:
    missing = [name for name in shapes if name not in header.tensors]
    if missing:
        raise CheckpointError(f"{path} has no tensor {_named(missing)}: it is not a model of this geometry")
    unexpected = sorted(header.tensors.keys() - shapes.keys())
    if unexpected:
        raise CheckpointError(f"{path} has a tensor {_named(unexpected)} that this model has no place for")
    for name, shape in shapes.items():
        entry = header.tensors[name]
        if entry.shape != shape:
            raise CheckpointError(f"{path}: tensor {name!r} has shape {entry.shape}, the model needs {shape}")
        if entry.dtype not in ("F64", "F32", "F16", "BF16"):
            raise CheckpointError(f"{path}: tensor {name!r} is of type {entry.dtype}, not floating-point")


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name[:100]) for name in names[:3]) + more


def stored_dtype(tensors: dict[str, Tensor]) -> str:
    """Return the type that all tensors share, as torch names it, or `float32` where they differ."""
    dtypes = {tensor.dtype for tensor in tensors.values()}
    return str(dtypes.pop() if len(dtypes) == 1 else torch.float32).removeprefix("torch.")
