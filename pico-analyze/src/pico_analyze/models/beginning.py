"""What a capture begins with: the rows and positions, and the run that is made, which asks one thing for good."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.counting import counted
from pico_analyze.errors import StorageError, UsageError
from pico_analyze.models import sealing
from pico_analyze.models.rows import Rows, check_fit, rows_of_files, spaced, taken
from pico_analyze.models.settings import SEQ_LEN, CaptureSettings, ChoosesRows
from pico_analyze.stores.base import HasManifests, ReadOptions, StepInfo
from pico_analyze.stores.run_names import is_known, open_named
from pico_schema import DataFingerprint, RunManifest, ValidationRows, layout
from pico_schema.digests import samples_sha256
from pico_schema.files import replace_file

if TYPE_CHECKING:
    from pico_analyze.models.sources import ModelRun
    from pico_analyze.stores.transformers.model import Model

COMMAND = "capture"
Told = Callable[[str], None]
"""Is told, in a sentence, what a person should know."""


@dataclass(frozen=True)
class Work:
    """What capturing one step takes, wherever it is done; picklable."""

    name: str
    options: ReadOptions
    out: Path
    run: RunManifest
    sites: tuple[str, ...]
    rows: Rows
    positions: tuple[int, ...]
    settings: CaptureSettings
    tokenizer: bytes | None
    torch_threads: int


def begin(
    source: ModelRun,
    info: StepInfo,
    first: Model,
    sites: tuple[str, ...],
    settings: CaptureSettings,
    told: Told,
    versions: dict[str, str],
) -> Work:
    """Rows and positions, and the run that they are captured into: begun now, or found there and compared."""
    tokenizer = source.small(info.step, layout.TOKENIZER, settings.out)
    seq_len = settings.seq_len or min(SEQ_LEN, first.spec.max_seq_len)
    rows = chosen_rows(source, info.step, tokenizer, settings, seq_len, told)
    check_fit(rows, first.spec.vocab_size, first.spec.max_seq_len)
    seq_len = rows.ids_NT.shape[1] - 1  # rows of ids have a length of their own
    every = settings.positions == "all"
    number = seq_len if every else 1 if settings.positions == "last" else int(settings.positions)
    positions = tuple(spaced(number, seq_len))
    digest = samples_sha256(rows.ids_NT.astype("<i4").tobytes(), rows.ids_NT.shape, positions)
    asked = {
        "source": source.location,
        "samples": digest,
        "sites": list(sites),
        "gradients": settings.gradients,
        "weights": settings.weights,
        "dtype": settings.dtype,
        "device": settings.device.partition(":")[0],
        "prefix": settings.read.prefix,
        "architecture": settings.read.architecture,
    }
    run = sealing.read_run(settings.out, COMMAND)
    if run is None:
        run = _begun(source, info.step, rows, asked, tokenizer, settings, versions)
    else:
        sealing.check_same(settings.out, run.config[COMMAND], asked)
    threads = max(1, (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
    each = max(1, threads // settings.jobs)
    return Work(source.name, source.options, settings.out, run, sites, rows, positions, settings, tokenizer, each)


def chosen_rows(
    source: ModelRun, step: int, tokenizer: bytes | None, settings: ChoosesRows, seq_len: int, told: Told
) -> Rows:
    """The rows that are meant, with a word about what they can be compared with."""
    runs = [name for name in settings.data if not Path(name).is_file() and is_known(name)]
    own = not settings.data and isinstance(source.store, HasManifests) and _has_rows(source.name, settings)
    if runs or own:
        if len(settings.data) > 1:
            raise UsageError("--data takes files, or one run of Pico: name that alone")
        rows = _rows_of_run(runs[0] if runs else source.name, settings)
        told(f"rows: {counted(len(rows.ids_NT), 'validation row')} of {runs[0] if runs else source.store.run}")
        return rows
    files = [Path(name) for name in settings.data]
    rows = rows_of_files(files, tokenizer, n_rows=settings.rows, seq_len=seq_len)
    if rows.tokenized:
        text = "your text" if files else "the text of Python's own library"
        told(
            f"warning: {text} was tokenized with the tokenizer of {source.store.run} at step {step}: models with "
            "another tokenizer read other tokens, and captures of theirs cannot be compared with these row by row"
        )
    return rows


def _has_rows(name: str, settings: ChoosesRows) -> bool:
    return _validation(name, settings) is not None


def _validation(name: str, settings: ChoosesRows) -> Any:
    """The stored validation rows of a run of Pico: its file's content and the run; None where it has none."""
    store = open_named(name, settings.read)
    found = getattr(store, "validation_rows", None)
    return None if found is None else found()


def _rows_of_run(name: str, settings: ChoosesRows) -> Rows:
    found = _validation(name, settings)
    if found is None:
        raise UsageError(f"{name}: it stores no validation rows: give files of text or token ids")
    return taken(found.ids_NT, found.sources, None, n_rows=settings.rows, texts=found.texts)


def _begun(
    source: ModelRun,
    step: int,
    rows: Rows,
    asked: dict[str, Any],
    tokenizer: bytes | None,
    settings: CaptureSettings,
    versions: dict[str, str],
) -> RunManifest:
    """A run of captures, with its rows, in a directory that holds nothing yet."""
    spec, sealed_run = source.store.spec(step), source.manifest(step)
    content = rows.parquet()
    seq_len = rows.ids_NT.shape[1] - 1
    data = DataFingerprint(
        source="unknown",
        sha256=hashlib.sha256(rows.ids_NT.astype("<i4").tobytes()).hexdigest(),
        n_rows=len(rows.ids_NT),
        seq_len=seq_len,
        vocab_size=spec.vocab_size,
        tokenizer_sha256=None if tokenizer is None else hashlib.sha256(tokenizer).hexdigest(),
        order="sequential",
        details={"captured_on": ", ".join(settings.data)[:1000] or "own rows, or Python's library"},
    )
    if sealed_run is not None and sealed_run.data.seq_len == seq_len:
        data = sealed_run.data
    try:
        replace_file(settings.out / layout.VALIDATION_ROWS, content)
    except OSError as error:
        raise StorageError(f"{settings.out}: writing failed ({error.strerror or error}): check the disk") from None
    run = RunManifest(
        id=uuid.uuid4().hex,
        name=sealing.run_name(settings.out),
        created=datetime.now(UTC),
        producer=sealing.PRODUCER,
        seed=None if sealed_run is None else sealed_run.seed,
        model=spec,
        data=data,
        config={COMMAND: json.loads(json.dumps(asked))},
        validation=ValidationRows(
            size=len(content), sha256=hashlib.sha256(content).hexdigest(), n_rows=len(rows.ids_NT)
        ),
        environment=versions,
    )
    sealing.write_run(settings.out, run)
    return run
