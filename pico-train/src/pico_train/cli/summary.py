"""What is said at a run's end: what was learned, where it is, what to do next, in commands that work as they stand."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pico_train.counting import counted

if TYPE_CHECKING:
    from pico_train.cli.configured import Words
    from pico_train.config import RunConfig
    from pico_train.run_summary import Summary

_WORDS_OF_PROMPT = 12
"""Words of a held-out row that the sample goes on from."""
_LONGEST_PROMPT = 120
_NEW_TOKENS = 40


def print_summary(config: RunConfig, summary: Summary, words: Words) -> None:
    """What was learned, where it is, and what to do next."""
    held = counted(summary.checkpoints, "checkpoint")
    if summary.was_finished:
        typer.echo(f"{summary.run_dir} is finished: {counted(summary.steps, 'step')}, {held}.")
        typer.echo(f"To start another: {words.again(f'{config.name}-2')}")
        longer = words.again(config.name, training__max_steps=2 * config.training.max_steps)
        typer.echo(f"To train this one longer: {longer}")
        return
    megabytes = summary.size / 1e6
    speed = f", {summary.tokens_per_second:,.0f} tokens/s" if summary.tokens_per_second else ""
    typer.echo("")
    typer.echo(f"{counted(summary.steps, 'step')} in {summary.seconds:.0f} s{speed}")
    if summary.first_loss is not None and summary.last_loss is not None:
        held_out = _held_out(summary)
        val = f", {summary.val_loss:.3f} on text it has not seen" if summary.val_loss is not None else ""
        typer.echo(
            f"loss    {summary.first_loss:.3f} → {summary.last_loss:.3f} nats per token{'' if held_out else val}"
        )
        if held_out:
            typer.echo(f"unseen  {held_out}")
    for label, task, what in (("pairs", "pairs", "English grammar"), ("code", "python-pairs", "Python's grammar")):
        if (accuracy := _accuracy(summary, task)) is not None:
            typer.echo(f"{label:7} {accuracy} of minimal pairs of {what} (chance 50 %)")
    prompt, continuation = _sample(summary, config.data.seq_len)
    if continuation:
        typer.echo(f"sample  {prompt}│{continuation}".replace("\n", "\n        "))
    typer.echo(f"saved   {held}, {megabytes:,.0f} MB in {summary.run_dir}")
    typer.echo(f"next    {shlex.join(['pico-analyze', 'compute', 'cka', str(summary.run_dir)])}")


def _held_out(summary: Summary) -> str:
    """Held-out loss and bits per byte at the first and at the last step; empty where they are not known."""
    loss, bits = (summary.evaluated.get(f"validation/{name}") for name in ("loss", "bits_per_byte"))
    if loss is None:
        return ""
    more = f", {bits[0]:.3f} → {bits[1]:.3f} bits per byte" if bits is not None else ""
    return f"{loss[0]:.3f} → {loss[1]:.3f} nats per token{more}, on text that was held out"


def _accuracy(summary: Summary, task: str) -> str | None:
    """Accuracy on pairs at the first and at the last step, with standard errors."""
    share, error = (summary.evaluated.get(f"{task}/{name}") for name in ("accuracy", "accuracy_se"))
    if share is None or error is None:
        return None
    first, last = (f"{100 * p:.1f} ± {100 * e:.1f} %" for p, e in zip(share, error, strict=True))
    return f"{first} → {last}"


def _sample(summary: Summary, seq_len: int) -> tuple[str, str]:
    """The beginning of a held-out row and what the newest checkpoint makes of it; empty where there is neither."""
    from pico_schema import SchemaError
    from pico_train.addresses import sealed_checkpoint
    from pico_train.errors import PicoTrainError, UsageError
    from pico_train.model.sampling import continue_text

    more = min(_NEW_TOKENS, max(1, seq_len // 2))
    try:
        newest, found = sealed_checkpoint(summary.run_dir, None), _words(summary.run_dir)
        for n in (_WORDS_OF_PROMPT, 6, 3, 1):  # as many as the model reads
            prompt = "".join(found[:n]).rstrip()[:_LONGEST_PROMPT]
            with contextlib.suppress(UsageError):
                return prompt, continue_text(newest, prompt, max_new_tokens=more, temperature=0.7, top_p=0.9)
    except (PicoTrainError, SchemaError):
        pass
    return "", ""


def _words(run_dir: Path) -> list[str]:
    """The first words of the first held-out row that has so many, with what stands between; fewer, where none has."""
    from pico_schema import documents
    from pico_train.checkpoint import validation_rows

    longest: list[str] = []
    for text in validation_rows.read(run_dir, documents.read_run(run_dir)).texts:
        # A row may begin within a word: whole words from the second on.
        found = re.findall(r"\S+\s*", text.replace("\ufffd", ""))[1 : 1 + _WORDS_OF_PROMPT]
        if len(found) > len(longest):
            longest = found
        if len(longest) == _WORDS_OF_PROMPT:
            break
    return longest
