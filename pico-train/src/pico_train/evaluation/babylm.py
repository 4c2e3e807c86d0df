"""BabyLM's fast evaluation, from the folders of the challenge's data: each task by the name of its folder.

The pipelines of 2025 and later keep their data as JSON lines, `evaluation_data/fast_eval/<task>/*.jsonl`:

    blimp_*, supplement_*     minimal pairs                         accuracy of whole sentences, by UID
    ewok_*                    Context1, Target1, Target2, Domain    is Target1 the likelier after Context1
    entity_tracking*          input_prefix, options, numops         is the first option the likeliest
    wug_*                     two sentences and people's ratio      Spearman's correlation of both preferences

`macro_accuracy` is what BabyLM reports: the mean over UIDs, domains or subsets. Sentences are led here by the token
that documents begin with, so that the first word counts as well; the challenge's own code leaves out the first token
where a tokenizer adds none. Reading times (`reading`) are a regression on people's data, which is not measured here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pico_train.errors import DataError, UsageError
from pico_train.evaluation.scoring import Scorer, sums_of
from pico_train.evaluation.sentences import Encoder, Question, read_records, text_of
from pico_train.training.step import Tasks

FAMILIES = ("blimp", "supplement", "ewok", "entity_tracking", "wug")
"""What the names of folders begin with."""
_FIELLER = 1.06
"""Variance of Spearman's z times n − 3 (Fieller, Hartley & Pearson 1957)."""


def folders(place: str) -> list[str]:
    """The folders of tasks that a place means: itself if its name is that of one, else those in it.

    Raises:
        UsageError: there is no such folder, or none of BabyLM's is in it.
    """
    directory = Path(place).expanduser()
    if not directory.is_dir():
        raise UsageError(f"babylm:{place}: there is no such folder")
    if _family(directory.name):
        return [place]
    found = [str(Path(place) / path.name) for path in sorted(directory.iterdir()) if path.is_dir()]
    found = [path for path in found if _family(Path(path).name)]
    if not found:
        known = ", ".join(f"{family}…" for family in FAMILIES)
        raise UsageError(f"babylm:{place}: neither it nor a folder in it is named as a task of BabyLM: {known}")
    return found


def _family(name: str) -> str | None:
    return next((family for family in FAMILIES if name == family or name.startswith(f"{family}_")), None)


def family(place: str) -> str:
    """What the task in a folder is of: one of `FAMILIES`.

    Raises:
        UsageError: as `folders`.
    """
    [folder] = folders(place)
    return str(_family(Path(folder).name))


def read_questions(directory: Path) -> list[Question]:
    """The questions of a folder of EWoK or of entity tracking; the right answer is the first.

    Raises:
        UsageError, DataError: as `sentences.read_records`; or a record is none of this task.
    """
    make = _ewok if _family(directory.name) == "ewok" else _entity
    questions = [make(record, where) for where, record in read_records(directory)]
    if not questions:
        raise DataError(f"{directory}: holds no questions: it is empty")
    return questions


def _ewok(record: dict[str, Any], where: str) -> Question:
    context, *targets, domain = (
        text_of(record, (name,), where) for name in ("Context1", "Target1", "Target2", "Domain")
    )
    return Question(context, (f" {targets[0]}", f" {targets[1]}"), 0, _plain(domain))


def _entity(record: dict[str, Any], where: str) -> Question:
    prefix, options, n_ops = text_of(record, ("input_prefix",), where), record.get("options"), record.get("numops")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(one, str) and one for one in options):
        raise DataError(f"{where}: options is no list of texts")
    if not isinstance(n_ops, int | str):
        raise DataError(f"{where}: numops is no number")
    return Question(prefix, tuple(options), 0, _plain(f"{Path(where.rpartition(':')[0]).stem}_{n_ops}_ops"))


def _plain(text: str) -> str:
    return re.sub(r"[\s/]+", "_", text)


@dataclass(frozen=True)
class PreferenceSet:
    """Two ways to say something, and how often people prefer the first."""

    name: str
    """Name of the task."""
    ratios: np.ndarray
    """(n,) people's preference for the first of each two."""
    sentences: Sequence[np.ndarray]
    """(2 · n) token ids: the first of each two, then the second."""

    @classmethod
    def read(cls, name: str, directory: Path, encoder: Encoder) -> PreferenceSet:
        """The records of a folder: `sentences` (two, apart by a tab) and `ratio`.

        Raises:
            UsageError, DataError: as `sentences.read_records`; or a record is none.
        """
        ratios, texts = [], list[str]()
        for where, record in read_records(directory):
            two = text_of(record, ("sentences",), where).split("\t")
            if len(two) != 2 or not all(one.strip() for one in two):
                raise DataError(f"{where}: sentences is not two sentences with a tab between them")
            try:
                ratio = float(record.get("ratio", math.nan))
            except (TypeError, ValueError):
                ratio = math.nan
            if not math.isfinite(ratio):
                raise DataError(f"{where}: ratio is no number")
            ratios.append(ratio)
            texts += two
        if not ratios:
            raise DataError(f"{directory}: holds no records: it is empty")
        return cls(name, np.array(ratios), encoder(texts, f"task {name}"))

    def measure(self, scorer: Scorer, *, batch_size: int, stride: int | None = None) -> Tasks:
        """Spearman's correlation of people's preference and the model's, with its standard error. A collective."""
        losses = sums_of(scorer, self.sentences, batch_size=batch_size, stride=stride)
        found = rank_correlation(losses[1::2] - losses[::2], self.ratios)
        n = len(self.ratios)
        error = (1 - found**2) * math.sqrt(_FIELLER / (n - 3)) if n > 3 else math.nan
        return {self.name: {"correlation": found, "correlation_se": error, "n_pairs": n}}


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's ρ of (n,) and (n,), ties having their mean rank; NaN where one of them does not vary."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks
