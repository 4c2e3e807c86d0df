"""Runs as the contract has them, made without training: small, seeded, whole; for tests of publishing and reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from pico_conformance.rows import draw_rows, rows_parquet, tokenizer_json
from pico_schema import (
    Capture,
    CheckpointEntry,
    CheckpointManifest,
    DataCursor,
    DataFingerprint,
    FileEntry,
    ModelSpec,
    Producer,
    RunManifest,
    ValidationRows,
    documents,
    layout,
    read_run,
    sites,
)
from pico_schema.digests import samples_sha256, sha256_file

TINY = ModelSpec(vocab_size=64, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=32, max_seq_len=16)
CAPTURED = ("attn.v", "attn.o", "mlp.down")
PRODUCER = Producer(name="pico-train", version="2.0.0")
BATCH = 4
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def write_run(
    root: Path,
    name: str = "demo",
    steps: Sequence[int] = (0, 1, 2),
    *,
    spec: ModelSpec = TINY,
    seed: int = 0,
    n_samples: int = 24,
    max_steps: int | None = None,
    run_id: str | None = None,
) -> Path:
    """Write a run with sealed checkpoints at `steps` under `root`; returns its directory.

    Weights, captures and batches are random numbers of (seed, step): different at every step, the same on every call.

    Args:
        n_samples: Rows of each activation matrix, an even number: two positions of every row kept.
    """
    run_dir = root / name
    (run_dir / layout.CHECKPOINTS).mkdir(parents=True)
    last = max(steps) if max_steps is None else max_steps
    stored = rows_parquet(_validation(spec, seed, n_samples), number="row", source="val")
    (run_dir / layout.VALIDATION_ROWS).write_bytes(stored)
    run = RunManifest(
        id=run_id or hashlib.sha256(f"{name}:{seed}".encode()).hexdigest()[:32],
        name=name,
        created=BEGUN,
        producer=PRODUCER,
        seed=seed,
        model=spec,
        data=_fingerprint(spec),
        config={"name": name, "training": {"max_steps": last, "batch_size": BATCH, "optimizer": {"lr": 3e-4}}},
        validation=ValidationRows(
            size=len(stored), sha256=hashlib.sha256(stored).hexdigest(), n_rows=len(_validation(spec, seed, n_samples))
        ),
    )
    documents.write(run_dir / layout.RUN_MANIFEST, run)
    (run_dir / layout.RUN_CONFIG).write_text(f"name: {name}\ntraining:\n  max_steps: {last}\n")
    (run_dir / layout.METRICS_LOG).write_text("")
    for step in steps:
        add_checkpoint(run_dir, step, n_samples=n_samples)
    return run_dir


def add_checkpoint(run_dir: Path, step: int, *, n_samples: int = 24) -> Path:
    """Seal one more checkpoint of a run; returns its directory."""
    run = read_run(run_dir)
    spec, rng = run.model, np.random.default_rng((run.seed, step))
    with (run_dir / layout.METRICS_LOG).open("a") as log:
        log.write(json.dumps({"step": step, "loss": _loss(step), "lr": 3e-4}) + "\n")
    positions = (spec.max_seq_len // 2 - 1, spec.max_seq_len - 1)
    kept = n_samples // len(positions)
    batch = draw_rows(np.random.default_rng((run.seed, step, 1)), kept, spec.max_seq_len + 1, spec.vocab_size)
    captured_rows = {
        "train": (batch, range(kept)),
        "val": (_validation(spec, run.seed, n_samples), range(1, 2 * kept, 2)),
    }
    every = sites.expand(sites.WEIGHTED_KINDS, spec.n_layers)
    weights = {sites.llama_parameter(s): _normal(rng, spec.weight_shape(s.kind)) for s in every}
    for layer in range(spec.n_layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{layer}.{norm}.weight"] = np.ones(spec.d_model, np.float32)
    files = {
        layout.WEIGHTS: save(weights, metadata={"format": "pt"}),
        layout.MODEL_CONFIG: json.dumps(_llama_config(spec), indent=1).encode(),
        layout.GENERATION_CONFIG: b'{"do_sample": false}\n',
        layout.TOKENIZER: tokenizer_json(),
        layout.TOKENIZER_CONFIG: b'{"model_max_length": 16}\n',
        f"{layout.TRAINING_STATE}/state.pt": rng.bytes(4096),
        layout.TRAIN_BATCH: rows_parquet(batch, number="row_id", source="train"),
    }
    captured = sites.expand(CAPTURED, spec.n_layers)
    captures = []
    for split in ("train", "val"):
        tensors = {
            layout.activation_tensor(s): _normal(rng, (n_samples, spec.activation_width(s.kind))) for s in captured
        }
        tensors |= {layout.gradient_tensor(s): _normal(rng, spec.weight_shape(s.kind)) for s in captured}
        ids, rows = captured_rows[split]
        samples = samples_sha256(ids[list(rows)].tobytes(), (kept, ids.shape[1]), positions)
        path = layout.captures_file(split)
        files[path] = save(tensors, metadata={"rows": json.dumps(list(rows))})  # several would come in any order
        names = tuple(map(str, captured))
        captures.append(
            Capture(
                split=split,
                file=path,
                dtype="float32",
                activations=names,
                gradients=names,
                n_rows=kept,
                positions=positions,
                samples_sha256=samples,
                loss=_loss(step),
            )
        )
    directory = run_dir / layout.checkpoint_dir(step)
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    tokens = step * BATCH * spec.max_seq_len
    manifest = CheckpointManifest(
        run_id=run.id,
        run_name=run.name,
        step=step,
        tokens_seen=tokens,
        created=BEGUN + timedelta(seconds=step),
        producer=PRODUCER,
        seed=run.seed,
        model=spec,
        data=run.data,
        cursor=DataCursor(epoch=0, row=step * BATCH, batch_size=BATCH),
        batch_sha256=hashlib.sha256(files[layout.TRAIN_BATCH]).hexdigest(),
        captures=tuple(captures),
        weights={str(s): sites.llama_parameter(s) for s in every},
        weights_sha256=hashlib.sha256(files[layout.WEIGHTS]).hexdigest(),
        metrics={"train_loss": _loss(step), "val_loss": _loss(step) + 0.1},
        files={p: FileEntry(size=len(c), sha256=hashlib.sha256(c).hexdigest()) for p, c in files.items()},
    )
    documents.write(directory / layout.MANIFEST, manifest)
    digest = sha256_file(directory / layout.MANIFEST)
    entry = CheckpointEntry(step=step, tokens_seen=tokens, manifest_sha256=digest)
    documents.write(run_dir / layout.RUN_MANIFEST, run.with_checkpoint(entry))
    return directory


def _validation(spec: ModelSpec, seed: int, n_samples: int) -> np.ndarray:
    """The run's validation rows, of which its captures keep every other one."""
    return draw_rows(np.random.default_rng((seed, 1 << 20)), n_samples, spec.max_seq_len + 1, spec.vocab_size)


def _fingerprint(spec: ModelSpec) -> DataFingerprint:
    digest = hashlib.sha256(b"data").hexdigest()
    return DataFingerprint(
        source="stdlib", sha256=digest, n_rows=10_000, seq_len=spec.max_seq_len, vocab_size=spec.vocab_size
    )


def _loss(step: int) -> float:
    """A loss that falls from 4.16 (= ln 64, the tiny vocabulary)."""
    return round(4.16 / (1 + 0.05 * step), 6)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _llama_config(spec: ModelSpec) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": spec.d_model,
        "intermediate_size": spec.d_ff,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads,
        "num_key_value_heads": spec.n_kv_heads,
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.max_seq_len,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
