"""One step of training: what is due at it, what was measured, and what a checkpoint of it needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from pico_train.checkpoint.cadence import is_due
from pico_train.config import RunConfig
from pico_train.data.loader import Batch
from pico_train.training.forward_backward import Captured

Measures = dict[str, float | int | str | None]
"""Results by measure."""
Tasks = dict[str, Measures]
"""Results of evaluation by task, then by measure, as in `pico_schema.Evaluation`."""


@dataclass(frozen=True)
class Due:
    """What is to happen at a step."""

    weights: bool
    state: bool
    captures: bool
    evaluation: bool
    tasks: bool = False

    @property
    def checkpoint(self) -> bool:
        """Whether anything is to be saved."""
        return self.weights or self.state or self.captures

    def with_state(self) -> Due:
        """The same, where the run stops: what it resumes from is due as well."""
        return Due(True, True, self.captures, False)

    @classmethod
    def at(cls, step: int, config: RunConfig) -> Due:
        """What the configuration's cadences ask for at `step`."""
        when, last = config.checkpoint, config.training.max_steps
        captures = is_due(when.captures, step, last) and (config.captures.train.enabled or config.captures.val.enabled)
        state = is_due(when.training_state, step, last)
        weights = is_due(when.weights, step, last) or captures or state
        wanted = config.evaluation
        tasks = bool(wanted.tasks) and is_due(wanted.tasks_cadence or wanted.cadence, step, last)
        return cls(weights, state, captures, is_due(wanted.cadence, step, last), tasks)


@dataclass
class Measured:
    """What is known about one step."""

    step: int
    tokens_seen: int
    loss: float | None = None
    """Mean token loss of batch N at the weights of step N, in nats."""
    grad_norm: float | None = None
    """Global gradient norm, before clipping."""
    lr: float | None = None
    """Learning rate of update N → N+1; None at the last step."""
    val_loss: float | None = None
    """Mean token loss on the validation rows."""
    tasks: Tasks = field(default_factory=dict)
    """Results of evaluation."""
    skipped: bool = False
    """Whether the update was left out because loss or gradient was not finite."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time since the step began, by phase: data, capture, compute, checkpoint, update."""


@dataclass(frozen=True)
class Snapshot:
    """Everything `save` needs beyond the engine itself."""

    batch: Batch
    due: Due
    captured: dict[str, Captured]
    """By split."""
    measured: Measured
