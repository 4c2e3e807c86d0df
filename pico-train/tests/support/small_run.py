"""A run so small that it can be written a thousand times: its directory, and contents that are the same every time."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pico_schema import (
    Capture,
    DataCursor,
    DataFingerprint,
    Evaluation,
    ModelSpec,
    Producer,
    RunManifest,
    documents,
    layout,
)
from pico_schema.digests import sha256_file
from pico_schema.sites import expand, llama_parameter
from pico_train.checkpoint.contents import BatchContents, CaptureContents, CheckpointContents

SPEC = ModelSpec(vocab_size=40, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=12, max_seq_len=4)
RUN_ID = "0123456789abcdef" * 2
WHEN = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
PRODUCER = Producer(name="pico-train", version="0")
DATA = DataFingerprint(source="text", sha256="a" * 64, n_rows=100, seq_len=4, vocab_size=40)


def begin(run_dir: Path, name: str = "small") -> Path:
    """A run's directory as it is before its first checkpoint."""
    (run_dir / layout.CHECKPOINTS).mkdir(parents=True)
    run = RunManifest(
        id=RUN_ID, name=name, created=WHEN, producer=PRODUCER, seed=1, model=SPEC, data=DATA, config={"seed": 1}
    )
    documents.write(run_dir / layout.RUN_MANIFEST, run)
    (run_dir / layout.METRICS_LOG).touch()
    return run_dir


def contents(step: int, *, training_state: bool = True, run_name: str = "small") -> CheckpointContents:
    """The checkpoint of a step: every kind of content, each tensor a function of the step."""
    generator = torch.Generator().manual_seed(step)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    weights = {
        "model.embed_tokens.weight": random(40, 8),
        "model.layers.0.self_attn.v_proj.weight": random(4, 8),
        "model.norm.weight": random(8),
    }
    sites = ("layers.0.attn.v",)
    captures = []
    for split in ("train", "val"):
        entry = Capture(
            split=split, file=layout.captures_file(split), dtype="float32", activations=sites, gradients=sites,
            n_rows=2, positions=(3,), samples_sha256="b" * 64, loss=1.0,
        )  # fmt: skip
        tensors = {f"activations/{sites[0]}": random(2, 4), f"gradients/{sites[0]}": random(4, 8)}
        captures.append(CaptureContents(entry, tensors, {"step": str(step)}))
    state: dict[str, Any] = {
        "version": 1,
        "step": step,
        "optimizer": {"state": {0: {"step": torch.tensor(float(step)), "exp_avg": random(40, 8)}}, "param_groups": []},
        "rng": [{"torch": torch.get_rng_state()[:64] * 0}],
    }
    rows = np.arange(10, dtype=np.int64).reshape(2, 5) + step
    return CheckpointContents(
        step=step,
        manifest={
            "run_id": RUN_ID, "run_name": run_name, "tokens_seen": step * 8, "created": WHEN, "producer": PRODUCER,
            "seed": 1, "model": SPEC, "data": DATA, "cursor": DataCursor(epoch=0, row=step * 2, batch_size=2),
            "weights": {str(site): llama_parameter(site) for site in expand(("embed",), 1)},
            "metrics": {"train_loss": 1.5},
        },
        weights=weights,
        hf_files={layout.MODEL_CONFIG: b"{}\n", layout.TOKENIZER: b'{"version": "1.0"}\n'},
        training_state=state if training_state else None,
        captures=captures,
        batch=BatchContents(rows, np.array([4, 9]) + step, lambda: ["ä", ""], ["one.txt", "two.txt"]),
    )  # fmt: skip


def evaluate(run_dir: Path, step: int, *, manifest_sha256: str | None = None) -> Path:
    """Write an evaluation of a checkpoint, or one of a manifest with this digest; returns its file."""
    manifest = run_dir / layout.checkpoint_dir(step) / layout.MANIFEST
    evaluation = Evaluation(
        run_id=RUN_ID,
        step=step,
        manifest_sha256=manifest_sha256 or sha256_file(manifest),
        created=WHEN,
        producer=PRODUCER,
        tasks={"validation": {"loss": 1.0 + step}},
    )
    path = run_dir / layout.evaluation_file(step)
    path.parent.mkdir(exist_ok=True)
    documents.write(path, evaluation)
    return path


def digest_tree(root: Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file under `root`, its empty directories included."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                found[f"{name}/"] = ""
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def clone(source: Path, target: Path) -> Path:
    """A copy that shares what is never written in place (sealed checkpoints), so that it costs next to nothing."""
    target.mkdir()
    for entry in source.iterdir():
        if entry.is_dir():
            shutil.copytree(entry, target / entry.name, copy_function=_link)
        else:
            shutil.copy2(entry, target / entry.name)
    return target


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
