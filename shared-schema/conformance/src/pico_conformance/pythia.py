"""A repository that looks like those of Pythia: a branch for each step, a small GPT-NeoX in each, main the last one."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pico_conformance.hub import Hub
from pico_conformance.published import put_files
from pico_conformance.rows import CHARACTERS, tokenizer_json

STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000)


def put_pythia(hub: Hub, repo: str, *, steps: Sequence[int] = STEPS, seed: int = 0) -> None:
    """Commit the steps of a training that never was: each weight moves on by chance, less and less."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(seed)
    tokenizer = tokenizer_json()
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    config = GPTNeoXConfig(
        vocab_size=max(vocabulary.values()) + 8,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    model, before = GPTNeoXForCausalLM(config), 0
    for step in steps:
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim == 2:
                    size = 0.02 * math.sqrt(math.log1p(step) - math.log1p(before))
                    weight.add_(torch.randn_like(weight), alpha=size)
        before = step
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        files |= {"tokenizer.json": tokenizer}
        named = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": CHARACTERS[0], "eos_token": CHARACTERS[0]}
        files |= {"tokenizer_config.json": json.dumps(named).encode()}
        put_files(hub, repo, f"step{step}", files)
    put_files(hub, repo, "main", files)
