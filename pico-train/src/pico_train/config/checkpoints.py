"""The sections `checkpoint`, `captures` and `evaluation`: what is kept of a run, and at which steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pico_schema.sites import check_kind
from pico_train.config.base import MAX_COUNT, Listed, NonNegativeInt, PositiveInt, Section, Whole


class Cadence(Section):
    """At which steps something happens: a pure function of the step."""

    early: NonNegativeInt | None = 512
    """Steps 0, 1, 2, 4 … up to this one; null for none."""
    every: PositiveInt | None = 1000
    """Then every this many steps; null for none."""
    at: Listed[NonNegativeInt] = ()
    """And at these steps."""
    last: bool = True
    """And at the last step."""


class KeepPolicy(Section):
    """Which training states stay on disk; weights and captures are never deleted."""

    last: PositiveInt | None = None
    """Keep the newest this many; null keeps all."""
    every: PositiveInt | None = None
    """Besides, keep those at multiples of this step."""


class CheckpointConfig(Section):
    """When checkpoints are taken. Weights are saved wherever training state or captures are."""

    weights: Cadence = Cadence()
    """Weights, tokenizer and batch."""
    training_state: Cadence = Cadence()
    """Optimizer, schedule, random numbers: what a resume or a fork needs."""
    captures: Cadence = Cadence()
    """Activations and gradients."""
    keep: KeepPolicy = KeepPolicy()
    """Which training states stay."""


Positions = Literal["last", "all"] | PositiveInt


class CaptureSplit(Section):
    """What is kept of one split."""

    enabled: bool = True
    """Whether to capture this split."""
    rows: PositiveInt | None = None
    """Rows of which activations are kept, evenly spaced; null for all. Gradients are always over all rows."""
    positions: Positions = "last"
    """Positions kept in each row: last, all, or this many evenly spaced."""


class CapturesConfig(Section):
    """Activations and gradients kept with a checkpoint."""

    sites: Listed[str] = ("attn.v", "attn.o", "mlp.down")
    """Site kinds: attn.q|k|v|o, mlp.gate|up|down, embed, norm.final, head; without a weight: resid (the stream after a
    block), attn.z (the outputs of the heads), mlp.act (the neurons)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of stored activations and gradients."""
    train: CaptureSplit = CaptureSplit()
    """Captures on batch N, taken from the training step itself."""
    val: CaptureSplit = CaptureSplit(positions=8)
    """Captures on the fixed validation rows."""
    moments: bool = False
    """Also keep the optimizer's moments of the sites' weights: AdamW's first and second, Muon's and SGD's momentum."""
    per_row_loss: bool = False
    """Also keep the mean token loss of each row."""
    noise: Annotated[int, Field(ge=2, le=MAX_COUNT), Whole] | None = None
    """Also keep how much the gradient of batch N varies: squared norms of the gradients of this many equal parts of it,
    which divide training.batch_size (8 is a good number; 2 halves give no interval). One more pass over the batch."""

    @field_validator("sites")
    @classmethod
    def _known(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        for site in sites:
            check_kind(site)
        if not sites:
            raise ValueError("name at least one site, or turn both splits off")
        return tuple(dict.fromkeys(sites))


class EvaluationConfig(Section):
    """Loss, perplexity and bits per byte on the validation rows; other tasks; and probes of what the model does."""

    cadence: Cadence = Cadence()
    """When to evaluate."""
    batch_size: PositiveInt = 16
    """Rows per forward pass."""
    tasks: Listed[str] = ()
    """What else is measured: pairs (the shipped minimal pairs of English), python-pairs (those of Python), pairs:FILE,
    choices:FILE, text:PATH, tokens:DIRECTORY, hub:ORG/NAME, paloma, paloma-tinsy, babylm:FOLDER, pico1:PATH; NAME=task
    names one otherwise."""
    tasks_cadence: Cadence | None = None
    """When to measure them; null for the steps of cadence."""
    stride: PositiveInt | None = None
    """Tokens by which the window over a document that is longer than the model reads goes on; null for half of what
    the model reads."""
    tokenizer: str | None = None
    """Name or directory of the tokenizer that shards without a manifest were made with: it has to be the run's."""
    allow_overlap: bool = False
    """Whether a task's documents may stand in the training rows."""
    probes: Listed[str] = ()
    """Also measured of the checkpoints at these steps: probes of pico-analyze, such as induction, in another process
    and on the CPU; needs `pip install 'pico-analyze[torch]'`."""
    probes_out: str = "analysis"
    """Directory of their table: the `--out` of `pico-analyze behave`."""
