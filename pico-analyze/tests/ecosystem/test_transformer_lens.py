"""Scores of heads against TransformerLens: its hooks see the patterns, plain loops make the scores of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

pytest.importorskip("transformer_lens", reason="transformer-lens is not installed: make test-ecosystem installs it")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from scipy.stats import entropy
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import pico_analyze
from pico_analyze.probes.induction import SEQUENCES, repeated_tokens

V, LAYERS, HEADS, T = 60, 2, 4, 23


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose attention is far from uniform."""
    path = tmp_path_factory.mktemp("lens") / "m"
    config = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    made.save_pretrained(path)
    words = Tokenizer(WordLevel({f"w{token}": token for token in range(V)}, unk_token="w0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w0", eos_token="w1").save_pretrained(path)
    return path  # TransformerLens wants a tokenizer, whatever it is


@pytest.fixture(scope="module")
def rows(model: Path) -> np.ndarray:
    ids = np.random.default_rng(0).integers(2, V, (5, T + 1))
    pq.write_table(pa.table({"input_ids": ids.tolist()}), model.parent / "rows.parquet")
    return ids


@pytest.fixture(scope="module")
def found(model: Path, rows: np.ndarray) -> dict[tuple[str, int, int], float]:
    """What `behave` measures, by metric, layer and head."""
    del rows
    frame = pico_analyze.behave(model, probes="attention,induction", data=str(model.parent / "rows.parquet"))
    heads = frame[frame["head"].notna()]
    keys = heads[["metric", "layer", "head"]].itertuples(index=False)
    return {
        (str(name), int(layer), int(head)): value
        for (name, layer, head), value in zip(keys, heads["value"], strict=True)
    }


def patterns(model: Path, ids: np.ndarray) -> list[np.ndarray]:
    """Attention of each layer, (B, H, T, T), as TransformerLens sees it."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(model), device="cpu")
    with torch.inference_mode():
        _, cache = bridge.run_with_cache(torch.tensor(ids))
    return [cache[f"blocks.{layer}.attn.hook_pattern"].double().numpy() for layer in range(LAYERS)]


def test_attention_of_each_head(model: Path, rows: np.ndarray, found: dict[tuple[str, int, int], float]) -> None:
    seen = patterns(model, rows[:, :-1])
    for layer, head in itertools.product(range(LAYERS), range(HEADS)):
        a, asking = seen[layer][:, head], range(1, T)
        expected = {
            "attention_entropy": np.mean([[entropy(row[t, : t + 1]) for t in asking] for row in a]),
            "previous_token": np.mean([[row[t, t - 1] for t in asking] for row in a]),
            "sink_mass": np.mean([[row[t, 0] for t in asking] for row in a]),
        }
        for metric, value in expected.items():
            assert found[metric, layer, head] == pytest.approx(value, rel=1e-5, abs=1e-6), (metric, layer, head)


def test_prefix_matching_of_each_head(model: Path, found: dict[tuple[str, int, int], float]) -> None:
    length = 16  # half of what the model reads
    seen = patterns(model, repeated_tokens(V, length, SEQUENCES, seed=0))
    for layer, head in itertools.product(range(LAYERS), range(HEADS)):
        second = range(length, 2 * length)
        expected = np.mean([[row[t, t - length + 1] for t in second] for row in seen[layer][:, head]])
        assert found["prefix_matching", layer, head] == pytest.approx(expected, abs=1e-6)
