"""One run, from a configuration to sealed checkpoints. The only file that knows all the others.

    configuration → devices → corpus → new run or resume → model → loop → last words

Every process executes this; what is written is written by rank 0. Collectives stand outside of what only rank 0
does.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.fabric import Fabric

from pico_schema import Evaluation, RunManifest, documents, layout
from pico_train import environment
from pico_train.checkpoint import changes, metrics_log, resume, signals, state
from pico_train.checkpoint.lock import RunLock
from pico_train.checkpoint.metrics_log import MetricsLog
from pico_train.checkpoint.storage import Disk, replace_file
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.config import DataConfig, RunConfig, layers
from pico_train.data import fingerprint
from pico_train.data.corpus import Corpus, open_corpus
from pico_train.data.loader import Batch, Loader
from pico_train.errors import ConfigError, DataError, NonFiniteError, PicoTrainError, StorageError
from pico_train.reporter import Reporter
from pico_train.training.engine import Engine, build_fabric, set_up
from pico_train.training.health import Meter
from pico_train.training.loop import Measured, Outcome, Snapshot, fit
from pico_train.training.snapshot import PRODUCER, assemble
from pico_train.training.tracking import Tracker

T = TypeVar("T")


@dataclass(frozen=True)
class Summary:
    """What came of a run, for people."""

    run_dir: Path
    """Where everything is."""
    steps: int
    """Updates done in all."""
    resumed_at: int | None
    """Step it went on from, None for a new run."""
    was_finished: bool
    """Whether there was nothing left to do."""
    first_loss: float | None
    """Loss of the first logged step, in nats per token."""
    last_loss: float | None
    """Loss of the last logged step."""
    val_loss: float | None
    """Newest validation loss."""
    seconds: float
    """Time from start to end."""
    tokens_per_second: float | None
    """Training speed, captures and checkpoints left out."""
    checkpoints: int
    """Sealed checkpoints."""
    size: int
    """Bytes of the run on disk."""


@dataclass
class _Start:
    """Where a run begins: decided by rank 0, told to the others."""

    run: RunManifest
    step: int
    checkpoint: Path | None
    finished: bool


def train(config: RunConfig, *, override: bool = False, reporter: Reporter | None = None) -> Summary | None:
    """Train a run, or resume it where it stands.

    Args:
        config: The run, resolved.
        override: Go on under a changed configuration that would otherwise be refused.
        reporter: Told of the run's course; by default nothing is said.

    Returns:
        What came of it, on rank 0; None on the others.

    Raises:
        ConfigError, DataError, CheckpointError, StorageError, NonFiniteError: as their docstrings say.
        InterruptedRun: a signal came; the state was saved.
    """
    started = time.perf_counter()
    fabric = build_fabric(config)
    fabric.launch()
    first = fabric.global_rank == 0
    reporter = reporter or Reporter()
    if not first:
        reporter.silence()
    run_dir = Path(config.out) / config.name
    with ExitStack() as stack:
        # From here on a signal means: finish the step, save, stop.
        stop = stack.enter_context(signals.StopRequest())

        def prepare() -> None:
            _make_directory(run_dir)
            stack.enter_context(RunLock(run_dir))
            _check_publishing(config, run_dir, reporter)
            with reporter.working("preparing the data"):
                _check_fit(config, open_corpus(_data_section(config, run_dir), seed=config.sub_seed("data")))

        on_rank_zero(fabric, prepare)
        corpus = open_corpus(_data_section(config, run_dir), seed=config.sub_seed("data"))
        start = on_rank_zero(fabric, lambda: _begin(config, run_dir, corpus, override))
        if start.finished:
            return _summary(run_dir, start, True, started, None) if first else None

        engine = set_up(fabric, config, config.spec)
        state.seed_rng(config.seed, engine.rank)
        if start.checkpoint is not None:
            state.load_weights(engine.decoder, start.checkpoint)
            state.load_training_state(start.checkpoint, engine.decoder, engine.optimizer, rank=engine.rank)
        _introduce(reporter, config, engine, corpus, start)
        outcome, meter = _run_loop(config, engine, corpus, start, stop, reporter)
        if outcome.stopped_by:
            requeued = first and signals.requeue(outcome.stopped_by)
            raise signals.interrupted(outcome.stopped_by, step=outcome.step, requeued=requeued)
    return _summary(run_dir, start, False, started, meter) if first else None


def _run_loop(
    config: RunConfig,
    engine: Engine,
    corpus: Corpus,
    start: _Start,
    stop: signals.StopRequest,
    reporter: Reporter,
) -> tuple[Outcome, Meter]:
    """Open the log, the writer, the publisher and the tracker around the loop; all are closed before this returns."""
    run_dir, run = Path(config.out) / config.name, start.run
    losses: dict[int, float] = {}
    with ExitStack() as inner:
        log = MetricsLog(run_dir / layout.METRICS_LOG) if engine.is_rank_zero else None
        if log is not None:
            inner.callback(log.close)
        tracker = inner.enter_context(_tracking(config, run, run_dir, active=engine.is_rank_zero))
        publisher = inner.enter_context(_publishing(config, run_dir, reporter, active=engine.is_rank_zero))

        def sealed(step: int, directory: Path) -> None:
            if step in losses:
                _write_evaluation(run_dir, run, corpus, config, step, directory, losses[step])
            if publisher is not None:
                publisher.enqueue(step)

        writer = inner.enter_context(
            CheckpointWriter(
                run_dir,
                keep=config.checkpoint.keep,
                metrics_log=log,
                on_sealed=sealed,
                protected=publisher.pending if publisher is not None else None,
                primary=engine.is_rank_zero,
            )
        )
        group = _background_group(engine)
        meter = Meter(engine, config)

        def save(snapshot: Snapshot) -> None:
            if snapshot.measured.val_loss is not None:
                losses[snapshot.batch.step] = snapshot.measured.val_loss
            writer.wait()  # before anything is copied: at most one checkpoint is in memory
            writer.submit(assemble(engine, config, corpus, run, snapshot, group=group))

        def last_good() -> int | None:
            writer.wait()  # what is being written is good as well
            return _last_sealed(run_dir)

        digests: dict[int, str] = {}

        def watched(batches: Iterator[Batch]) -> Iterator[Batch]:
            for batch in batches:
                if config.data.log_digests:
                    digests[batch.step] = batch.digest
                yield batch

        def record(measured: Measured) -> None:
            meter.add(measured)
            every, last = config.monitoring.log_every, config.training.max_steps
            shown = measured.step % every == 0 or measured.step == last
            row: dict[str, Any] = {"step": measured.step, "loss": measured.loss}
            if shown or measured.val_loss is not None or measured.skipped or config.data.log_digests:
                row = meter.row(measured)
                if config.data.log_digests:
                    row["batch_sha256"] = digests.pop(measured.step)
                if log is not None:
                    log.append(row)
                tracker.log(measured.step, row)
            reporter.step(row, shown=shown)

        loader = Loader(
            corpus,
            batch_size=config.training.batch_size,
            order=config.data.order,
            seed=config.sub_seed("data"),
            rank=engine.rank,
            world_size=engine.world_size,
            prefetch=config.data.prefetch,
            device=engine.device,
        )
        with reporter.training(start=start.step, end=config.training.max_steps):
            outcome = fit(
                engine,
                config,
                watched(loader.from_step(start.step, config.training.max_steps + 1)),
                _validation(config, engine, corpus),
                record=record,
                save=save,
                stop_signal=lambda: stop.signal or 0,
                last_good=last_good,
            )
        writer.wait()
        if publisher is not None and outcome.stopped_by:
            publisher.close(timeout=0.0)  # a signal leaves no time; the next run takes up what is pending
    return outcome, meter


def on_rank_zero(fabric: Fabric, work: Callable[[], T]) -> T:
    """What `work` returns on rank 0, on all of them; so too what it raises. A collective."""
    if fabric.world_size == 1:
        return work()
    told: Any = None
    if fabric.global_rank == 0:
        try:
            told = (work(), None)
        except PicoTrainError as error:
            error.everywhere = True
            told = (None, error)
    result, failure = fabric.broadcast(told)
    if failure is not None:
        failure.everywhere = True
        raise failure
    return result


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


def _begin(config: RunConfig, run_dir: Path, corpus: Corpus, override: bool) -> _Start:
    """Begin a new run, or find out where a begun one stands. Rank 0 only."""
    if not (run_dir / layout.RUN_MANIFEST).exists():
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
        _write_run(run_dir, run, config)
        return _Start(run, 0, None, finished=False)

    resume.reconcile(run_dir)
    run = documents.read_run(run_dir)
    fingerprint.check_unchanged(run.data, corpus.fingerprint, allow=override)
    changed = changes.config_changes(run.config, config.model_dump(mode="json"))
    newest = resume.newest_complete(run_dir)
    step = newest.step if newest else 0
    if changed:
        accepted = changes.accept_changes(changed, step=step, when=datetime.now(UTC), override=override)
        run = run.model_copy(
            update={
                "changes": (*run.changes, *accepted),
                "config": config.model_dump(mode="json"),
                "data": corpus.fingerprint,
            }
        )
        _write_run(run_dir, run, config)
    finished = step >= config.training.max_steps
    if not finished:
        metrics_log.cut(run_dir / layout.METRICS_LOG, first_dropped=step)
    return _Start(run, step, newest.directory if newest else None, finished)


def _data_section(config: RunConfig, run_dir: Path) -> DataConfig:
    """The data's settings; for a run that was begun on a Hub repository, at the commit that it was begun with."""
    if not (run_dir / layout.RUN_MANIFEST).is_file():
        return config.data
    run = documents.read_run(run_dir)
    if run.config.get("data", {}).get("revision") != config.data.revision:
        return config.data  # another revision is asked for; whether that may be, `_begin` decides
    return fingerprint.pinned(config.data, run.data)


def _write_run(run_dir: Path, run: RunManifest, config: RunConfig) -> None:
    try:
        replace_file(Disk(), run_dir / layout.RUN_CONFIG, layers.to_yaml(config).encode())
        replace_file(Disk(), run_dir / layout.RUN_MANIFEST, documents.dump(run))
    except OSError as error:
        raise StorageError(f"{run_dir}: cannot be written ({error.strerror}): free some space") from None


def _write_evaluation(
    run_dir: Path, run: RunManifest, corpus: Corpus, config: RunConfig, step: int, checkpoint: Path, loss: float
) -> None:
    """Validation loss of a sealed checkpoint, beside it, unless it is there already (a resumed run evaluates again).

    Perplexity is exp of the mean token loss.
    """
    path = run_dir / layout.evaluation_file(step)
    digest = documents.sha256_file(checkpoint / layout.MANIFEST)
    if path.is_file() and documents.read(path, Evaluation).manifest_sha256 == digest:
        return
    n_tokens = config.data.val_rows * config.data.seq_len
    evaluation = Evaluation(
        run_id=run.id,
        step=step,
        manifest_sha256=digest,
        created=datetime.now(UTC),
        producer=PRODUCER,
        tasks={"validation": {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "n_tokens": n_tokens}},
    )
    path.parent.mkdir(exist_ok=True)
    replace_file(Disk(), path, documents.dump(evaluation))


@contextmanager
def _tracking(config: RunConfig, run: RunManifest, run_dir: Path, *, active: bool) -> Iterator[Tracker]:
    wandb = config.monitoring.wandb
    mode = wandb.mode if active else "disabled"
    tracker = Tracker.start(
        mode=mode, project=wandb.project, entity=wandb.entity, run_id=run.id, name=run.name, directory=run_dir,
        config=run.config,
    )  # fmt: skip
    try:
        yield tracker
    finally:
        tracker.finish()


@contextmanager
def _publishing(config: RunConfig, run_dir: Path, reporter: Reporter, *, active: bool) -> Iterator[Any]:
    if config.publish.repo is None or not active:
        yield None
        return
    from pico_train.publish import PublishStatus, start_publisher

    publisher = start_publisher(run_dir, config.publish, warn=reporter.say)
    try:
        yield publisher
    except BaseException as error:
        if isinstance(error, NonFiniteError):
            publisher.refuse(_last_sealed(run_dir) or 0, str(error))
        publisher.close(timeout=0.0)
        raise
    seen = ""

    def show(status: PublishStatus) -> None:
        nonlocal seen
        if status.pending and status.line != seen:
            reporter.say(f"publishing: {status.line}")
            seen = status.line

    status = publisher.close(progress=show)
    reporter.say(status.line)
    if status.pending:
        reporter.say(f"{len(status.pending)} checkpoint(s) still to be published: pico-train publish {run_dir}")


def _background_group(engine: Engine) -> Any:
    """Under FSDP2, a gloo group of its own for writing shards while training uses the others. A collective."""
    if not state.is_sharded(engine.decoder):
        return None
    import torch.distributed as dist

    return dist.new_group(backend="gloo")


def _validation(config: RunConfig, engine: Engine, corpus: Corpus) -> torch.Tensor:
    """This process's share of the validation rows, on its device."""
    rows = corpus.validation(config.data.val_rows)
    if len(rows) < config.data.val_rows:
        raise DataError(
            f"the held-out part has {len(rows)} row(s), fewer than data.val_rows={config.data.val_rows}: "
            f"--set data.val_rows={max(1, len(rows))}, or name more text"
        )
    share = len(rows) // engine.world_size
    mine = rows[engine.rank * share : (engine.rank + 1) * share]
    return torch.from_numpy(mine).long().to(engine.device)


def _last_sealed(run_dir: Path) -> int | None:
    run = documents.read_run(run_dir)
    return run.checkpoints[-1].step if run.checkpoints else None


def _introduce(reporter: Reporter, config: RunConfig, engine: Engine, corpus: Corpus, start: _Start) -> None:
    spec, steps = engine.decoder.spec, config.training.max_steps
    where = f"{engine.world_size} × {engine.device.type}" if engine.world_size > 1 else engine.device.type
    reporter.say(
        f"run {config.name}: {spec.n_params / 1e6:.1f} M parameters, {steps} steps of {config.tokens_per_step:,} "
        f"tokens from {corpus.fingerprint.source} ({corpus.n_rows:,} rows), {where}, {config.training.precision}"
    )
    if start.checkpoint is not None:
        reporter.say(f"resuming from step {start.step}")


def _summary(run_dir: Path, start: _Start, was_finished: bool, started: float, meter: Meter | None) -> Summary:
    rows = metrics_log.read(run_dir / layout.METRICS_LOG)
    losses = [row["loss"] for row in rows if row.get("loss") is not None]
    val = [row["val_loss"] for row in rows if row.get("val_loss") is not None]
    run = documents.read_run(run_dir)
    speed = meter.training_tokens / meter.training_seconds if meter and meter.training_seconds else None
    return Summary(
        run_dir=run_dir,
        steps=run.checkpoints[-1].step if run.checkpoints else 0,
        resumed_at=start.step if start.checkpoint is not None else None,
        was_finished=was_finished,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        val_loss=val[-1] if val else None,
        seconds=time.perf_counter() - started,
        tokens_per_second=speed,
        checkpoints=len(run.checkpoints),
        size=sum(path.stat().st_size for path in run_dir.rglob("*") if path.is_file()),
    )
