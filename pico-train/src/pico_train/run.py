"""One run, from a configuration to sealed checkpoints. The only file that knows all the others.

    configuration → devices → corpus → new run or resume → model → loop → summary

Every process executes this; what is written is written by rank 0. Collectives stand outside of what only rank 0 does.
How a run starts is in `run_start`, what it does at each point of the loop in `run_hooks`, its end in `run_summary`.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import Popen

import torch

from pico_schema import Membership
from pico_train import probing
from pico_train.checkpoint import signals, state
from pico_train.config import RunConfig
from pico_train.counting import counted
from pico_train.data.corpus import Corpus
from pico_train.data.loader import Loader
from pico_train.evaluation import along
from pico_train.reporter import Reporter
from pico_train.run_hooks import RunHooks, last_sealed, open_hooks
from pico_train.run_start import Start, begin, claim, on_rank_zero, open_run_data, with_whole_warmup
from pico_train.run_summary import Summary, summarize
from pico_train.training import launch
from pico_train.training.engine import Engine, build_fabric, set_up
from pico_train.training.loop import Outcome, fit
from pico_train.training.step import Measured, Snapshot


def train(
    config: RunConfig, *, override: bool = False, reporter: Reporter | None = None, suite: Membership | None = None
) -> Summary | None:
    """Train a run, or resume it where it stands.

    Args:
        config: The run, resolved.
        override: Go on under a changed configuration that would otherwise be refused.
        reporter: Told of the run's course; by default nothing is said.
        suite: The suite that the run is a member of, and its coordinates there; its manifest says so.

    Returns:
        What came of it, on rank 0; None on the others.

    Raises:
        ConfigError, DataError, CheckpointError, StorageError, NonFiniteError: as their docstrings say.
        DistributedError: another process of the run ended.
        InterruptedRun: a signal came; the state was saved, if training had begun.

    Example:
        >>> from pico_train import load_config, train
        >>> shortened = ["training.max_steps=8", "training.schedule.warmup_steps=2"]
        >>> summary = train(load_config(set=shortened, name="short"))
        >>> summary.run_dir, summary.last_loss
    """
    started = time.perf_counter()
    reporter = reporter or Reporter()
    probing.check(config.evaluation.probes)
    along.named(config.evaluation.tasks)
    run_dir = Path(config.out) / config.name
    with ExitStack() as stack:
        others: list[Popen[bytes]] = []
        stop = signals.StopRequest(
            "before the first step: the same command begins again", ending=lambda: launch.end(others, grace=0.0)
        )
        stack.enter_context(stop)
        fabric = build_fabric(config)
        stack.enter_context(launch.connected(fabric, others))
        rank_zero = fabric.global_rank == 0
        if not rank_zero:
            reporter.silence()
        on_rank_zero(fabric, lambda: claim(config, run_dir, reporter, stack))
        config = on_rank_zero(fabric, partial(with_whole_warmup, config, run_dir))
        corpus = open_run_data(config, run_dir)
        start = on_rank_zero(fabric, lambda: begin(config, run_dir, corpus, override=override, suite=suite))
        if start.finished:
            return summarize(run_dir, start, started=started) if rank_zero else None

        engine = set_up(fabric, config, config.spec, corpus.eos_id if config.data.document_mask else None)
        state.seed_rng(config.seed, engine.rank)
        if start.checkpoint is not None:
            state.load_weights(engine.decoder, start.checkpoint)
            loaded = state.load_training_state(start.checkpoint, engine.decoder, engine.optimizer, rank=engine.rank)
            if engine.scaler is not None and "scaler" in loaded:
                engine.scaler.load_state_dict(loaded["scaler"])
        _introduce(reporter, config, engine, corpus, start)
        tasks = on_rank_zero(fabric, partial(along.open_tasks, config, corpus, engine.world_size, reporter.say))
        with open_hooks(config, start.run, run_dir, engine=engine, corpus=corpus, reporter=reporter) as hooks:
            if start.bend is not None:
                hooks.notes[start.step] = start.bend
            outcome = _loop(config, engine, corpus, start, stop, hooks, along.Evaluator(engine, config, tasks))
        if outcome.stopped_by:
            requeued = rank_zero and signals.requeue(outcome.stopped_by)
            step = outcome.step if outcome.saved else last_sealed(run_dir)
            fabric.barrier()  # who ends first would have its launcher end the others, while they save
            raise signals.interrupted(outcome.stopped_by, step=step, saved=outcome.saved, requeued=requeued)
    return summarize(run_dir, start, started=started, meter=hooks.meter) if rank_zero else None


def _loop(
    config: RunConfig,
    engine: Engine,
    corpus: Corpus,
    start: Start,
    stop: signals.StopRequest,
    hooks: RunHooks,
    evaluate: along.Evaluator,
) -> Outcome:
    """The loop, between the batches that go in and the hooks that it calls.

    From the first step that is saved or done, and from the beginning where processes must agree, a signal means: finish
    the step, save, stop. Before, there is nothing to be lost.
    """

    def save(snapshot: Snapshot) -> None:
        stop.defer()
        hooks.save(snapshot)

    def record(measured: Measured) -> None:
        stop.defer()
        hooks.record(measured)

    if engine.world_size > 1:
        stop.defer()
        launch.wait_at_most(launch.EXCHANGING)
    loader = Loader(
        corpus,
        batch_size=config.training.batch_size,
        order=config.data.order,
        seed=config.sub_seed("data"),
        rank=engine.rank,
        world_size=engine.world_size,
        prefetch=config.data.prefetch,
        device=engine.device,
        consumed=start.consumed,
    )
    with hooks.reporter.training(start=start.step, end=config.training.max_steps):
        outcome = fit(
            engine,
            config,
            hooks.watched(loader.from_step(start.step, config.training.max_steps + 1)),
            _validation(config, engine, corpus),
            record=record,
            save=save,
            stop_signal=lambda: stop.received,
            last_good=hooks.last_good,
            evaluate=evaluate,
        )
    hooks.finish(stopped=bool(outcome.stopped_by))
    return outcome


def _validation(config: RunConfig, engine: Engine, corpus: Corpus) -> torch.Tensor:
    """All validation rows, on this process's device: which of them it scores is decided where they are scored."""
    return torch.from_numpy(corpus.validation(config.data.val_rows)).long().to(engine.device)


def _documents(corpus: Corpus, config: RunConfig) -> str:
    """What keeps documents apart, and how many there are in rows that are at hand."""
    rows = corpus.validation(config.data.val_rows)[:, :-1]
    ends, n_rows = int((rows == corpus.eos_id).sum()), counted(len(rows), "validation row")
    found = f"{ends:,} of them in {n_rows}" if ends else f"none in {n_rows}: each is taken for a part of one document"
    return f"attention stays within documents, which end with token {corpus.eos_id} ({found})"


def _introduce(reporter: Reporter, config: RunConfig, engine: Engine, corpus: Corpus, start: Start) -> None:
    spec, steps = engine.decoder.spec, config.training.max_steps
    where = f"{engine.world_size} × {engine.device.type}" if engine.world_size > 1 else engine.device.type
    reporter.say(
        f"run {config.name}: {spec.n_params / 1e6:.1f} M parameters, {counted(steps, 'step')} of "
        f"{config.tokens_per_step:,} tokens from {corpus.fingerprint.source} ({counted(corpus.n_rows, 'row')}), "
        f"{where}, {config.training.precision}"
    )
    reporter.say(corpus.describe_held_out(config.data.val_rows))
    if config.data.document_mask:
        reporter.say(_documents(corpus, config))
    if start.checkpoint is not None:
        reporter.say(f"resuming from step {start.step}")
