"""A run as Pico 1.0 laid it out, small: three steps, captures as pickles, the last step without a train split."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import torch
import yaml
from safetensors.torch import save_file

D, H, KV, FF, V, LAYERS = 16, 4, 2, 32, 50, 2
SUFFIXES = {"attention.v_proj": (D // 2, D), "attention.o_proj": (D, D), "swiglu.w_2": (D, FF)}
PREFIX = "_forward_module."


def captured(step: int, split: str, data: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    tensors = {}
    for layer in range(LAYERS):
        for number, (suffix, shape) in enumerate(SUFFIXES.items()):
            seed = hash((step if data != "weights" else -1, split == "val", data, layer, number)) % 2**31
            generator = torch.Generator().manual_seed(seed)
            size = (48 if split == "val" else 16, shape[0]) if data == "activations" else shape
            value = torch.randn(size, generator=generator)
            tensors[f"{PREFIX}layers.{layer}.{suffix}"] = value.to(dtype if data == "activations" else torch.float32)
    return tensors


def write_pico_v1(root: Path) -> Path:
    """Write it to `root`."""
    config = {
        "checkpointing": {
            "run_name": "old-run",
            "learning_dynamics": {"layer_suffixes": list(SUFFIXES), "sequence_idx": -1, "batch_size": 8},
        },
        "data": {"dataloader": {"batch_size": 4}},
        "model": {"d_model": D},
    }
    root.mkdir(parents=True)
    (root / "training_config.yaml").write_text(yaml.safe_dump(config))
    for step in (0, 10, 20):
        directory = root / "checkpoints" / f"step_{step}"
        dynamics = directory / "learning_dynamics"
        dynamics.mkdir(parents=True)
        model = {"d_model": D, "attention_n_heads": H, "attention_n_kv_heads": KV, "n_layers": LAYERS}
        model |= {"activation_hidden_dim": FF, "vocab_size": V, "max_seq_len": 8, "model_type": "pico_decoder"}
        (directory / "config.json").write_text(json.dumps(model))
        weights = captured(step, "val", "weights")
        renamed = {name.replace(PREFIX, "pico_decoder.") + ".weight": value for name, value in weights.items()}
        save_file(renamed, directory / "model.safetensors")
        for split in ("train", "val"):
            if (step, split) == (20, "train"):
                continue  # Pico 1.0 left its last step without a train split
            for data in ("activations", "gradients", "weights"):
                torch.save(captured(step, split, data, torch.bfloat16), dynamics / f"{split}_{data}.pt")
        batch = pa.table({"input_ids": [[step, 1, 2], *([3, row, 5] for row in range(15))], "text": ["a"] * 16})
        (dynamics / "train_data").mkdir()
        shard = str(dynamics / "train_data" / "data-00000-of-00001.arrow")
        with pa.OSFile(shard, "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_table(batch)
    return root
