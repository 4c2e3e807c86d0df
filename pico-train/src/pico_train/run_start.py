"""The start of a run: its directory, its data, and whether it is new, resumes, or is finished already.

Rank 0 decides and writes; the others are told (`on_rank_zero`).
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from lightning_fabric import Fabric

from pico_schema import ConfigChange, Membership, RunManifest, SchemaError, documents, layout
from pico_schema.files import replace_file
from pico_train import environment
from pico_train.checkpoint import changes, losses, resume, set_aside, validation_rows
from pico_train.checkpoint.consumed import Consumed, consumed_before
from pico_train.checkpoint.lock import RunLock
from pico_train.checkpoint.repair import check_new_or_begun
from pico_train.checkpoint.storage import cannot_be_written
from pico_train.config import DataConfig, RunConfig, layers, recorded
from pico_train.counting import counted
from pico_train.data import fingerprint
from pico_train.data.corpus import Corpus, open_corpus
from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.errors import CheckpointError, ConfigError, DataError, PicoTrainError, StorageError
from pico_train.reporter import Reporter
from pico_train.training.snapshot import PRODUCER, decode

T = TypeVar("T")
_MOST_NAMED = 8


@dataclass(frozen=True)
class Start:
    """Where a run begins: decided by rank 0, told to the others."""

    run: RunManifest
    """What the run is."""
    consumed: Consumed
    """What it has consumed: steps, rows, tokens."""
    checkpoint: Path | None
    """The checkpoint to go on from; None for a new run."""
    finished: bool
    """Whether there is nothing left to do."""
    bend: str | None = None
    """What is to be said of the learning rate, if it is not the one that the run was to have at this step."""

    @property
    def step(self) -> int:
        """Updates done."""
        return self.consumed.step


def on_rank_zero(fabric: Fabric, work: Callable[[], T]) -> T:
    """What `work` returns on rank 0, on all processes; so too what it raises. A collective."""
    if fabric.world_size == 1:
        return work()
    told: Any = None
    if fabric.global_rank == 0:
        try:
            told = (work(), None)
        except (PicoTrainError, SchemaError) as error:
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
        CheckpointError: another process trains this run; or the directory holds what is left of one.
        ConfigError: publishing is not possible, or the tokenizer is larger than the model's vocabulary.
        DataError: too little data.
        StorageError: the directory cannot be made.
    """
    _make_directory(run_dir)
    try:
        stack.enter_context(RunLock(run_dir))
    except OSError as error:
        raise StorageError(cannot_be_written(run_dir, error)) from None
    check_new_or_begun(run_dir)
    _check_publishing(config, run_dir, reporter)
    with reporter.working("preparing the data"):
        _check_fit(config, open_run_data(config, run_dir, reporter.say))


def open_run_data(config: RunConfig, run_dir: Path, progress: Callable[[str], None] = lambda _: None) -> ShardCorpus:
    """The corpus of a run; for one that was begun on a Hub repository, at the commit that it was begun with.

    Args:
        config: The run.
        run_dir: Where it is, or will be.
        progress: Called with a sentence now and then, and with what is to be known of the data.
    """
    return open_corpus(_data_section(config, run_dir), progress=progress)


def begin(
    config: RunConfig, run_dir: Path, corpus: Corpus, *, override: bool, suite: Membership | None = None
) -> Start:
    """Begin a new run, or find out where a begun one stands. Rank 0 only.

    Raises:
        ConfigError: the run was begun with another configuration.
        DataError: the run was begun with other data.
        CheckpointError: none of its checkpoints is usable, or its directory does not tell of one run.
        StorageError: its documents cannot be written.
    """
    try:
        if not (run_dir / layout.RUN_MANIFEST).exists():
            return _begin_new(config, run_dir, corpus, suite)
        return _go_on(config, run_dir, corpus, override=override, suite=suite)
    except OSError as error:
        raise StorageError(cannot_be_written(run_dir, error)) from None


def with_whole_warmup(config: RunConfig, run_dir: Path) -> RunConfig:
    """The configuration with its warm-up in steps, which are those of the run if it is begun already. Rank 0 only.

    Raises:
        ConfigError: the run's warm-up leaves nothing of a shorter run.
    """
    begun = documents.read_run(run_dir) if (run_dir / layout.RUN_MANIFEST).is_file() else None
    return recorded.with_whole_warmup(config, begun)


def _begin_new(config: RunConfig, run_dir: Path, corpus: Corpus, suite: Membership | None) -> Start:
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
        suite=suite,
    )
    run = _store_validation(config, run_dir, run, corpus)
    _write_run(run_dir, run)
    return Start(run, Consumed(), None, finished=False)


def _go_on(config: RunConfig, run_dir: Path, corpus: Corpus, *, override: bool, suite: Membership | None) -> Start:
    resume.reconcile(run_dir)
    set_aside.forget_repeated(run_dir)
    run = documents.read_run(run_dir)
    _warn_of_losses(run_dir, run)
    newest = resume.newest_complete(run_dir)
    consumed = consumed_before(newest.manifest) if newest else Consumed()
    begun_with = newest.manifest.data if newest else run.data
    other_data = bool(fingerprint.check_unchanged(begun_with, corpus.fingerprint, allow=override))
    before, kept, later = changes.configuration_at(run.config, run.changes, consumed.step)
    now = config.model_dump(mode="json")
    changed = changes.accept_changes(
        changes.config_changes(recorded.completed(before), now),
        step=consumed.step,
        when=datetime.now(UTC),
        override=override,
    )
    if other_data:
        changed = (*changed, changes.data_change(begun_with, corpus.fingerprint, step=consumed.step))
        consumed = Consumed(consumed.step, 0, consumed.tokens)
    finished = consumed.step >= config.training.max_steps
    if not (finished or changed or later):
        finished = _has_arrived(run_dir, config.training.max_steps)
    found = run
    idle: tuple[ConfigChange, ...] = ()
    if finished:
        _refuse_shorter(config, run, consumed.step)
        changed, idle = changes.divide_finished(changed)
        now = changes.applied(before, changed)
        _say_idle(run_dir, idle)
    else:
        _set_aside(run_dir, newest.step if newest else None, changed, later)
        found = documents.read_run(run_dir)
    if not idle:
        found = _store_validation(config, run_dir, found, corpus)
    if changed or later:
        data = run.data if finished else corpus.fingerprint
        found = found.model_copy(update={"changes": (*kept, *changed), "config": now, "data": data})
    if suite is not None and found.suite != suite:
        found = found.model_copy(update={"suite": suite})
    if found != run:
        _write_run(run_dir, found)
    bend = None if finished else recorded.bend(before, config, consumed.step)
    if bend is not None:
        warnings.warn(bend, RuntimeWarning, stacklevel=2)
    return Start(found, consumed, newest.directory if newest else None, finished, bend)


def _refuse_shorter(config: RunConfig, run: RunManifest, step: int) -> None:
    """A run that has come further than it is now to come has been trained so far all the same.

    Raises:
        ConfigError: it has.
    """
    done = max([step, *(entry.step for entry in run.checkpoints[-1:])])
    if config.training.max_steps < done:
        raise ConfigError(
            f"training.max_steps={config.training.max_steps} is less than the {counted(done, 'step')} that the run "
            f"{run.name} has come to, and nothing is undone: leave it as it was, or train a shorter run under another "
            "name with --name"
        )


def _say_idle(run_dir: Path, idle: tuple[ConfigChange, ...]) -> None:
    """Name the changes that a finished run does not record."""
    if idle:
        fields = ", ".join(f"{change.field}={change.after!r}"[:80] for change in idle[:4])
        more = f" and {len(idle) - 4} more" if len(idle) > 4 else ""
        warnings.warn(
            f"{run_dir} is finished: {fields}{more} changes nothing, and is not recorded", RuntimeWarning, stacklevel=2
        )


def _warn_of_losses(run_dir: Path, run: RunManifest) -> None:
    """Say what the run had and has no more; where nothing is left of its checkpoints, stop."""
    lost = losses.find(run_dir, run)
    if run.checkpoints and not any(True for _ in documents.checkpoint_dirs(run_dir)):
        raise CheckpointError(
            f"{run_dir}: {layout.RUN_MANIFEST} lists {counted(len(run.checkpoints), 'checkpoint')} and none "
            f"is there: put back what is missing, or accept the loss with `pico-train repair {run_dir} "
            "--accept-losses` and begin anew"
        )
    for loss in lost[:_MOST_NAMED]:
        warnings.warn(f"{run_dir}: {loss.detail}", RuntimeWarning, stacklevel=2)
    if lost:
        warnings.warn(
            f"{run_dir}: {counted(len(lost), 'loss', 'losses')}: put back what is missing, or accept it "
            f"with `pico-train repair {run_dir} --accept-losses`",
            RuntimeWarning,
            stacklevel=2,
        )


def _has_arrived(run_dir: Path, max_steps: int) -> bool:
    """Whether the last step is sealed and whole, though training cannot go on from it: there is nothing left to do."""
    run = documents.read_run(run_dir)
    if not run.checkpoints or run.checkpoints[-1].step < max_steps:
        return False
    entry = run.checkpoints[-1]
    return not resume.damage(run_dir / layout.checkpoint_dir(entry.step), manifest_sha256=entry.manifest_sha256)


def _set_aside(
    run_dir: Path, step: int | None, changed: tuple[ConfigChange, ...], later: tuple[ConfigChange, ...]
) -> None:
    """Set aside what the run did after the step that it goes on from, and say so where that is more than the log."""
    fields = ", ".join(f"{change.field}={change.after!r}"[:80] for change in changed[:4])
    reason = f"the run went on from step {step}" if step is not None else "the run began anew"
    moving = any(step is None or number > step for number, _ in documents.checkpoint_dirs(run_dir))
    from pico_train.publish import set_aside as unpublished

    with unpublished.nobody_publishing(run_dir) if moving else nullcontext():
        moved = set_aside.put_aside_after(
            run_dir,
            step,
            reason=reason + (f" under {fields}" if fields else ""),
            changes=later,
            published=lambda steps: unpublished.published_steps(run_dir, steps),
        )
    # the lines after the step are written again; that is worth a word only where they will be others
    if moved is not None and moved.notable and (moved.checkpoints or moved.note.lost or later or changed):
        warnings.warn(moved.sentence, RuntimeWarning, stacklevel=2)


def _store_validation(config: RunConfig, run_dir: Path, run: RunManifest, corpus: Corpus) -> RunManifest:
    """Store the validation rows, unless they are there; the manifest that lists them."""
    ids = corpus.validation(config.data.val_rows)
    if run.validation is not None and validation_rows.damage(run_dir, run) is None:
        stored = validation_rows.read(run_dir, run)
        if np.array_equal(stored.input_ids, ids):
            return run
        reason = "the run went on with other validation rows"
        set_aside.put_file_aside(run_dir, layout.VALIDATION_ROWS, reason=reason)
    rows = validation_rows.StoredRows(ids, decode(corpus, ids), corpus.validation_sources(len(ids)))
    return run.model_copy(update={"validation": validation_rows.write(run_dir, rows)})


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
            f"the corpus has {counted(corpus.n_rows, 'row')} of {config.data.seq_len} tokens, fewer than one batch of "
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


def _write_run(run_dir: Path, run: RunManifest) -> None:
    """Write the configuration twice, for people and in the run's manifest: the same one."""
    config = recorded.read(run.config, f"the run {run.name}")
    replace_file(run_dir / layout.RUN_CONFIG, layers.to_yaml(config).encode())
    replace_file(run_dir / layout.RUN_MANIFEST, documents.dump(run))
