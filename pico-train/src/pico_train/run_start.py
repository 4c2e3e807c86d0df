"""The start of a run: its directory, its data, and whether it is new, resumes, or is finished already.

Rank 0 decides and writes; the others are told (`on_rank_zero`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from lightning.fabric import Fabric

from pico_schema import RunManifest, documents, layout
from pico_schema.files import replace_file
from pico_train import environment
from pico_train.checkpoint import changes, metrics_log, resume, validation_rows
from pico_train.checkpoint.lock import RunLock
from pico_train.config import DataConfig, RunConfig, layers
from pico_train.data import fingerprint
from pico_train.data.corpus import Corpus, open_corpus
from pico_train.errors import ConfigError, DataError, PicoTrainError, StorageError
from pico_train.reporter import Reporter
from pico_train.training.snapshot import PRODUCER, decode

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """Where a run begins: decided by rank 0, told to the others."""

    run: RunManifest
    """What the run is."""
    step: int
    """Updates done."""
    checkpoint: Path | None
    """The checkpoint to go on from; None for a new run."""
    finished: bool
    """Whether there is nothing left to do."""


def on_rank_zero(fabric: Fabric, work: Callable[[], T]) -> T:
    """What `work` returns on rank 0, on all processes; so too what it raises. A collective."""
    if fabric.world_size == 1:
        return work()
    told: Any = None
    if fabric.global_rank == 0:
        try:
            told = (work(), None)
        except PicoTrainError as error:
            told = (None, error)
    answer: T
    answer, failure = fabric.broadcast(told)
    if failure is not None:
        failure.everywhere = True
        raise failure
    return answer


def claim(config: RunConfig, run_dir: Path, reporter: Reporter, stack: ExitStack) -> None:
    """Make the run's directory, lock it for as long as `stack` is open, and see to what a run needs. Rank 0 only.

    Raises:
        CheckpointError: another process trains this run.
        ConfigError: publishing is not possible, or the tokenizer is larger than the model's vocabulary.
        DataError: too little data.
        StorageError: the directory cannot be made.
    """
    _make_directory(run_dir)
    stack.enter_context(RunLock(run_dir))
    _check_publishing(config, run_dir, reporter)
    with reporter.working("preparing the data"):
        _check_fit(config, open_run_data(config, run_dir))


def open_run_data(config: RunConfig, run_dir: Path) -> Corpus:
    """The corpus of a run; for one that was begun on a Hub repository, at the commit that it was begun with."""
    return open_corpus(_data_section(config, run_dir))


def begin(config: RunConfig, run_dir: Path, corpus: Corpus, *, override: bool) -> Start:
    """Begin a new run, or find out where a begun one stands. Rank 0 only.

    Raises:
        ConfigError: the run was begun with another configuration.
        DataError: the run was begun with other data.
        CheckpointError: none of its checkpoints is usable.
        StorageError: its documents cannot be written.
    """
    if not (run_dir / layout.RUN_MANIFEST).exists():
        return _begin_new(config, run_dir, corpus)
    return _go_on(config, run_dir, corpus, override=override)


def _begin_new(config: RunConfig, run_dir: Path, corpus: Corpus) -> Start:
    run = RunManifest(
        id=uuid.uuid4().hex,
        name=config.name,
        created=datetime.now(UTC),
        producer=PRODUCER,
        seed=config.seed,
        model=config.spec,
        data=corpus.fingerprint,
        config=config.model_dump(mode="json"),
        environment=environment.describe(),
    )
    run = _store_validation(config, run_dir, run, corpus)
    _write_run(run_dir, run, config)
    return Start(run, 0, None, finished=False)


def _go_on(config: RunConfig, run_dir: Path, corpus: Corpus, *, override: bool) -> Start:
    resume.reconcile(run_dir)
    run = documents.read_run(run_dir)
    fingerprint.check_unchanged(run.data, corpus.fingerprint, allow=override)
    changed = changes.config_changes(run.config, config.model_dump(mode="json"))
    newest = resume.newest_complete(run_dir)
    step = newest.step if newest else 0
    found = _store_validation(config, run_dir, run, corpus)
    if changed:
        accepted = changes.accept_changes(changed, step=step, when=datetime.now(UTC), override=override)
        config_now = config.model_dump(mode="json")
        update = {"changes": (*run.changes, *accepted), "config": config_now, "data": corpus.fingerprint}
        found = found.model_copy(update=update)
    if found != run:
        run = found
        _write_run(run_dir, run, config)
    finished = step >= config.training.max_steps
    if not finished:
        metrics_log.cut(run_dir / layout.METRICS_LOG, first_dropped=step)
    return Start(run, step, newest.directory if newest else None, finished)


def _store_validation(config: RunConfig, run_dir: Path, run: RunManifest, corpus: Corpus) -> RunManifest:
    """Store the validation rows, unless they are there; the manifest that lists them."""
    ids = corpus.validation(config.data.val_rows)
    if run.validation is not None and validation_rows.damage(run_dir, run) is None:
        stored = validation_rows.read(run_dir, run)
        if np.array_equal(stored.input_ids, ids):
            return run
    rows = validation_rows.StoredRows(ids, decode(corpus, ids), corpus.validation_sources(len(ids)))
    try:
        return run.model_copy(update={"validation": validation_rows.write(run_dir, rows)})
    except OSError as error:
        raise StorageError(f"{run_dir}: cannot be written ({error.strerror}): free some space") from None


def _make_directory(run_dir: Path) -> None:
    try:
        (run_dir / layout.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{run_dir}: cannot be created ({error.strerror}); choose another place with --out"
        ) from None


def _check_publishing(config: RunConfig, run_dir: Path, reporter: Reporter) -> None:
    """Fail before training, not at step 1,000, where a checkpoint could not be published."""
    if config.publish.repo is not None:
        from pico_train.publish import check_access

        warning = check_access(config.publish, run_dir)
        if warning is not None:
            reporter.say(f"warning: {warning}")


def _check_fit(config: RunConfig, corpus: Corpus) -> None:
    if corpus.vocab_size > config.model.vocab_size:
        raise ConfigError(
            f"model.vocab_size={config.model.vocab_size} is smaller than the tokenizer's {corpus.vocab_size}: "
            f"--set model.vocab_size={corpus.vocab_size} or more"
        )
    if corpus.n_rows < config.training.batch_size:
        raise DataError(
            f"the corpus has {corpus.n_rows} row(s) of {config.data.seq_len} tokens, fewer than one batch of "
            f"training.batch_size={config.training.batch_size}: add text, or lower batch_size or data.seq_len"
        )


def _data_section(config: RunConfig, run_dir: Path) -> DataConfig:
    """The data's settings, at the commit that the run was begun with."""
    if not (run_dir / layout.RUN_MANIFEST).is_file():
        return config.data
    run = documents.read_run(run_dir)
    if run.config.get("data", {}).get("revision") != config.data.revision:
        return config.data  # another revision is asked for; whether that may be, `begin` decides
    return fingerprint.pinned(config.data, run.data)


def _write_run(run_dir: Path, run: RunManifest, config: RunConfig) -> None:
    try:
        replace_file(run_dir / layout.RUN_CONFIG, layers.to_yaml(config).encode())
        replace_file(run_dir / layout.RUN_MANIFEST, documents.dump(run))
    except OSError as error:
        raise StorageError(f"{run_dir}: cannot be written ({error.strerror}): free some space") from None
