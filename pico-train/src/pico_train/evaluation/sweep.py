"""Tasks over the checkpoints of a series, one checkpoint in memory at a time; what is there already is not done again.

Results are kept after each task, so that a sweep which is killed goes on from there. A checkpoint that does not verify
is told of and passed over: the others are measured, and the command fails at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from pico_schema import SchemaError, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint import validation_rows
from pico_train.config import DataConfig, layers
from pico_train.data.corpus import Corpus, open_corpus
from pico_train.errors import CheckpointError, DataError, PicoTrainError, StorageError
from pico_train.evaluation import models
from pico_train.evaluation.foreign_series import ForeignSeries
from pico_train.evaluation.scoring import Scorer
from pico_train.evaluation.series import OwnSeries
from pico_train.evaluation.tasks import Address, Given, Task, open_task
from pico_train.model.huggingface import read_config
from pico_train.training.step import Tasks

Progress = Callable[[str], None]
Harness = Callable[[Path, Sequence[str]], Iterator[tuple[str, Tasks]]]
"""Measures a model in a directory on tasks of lm-eval, one after the other."""
GIVEN = "task"
"""Measure that holds the task's name as it was written."""


@dataclass(frozen=True)
class Wanted:
    """What is to be measured, and how."""

    tasks: Sequence[Address] = ()
    """Built-in tasks."""
    others: Sequence[str] = ()
    """Tasks of lm-eval."""
    batch_size: int = 16
    """Windows of full length at once."""
    stride: int | None = None
    """Tokens by which windows go on."""
    device: str = "auto"
    """Where."""
    tokenizer: str | None = None
    """Tokenizer of shards without a manifest."""
    allow_overlap: bool = False
    """Whether sets may hold what was trained on."""
    again: bool = False
    """Whether what is known is measured anew."""
    harness: Harness | None = None
    """Who measures the tasks of lm-eval."""


@dataclass
class Swept:
    """What came of a sweep."""

    results: dict[int, Tasks] = field(default_factory=dict)
    """By step: the tasks that were asked for, measured now or before."""
    failed: dict[int, str] = field(default_factory=dict)
    """By step: why it was not measured."""
    measured: int = 0
    """Tasks that were measured now."""


def sweep(series: OwnSeries | ForeignSeries, wanted: Wanted, say: Progress) -> Swept:
    """Measure.

    Raises:
        ConfigError, DataError, StorageError, UsageError: a task cannot be used with this series.
    """
    work = _Work(series, wanted, models.chosen_device(wanted.device), say)
    swept = work.swept
    for step in series.steps:
        try:
            swept.results[step] = work.measure(step)
        except (CheckpointError, SchemaError) as error:
            swept.failed[step] = str(error)
            say(f"step {step}: not measured: {error}")
        except OSError as error:
            raise StorageError(f"{series.file(step)}: cannot be written ({error.strerror or error})") from None
    return swept


@dataclass
class _Work:
    """A sweep that goes on."""

    series: OwnSeries | ForeignSeries
    wanted: Wanted
    device: torch.device
    say: Progress
    swept: Swept = field(default_factory=Swept)
    opened: dict[str, tuple[object, Task]] = field(default_factory=dict)
    """Task → the tokenizer that it was opened with, and the task."""

    def measure(self, step: int) -> Tasks:
        """What was asked for of one checkpoint, which is fetched only if something of it is not known."""
        wanted, known = self.wanted, {} if self.wanted.again else self.series.known(step)
        found: Tasks = {}
        for address in wanted.tasks:
            if _is_known(known, address):
                found |= _of(known, address.name)
        left = [address for address in wanted.tasks if address.name not in found]
        others = [name for name in wanted.others if name not in known]
        found |= {key: value for name in wanted.others if name in known for key, value in _of(known, name).items()}
        if not left and not (others and wanted.harness):
            return found
        with self.series.checkpoint(step) as directory:
            if left:
                found |= self._built_in(step, directory, left)
            if others and wanted.harness is not None:
                for name, new in wanted.harness(directory, others):
                    self._keep(step, new, name)
                    found |= new
        return found

    def _built_in(self, step: int, directory: Path, left: Sequence[Address]) -> Tasks:
        found: Tasks = {}
        with _scorer(self.series, directory, self.device) as scorer:
            for address in left:
                task = _opened(self.series, directory, address, self.wanted, self.opened, self.say)
                new = task.measure(scorer, batch_size=self.wanted.batch_size, stride=self.wanted.stride)
                new[address.name][GIVEN] = address.given
                self._keep(step, new, address.name)
                found |= new
        return found

    def _keep(self, step: int, new: Tasks, name: str) -> None:
        self.series.keep(step, new)
        self.swept.measured += 1
        self.say(f"step {step}: {line(name, new)}")


def _is_known(known: Tasks, address: Address) -> bool:
    """Whether results of this name are those of this task; what was measured along the way does not say its own."""
    return address.name in known and known[address.name].get(GIVEN, address.given) == address.given


def _of(tasks: Tasks, name: str) -> Tasks:
    """A task with its parts."""
    return {key: value for key, value in tasks.items() if key == name or key.startswith(f"{name}/")}


def _scorer(series: OwnSeries | ForeignSeries, directory: Path, device: torch.device) -> AbstractContextManager[Scorer]:
    if isinstance(series, ForeignSeries):
        return models.foreign(directory, device, str(directory) if series.repo is None else f"hf://{series.repo}")
    data = series.run.config.get("data", {})
    masked = isinstance(data, dict) and data.get("document_mask") is True
    separator = read_config(directory, layout.GENERATION_CONFIG).get("eos_token_id") if masked else None
    return models.own(directory, device, separator=separator if type(separator) is int else None)


def _opened(
    series: OwnSeries | ForeignSeries,
    directory: Path,
    address: Address,
    wanted: Wanted,
    opened: dict[str, tuple[object, Task]],
    say: Progress,
) -> Task:
    """The task in this checkpoint's tokens; opened once for all checkpoints of one tokenizer."""
    there = (directory / layout.TOKENIZER).is_file()
    key: object = sha256_file(directory / layout.TOKENIZER) if there else None
    if address.name in opened and opened[address.name][0] == key:
        return opened[address.name][1]
    task = open_task(address, _given(series, directory, there, wanted, say))
    opened[address.name] = (key, task)
    return task


def _given(
    series: OwnSeries | ForeignSeries, directory: Path, has_tokenizer: bool, wanted: Wanted, say: Progress
) -> Given:
    size = read_config(directory, layout.MODEL_CONFIG).get("vocab_size")
    common = {
        "tokenizer_dir": directory if has_tokenizer else None,
        "vocab_size": size if type(size) is int else 2**24,
        "tokenizer": wanted.tokenizer,
        "allow_overlap": wanted.allow_overlap,
        "say": say,
    }
    if isinstance(series, ForeignSeries):
        return Given(**common)  # type: ignore[arg-type]

    def rows() -> tuple[np.ndarray, list[str]]:
        stored = validation_rows.read(series.run_dir, series.run)
        return stored.input_ids, stored.sources

    return Given(
        **common,  # type: ignore[arg-type]
        tokenizer_sha256=series.run.data.tokenizer_sha256,
        corpus=_corpus(series, say),
        rows=rows,
    )


def _corpus(series: OwnSeries, say: Progress) -> Corpus | None:
    """The run's training rows, where they are on this disk and still what they were."""
    try:
        config = layers.validate({"data": series.run.config.get("data", {})}).data
        if config.source == "hub":
            raise DataError("they are on the Hub")
        corpus = _open(config)
        if corpus.fingerprint.sha256 != series.run.data.sha256:
            raise DataError("they are not what the run was trained on any more")
    except PicoTrainError as error:
        reason = " ".join(str(error).split())[:200]
        say(f"sets are not compared with the training rows: {reason}")
        return None
    return corpus


@cache
def _open(config: DataConfig) -> Corpus:
    return open_corpus(config)


def line(name: str, tasks: Tasks) -> str:
    """A task's main results in one line: ``validation: loss 5.123, bits_per_byte 1.9``."""
    of = tasks.get(name, {})
    shown: list[str] = []
    for measure, value in of.items():
        if isinstance(value, float) and not measure.endswith("_se") and len(shown) < 4:
            error = of.get(f"{measure}_se")
            shown.append(f"{measure} {value:.4g}" + (f" ± {error:.2g}" if isinstance(error, float) else ""))
    return f"{name}: {', '.join(shown)}"
