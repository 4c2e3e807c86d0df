"""What a loss, a gradient or a weight that is not finite does: an update is left out, a checkpoint is not saved, or the
run ends.

    loss, validation loss      the step is not saved and its update left out; if the weights are broken, the run ends
    gradient                   its update is left out
    gradient, 16-mixed         an overflow of float16: the loss scale is halved, the update left out, nothing counted
    weights, state, captures   looked at before each save (`finite`); the run ends

With `training.on_nonfinite=stop` the run ends at the first of them, with `skip` after `max_nonfinite` in a row, and at
the last step, which nothing follows that could mend it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pico_train.config import RunConfig
from pico_train.data.loader import Batch
from pico_train.errors import NonFiniteError
from pico_train.finite import first_nonfinite
from pico_train.training.engine import Engine
from pico_train.training.step import Measured

LARGEST_NORM = math.sqrt(torch.finfo(torch.float32).max)
"""The square of a larger gradient is infinite in AdamW's second moment, and stays there."""


@dataclass(frozen=True)
class Verdict:
    """What may be done with a step."""

    may_save: bool
    """Its losses are finite. (Not named `save`: nnsight gives every object that attribute, and a field a default.)"""
    update: bool
    """Its gradient is finite as well, and no square of it overflows."""
    overflow: bool
    """Only its gradient is not, and a smaller loss scale may mend that."""


@dataclass
class Divergence:
    """Judges each step, and ends the run where training on would destroy it."""

    engine: Engine
    config: RunConfig
    last_good: Callable[[int], int | None]
    """Given a step, the newest sealed checkpoint before it, or None."""
    first: int | None = None
    """First of the bad steps in a row."""
    count: int = 0
    """Bad steps in a row."""

    def judge(self, measured: Measured, batch: Batch, *, last: bool) -> Verdict:
        """What may be done with a step. A collective where a loss is not finite.

        Args:
            measured: Its loss and gradient norm, and its validation loss if there is one.
            batch: The rows that they were measured on.
            last: Whether it is the last step of the run.

        Raises:
            NonFiniteError: the run must end; the message names step, batch and the last good checkpoint.
        """
        verdict = self._verdict(measured)
        if verdict.update:
            self.first, self.count = None, 0
        elif not verdict.overflow:
            self._count(measured, batch, last=last and not verdict.may_save)
        return verdict

    def overflowed(self, measured: Measured) -> bool:
        """Whether nothing but the gradient overflowed, under a loss scale that can still be lowered."""
        return self._verdict(measured).overflow

    def ending(self, what: str, step: int, *, advice: str = "lower training.optimizer.lr") -> NonFiniteError:
        """The exception that ends the run.

        Args:
            what: What was found.
            step: Where; checkpoints before it, and before the bad steps in a row that led to it, are good.
            advice: What to do; nothing where it is empty.
        """
        good = self.last_good(step if self.first is None else self.first)
        saved = f"the last good checkpoint is step {good}" if good is not None else "there is no checkpoint yet"
        error = NonFiniteError(f"{what}; {saved}, nothing was saved over it" + (f": {advice}" if advice else ""))
        error.everywhere = True
        return error

    def _verdict(self, measured: Measured) -> Verdict:
        losses = is_finite(measured.loss) and (measured.val_loss is None or is_finite(measured.val_loss))
        norm = is_finite(measured.grad_norm)
        update = losses and norm and self._clipped(measured) <= LARGEST_NORM
        return Verdict(losses, update, losses and not norm and self.engine.can_lower_scale)

    def _clipped(self, measured: Measured) -> float:
        assert measured.grad_norm is not None
        return min(measured.grad_norm, self.config.training.grad_clip or math.inf)

    def _count(self, measured: Measured, batch: Batch, *, last: bool) -> None:
        self.first = measured.step if self.first is None else self.first
        self.count += 1
        what, value, why = "gradient norm", measured.grad_norm, ""
        if not is_finite(measured.loss):
            what, value = "loss", measured.loss
        elif measured.val_loss is not None and not is_finite(measured.val_loss):
            what, value = "validation loss", measured.val_loss
        elif is_finite(measured.grad_norm):
            why = ", and its square more than float32 holds"
        row_ids = ", ".join(str(row) for row in batch.row_ids[:4])
        found = f"{what} is {value} at step {measured.step} (batch {batch.step}, rows {row_ids}, …){why}"
        if what != "gradient norm" and (name := self._broken_weight()) is not None:
            raise self.ending(f"{found}, since {name} is not finite: an update broke the weights", measured.step)
        if self.config.training.on_nonfinite == "stop":
            advice = "lower training.optimizer.lr, or set training.on_nonfinite=skip to leave out such updates"
            raise self.ending(found, measured.step, advice=advice)
        if self.count >= self.config.training.max_nonfinite or last:
            row = f", {self.count} in a row" if self.count > 1 else ", the last"
            raise self.ending(found + row, measured.step, advice="")

    def _broken_weight(self) -> str | None:
        """Name of the first weight that is not finite on any process. A collective."""
        return self.engine.first_said(first_nonfinite(dict(self.engine.decoder.named_parameters())))


def is_finite(value: float | None) -> bool:
    """Whether there is a value and it is finite."""
    return value is not None and math.isfinite(value)
