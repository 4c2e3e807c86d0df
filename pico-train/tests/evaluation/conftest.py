"""Models that are measured: a small decoder, and transformers' own model of its exported files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pico_schema import ModelSpec
from pico_train.evaluation.scoring import Scorer
from pico_train.model.decoder import Decoder
from pico_train.training.loss import next_token_loss

CONTEXT, VOCABULARY = 16, 40


@pytest.fixture(scope="session")
def decoder() -> Decoder:
    """Random weights, five times as large as at a beginning: losses differ much from token to token."""
    spec = ModelSpec(
        d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=32, vocab_size=VOCABULARY, max_seq_len=CONTEXT
    )
    model = Decoder(spec)
    model.init_weights(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    return model.eval()


def scorer_of(decoder: Decoder, *, chunk: int = 7, rank: int = 0, world_size: int = 1) -> Scorer:
    """A bare decoder as the measures see it; of several processes, what one of them sends stays here."""

    def each(rows: torch.Tensor) -> torch.Tensor:
        losses = torch.empty(rows[:, 1:].shape)
        next_token_loss(decoder, rows, chunk=chunk, reduction="sum", each_BT=losses)
        return losses

    return Scorer(each, decoder.spec.max_seq_len, torch.device("cpu"), rank, world_size)


@pytest.fixture
def scorer(decoder: Decoder) -> Scorer:
    """The decoder, in one process."""
    return scorer_of(decoder)


@pytest.fixture(scope="module")
def held(tmp_path_factory) -> Path:
    """Pairs, and a text that no run is trained on, in the words of `support.tiny`."""
    root = tmp_path_factory.mktemp("held")
    pairs = [("the dog sees a tree.", "the dog tree a sees."), ("one cat likes the tree.", "one the likes cat tree.")]
    lines = [json.dumps({"phenomenon": "order", "sentence_good": g, "sentence_bad": b}) for g, b in pairs]
    (root / "pairs.jsonl").write_text("\n".join(lines))
    texts = [{"text": "the tree then sees one small dog. " * n, "source": s} for n in (1, 4) for s in "ab" * 2]
    (root / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)))
    return root
