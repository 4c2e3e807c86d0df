"""What the tools of others are given: a run of a few steps, as it stands on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny import config, write_text

from pico_schema import layout


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run of two layers, with captures at all sites and positions."""
    from pico_train import train

    out = tmp_path_factory.mktemp("ecosystem")
    sites = ["attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down", "resid", "norm.final", "head"]
    changes = {"training__max_steps": 6, "captures__sites": sites, "captures__train": {"positions": "all"}}
    summary = train(config(out, write_text(out), **changes))
    return summary.run_dir / layout.checkpoint_dir(6)


@pytest.fixture(scope="session")
def rows(checkpoint: Path):
    """(B, T) token ids that the captures were made on, int64."""
    import pyarrow.parquet as pq
    import torch

    table = pq.read_table(checkpoint / layout.TRAIN_BATCH)
    return torch.tensor(table["input_ids"].to_pylist())[:, :-1]


@pytest.fixture(scope="session")
def captured(checkpoint: Path):
    """Site → activation, (B, T, features) float32, as it was captured in training."""
    import pyarrow.parquet as pq
    import safetensors.torch

    n_rows = pq.read_metadata(checkpoint / layout.TRAIN_BATCH).num_rows
    tensors = safetensors.torch.load_file(checkpoint / layout.captures_file("train"))
    return {
        name.partition("/")[2]: tensor.unflatten(0, (n_rows, -1)).float()
        for name, tensor in tensors.items()
        if name.startswith("activations/")
    }
