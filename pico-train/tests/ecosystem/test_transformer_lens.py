"""TransformerLens opens a checkpoint: its logits are the decoder's, its hooks see what was captured in training."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformer_lens", reason="transformer-lens is not installed: make test-ecosystem installs it")

import torch

from pico_train import load_decoder

HOOKS = {
    "layers.0.resid": "blocks.0.hook_resid_post",
    "layers.1.resid": "blocks.1.hook_resid_post",
    "layers.1.attn.o": "blocks.1.hook_attn_out",
    "layers.0.mlp.down": "blocks.0.hook_mlp_out",
}


@pytest.fixture(scope="module")
def bridge(checkpoint: Path):
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(str(checkpoint), device="cpu")


def test_logits_are_the_decoders(checkpoint: Path, bridge, rows) -> None:
    with torch.inference_mode():
        ours, theirs = load_decoder(checkpoint)(rows), bridge(rows)
    # float32; the logits' magnitude is 1.
    assert torch.allclose(theirs, ours, rtol=1e-4, atol=1e-5)


def test_hooks_see_what_was_captured(bridge, rows, captured) -> None:
    with torch.inference_mode():
        _, cache = bridge.run_with_cache(rows)
    for site, hook in HOOKS.items():
        assert torch.allclose(cache[hook], captured[site], rtol=1e-4, atol=1e-5), site


def test_text_becomes_the_tokens_of_training(checkpoint: Path, bridge) -> None:
    """With what stood before every document of training as its token of the beginning."""
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    plain = tokens.encode("a dog sees").ids
    assert bridge.to_tokens("a dog sees", prepend_bos=False)[0].tolist() == plain
    assert bridge.to_tokens("a dog sees", prepend_bos=True)[0].tolist() == [tokens.token_to_id("<|endoftext|>"), *plain]
