"""The sections of a model card, each from the documents of one run.

Text from documents is escaped: a card is no place for a run's name to become markup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pico_schema import RevisionIndex, RunManifest, layout
from pico_train.counting import counted

PLOT_WIDTH, PLOT_HEIGHT = 64, 12
MAX_ROWS = 40
T = TypeVar("T")


class Markup(str):
    """Text of this module's own that a table takes as it is."""


def details(run: RunManifest, index: RevisionIndex, *, level: int = 2) -> list[str]:
    """What a card says of one run: model, data, training, loss, evaluation, revisions; what there is nothing of is left
    out.

    Args:
        run: The run.
        index: Its published checkpoints.
        level: Of the headings.
    """
    bodies = {
        "Model": _model(run),
        "Data": _data(run),
        "Training": _training(run),
        "Loss curve": _curve(index),
        "Evaluation": _evaluation(index),
        "Revisions": _revisions(run, index),
    }
    return [f"{'#' * level} {title}\n\n{body}" for title, body in bodies.items() if body]


def _model(run: RunManifest) -> str:
    spec = run.model
    rows = [
        ("architecture", "Llama (RMSNorm, RoPE, grouped-query attention, SwiGLU, untied head)"),
        ("parameters", f"{spec.n_params:,}"),
        ("width", spec.d_model),
        ("layers", spec.n_layers),
        ("heads / key-value heads", f"{spec.n_heads} / {spec.n_kv_heads}"),
        ("feed-forward width", spec.d_ff),
        ("vocabulary", f"{spec.vocab_size:,}"),
        ("sequence length", f"{spec.max_seq_len:,}"),
    ]
    return table(("", ""), rows)


def _data(run: RunManifest) -> str:
    data = run.data
    rows: list[tuple[object, object]] = [
        ("source", data.source),
        ("rows of one epoch", f"{data.n_rows:,}"),
        ("tokens per row", f"{data.seq_len:,}"),
        ("order", data.order),
        ("fingerprint", f"`{data.sha256}`"),
    ]
    rows += [(name, value) for name, value in sorted(data.details.items()) if value is not None]
    return table(("", ""), rows)


def _training(run: RunManifest) -> str:
    training = run.config.get("training", {})
    if not isinstance(training, Mapping):
        return ""
    rows: list[tuple[object, object]] = [
        (name.replace("_", " "), training[name])
        for name in ("max_steps", "batch_size", "precision", "grad_clip")
        if name in training
    ]
    for section in ("optimizer", "schedule"):
        settings = training.get(section, {})
        if isinstance(settings, Mapping):
            named = ((name.replace("_", " "), value) for name, value in settings.items())
            # Settings of other optimizers than the run's are null.
            rows += [
                (f"{section}: {name}", value) for name, value in named if section != "optimizer" or value is not None
            ]
    rows += [("seed", run.seed), ("trained with", f"{run.producer.name} {run.producer.version}")]
    return table(("", ""), rows)


def _curve(index: RevisionIndex) -> str:
    """The loss against the step, drawn with characters: readable wherever the text is."""
    name = "train_loss" if any("train_loss" in r.metrics for r in index.revisions) else "val_loss"
    points = [(r.step, r.metrics.get(name)) for r in index.revisions]
    drawn = [(step, value) for step, value in points if value is not None and math.isfinite(value)]
    if len(drawn) < 2:
        return ""
    label = name.replace("_", " ")
    return f"{label} (nats per token) against the step, log axis.\n\n```text\n{plot(drawn)}\n```"


def plot(points: Sequence[tuple[int, float]], width: int = PLOT_WIDTH, height: int = PLOT_HEIGHT) -> str:
    """Points as a grid of characters: x is log(1 + step), y is linear."""
    return plot_all([("●", points)], width, height)


def plot_all(
    lines: Sequence[tuple[str, Sequence[tuple[int, float]]]], width: int = PLOT_WIDTH, height: int = PLOT_HEIGHT
) -> str:
    """The same of several lines, each with a sign of its own; where two meet, the first one's is seen."""
    points = sorted(point for _, line in lines for point in line)
    across = [math.log1p(step) for step, _ in points]
    values = [value for _, value in points]
    left, right, low, high = min(across), max(across), min(values), max(values)
    grid = [[" "] * width for _ in range(height)]
    for sign, line in reversed(lines):
        for step, value in line:
            column = round((math.log1p(step) - left) / ((right - left) or 1) * (width - 1))
            row = round((high - value) / ((high - low) or 1) * (height - 1))
            grid[row][column] = sign
    labels = [f"{high - (high - low) * row / (height - 1):8.3f}" for row in range(height)]
    drawn = [f"{label} ┤{''.join(cells).rstrip()}" for label, cells in zip(labels, grid, strict=True)]
    first, last = str(points[0][0]), str(points[-1][0])
    axis = " " * 9 + "└" + "─" * width
    return "\n".join([*drawn, axis, " " * 10 + first + " " * (width - len(first) - len(last)) + last])


def _evaluation(index: RevisionIndex) -> str:
    known = sorted({name for revision in index.revisions for name in revision.results})
    names = [name for name in known if _is_shown(name)]
    if not names:
        return ""
    rows = [
        (f"{revision.step:,}", *(number(revision.results.get(name)) for name in names))
        for revision in _spread([r for r in index.revisions if r.results])
    ]
    hidden = len(known) - len(names)
    more = f"\n\n{counted(hidden, 'further result')}, errors and counts among them, in `{layout.EVALUATIONS}/`."
    return table(("step", *names), rows) + (more if hidden else "")


def _is_shown(name: str) -> bool:
    """Whether a result has a column: not those of parts of tasks, nor errors, nor counts."""
    task, _, measure = name.rpartition(".")
    return "/" not in task and not measure.startswith("n_") and not measure.endswith("_se")


def _revisions(run: RunManifest, index: RevisionIndex) -> str:
    rows = [
        (
            f"`{layout.tag_name(run.name, revision.step)}`",
            "" if revision.tokens_seen is None else f"{revision.tokens_seen:,}",
            number(revision.metrics.get("train_loss")),
            number(revision.metrics.get("val_loss")),
            f"{revision.size / 1e6:,.1f} MB",
        )
        for revision in _spread(index.revisions)
    ]
    note = ""
    if len(index.revisions) > len(rows):
        note = f"\n\n{len(rows)} of {len(index.revisions)} revisions are shown; `{layout.REVISIONS}` lists all."
    if index.set_aside:
        apart = counted(len(index.set_aside), "published checkpoint")
        note += (
            f"\n\nNot counted: {apart} that the run has set aside since; `{layout.REVISIONS}` gives the reason, under "
            "`set_aside`."
        )
    head = ("revision", "tokens", "train loss", "validation loss", "size")
    return table(head, rows) + note


def _spread(rows: Sequence[T]) -> list[T]:
    """At most `MAX_ROWS` of them, first and last among them."""
    if len(rows) <= MAX_ROWS:
        return list(rows)
    chosen = sorted({round(i * (len(rows) - 1) / (MAX_ROWS - 1)) for i in range(MAX_ROWS)})
    return [rows[i] for i in chosen]


def number(value: float | None) -> str:
    """Four digits of a number; nothing for none."""
    return "" if value is None else f"{value:.4g}"


def plain(value: object) -> str:
    """Text that cannot end a table's cell, begin markup, or hold a line break."""
    text = re.sub(r"[\x00-\x1f\x7f]+", " ", str(value))[:300]
    return re.sub(r"([\\|<>\[\]*])", r"\\\1", text)


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell if isinstance(cell, Markup) else plain(cell) for cell in line) + " |" for line in lines
    )
