"""What is asked of each step, and what identifies the answer: from rows and settings to a digest per probe and step."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.engine.versions import package_version
from pico_analyze.errors import UsageError
from pico_analyze.models.behaving import Work
from pico_analyze.models.rows import spaced
from pico_analyze.probes import induction
from pico_analyze.probes.distributions import POSITIONS
from pico_analyze.probes.spec import PROBES, costly
from pico_analyze.probes.token_losses import counted_ngrams
from pico_analyze.table.columns import digest

if TYPE_CHECKING:
    from pathlib import Path

    from pico_analyze.models.behave_settings import BehaveSettings
    from pico_analyze.models.rows import Rows
    from pico_analyze.models.trained_rows import TrainedRows
    from pico_analyze.stores.base import ReadOptions
    from pico_schema import ModelSpec


@dataclass(frozen=True)
class Given:
    """What a run and its rows are."""

    name: str
    options: ReadOptions
    directory: Path
    model: ModelSpec
    settings: BehaveSettings
    rows: Rows
    split: str | None
    trained: TrainedRows | None
    versions: dict[str, str]


def work_of(given: Given, contents: Mapping[int, object], *, torch_threads: int) -> Work:
    """The work of probing steps.

    Args:
        given: The run and its rows.
        contents: What stands for the bytes of each step's model.
        torch_threads: Threads of each process.

    Raises:
        UsageError: a continuation that is longer than half a row.
    """
    settings, rows, trained, model = given.settings, given.rows, given.trained, given.model
    ngrams = None
    if "token_losses" in settings.probes:
        ngrams = counted_ngrams(rows.ids_NT if trained is None else trained.ids_NT, model.vocab_size)
    seen = settings.probe_params.get("induction", {}).get("tokens") == "seen"
    drawn = np.unique(rows.ids_NT) if seen else np.arange(model.vocab_size)
    length = induction.repeated_length(model.max_seq_len, len(drawn))
    repeats = None
    if "induction" in settings.probes and length >= induction.SHORTEST:
        repeats = induction.repeated_tokens(drawn, length, induction.SEQUENCES, settings.seed)
    continuation, params = _continuation(settings, rows, trained), _params(settings, rows)
    more = {
        "token_losses": [continuation, trained and trained.digest],
        "induction": [length, settings.seed, *["seen"] * seen],
    }
    digests = {
        (name, step): digest(
            "behave",
            name,
            PROBES[name].version,
            package_version("pico_analyze"),
            params[name],
            more.get(name),
            settings.device.partition(":")[0],
            content,
        )
        for step, content in contents.items()
        for name in settings.probes
    }
    return Work(
        name=given.name,
        options=given.options,
        directory=given.directory,
        started=time.time_ns(),
        model=model,
        settings=settings,
        rows=rows,
        split=given.split,
        positions=tuple(spaced(POSITIONS, rows.ids_NT.shape[1] - 1)),
        repeats=repeats,
        trained=trained,
        ngrams=ngrams,
        continuation=continuation,
        params=params,
        digests=digests,
        torch_threads=torch_threads,
        versions=given.versions,
    )


def _params(settings: BehaveSettings, rows: Rows) -> dict[str, dict[str, Any]]:
    ids = np.ascontiguousarray(rows.ids_NT, "<i4")
    base = {"rows": hashlib.sha256(repr(ids.shape).encode() + ids.tobytes()).hexdigest()[:12]}
    base |= {"dtype": settings.dtype} if settings.dtype != "float32" else {}
    at_positions: dict[str, Any] = {**base, "positions": min(POSITIONS, ids.shape[1] - 1)}
    found = {
        name: dict(at_positions if name in ("logit_lens", "output_distance") else base) for name in settings.probes
    }
    for name in costly(settings.probes):
        found[name] |= {**settings.probe_params[name], "seed": settings.seed, "batch": settings.batch_size}
    return found


def _continuation(settings: BehaveSettings, rows: Rows, trained: TrainedRows | None) -> int:
    """k of memorisation: a prompt and a continuation of it fit into a row.

    Raises:
        UsageError: what was asked for does not.
    """
    lengths = [rows.ids_NT.shape[1], *([] if trained is None else [trained.ids_NT.shape[1]])]
    most = min(lengths) // 2
    if settings.continuation is not None and settings.continuation > most:
        raise UsageError(
            f"--continuation {settings.continuation}: rows of {min(lengths)} tokens hold a prompt and a continuation "
            f"of {most} at most"
        )
    return settings.continuation or min(32, most)
