"""A checkpoint that came from elsewhere, as a run of this layout with one sealed checkpoint.

What such a checkpoint cannot know (the data it was trained on, the seed) is said to be unknown, not invented.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pico_schema import DataCursor, DataFingerprint, ModelSpec, Producer, RunManifest, documents, layout
from pico_schema.files import replace_file
from pico_schema.sites import WEIGHTED_KINDS, expand, llama_parameter
from pico_train.checkpoint.contents import CheckpointContents
from pico_train.checkpoint.lock import RunLock
from pico_train.checkpoint.repair import check_new_or_begun
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.errors import CheckpointError, StorageError, UsageError
from pico_train.finite import first_nonfinite
from pico_train.model.huggingface import checkpoint_files, stored_dtype
from pico_train.model.pico_v1 import import_pico_v1
from pico_train.version import __version__


def import_checkpoint(directory: Path, run_dir: Path, *, step: int | None = None) -> Path:
    """Turn a checkpoint of Pico 1.0 into a run, or add it to the run that earlier imports made.

    Args:
        directory: Holds `model.safetensors` and `config.json`; a tokenizer beside them is taken along.
        run_dir: The run to make; its last part is the run's name.
        step: Updates done; by default what the directory's name says (`step_20`), else 0.

    Returns:
        The directory of the sealed checkpoint.

    Raises:
        CheckpointError: not a Pico 1.0 checkpoint, or one with a NaN or an infinity in it; or `run_dir` is a run of
            another model or holds the step already.
        StorageError: the run cannot be written.
    """
    spec, weights = import_pico_v1(directory)
    if (name := first_nonfinite(weights)) is not None:
        raise CheckpointError(
            f"{directory / layout.WEIGHTS}: {name} (its name here) is not finite: such a checkpoint is not imported, "
            "take an earlier one"
        )
    if step is None:
        found = re.search(r"step[_-]([0-9]{1,8})$", directory.resolve().name)
        step = int(found[1]) if found else 0
    layout.check_run_name(run_dir.name)
    target = run_dir / layout.checkpoint_dir(step)
    if target.exists():
        raise CheckpointError(f"{target} is there already and is never overwritten: name another run or --step")
    source = f"pico-v1 import of {directory.resolve().name}"
    try:
        (run_dir / layout.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        with RunLock(run_dir), CheckpointWriter(run_dir) as writer:
            check_new_or_begun(run_dir)
            run = _run(run_dir, spec, source)
            writer.save(_contents(run, spec, weights, directory, step))
    except OSError as error:
        raise StorageError(f"{run_dir}: cannot be written ({error.strerror})") from None
    return target


def _run(run_dir: Path, spec: ModelSpec, source: str) -> RunManifest:
    path = run_dir / layout.RUN_MANIFEST
    if path.exists():
        run = documents.read_run(run_dir)
        if run.model != spec or not run.config.get("imported"):
            raise CheckpointError(f"{run_dir} is another run, or one of another model: name another with --out")
        return run
    run = RunManifest(
        id=uuid.uuid4().hex,
        name=run_dir.name,
        created=datetime.now(UTC),
        producer=Producer(name="pico-train", version=__version__),
        seed=0,
        model=spec,
        data=DataFingerprint(
            source="unknown",
            sha256=hashlib.sha256(source.encode()).hexdigest(),
            n_rows=0,
            seq_len=spec.max_seq_len,
            vocab_size=spec.vocab_size,
            details={"imported": source},
        ),
        config={"imported": source},
    )
    replace_file(path, documents.dump(run))
    return run


def _contents(
    run: RunManifest, spec: ModelSpec, weights: dict[str, Any], directory: Path, step: int
) -> CheckpointContents:
    dtype = stored_dtype(weights)
    files = checkpoint_files(spec, dtype, directory if (directory / layout.TOKENIZER).is_file() else None)
    manifest = {
        "run_id": run.id,
        "run_name": run.name,
        "tokens_seen": 0,
        "created": datetime.now(UTC),
        "producer": run.producer,
        "seed": run.seed,
        "model": spec,
        "data": run.data,
        "cursor": DataCursor(epoch=0, row=0, batch_size=1),
        "weights": {str(site): llama_parameter(site) for site in expand(WEIGHTED_KINDS, spec.n_layers)},
        "weights_dtype": dtype,
    }
    return CheckpointContents(step=step, manifest=manifest, weights=weights, hf_files=files)


def checked_directory(directory: Path) -> Path:
    """The directory, if it is one.

    Raises:
        UsageError: it is not; the message says what it should hold.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory: name the one that holds model.safetensors and config.json")
    return directory
