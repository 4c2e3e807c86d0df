"""From the state of a run at one step to what the writer seals: copies to the host, digests, names.

All processes call `assemble` together (sharded weights are gathered); only rank 0 gets tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from pico_schema import Capture, DataCursor, Producer, RunManifest, layout
from pico_schema.digests import samples_sha256
from pico_schema.sites import WEIGHTED_KINDS, Site, expand, llama_parameter
from pico_train.checkpoint import state
from pico_train.checkpoint.contents import BatchContents, CaptureContents, CheckpointContents
from pico_train.config import RunConfig
from pico_train.data import order
from pico_train.data.corpus import Corpus
from pico_train.data.loader import Batch
from pico_train.data.tokenizer import decode_rows
from pico_train.errors import NonFiniteError
from pico_train.finite import first_nonfinite
from pico_train.model.huggingface import checkpoint_files
from pico_train.schedules import learning_rate
from pico_train.training.capture import SampleIndex
from pico_train.training.divergence import is_finite
from pico_train.training.engine import Engine
from pico_train.training.forward_backward import Captured
from pico_train.training.step import Snapshot
from pico_train.version import __version__

PRODUCER = Producer(name="pico-train", version=__version__)


def assemble(
    engine: Engine, config: RunConfig, corpus: Corpus, run: RunManifest, snapshot: Snapshot, *, group: Any = None
) -> CheckpointContents:
    """Copy everything a checkpoint holds off the running model. A collective.

    Args:
        engine: The model after `step` updates.
        config: The run.
        corpus: Gives the rows of the batch and their text.
        run: Identity of the run.
        snapshot: What the loop measured and captured.
        group: Process group for writing sharded states in the background.

    Raises:
        NonFiniteError: weights, state or captures hold a NaN or an infinity; raised on every process.
    """
    step, due = snapshot.batch.step, snapshot.due
    weights = state.snapshot_weights(engine.decoder)
    training_state: Any = None
    if due.state:
        common = state.progress(
            step=step,
            lr=learning_rate(
                step,
                peak=config.training.optimizer.lr,
                max_steps=config.training.max_steps,
                **config.training.schedule.model_dump(),
            ),
            cursor=cursor(snapshot.batch, corpus),
            rng=engine.gather(state.rng_state()),
            scaler=engine.scaler.state_dict() if engine.scaler is not None else None,
        )
        training_state = state.snapshot_training_state(engine.decoder, engine.optimizer, common, group=group)
    if not engine.is_rank_zero:
        contents = CheckpointContents(step=step, manifest={}, weights={}, training_state=training_state)
        _require_finite(engine, contents)
        return contents

    ids, rows = snapshot.batch.row_ids, snapshot.batch.global_rows()
    captures = []
    if "train" in snapshot.captured:
        captures.append(capture_contents("train", snapshot.captured["train"], rows, step))
    if "val" in snapshot.captured:
        validation = corpus.validation(config.data.val_rows)
        captures.append(capture_contents("val", snapshot.captured["val"], validation, step))
    measured = snapshot.measured
    known = {"train_loss": measured.loss, "val_loss": measured.val_loss, "grad_norm": measured.grad_norm}
    manifest: dict[str, Any] = {
        "run_id": run.id,
        "run_name": run.name,
        "tokens_seen": measured.tokens_seen,
        "created": datetime.now(UTC),
        "producer": PRODUCER,
        "seed": config.seed,
        "model": engine.decoder.spec,
        "data": corpus.fingerprint,
        "cursor": cursor(snapshot.batch, corpus),
        "batch_sha256": snapshot.batch.digest,
        "weights": {str(site): name for site, name in weight_names(engine).items()},
        "weights_dtype": str(next(iter(weights.values())).dtype).removeprefix("torch."),
        "metrics": {name: value for name, value in known.items() if is_finite(value)},
    }
    contents = CheckpointContents(
        step=step,
        manifest=manifest,
        weights=weights,
        hf_files=checkpoint_files(
            engine.decoder.spec, manifest["weights_dtype"], corpus.tokenizer_dir, eos_id=corpus.eos_id
        ),
        training_state=training_state,
        captures=captures,
        batch=BatchContents(rows, ids, partial(decode, corpus, rows), snapshot.batch.sources()),
    )
    _require_finite(engine, contents)
    return contents


def _require_finite(engine: Engine, contents: CheckpointContents) -> None:
    """A collective: the shards of a sharded training state are looked at where they are.

    Raises:
        NonFiniteError: on every process, where one found a NaN or an infinity.
    """
    found = contents.nonfinite
    if found is None and callable(contents.training_state):
        found = first_nonfinite(engine.optimizer.state_dict()["state"], "training state")
    if (name := engine.first_said(found)) is not None:
        raise NonFiniteError(f"{name} is not finite at step {contents.step}")


def cursor(batch: Batch, corpus: Corpus) -> DataCursor:
    """Where in the data a step stands whose batch this is."""
    epoch, row = order.cursor(batch.consumed.rows, n_rows=corpus.n_rows)
    return DataCursor(epoch=epoch, row=row, batch_size=len(batch.row_ids))


def capture_contents(split: str, captured: Captured, rows: np.ndarray, step: int) -> CaptureContents:
    """A split's tensors with their entry in the manifest."""
    samples = captured.samples
    names = list(captured.tensors)
    activations = [name.partition("/")[2] for name in names if name.startswith("activations/")]
    gradients = [name.partition("/")[2] for name in names if name.startswith("gradients/")]
    noise = [name.partition("/")[2] for name in names if name.startswith("noise/")]
    dtype = str(captured.tensors[names[0]].dtype).removeprefix("torch.")
    entry = Capture(
        split=split,  # type: ignore[arg-type]
        file=layout.captures_file(split),
        dtype=dtype,  # type: ignore[arg-type]
        activations=tuple(activations),
        gradients=tuple(gradients),
        extras=tuple(name for name in names if not name.startswith(("activations/", "gradients/", "noise/"))),
        n_rows=len(samples.rows),
        positions=samples.positions,
        samples_sha256=samples_digest(rows, samples),
        loss=captured.loss,
        noise=tuple(noise),
    )
    metadata = {
        "step": str(step),
        "rows": json.dumps(samples.rows),
        "positions": json.dumps(samples.positions),
        "samples_sha256": entry.samples_sha256,
    }
    return CaptureContents(entry, captured.tensors, metadata)


def samples_digest(rows: np.ndarray, samples: SampleIndex) -> str:
    """SHA-256 over the token rows that were kept and the positions: what the samples are, in their order."""
    kept = np.ascontiguousarray(rows[list(samples.rows)], dtype="<i4")
    return samples_sha256(kept.tobytes(), (len(kept), kept.shape[1]), samples.positions)


def weight_names(engine: Engine) -> Mapping[Site, str]:
    """Site → name of its tensor in the weights file, for every site that has a weight."""
    spec = engine.decoder.spec
    names = {site: llama_parameter(site) for site in expand(WEIGHTED_KINDS, spec.n_layers)}
    if spec.tie_embeddings:
        names[Site(None, "head")] = names[Site(None, "embed")]
    return names


def decode(corpus: Corpus, rows: np.ndarray) -> list[str]:
    """Each row as text, special tokens included; empty texts where the data came without a tokenizer."""
    return [""] * len(rows) if corpus.tokenizer_dir is None else decode_rows(corpus.tokenizer_dir, rows)
