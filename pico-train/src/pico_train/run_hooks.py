"""What a run does at each point of the loop.

    a batch comes            `watched`     its digest is noted, where digests are logged
    a step is done           `record`      speed is measured; metrics.jsonl, tracker and reporter get their line
    a checkpoint is due      `save`        it is copied off the model and handed to the writer
    a checkpoint is sealed   `on_sealed`   in the background: its evaluation beside it; publisher and probes are told
    a loss is not finite     `last_good`   the newest sealed step, for the message

`open_hooks` opens what they need (log, tracker, publisher, writer) and closes it again, in the opposite order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pico_schema import RunManifest, documents, layout
from pico_train.checkpoint import set_aside, state
from pico_train.checkpoint.cadence import is_due, steps_due
from pico_train.checkpoint.metrics_log import MetricsLog
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.config import RunConfig
from pico_train.counting import counted
from pico_train.data.corpus import Corpus
from pico_train.data.loader import Batch
from pico_train.errors import NonFiniteError
from pico_train.evaluation import results
from pico_train.probing import Probing, probed
from pico_train.publish.publisher import Publisher, PublishStatus, start_publisher
from pico_train.reporter import Reporter
from pico_train.training.engine import Engine
from pico_train.training.health import Meter
from pico_train.training.snapshot import assemble
from pico_train.training.step import Measured, Snapshot, Tasks
from pico_train.training.tracking import Tracker


@dataclass
class SealedHook:
    """What happens in the background once a checkpoint is sealed. Rank 0 only."""

    config: RunConfig
    run: RunManifest
    run_dir: Path
    publisher: Publisher | None
    probing: Probing | None = None
    results: dict[int, Tasks] = field(default_factory=dict)
    """Results of evaluation by step, noted by the loop before the checkpoint is written."""

    def on_sealed(self, step: int, directory: Path) -> None:
        """A checkpoint is in the index: put its evaluation beside it, tell the publisher and the probes."""
        if step in self.results:
            results.add_while_training(self.run_dir, self.run, step, directory, self.results.pop(step))
        if self.publisher is not None:
            self.publisher.enqueue(step)
        if self.probing is not None and is_due(self.config.evaluation.cadence, step, self.config.training.max_steps):
            self.probing.tell(step)


@dataclass
class RunHooks:
    """What the loop calls, on every process; files are written by rank 0."""

    config: RunConfig
    run: RunManifest
    run_dir: Path
    engine: Engine
    corpus: Corpus
    reporter: Reporter
    log: MetricsLog | None
    """metrics.jsonl; None on the other ranks."""
    tracker: Tracker
    sealed: SealedHook
    writer: CheckpointWriter
    group: Any
    """Process group for writing sharded states in the background; None where they are not sharded."""
    meter: Meter
    batch_digests: dict[int, str] = field(default_factory=dict)
    """Digests of batches whose step is not done yet."""
    notes: dict[int, str] = field(default_factory=dict)
    """What the log says beside the numbers of a step."""

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches as they come."""
        for batch in batches:
            if self.config.data.log_digests:
                self.batch_digests[batch.step] = batch.digest
            yield batch

    def record(self, measured: Measured) -> None:
        """A step is done."""
        self.meter.add(measured)
        every, last = self.config.monitoring.log_every, self.config.training.max_steps
        shown = measured.step % every == 0 or measured.step == last
        row: dict[str, Any] = {"step": measured.step, "loss": measured.loss}
        if (
            shown
            or measured.val_loss is not None
            or measured.tasks
            or measured.skipped
            or self.config.data.log_digests
            or measured.step in self.notes
        ):
            row = self.meter.row(measured) | results.logged(measured.tasks)
            if self.config.data.log_digests:
                row["batch_sha256"] = self.batch_digests.pop(measured.step)
            if self.log is not None:
                note = self.notes.pop(measured.step, None)
                self.log.append(row if note is None else row | {"note": note})
            self.tracker.log(measured.step, row)
        self.reporter.step(row, shown=shown)

    def save(self, snapshot: Snapshot) -> None:
        """A checkpoint is due. A collective."""
        if snapshot.measured.tasks:
            self.sealed.results[snapshot.batch.step] = snapshot.measured.tasks
        self.writer.wait()  # before anything is copied: at most one checkpoint is in memory
        self.writer.submit(assemble(self.engine, self.config, self.corpus, self.run, snapshot, group=self.group))

    def last_good(self, before: int) -> int | None:
        """The newest sealed step before another, what is being written included."""
        self.writer.wait()
        steps = [entry.step for entry in documents.read_run(self.run_dir).checkpoints]
        return max((step for step in steps if step < before), default=None)

    def finish(self, *, stopped: bool) -> None:
        """The loop has ended, by itself or by a signal."""
        self.writer.wait()
        if self.log is not None:
            _forget_repeated(self.run_dir)
        if self.sealed.publisher is not None and stopped:
            self.sealed.publisher.close(timeout=0.0)  # a signal leaves no time; the next run takes up what is pending
        if self.sealed.probing is not None and stopped:
            self.reporter.say(self.sealed.probing.close(wait=False))


@contextmanager
def open_hooks(
    config: RunConfig, run: RunManifest, run_dir: Path, *, engine: Engine, corpus: Corpus, reporter: Reporter
) -> Iterator[RunHooks]:
    """The hooks of a run, with all that they write to open. Called on every process."""
    with ExitStack() as stack:
        log = None
        if engine.is_rank_zero:
            log = MetricsLog(run_dir / layout.METRICS_LOG)
            stack.callback(log.close)
        tracker = stack.enter_context(_tracking(config, run, run_dir, reporter.say, active=engine.is_rank_zero))
        publisher = None
        if engine.is_rank_zero and config.publish.repo is not None:
            publisher = stack.enter_context(_publishing(config, run_dir, reporter))
        probes = stack.enter_context(_probing(config, run_dir, reporter)) if engine.is_rank_zero else None
        sealed = SealedHook(config, run, run_dir, publisher, probes)
        writer = CheckpointWriter(
            run_dir,
            keep=config.checkpoint.keep,
            metrics_log=log,
            on_sealed=sealed.on_sealed,
            protected=publisher.pending if publisher is not None else None,
            primary=engine.is_rank_zero,
        )
        stack.enter_context(writer)
        group, meter = _background_group(engine), Meter(engine, config)
        yield RunHooks(config, run, run_dir, engine, corpus, reporter, log, tracker, sealed, writer, group, meter)


def _probing(config: RunConfig, run_dir: Path, reporter: Reporter) -> AbstractContextManager[Probing | None]:
    """Probe while the run trains: the sealed checkpoints of the evaluation's steps."""
    due = steps_due(config.evaluation.cadence, config.training.max_steps)
    there = {entry.step for entry in documents.read_run(run_dir).checkpoints}
    evaluation = config.evaluation
    return probed(run_dir, evaluation.probes, evaluation.probes_out, sorted(there & {*due}), reporter.say)


def last_sealed(run_dir: Path) -> int | None:
    """The newest step in the run's index that is there."""
    listed = {entry.step for entry in documents.read_run(run_dir).checkpoints}
    return max((step for step, _ in documents.checkpoint_dirs(run_dir) if step in listed), default=None)


def _forget_repeated(run_dir: Path) -> None:
    """What was set aside and has happened again, bit for bit, need not be kept twice."""
    try:
        set_aside.forget_repeated(run_dir)
    except OSError as error:
        text = f"{set_aside.root(run_dir)}: cannot be tidied up ({error.strerror})"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


@contextmanager
def _tracking(
    config: RunConfig, run: RunManifest, run_dir: Path, say: Callable[[str], None], *, active: bool
) -> Iterator[Tracker]:
    wandb = config.monitoring.wandb
    tracker = Tracker.start(
        mode=wandb.mode if active else "disabled",
        project=wandb.project,
        entity=wandb.entity,
        group=wandb.group,
        tags=wandb.tags,
        run_id=run.id,
        name=run.name,
        directory=run_dir,
        config=run.config,
    )
    try:
        yield tracker
    finally:
        kept = tracker.to_be_sent
        tracker.finish()
        if kept is not None:
            say(f"wandb: kept offline; `wandb sync {kept}` sends it")


@contextmanager
def _publishing(config: RunConfig, run_dir: Path, reporter: Reporter) -> Iterator[Publisher]:
    """Publish while the run trains; afterwards wait for what is pending, unless training failed."""
    publisher = start_publisher(run_dir, config.publish, warn=reporter.say)
    try:
        yield publisher
    except BaseException as error:
        if isinstance(error, NonFiniteError):
            publisher.refuse(last_sealed(run_dir) or 0, str(error))
        publisher.close(timeout=0.0)
        raise
    status = publisher.close(progress=_PendingLines(reporter.say))
    reporter.say(status.line)
    if status.pending:
        reporter.say(
            f"{counted(len(status.pending), 'checkpoint')} still to be published: pico-train publish {run_dir}"
        )


@dataclass
class _PendingLines:
    """Says where publishing stands whenever that has changed."""

    say: Callable[[str], None]
    seen: str = ""

    def __call__(self, status: PublishStatus) -> None:
        if status.pending and status.line != self.seen:
            self.say(f"publishing: {status.line}")
            self.seen = status.line


def _background_group(engine: Engine) -> Any:
    """Under FSDP2, a gloo group of its own for writing shards while training uses the others. A collective."""
    if not state.is_sharded(engine.decoder):
        return None
    import torch.distributed as dist

    return dist.new_group(backend="gloo")
