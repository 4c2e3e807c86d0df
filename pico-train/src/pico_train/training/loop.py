"""The loop. Read it once, top to bottom: this is what a training run does.

    for N = start … max_steps:
        batch(N)  →  validation capture, if due
                  →  forward, backward over micro-batches  →  one look at loss and gradient norm
                  →  train capture, checkpoint, if due
                  →  clip  →  learning rate(N)  →  update N → N+1

Step N is the state after N updates. What is saved at step N was measured on batch N at the weights of step N, before
clipping and before the update; the last step, `max_steps`, is measured and saved, not updated. Nothing here writes a
file or prints: `record` and `save` do.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pico_schema.sites import Site
from pico_train.checkpoint.signals import STOPPING, Received
from pico_train.config import RunConfig
from pico_train.data.loader import Batch
from pico_train.errors import NonFiniteError
from pico_train.schedules import learning_rate
from pico_train.training import capture
from pico_train.training.divergence import Divergence
from pico_train.training.engine import Engine
from pico_train.training.forward_backward import Captured, accumulate, eagerly, validation_capture
from pico_train.training.noise import gradient_noise
from pico_train.training.optimizer import set_learning_rate
from pico_train.training.step import Due, Measured, Snapshot, Tasks


@dataclass(frozen=True)
class Outcome:
    """How a loop ended."""

    step: int
    """Updates done."""
    stopped_by: int
    """Signal number that stopped it, 0 if it ran to the end."""
    saved: bool = True
    """Whether that step was saved; not, where its loss was not finite."""


def fit(
    engine: Engine,
    config: RunConfig,
    batches: Iterable[Batch],
    validation: Tensor,
    *,
    record: Callable[[Measured], None],
    save: Callable[[Snapshot], None],
    stop_signal: Callable[[], Received | None] = lambda: None,
    last_good: Callable[[int], int | None] = lambda _: None,
    evaluate: Callable[[Due], Tasks] = lambda _: {},
) -> Outcome:
    """Train from the first of `batches` to `max_steps`.

    Args:
        engine: Model, optimizer, processes; at the state of the first batch's step.
        config: The run.
        batches: Batch N for N = start … max_steps, this process's rows.
        validation: (n, seq_len + 1) all validation rows, on the device of every process.
        record: Called with each step's measurements.
        save: Called on every process where a checkpoint is due; may hold collectives.
        stop_signal: Returns the first stopping signal that this process received, or None.
        last_good: Given a step, that of the newest sealed checkpoint before it, for the message that ends a run.
        evaluate: Called on every process where evaluation is due; returns the results by task, then by measure.

    Raises:
        NonFiniteError: loss, gradient or what was to be saved is NaN or infinite; nothing of that step was saved.
    """
    fixed, clock, divergence = _Fixed.of(engine, config), _Clock(), Divergence(engine, config, last_good)
    stopped_by = 0

    def seal(snapshot: Snapshot) -> None:
        try:
            save(snapshot)
        except NonFiniteError as error:
            raise divergence.ending(str(error), snapshot.batch.step) from None

    for batch in batches:
        step, last = batch.step, batch.step == config.training.max_steps
        measured = Measured(step, batch.consumed.tokens)
        clock.lap(measured, "data")
        due = Due.at(step, config)
        stopped_by = _alone(engine, stop_signal()) or stopped_by
        if stopped_by and not last and not due.captures:
            seal(Snapshot(batch, Due(True, True, False, False), {}, measured))
            return Outcome(step, stopped_by)

        captured = _capture_validation(engine, config, validation, due, measured, fixed)
        clock.lap(measured, "capture")
        _evaluate(evaluate, due, measured, clock)

        wanted = due.captures and config.captures.train.enabled
        norm, tap, signal = _measure(
            engine, config, batch, measured, fixed, divergence, stop_signal(), capturing=wanted
        )
        stopped_by = stopped_by or signal
        clock.lap(measured, "compute")
        verdict = divergence.judge(measured, batch, last=last)

        if tap is not None and verdict.update:
            captured["train"] = _train_capture(engine, config, batch, tap, measured, fixed)
            clock.lap(measured, "capture")
        if (due.checkpoint or stopped_by) and verdict.may_save:
            seal(Snapshot(batch, due.with_state() if stopped_by else due, captured, measured))
            clock.lap(measured, "checkpoint")
        if stopped_by and not last:
            return Outcome(step, stopped_by, saved=verdict.may_save)
        if not last:
            measured.lr = update_weights(engine, config, step, norm, skip=not verdict.update, overflow=verdict.overflow)
            measured.skipped = not verdict.update
        engine.optimizer.zero_grad()
        clock.lap(measured, "update")
        record(measured)
    return Outcome(config.training.max_steps, 0)


@dataclass(frozen=True)
class _Fixed:
    """What is the same at every step."""

    micro_batch: int
    """Rows of one forward pass."""
    chunk: int
    """Tokens whose logits are held at once."""
    sites: list[Site]
    """Sites that are captured."""
    dtype: torch.dtype
    """Number format of captures."""
    samples: capture.SampleIndex
    """Samples of a training batch that are captured."""

    @classmethod
    def of(cls, engine: Engine, config: RunConfig) -> _Fixed:
        training, seq_len = config.training, config.data.seq_len
        share = training.batch_size // engine.world_size
        return cls(
            training.micro_batch_size or share,
            training.logits_at_once(share * seq_len, device=engine.device.type),
            capture.captured_sites(config.captures, engine.decoder.spec.n_layers),
            capture.storage_dtype(config.captures),
            capture.sample_index(config.captures.train, training.batch_size, seq_len),
        )


def _alone(engine: Engine, received: Received | None) -> int:
    """The signal that stops a run of one process before its next step; several agree on theirs in the step."""
    return received.number if received is not None and engine.world_size == 1 else 0


def _evaluate(evaluate: Callable[[Due], Tasks], due: Due, measured: Measured, clock: _Clock) -> None:
    """Into `measured` the results that are due, and the validation loss where no capture gave it."""
    if due.evaluation or due.tasks:
        measured.tasks = evaluate(due)
        loss = measured.tasks.get("validation", {}).get("loss")
        if measured.val_loss is None and loss is not None:
            measured.val_loss = float(loss)
        clock.lap(measured, "evaluation")


def _capture_validation(
    engine: Engine, config: RunConfig, validation: Tensor, due: Due, measured: Measured, fixed: _Fixed
) -> dict[str, Captured]:
    """The validation capture, if one is due, and into `measured` its loss."""
    if due.captures and config.captures.val.enabled:
        taken = validation_capture(
            engine, validation, config.captures, micro_batch=fixed.micro_batch, chunk=fixed.chunk
        )
        measured.val_loss = taken.loss
        return {"val": taken}
    return {}


def _forward_backward(engine: Engine, rows: Tensor, tap: capture.ActivationTap | None, fixed: _Fixed) -> Tensor:
    """Fill the gradients, unscaled; returns this process's sum of token losses."""
    with eagerly(engine.decoder) if tap is not None else contextlib.nullcontext(), tap or contextlib.nullcontext():
        loss_sum = accumulate(engine, rows, micro_batch=fixed.micro_batch, chunk=fixed.chunk, tap=tap)
    engine.unscale_gradients()
    return loss_sum


def _measure(
    engine: Engine,
    config: RunConfig,
    batch: Batch,
    measured: Measured,
    fixed: _Fixed,
    divergence: Divergence,
    received: Received | None,
    *,
    capturing: bool,
) -> tuple[Tensor, capture.ActivationTap | None, int]:
    """Fill the gradients of the batch, and `measured` with its loss and their norm.

    Where activations are captured, a gradient that overflows float16 is computed again under a smaller loss scale,
    since what is captured must be finite.

    Returns:
        The norm on the device; what was tapped; and, among several processes, the number of the signal that stops the
        run, wherever it came, or 0.
    """
    while True:
        tap = None
        if capturing:
            tap = capture.ActivationTap(engine.decoder, fixed.sites, fixed.samples, config.captures.per_row_loss)
        loss_sum = _forward_backward(engine, batch.input_ids, tap, fixed)
        norm = engine.gradient_norm()
        stopped_by = _synchronize(engine, config, measured, loss_sum, norm, received)
        if tap is None or not divergence.overflowed(measured):
            return norm, tap, stopped_by
        engine.lower_scale()
        engine.optimizer.zero_grad()


def _synchronize(
    engine: Engine, config: RunConfig, measured: Measured, loss_sum: Tensor, norm: Tensor, received: Received | None
) -> int:
    """The step's only wait for the device: loss, norm and the processes' signals come over together.

    Returns:
        Number of the signal that stops the run, which is the first that came to any process; 0 for none.
    """
    mine = [float(received is not None and received.number == each) for each in STOPPING]
    signals = torch.tensor(mine, device=engine.device)
    here = torch.cat([loss_sum.double()[None], signals.double()])
    loss_total, *counts = engine.sum_over_ranks(here).tolist()
    measured.loss, measured.grad_norm = loss_total / config.tokens_per_step, norm.item()
    if engine.world_size == 1:
        return 0  # it has begun the step, and stops before the next
    came = [STOPPING[n] for n, count in enumerate(counts) if count]
    if len(came) > 1:
        return min(filter(None, engine.gather(received)), key=lambda each: each.when).number
    return next(iter(came), 0)


def _train_capture(
    engine: Engine, config: RunConfig, batch: Batch, tap: capture.ActivationTap, measured: Measured, fixed: _Fixed
) -> Captured:
    """What the tap kept of this step, with gradients and moments as they are before clipping and update."""
    tensors = tap.gathered(engine, fixed.dtype) | capture.gradients(engine, fixed.sites, fixed.dtype)
    if config.captures.moments:
        tensors |= capture.moments(engine, fixed.sites)
    if (parts := config.captures.noise) is not None:
        tensors |= gradient_noise(engine, batch.input_ids, parts, micro_batch=fixed.micro_batch, chunk=fixed.chunk)
    assert measured.loss is not None
    return Captured(fixed.samples, tensors, tuple(fixed.sites), measured.loss)


def update_weights(engine: Engine, config: RunConfig, step: int, norm: Tensor, *, skip: bool, overflow: bool) -> float:
    """Clip, set the learning rate of this step, update; returns the learning rate.

    Args:
        engine: Model and optimizer, gradients filled.
        config: The run.
        step: Updates done.
        norm: Global gradient norm.
        skip: Leave the weights alone.
        overflow: Gradients overflowed float16: the weights are left alone and the loss scale is halved.
    """
    settings = config.training
    lr = learning_rate(step, peak=settings.optimizer.lr, max_steps=settings.max_steps, **settings.schedule.model_dump())
    set_learning_rate(engine.optimizer, lr)
    if not skip:
        if settings.grad_clip:
            engine.clip_gradients(settings.grad_clip, norm)
        engine.stepper.step()
    elif overflow:
        engine.stepper.step()  # the scaler leaves the weights alone and halves the scale
    else:
        engine.forget_unscaled()
    return lr


class _Clock:
    """Adds the time since the last lap to a phase of the step."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def lap(self, measured: Measured, phase: str) -> None:
        now = time.perf_counter()
        measured.seconds[phase] = measured.seconds.get(phase, 0.0) + now - self.last
        self.last = now
