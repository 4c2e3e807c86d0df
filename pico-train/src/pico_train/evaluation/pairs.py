"""Minimal pairs: two sentences that differ in one point, of which a model should find the right one likelier.

As in BLiMP (Warstadt et al. 2020, arXiv:1912.00582): log-probabilities of whole sentences are compared. Of n pairs:

    accuracy   share whose right sentence is likelier     accuracy_se   √(p (1 − p) / n)
    margin     mean of log p(right) − log p(wrong), nats  margin_se     its standard deviation / √n

Errors take pairs for independent; those made of one template are alike, so that they say at least how much is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pico_train.errors import DataError
from pico_train.evaluation import python_suite, suite
from pico_train.evaluation.measures import mean_error, share_error
from pico_train.evaluation.scoring import Scorer, sums_of
from pico_train.evaluation.sentences import Encoder, read_records, text_of
from pico_train.training.step import Measures, Tasks


@dataclass(frozen=True)
class Pair:
    """Two sentences."""

    phenomenon: str
    """What they differ in."""
    good: str
    """The right one."""
    bad: str
    """The wrong one."""


SHIPPED = {"pairs": suite.pairs, "python-pairs": python_suite.pairs}
"""The pairs that come with this package, by the name of their task."""


def shipped(task: str) -> list[Pair]:
    """The pairs of one of these tasks."""
    return [Pair(*pair) for pair in SHIPPED[task]()]


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of JSON lines as BLiMP's: `sentence_good`, `sentence_bad`, and `phenomenon` or `UID` (else the file's).

    Raises:
        UsageError, DataError: as `read_records`; or a line is no pair, or its sentences are the same.
    """
    pairs = []
    for where, record in read_records(path):
        good, bad = text_of(record, ("sentence_good",), where), text_of(record, ("sentence_bad",), where)
        if good == bad:
            raise DataError(f"{where}: its two sentences are the same")
        named = any(isinstance(record.get(name), str) for name in ("phenomenon", "UID"))
        file = Path(where.rpartition(":")[0]).stem
        pairs.append(Pair(text_of(record, ("phenomenon", "UID"), where) if named else file, good, bad))
    if not pairs:
        raise DataError(f"{path}: holds no pairs: it is empty")
    return pairs


@dataclass(frozen=True)
class PairSet:
    """Pairs, as token ids."""

    name: str
    """Name of the task."""
    phenomena: Sequence[str]
    """Of each pair."""
    sentences: Sequence[np.ndarray]
    """(2 · pairs) the right sentence of each pair, then its wrong one."""

    @classmethod
    def of(cls, name: str, pairs: Sequence[Pair], encoder: Encoder) -> PairSet:
        """The pairs in a tokenizer's ids."""
        texts = [text for pair in pairs for text in (pair.good, pair.bad)]
        return cls(name, [pair.phenomenon for pair in pairs], encoder(texts, f"task {name}"))

    def measure(self, scorer: Scorer, *, batch_size: int, stride: int | None = None) -> Tasks:
        """Measures under `name`, and of each phenomenon under `name/phenomenon`. A collective."""
        losses = sums_of(scorer, self.sentences, batch_size=batch_size, stride=stride)
        margins = losses[1::2] - losses[::2]
        phenomena = np.array(self.phenomena)
        each = {kind: pair_measures(margins[phenomena == kind]) for kind in dict.fromkeys(self.phenomena)}
        whole = pair_measures(margins)
        if len(each) > 1:
            whole["macro_accuracy"] = float(np.mean([of["accuracy"] for of in each.values()]))
        return {self.name: whole} | {f"{self.name}/{kind}": of for kind, of in each.items() if len(each) > 1}


def pair_measures(margins: np.ndarray) -> Measures:
    """Accuracy and mean margin with their standard errors, of (n,) margins in nats; a tie counts as wrong."""
    n, right = len(margins), float((margins > 0).mean())
    found: Measures = {"accuracy": right, "accuracy_se": share_error(right, n)}
    found["margin"] = float(margins.mean())
    if n > 1:
        found["margin_se"] = mean_error(margins)
    return found | {"n_pairs": n}
