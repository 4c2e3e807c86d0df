"""What a run will take, from its configuration alone: arithmetic, memory, time, disk, commits.

Nothing is allocated and torch is not imported. Counts of parameters, operations, tokens and of the bytes of weights,
optimizer state and captures are exact; memory for activations is what the uncompiled decoder keeps for the backward
pass (compiled it keeps less), and the allocator's own losses are not in it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from pico_schema import ModelSpec, sites
from pico_train.checkpoint.cadence import checkpoint_steps, is_due, steps_due
from pico_train.checkpoint.retention import kept
from pico_train.config import CaptureSplit, RunConfig
from pico_train.config.base import divisors
from pico_train.counting import counted
from pico_train.errors import ConfigError

HUB_COMMITS_PER_HOUR = 128
"""About the number of commits to one repository that the Hugging Face Hub accepts in an hour."""

_FLOAT = 4
_SHIPPED_PAIRS_TOKENS = {"pairs": 600 * 2 * 20, "python-pairs": 400 * 2 * 20}
_WANTED = 5
"""Different samples per dimension below which pico-analyze calls biased CKA too high."""


class PlanReport(BaseModel):
    """What a run will take. Bytes, seconds and plain counts; None where it cannot be known from what was given."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the run."""
    parameters: int
    """Parameters in all."""
    parameters_in_blocks: int
    """Those of the blocks: without embedding, head and final norm."""
    flops_per_token: float
    """Floating-point operations of forward and backward pass, per token."""
    tokens: int
    """Tokens trained on in the whole run."""
    tokens_per_step: int
    """Tokens of one update."""
    steps: int
    """Updates."""
    flops: float
    """Operations of the whole run."""
    devices: int
    """Devices in all."""
    micro_batch_size: int
    """Rows of one forward pass on one device."""
    accumulation: int
    """Forward passes of one update on one device."""
    memory_weights: int
    """Weights on one device, with the low-precision copies that mixed precision makes."""
    memory_gradients: int
    """Gradients on one device."""
    memory_optimizer: int
    """What the optimizer keeps on one device: AdamW's two moments of each weight."""
    memory_activations: int
    """What one micro-batch keeps for its backward pass, the loss's buffers included."""
    memory_per_device: int
    """Sum of the four."""
    peak_tflops: float | None
    """Assumed dense peak of one device, in 10¹² operations per second."""
    mfu: float
    """Assumed part of that peak that training reaches."""
    seconds_per_step: float | None
    """Time of one update."""
    seconds: float | None
    """Time of the whole run, checkpoints and evaluations left out."""
    evaluations: int
    """Evaluations of the whole schedule."""
    tokens_per_evaluation: int
    """Tokens of one: the validation rows, and the shipped pairs where they are among its tasks (about 20 tokens a
    sentence); sets that are named are not opened here, and not counted."""
    seconds_evaluations: float | None
    """Time of all evaluations, forward passes alone."""
    checkpoints: int
    """Checkpoints of the whole schedule."""
    checkpoint_bytes_weights: int
    """Bytes of the weights of one checkpoint."""
    checkpoint_bytes_state: int
    """Bytes of one training state."""
    checkpoint_bytes_captures: int
    """Bytes of one step's activations and gradients, at their largest."""
    val_samples: int
    """Samples of each validation activation that is kept: rows times positions; 0 where none is."""
    val_samples_wanted: int
    """Samples that comparisons of them want, five for each dimension of the widest one (pico-analyze warns below)."""
    checkpoint_bytes: int
    """Bytes of a checkpoint that holds all of them."""
    disk_bytes: int
    """Bytes on disk at the end, after the training states that the keep policy drops are gone."""
    published_bytes: int
    """Bytes of all checkpoints together, which is what publishing sends."""
    commits_per_hour: float | None
    """Commits to the Hub in an average hour, at one per checkpoint."""
    commits_busiest_hour: int | None
    """Checkpoints that fall into the busiest hour; beyond the limit they wait in the queue."""
    commits_limit: int
    """Commits per hour that the publisher allows itself; the Hub's own limit is about 128."""


def plan(
    config: RunConfig, *, devices: int | None = None, peak_tflops: float | None = None, mfu: float = 0.4
) -> PlanReport:
    """Return what a run will take.

    Args:
        config: the run.
        devices: devices in all; by default those of the configuration, and one where it says `auto`.
        peak_tflops: dense peak of one device at the run's precision, in 10¹² operations per second.
        mfu: part of the peak that is reached, above 0 and at most 1.

    Raises:
        ConfigError: the batch does not divide over the devices and micro-batches.
    """
    spec, training = config.spec, config.training
    if devices is None:
        devices = configured_devices(config)
    micro, accumulation = _micro_batches(config, devices)
    memory = _memory(config, spec, devices, micro)
    flops_per_token = spec.flops_per_token(config.data.seq_len)
    tokens = training.max_steps * config.tokens_per_step
    speed = devices * peak_tflops * 1e12 * mfu if peak_tflops else None
    step_seconds = config.tokens_per_step * flops_per_token / speed if speed else None

    evaluations, tokens_evaluated = _evaluations(config)
    steps = checkpoint_steps(config.checkpoint, training.max_steps)
    weights, state, captures = _weights_bytes(config, spec), _state_bytes(config, spec), _captures_bytes(config, spec)
    state_steps = steps_due(config.checkpoint.training_state, training.max_steps)
    # At step 0 the optimizer has no moments yet, so that state takes next to nothing.
    kept_states = len(kept(config.checkpoint.keep, state_steps) - {0})
    capture_steps = [s for s in steps if is_due(config.checkpoint.captures, s, training.max_steps)]
    without_state = len(steps) * weights + len(capture_steps) * captures
    return PlanReport(
        name=config.name,
        parameters=spec.n_params,
        parameters_in_blocks=spec.n_layers * spec.n_params_per_layer,
        flops_per_token=flops_per_token,
        tokens=tokens,
        tokens_per_step=config.tokens_per_step,
        steps=training.max_steps,
        flops=flops_per_token * tokens,
        devices=devices,
        micro_batch_size=micro,
        accumulation=accumulation,
        **memory,
        memory_per_device=sum(memory.values()),
        peak_tflops=peak_tflops,
        mfu=mfu,
        seconds_per_step=step_seconds,
        seconds=step_seconds * training.max_steps if step_seconds else None,
        evaluations=evaluations,
        tokens_per_evaluation=tokens_evaluated // evaluations if evaluations else 0,
        seconds_evaluations=tokens_evaluated * flops_per_token / 3 / speed if speed else None,
        checkpoints=len(steps),
        checkpoint_bytes_weights=weights,
        checkpoint_bytes_state=state,
        checkpoint_bytes_captures=captures,
        val_samples=_val_samples(config),
        val_samples_wanted=_WANTED * max(spec.activation_width(site) for site in config.captures.sites),
        checkpoint_bytes=weights + state + captures,
        disk_bytes=without_state + kept_states * state,
        published_bytes=without_state + len(set(state_steps) - {0}) * state,
        commits_per_hour=len(steps) / (step_seconds * training.max_steps / 3600) if step_seconds else None,
        commits_busiest_hour=busiest_hour(steps, step_seconds) if step_seconds else None,
        commits_limit=config.publish.commits_per_hour,
    )


def configured_devices(config: RunConfig) -> int:
    """Return the devices that a configuration asks for; one where it takes what there is."""
    wanted = config.distributed
    return (1 if wanted.devices == "auto" else wanted.devices) * wanted.num_nodes


def _evaluations(config: RunConfig) -> tuple[int, int]:
    """How many there are, and the tokens of all of them."""
    wanted, last = config.evaluation, config.training.max_steps
    rows = steps_due(wanted.cadence, last)
    others = steps_due(wanted.tasks_cadence or wanted.cadence, last) if wanted.tasks else []
    shipped = sum(_SHIPPED_PAIRS_TOKENS.get(task.partition("=")[2] or task, 0) for task in wanted.tasks)
    tokens = len(rows) * config.data.val_rows * config.data.seq_len
    return len({*rows, *others}), tokens + len(others) * shipped


def busiest_hour(steps: Sequence[int], step_seconds: float) -> int:
    """Return how many of these ascending steps fall at most into one hour."""
    return max((bisect_left(steps, s + 3600 / step_seconds) - i for i, s in enumerate(steps)), default=0)


def activation_bytes_per_token(spec: ModelSpec, precision: str) -> int:
    """Return the bytes that the blocks of the uncompiled decoder keep of each token for the backward pass.

    Counted on the decoder as it is written; the coefficients are bytes per feature of the residual stream, of the
    feed-forward, of the keys and values, and 4 per head (the softmax's log-sum) and per norm (its scale).
    """
    stream, ff, kv = {"32-true": (32, 16, 8), "bf16-true": (20, 8, 4)}.get(precision, (30, 8, 4))
    return spec.n_layers * (stream * spec.d_model + ff * spec.d_ff + kv * spec.kv_dim + 4 * spec.n_heads + 8)


def _micro_batches(config: RunConfig, devices: int) -> tuple[int, int]:
    """Rows of one forward pass, and passes of one update, on each device."""
    batch = config.training.batch_size
    if batch % devices:
        near = min(divisors(batch), key=lambda n: abs(n - devices))
        raise ConfigError(
            f"training.batch_size={batch} does not divide over {counted(devices, 'device')}: {near} would do"
        )
    share = batch // devices
    micro = min(config.training.micro_batch_size or share, share)
    if share % micro:
        raise ConfigError(
            f"training.micro_batch_size={micro} does not divide the share of {counted(share, 'row')} that a "
            f"device takes of training.batch_size={batch}"
        )
    return micro, share // micro


def _memory(config: RunConfig, spec: ModelSpec, devices: int, micro: int) -> dict[str, int]:
    precision = config.training.precision
    stored = _stored_bytes(precision)
    shards = devices if config.distributed.strategy == "fsdp" else 1
    held = -(-spec.n_params // shards)
    low = 2 if precision != "32-true" else _FLOAT
    weights = held * stored
    offloaded = config.distributed.offload
    if offloaded:
        weights = 0
    if shards > 1 or offloaded:
        # Whole on each device while in use: embedding, head and final norm, and two blocks (one computes, one arrives).
        whole = spec.n_params - max(0, spec.n_layers - 2) * spec.n_params_per_layer
        weights += whole * low
    elif precision.endswith("mixed"):
        weights += spec.n_params_matmul * low
    tokens = micro * config.data.seq_len
    chunk = min(config.training.logits_at_once(tokens, device=config.distributed.accelerator), tokens)
    loss = chunk * spec.vocab_size * (low + _FLOAT) + spec.vocab_size * spec.d_model * (low + _FLOAT)
    return {
        "memory_weights": weights,
        "memory_gradients": 0 if offloaded else held * stored,
        "memory_optimizer": 0 if offloaded else -(-config.training.optimizer.n_moments_of(spec) // shards) * stored,
        "memory_activations": tokens * _activation_bytes(config, spec) + loss + _mask_bytes(config, micro),
    }


def _activation_bytes(config: RunConfig, spec: ModelSpec) -> int:
    """Bytes kept of each token: what is inside of all blocks; recomputed, their inputs and what is inside of one."""
    precision = config.training.precision
    whole = activation_bytes_per_token(spec, precision)
    if not config.training.recompute:
        return whole
    return spec.n_layers * spec.d_model * _stored_bytes(precision) + whole // spec.n_layers


def _mask_bytes(config: RunConfig, micro: int) -> int:
    """What keeps documents apart: for each pair of positions of a row a byte, and a number while a layer reads it."""
    return micro * config.data.seq_len**2 * (1 + _FLOAT) if config.data.document_mask else 0


def _stored_bytes(precision: str) -> int:
    return 2 if precision == "bf16-true" else _FLOAT


def _weights_bytes(config: RunConfig, spec: ModelSpec) -> int:
    # Beside the weights: the batch of this step, about two bytes for each token id and two for its text, compressed.
    batch = config.training.batch_size * (config.data.seq_len + 1) * 4
    return spec.n_params * _stored_bytes(config.training.precision) + batch


def _state_bytes(config: RunConfig, spec: ModelSpec) -> int:
    # What the optimizer keeps; a sharded state has the model's shards as well.
    model = spec.n_params if config.distributed.strategy == "fsdp" else 0
    return (config.training.optimizer.n_moments_of(spec) + model) * _stored_bytes(config.training.precision)


def _captures_bytes(config: RunConfig, spec: ModelSpec) -> int:
    wanted = config.captures
    number = 2 if wanted.dtype == "bfloat16" else _FLOAT
    chosen = sites.expand(wanted.sites, spec.n_layers)
    widths = [spec.activation_width(site.kind) for site in chosen]
    weights = [math.prod(spec.weight_shape(site.kind)) for site in chosen if site.has_weight]
    total = 0
    for split, rows in ((wanted.train, config.training.batch_size), (wanted.val, config.data.val_rows)):
        if split.enabled:
            total += number * (_samples(split, rows, config.data.seq_len) * sum(widths) + sum(weights))
    if wanted.moments and wanted.train.enabled:
        kept = (
            config.training.optimizer.n_moments(spec.weight_shape(site.kind), in_block=site.layer is not None)
            for site in chosen
            if site.has_weight
        )
        total += _FLOAT * sum(kept)
    if wanted.noise is not None:
        own = len(sites.expand(sites.WEIGHTED_KINDS, spec.n_layers)) - spec.tie_embeddings
        total += 8 * 3 * (wanted.noise + 1) * (own + spec.n_layers + 1)
    return total


def _val_samples(config: RunConfig) -> int:
    val = config.captures.val
    return _samples(val, config.data.val_rows, config.data.seq_len) if val.enabled else 0


def _samples(split: CaptureSplit, n_rows: int, seq_len: int) -> int:
    positions = {"last": 1, "all": seq_len}.get(str(split.positions)) or min(int(split.positions), seq_len)
    return min(split.rows or n_rows, n_rows) * positions


def as_table(report: PlanReport) -> list[dict[str, Any]]:
    """Return the report as lines of a table for people: what, how much, and on which grounds."""
    unknown = "unknown: give --peak-tflops"
    r = report
    hours = f"{r.mfu:.0%} of {r.peak_tflops:g} TFLOP/s on {counted(r.devices, 'device')}" if r.peak_tflops else ""
    passes = counted(r.accumulation, "micro-batch", "micro-batches")
    lines = [
        ("parameters", f"{r.parameters:,}", f"{r.parameters_in_blocks:,} of them in the blocks"),
        ("FLOPs per token", f"{r.flops_per_token / 1e9:,.3g} G", "forward and backward"),
        ("tokens", f"{r.tokens:,}", f"{counted(r.steps, 'step')} of {r.tokens_per_step:,}"),
        ("FLOPs in all", f"{r.flops:.3g}", ""),
        ("devices", f"{r.devices}", f"{passes} of {counted(r.micro_batch_size, 'row')} a step"),
        ("memory per device", bytes_shown(r.memory_per_device), "estimated; compiled it is less"),
        ("· weights", bytes_shown(r.memory_weights), ""),
        ("· gradients", bytes_shown(r.memory_gradients), ""),
        ("· optimizer", bytes_shown(r.memory_optimizer), ""),
        ("· activations", bytes_shown(r.memory_activations), "of one micro-batch, with the loss"),
        ("time per step", duration(r.seconds_per_step) or unknown, hours),
        ("wall time", duration(r.seconds) or unknown, "checkpoints and evaluations left out"),
        (
            "evaluations",
            f"{r.evaluations:,}",
            f"{r.tokens_per_evaluation:,} tokens each"
            + (f", {duration(r.seconds_evaluations)} in all" if r.seconds_evaluations is not None else "")
            + "; sets that tasks name are not counted",
        ),
        ("checkpoints", f"{r.checkpoints:,}", ""),
        ("bytes per checkpoint", bytes_shown(r.checkpoint_bytes), "with training state and captures"),
        ("· weights, batch", bytes_shown(r.checkpoint_bytes_weights), ""),
        ("· training state", bytes_shown(r.checkpoint_bytes_state), ""),
        ("· captures", bytes_shown(r.checkpoint_bytes_captures), ""),
        ("samples of val", f"{r.val_samples:,}" if r.val_samples else "none", _enough(r)),
        ("bytes on disk", bytes_shown(r.disk_bytes), "at the end, under checkpoint.keep"),
        ("bytes published", bytes_shown(r.published_bytes), "if publish.repo is set"),
        (
            "Hub commits per hour",
            f"{r.commits_per_hour:,.1f}" if r.commits_per_hour is not None else unknown,
            f"{r.commits_busiest_hour} in the busiest; limit {r.commits_limit}, the Hub's is {HUB_COMMITS_PER_HOUR}"
            if r.commits_busiest_hour is not None
            else "",
        ),
    ]
    return [{"what": what, "how much": amount, "note": note} for what, amount, note in lines]


def _enough(report: PlanReport) -> str:
    """Whether validation captures are enough to compare."""
    if not report.val_samples:
        return "no validation activations are kept"
    wanted = f"comparisons want {report.val_samples_wanted:,}, five a dimension"
    return wanted if report.val_samples >= report.val_samples_wanted else f"{wanted}: raise captures.val.positions"


def bytes_shown(count: float) -> str:
    """Return a number of bytes in its unit: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.3g} {unit}" if unit != "B" else f"{count:,.0f} B"
        count /= 1000
    return f"{count:,.4g} TB"


def duration(seconds: float | None) -> str | None:
    """Return a time in its unit, 1.5 h; None for None."""
    if seconds is None:
        return None
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.3g} s"
