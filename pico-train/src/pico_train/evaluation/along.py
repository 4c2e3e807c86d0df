"""What is measured of a run while it trains, on the live weights: its held-out rows, and the tasks that it names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pico_train.config import RunConfig
from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.errors import UsageError
from pico_train.evaluation.scoring import Scorer
from pico_train.evaluation.tasks import Address, Given, Task, check_size, open_task, parse_all
from pico_train.training.engine import Engine
from pico_train.training.step import Due, Tasks

VALIDATION = "validation"


def named(texts: Sequence[str]) -> list[Address]:
    """The held-out rows, and the tasks of `evaluation.tasks`.

    Raises:
        UsageError: one is none, or two have the same name; or the held-out rows are named, which are always measured.
    """
    found = parse_all(texts)
    if any(address.kind == VALIDATION for address in found):
        raise UsageError("evaluation.tasks: validation, the held-out rows, is measured in any case: leave it out")
    return parse_all([VALIDATION, *texts])


def open_tasks(config: RunConfig, corpus: ShardCorpus, world_size: int, say: Callable[[str], None]) -> list[Task]:
    """The held-out rows, and what `evaluation.tasks` names.

    Args:
        config: The run.
        corpus: Its rows.
        world_size: Processes.
        say: Is told what is to be known of a set.

    Raises:
        ConfigError, DataError, StorageError: a task cannot be used with this run.
    """
    wanted = config.evaluation
    given = Given(
        tokenizer_dir=corpus.tokenizer_dir,
        vocab_size=corpus.vocab_size,
        tokenizer_sha256=corpus.fingerprint.tokenizer_sha256,
        corpus=corpus if corpus.directory is not None else None,  # rows that would be fetched are not looked through
        rows=lambda: (corpus.validation(config.data.val_rows), corpus.validation_sources(config.data.val_rows)),
        tokenizer=wanted.tokenizer,
        allow_overlap=wanted.allow_overlap,
        say=say,
    )
    tasks = [open_task(address, given) for address in named(wanted.tasks)]
    for task in tasks[1:]:
        check_size(task, world_size)
    return tasks


@dataclass(frozen=True)
class Evaluator:
    """Measures the live model at the steps that are due. Called on every process."""

    engine: Engine
    config: RunConfig
    tasks: Sequence[Task]
    """The held-out rows, then the others."""

    def __call__(self, due: Due) -> Tasks:
        """The results that are due, by task. A collective."""
        wanted, training = self.config.evaluation, self.config.training
        seq_len = self.config.data.seq_len
        chunk = training.logits_at_once(wanted.batch_size * seq_len, device=self.engine.device.type)
        scorer = Scorer.of(self.engine, chunk=chunk)
        chosen = [*(self.tasks[:1] if due.evaluation else ()), *(self.tasks[1:] if due.tasks else ())]
        found: Tasks = {}
        for task in chosen:
            found |= task.measure(scorer, batch_size=wanted.batch_size, stride=wanted.stride)
        return found
