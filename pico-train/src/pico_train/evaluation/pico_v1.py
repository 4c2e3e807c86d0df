"""Pico 1.0's number, on raw text as Pico 1.0 took it: the mean of the documents' own perplexities.

Each document is encoded by itself with nothing before it, cut to as many tokens as the model reads, and its first token
is not predicted: `evaluate`'s perplexity with `add_start_token=False`. One document that is badly predicted ruins the
mean; it is there to compare with what was published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pico_train.errors import DataError
from pico_train.evaluation.measures import perplexity
from pico_train.evaluation.scoring import Scorer, Window, sums
from pico_train.training.step import Tasks


@dataclass(frozen=True)
class RawTexts:
    """Documents that are measured as Pico 1.0 did."""

    name: str
    """Name of the task."""
    documents: Sequence[np.ndarray]
    """Each (n,) token ids, with nothing before them."""

    def __post_init__(self) -> None:
        if not any(len(document) > 1 for document in self.documents):
            raise DataError(f"task {self.name}: no document has two tokens: the set is empty")

    def measure(self, scorer: Scorer, *, batch_size: int, stride: int | None = None) -> Tasks:
        """The number, and of how many documents and tokens it is; documents of one token have none. A collective."""
        del stride  # what is beyond the context is cut off
        chosen = [document[: scorer.context] for document in self.documents if len(document) > 1]
        windows = [Window(ids, len(ids) - 1, number) for number, ids in enumerate(chosen)]
        losses = sums(scorer, windows, len(chosen), batch_size=batch_size)
        sizes = np.array([len(ids) - 1 for ids in chosen])
        number = float(np.mean([perplexity(loss) for loss in losses / sizes]))
        return {
            self.name: {"pico1_perplexity": number, "n_tokens": int(sizes.sum()), "n_documents": len(chosen)},
        }
