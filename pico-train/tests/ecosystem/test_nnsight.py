"""nnsight traces a checkpoint: it reads the activations that were captured in training."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nnsight", reason="nnsight is not installed: make test-ecosystem installs it")

import torch
from transformers import AutoTokenizer

from pico_train import load_decoder


def test_a_trace_reads_what_was_captured(checkpoint: Path, rows, captured) -> None:
    from nnsight import TransformersModel

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = TransformersModel(str(checkpoint), task="text-generation", tokenizer=tokenizer, device_map="cpu")
    with model.trace(rows):
        query = model.model.layers[0].self_attn.q_proj.output.save()
        down = model.model.layers[1].mlp.down_proj.output.save()
        norm = model.model.norm.output.save()
        logits = model.lm_head.output.save()
    # float32 on both sides.
    for site, value in {"layers.0.attn.q": query, "layers.1.mlp.down": down, "norm.final": norm}.items():
        assert torch.allclose(value, captured[site], rtol=1e-4, atol=1e-5), site
    with torch.inference_mode():
        assert torch.allclose(logits, load_decoder(checkpoint)(rows), rtol=1e-4, atol=1e-5)
