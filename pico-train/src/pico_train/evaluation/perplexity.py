"""How well a model predicts a set of documents: loss, perplexity, bits per byte; overall, by source, and their average.

With l_i the summed loss (nats) of document i, n_i its predicted tokens and b_i its bytes, all over the documents of a
group:

    loss            Σ l_i / Σ n_i, the token-weighted mean          loss_se   its standard error (below)
    perplexity      exp(loss)                                       bits_per_byte   Σ l_i / (ln 2 · Σ b_i)
    macro_loss      mean of the sources' losses, each counting the same; macro_perplexity its exp
    pico1_perplexity   mean of exp(l_i / n_i): what Pico 1.0 published, which one outlier ruins; of rows alone

The standard error is that of a ratio of sums over documents (Cochran 1977, Sampling Techniques, eq. 6.13), since the
tokens of one document depend on each other. End-of-text tokens are predicted like any other, and have no bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pico_train.counting import counted
from pico_train.errors import DataError
from pico_train.evaluation.measures import perplexity, ratio_error
from pico_train.evaluation.scoring import Scorer, sums_of
from pico_train.training.step import Measures, Tasks

MOST_SOURCES = 64
"""Sources of which results are given one by one."""
LEAST_DOCUMENTS = 4
"""Documents of a source, on average, below which results by source would say little."""


@dataclass(frozen=True)
class DocumentSet:
    """What is predicted."""

    name: str
    """Name of the task."""
    documents: Sequence[np.ndarray]
    """Each (n + 1,) token ids: the first is only read."""
    sources: Sequence[str]
    """Where each is from; empty texts where that is not known."""
    n_bytes: np.ndarray | None
    """(documents,) bytes of the predicted tokens; None where the tokenizer's are not known."""
    rows: bool = False
    """Whether they are rows that were cut beforehand: Pico 1.0's number is given for them."""
    counts: Mapping[str, int] | None = None
    """What else is to be said of the set, such as near duplicates."""

    def __post_init__(self) -> None:
        if not any(len(document) > 1 for document in self.documents):
            held = counted(len(self.documents), "document")
            raise DataError(f"task {self.name}: no token to predict in {held}: the set is empty")

    @property
    def by_source(self) -> dict[str, np.ndarray]:
        """Source → numbers of its documents, where there are several sources of four documents or more on average."""
        numbers: dict[str, list[int]] = {}
        for number, source in enumerate(self.sources):
            numbers.setdefault(source, []).append(number)
        few = len(numbers) < 2 or len(numbers) > MOST_SOURCES or LEAST_DOCUMENTS * len(numbers) > len(self.documents)
        return {} if few else {source: np.array(found) for source, found in sorted(numbers.items())}

    def measure(self, scorer: Scorer, *, batch_size: int, stride: int | None = None) -> Tasks:
        """The set's measures under `name`, and those of each source under `name/source`. A collective."""
        losses = sums_of(scorer, self.documents, batch_size=batch_size, stride=stride)
        n_tokens = np.array([len(document) - 1 for document in self.documents])
        return self._tasks(losses, n_tokens)

    def _tasks(self, losses: np.ndarray, n_tokens: np.ndarray) -> Tasks:
        whole = _measures(losses, n_tokens, self.n_bytes)
        if self.rows:
            filled = n_tokens > 0
            whole["pico1_perplexity"] = float(np.mean([perplexity(loss) for loss in losses[filled] / n_tokens[filled]]))
        groups = {
            source: _measures(losses[chosen], n_tokens[chosen], None if self.n_bytes is None else self.n_bytes[chosen])
            for source, chosen in self.by_source.items()
        }
        if groups:
            macro = float(np.mean([group["loss"] for group in groups.values()]))
            whole |= {"macro_loss": macro, "macro_perplexity": perplexity(macro), "n_sources": len(groups)}
        return {self.name: whole | dict(self.counts or {})} | {f"{self.name}/{name}": of for name, of in groups.items()}


def _measures(losses: np.ndarray, n_tokens: np.ndarray, n_bytes: np.ndarray | None) -> Measures:
    tokens, total = int(n_tokens.sum()), float(losses.sum())
    if not tokens:
        return {"loss": math.nan, "perplexity": math.nan, "n_tokens": 0, "n_documents": len(losses)}
    found: Measures = {"loss": total / tokens, "perplexity": perplexity(total / tokens)}
    if n_bytes is not None and n_bytes.sum():
        found["bits_per_byte"] = total / (math.log(2) * float(n_bytes.sum()))
        found["n_bytes"] = int(n_bytes.sum())
    if len(losses) > 1:
        found["loss_se"] = ratio_error(losses, n_tokens)
    return found | {"n_tokens": tokens, "n_documents": len(losses)}
