"""Models of other makers, small enough to make by the hundred: two blocks of a Llama or a GPT-NeoX, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

D, H, FF, V = 8, 2, 12, 20

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": D,
    "num_attention_heads": H,
    "num_key_value_heads": H,
    "num_hidden_layers": 2,
    "intermediate_size": FF,
    "vocab_size": V,
    "max_position_embeddings": 16,
    "tie_word_embeddings": False,
}
NEOX = {
    "model_type": "gpt_neox",
    "architectures": ["GPTNeoXForCausalLM"],
    "hidden_size": D,
    "num_attention_heads": H,
    "num_hidden_layers": 2,
    "intermediate_size": FF,
    "vocab_size": V,
    "max_position_embeddings": 16,
    "tie_word_embeddings": False,
}


def llama(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of a Llama at its initialisation."""
    shapes = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,), "lm_head.weight": (V, D)}
    for layer in range(2):
        block = f"model.layers.{layer}"
        shapes |= {f"{block}.self_attn.{x}_proj.weight": (D, D) for x in "qkvo"}
        shapes |= {f"{block}.mlp.{x}_proj.weight": (FF, D) for x in ("gate", "up")}
        shapes |= {f"{block}.mlp.down_proj.weight": (D, FF)}
        shapes |= {f"{block}.{x}.weight": (D,) for x in ("input_layernorm", "post_attention_layernorm")}
    return _drawn(shapes, rng)


def neox(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of a GPT-NeoX at its initialisation, as Pythia's."""
    shapes = {"gpt_neox.embed_in.weight": (V, D), "embed_out.weight": (V, D)}
    shapes |= {f"gpt_neox.final_layer_norm.{x}": (D,) for x in ("weight", "bias")}
    for layer in range(2):
        block = f"gpt_neox.layers.{layer}"
        shapes |= {f"{block}.attention.query_key_value.weight": (3 * D, D), f"{block}.attention.dense.weight": (D, D)}
        shapes |= {f"{block}.mlp.dense_h_to_4h.weight": (FF, D), f"{block}.mlp.dense_4h_to_h.weight": (D, FF)}
        shapes |= {f"{block}.attention.dense.bias": (D,)}
    return _drawn(shapes, rng)


def _drawn(shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        name: np.ones(shape, np.float32) if len(shape) == 1 else 0.02 * rng.standard_normal(shape, np.float32)
        for name, shape in shapes.items()
    }


def trained(weights: dict[str, np.ndarray], rng: np.random.Generator, size: float) -> dict[str, np.ndarray]:
    """Weights a little further in a training: each entry moved by `size` in the mean."""
    return {
        name: array + np.float32(size) * rng.standard_normal(array.shape, np.float32) for name, array in weights.items()
    }


def course(steps: list[int], *, make=llama, seed: int = 0) -> dict[int, dict[str, np.ndarray]]:
    """Weights by step of a training that moves less and less."""
    rng = np.random.default_rng(seed)
    found, weights, before = {}, make(rng), 0
    for step in steps:
        if step > before:
            weights = trained(weights, rng, 0.004 * np.sqrt(np.log1p(step) - np.log1p(before)))
        found[step], before = weights, step
    return found


def files(config: dict, weights: dict[str, np.ndarray], *, shards: int = 1, dtype: str = "float32") -> dict[str, bytes]:
    """The files of a checkpoint: one of weights, or several with an index."""
    content = {"config.json": json.dumps(config).encode()}
    arrays = {name: np.ascontiguousarray(array.astype(dtype)) for name, array in weights.items()}
    if shards == 1:
        return content | {"model.safetensors": save(arrays, {"format": "pt"})}
    names = [f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n in range(shards)]
    weight_map = {name: names[n * shards // len(arrays)] for n, name in enumerate(arrays)}
    for file in names:
        content[file] = save({name: arrays[name] for name, of in weight_map.items() if of == file}, {"format": "pt"})
    size = sum(array.nbytes for array in arrays.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    return content | {"model.safetensors.index.json": json.dumps(index).encode()}


def write(path: Path, content: dict[str, bytes]) -> Path:
    """Files in a directory."""
    path.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (path / name).write_bytes(data)
    return path


def write_series(root: Path, named: dict[int, str], *, config: dict = LLAMA, make=llama, **more) -> dict:
    """A folder of checkpoints with these names; returns the weights by step."""
    weights = course(sorted(named), make=make)
    for step, name in named.items():
        write(root / name, files(config, weights[step], **more))
    return weights


def put(system, root: str, named: dict[int, str], **more) -> dict[int, dict[str, np.ndarray]]:
    """A series at a place of fsspec; returns the weights by step."""
    weights = course(sorted(named))
    for step, name in named.items():
        for file, content in files(LLAMA, weights[step], **more).items():
            system.pipe_file(f"{root}/{name}/{file}", content)
    return weights
