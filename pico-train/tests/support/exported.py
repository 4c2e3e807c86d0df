"""A checkpoint as a run exports it, for the tools of others: a small decoder and a tokenizer, sealed by no manifest."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from pico_schema import ModelSpec
from pico_train.model.decoder import Decoder
from pico_train.model.huggingface import checkpoint_files
from support.tokenizers_of_all_kinds import CUT, save

SPEC = ModelSpec(vocab_size=704, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=64, max_seq_len=64)


def export(directory: Path, kind: str = "gpt2", **config: object) -> Decoder:
    """Write a checkpoint to `directory`; the decoder that is in it.

    Args:
        directory: Where to.
        kind: The tokenizer's.
        config: More of the tokenizer's configuration.
    """
    tokenizer = save(CUT[kind](), directory.with_name(f"{directory.name}-tokenizer"), **config)
    decoder = Decoder(SPEC)
    decoder.init_weights(0)
    with torch.no_grad():
        for parameter in decoder.parameters():  # as if trained: the likeliest token stands out
            parameter.mul_(8 if parameter.dim() == 2 else 1)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in checkpoint_files(SPEC, "float32", tokenizer).items():
        (directory / name).write_bytes(content)
    tensors = {name: tensor.detach() for name, tensor in decoder.named_parameters()}
    safetensors.torch.save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return decoder.eval()
