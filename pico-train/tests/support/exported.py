"""A checkpoint as a run exports it, for the tools of others: a small decoder and a tokenizer; and how it is sealed."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from pico_schema import CheckpointManifest, FileEntry, ModelSpec, documents, layout
from pico_schema.digests import sha256_file
from pico_train.model.decoder import Decoder
from pico_train.model.huggingface import checkpoint_files
from support import small_run
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


def seal(directory: Path, **changes: object) -> Path:
    """Write the manifest of an exported checkpoint; `changes` are fields of it that shall be otherwise."""
    files = {
        path.name: FileEntry(size=path.stat().st_size, sha256=sha256_file(path))
        for path in directory.iterdir()
        if path.name != layout.MANIFEST
    }
    fields = {
        **small_run.contents(0).manifest,
        "step": 0,
        "model": SPEC,
        "weights": {"embed": "model.embed_tokens.weight"},
        "weights_dtype": "float32",
        "files": files,
        "weights_sha256": files[layout.WEIGHTS].sha256,
    }
    documents.write(directory / layout.MANIFEST, CheckpointManifest(**{**fields, **changes}))
    return directory
