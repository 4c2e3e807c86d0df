"""Lookalikes of published runs, on the loopback Hub: a Pythia, an OLMo and a run of Pico 1.0, to plant mistakes in."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping

import numpy as np
from foreign import LLAMA, NEOX, files
from trainings import PYTHIA, Weights, moving

from pico_conformance import Hub
from pico_conformance.published import put_files

REPO = "tester/lookalike-1m"
D, FF, V = 64, 192, 384

_SIZES = {"hidden_size": D, "intermediate_size": FF, "vocab_size": V, "num_attention_heads": 4}
PYTHIA_CONFIG = NEOX | _SIZES
OLMO_CONFIG = LLAMA | _SIZES | {"model_type": "olmo2", "num_key_value_heads": 4}
PICO_V1_CONFIG = {
    "model_type": "pico_decoder",
    "d_model": D,
    "attention_n_heads": 4,
    "attention_n_kv_heads": 2,
    "n_layers": 2,
    "activation_hidden_dim": FF,
    "vocab_size": V,
    "max_seq_len": 32,
}
OLMO = list(range(1000, 13000, 1000))
"""Steps of an OLMo, of 4,194,304 tokens each."""
PICO_V1 = list(range(0, 4001, 500))


def neox_shapes() -> dict[str, tuple[int, ...]]:
    """Tensors of a GPT-NeoX of two layers."""
    shapes: dict[str, tuple[int, ...]] = {"gpt_neox.embed_in.weight": (V, D), "embed_out.weight": (V, D)}
    shapes |= {f"gpt_neox.final_layer_norm.{x}": (D,) for x in ("weight", "bias")}
    for layer in range(2):
        block = f"gpt_neox.layers.{layer}"
        shapes |= {f"{block}.attention.query_key_value.weight": (3 * D, D), f"{block}.attention.dense.weight": (D, D)}
        shapes |= {f"{block}.mlp.dense_h_to_4h.weight": (FF, D), f"{block}.mlp.dense_4h_to_h.weight": (D, FF)}
        shapes |= {f"{block}.{x}_layernorm.weight": (D,) for x in ("input", "post_attention")}
    return shapes


def llama_shapes() -> dict[str, tuple[int, ...]]:
    """Tensors of a Llama of two layers, whose names OLMo shares."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, D), "lm_head.weight": (V, D)}
    shapes["model.norm.weight"] = (D,)
    for layer in range(2):
        block = f"model.layers.{layer}"
        shapes |= {f"{block}.self_attn.{x}_proj.weight": (D, D) for x in "qkvo"}
        shapes |= {f"{block}.mlp.{x}_proj.weight": (FF, D) for x in ("gate", "up")}
        shapes |= {f"{block}.mlp.down_proj.weight": (D, FF), f"{block}.post_attention_layernorm.weight": (D,)}
    return shapes


def pico_v1_shapes() -> dict[str, tuple[int, ...]]:
    """Tensors of a model of Pico 1.0 of two layers."""
    shapes: dict[str, tuple[int, ...]] = {
        f"pico_decoder.{x}_proj.weight": (V, D) for x in ("embedding", "de_embedding")
    }
    shapes["pico_decoder.output_norm.weight"] = (D,)
    for layer in range(2):
        block = f"pico_decoder.layers.{layer}"
        shapes |= {f"{block}.attention.{x}_proj.weight": (D // (2 if x in "kv" else 1), D) for x in "qkvo"}
        shapes |= {f"{block}.swiglu.w_{n}.weight": (D, FF) if n == 2 else (FF, D) for n in range(3)}
        shapes |= {f"{block}.{x}_norm.weight": (D,) for x in ("attention", "swiglu")}
    return shapes


class Branches:
    """A run with a branch for each step, as its maker would publish it: change what is in it, then `put`.

    Attributes:
        weights: By step.
        names: Branch of each step.
        config: Configuration of each step.
        more: Further files of each step.
        shards: Files of weights.
        dtypes: Type of the weights by step, where it is not float32.
    """

    def __init__(
        self, weights: dict[int, Weights], config: Mapping[str, object], form: str, *, shards: int = 1
    ) -> None:
        self.weights, self.shards = weights, shards
        self.names = {step: form.format(step=step, tokens=round(step * 4_194_304 / 1e9)) for step in weights}
        self.config = {step: dict(config) for step in weights}
        self.more: dict[int, dict[str, bytes]] = {step: {} for step in weights}
        self.dtypes: dict[int, str] = {}
        self.lost: dict[int, str] = {}

    def content(self, step: int) -> dict[str, bytes]:
        """The files of a step."""
        dtype = self.dtypes.get(step, "float32")
        content = files(self.config[step], self.weights[step], shards=self.shards, dtype=dtype) | self.more[step]
        return {name: data for name, data in content.items() if name != self.lost.get(step)}

    def put(self, hub: Hub, repo: str = REPO) -> str:
        """Publish it; returns its address."""
        for step, name in self.names.items():
            put_files(hub, repo, name, self.content(step))
        return f"hf://{repo}"


@functools.lru_cache(maxsize=8)
def _made(shapes: Callable[[], dict[str, tuple[int, ...]]], steps: tuple[int, ...], seed: int) -> dict[int, Weights]:
    found = moving(shapes(), steps, seed=seed, walk=0.003, pull=0.01)
    for weights in found.values():
        for array in weights.values():
            array.flags.writeable = False  # many tests begin from them
    return found


def _moved(shapes: Callable[[], dict[str, tuple[int, ...]]], steps: tuple[int, ...], seed: int) -> dict[int, Weights]:
    """Weights by step, in dictionaries of the caller's own."""
    return {step: dict(weights) for step, weights in _made(shapes, steps, seed).items()}


def pythia(steps: list[int] = PYTHIA, *, seed: int = 0, shards: int = 1) -> Branches:
    """Powers of two, then a constant distance; names tell steps alone."""
    weights = _moved(neox_shapes, tuple(steps), seed)
    return Branches(weights, PYTHIA_CONFIG, "step{step}", shards=shards)


def olmo(steps: list[int] = OLMO, *, seed: int = 0, shards: int = 3) -> Branches:
    """From step 1000 on, in shards; names tell the tokens too, rounded to a billion."""
    weights = _moved(llama_shapes, tuple(steps), seed)
    return Branches(weights, OLMO_CONFIG, "stage1-step{step}-tokens{tokens}B", shards=shards)


def put_pico_v1(hub: Hub, weights: dict[int, Weights], *, repo: str = REPO, branch: str = "pico-run-1") -> str:
    """A branch whose commits are the steps, named by their titles; returns its address."""
    for step, tensors in weights.items():
        content = files(PICO_V1_CONFIG, tensors) | {"pico_decoder.py": b"# code", "step.txt": json.dumps(step).encode()}
        put_files(hub, repo, branch, content, title=f"Saving HF Model -- Step {step}")
    return f"hf://{repo}@{branch}"


def with_nan(weights: Weights, name: str) -> Weights:
    """The weights with one NaN."""
    array = weights[name].copy()
    array.flat[array.size // 2] = np.nan
    return weights | {name: array}
