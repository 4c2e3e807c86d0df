"""The text that a tokenizer is trained on: a part of the documents that are trained on, never of those held out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from pico_train.data.prepare.documents import EMPTY, Document, fraction
from pico_train.data.prepare.holding_out import HoldingOut, Rule
from pico_train.data.prepare.recipe import Inputs, Recipe
from pico_train.errors import DataError


@dataclass(frozen=True)
class TrainingText:
    """Text to train a tokenizer on; the same at every iteration."""

    inputs: Inputs
    """The documents."""
    recipe: Recipe
    """What is made of them."""
    holding_out: HoldingOut
    """What is not to be seen."""
    limit: int
    """Characters, at most."""

    def __iter__(self) -> Iterator[str]:
        """Parts of texts.

        Raises:
            DataError: there is no text.
        """
        if self.holding_out.rule is Rule.END:
            found = yield from self._parts(
                lambda _: True, min(self.limit, self.holding_out.characters_before(self.recipe))
            )
        else:
            found = yield from self._parts(self._chosen, self.limit)
            if not found:  # few documents, each of them large: the hash chose none, so the first ones are taken
                found = yield from self._parts(self._trained_on, self.limit)
        if not found:
            raise DataError("the corpus is empty: no document of it holds text to train a tokenizer on")

    def _trained_on(self, document: Document) -> bool:
        return (
            fraction(document.digest) >= self.recipe.val_fraction and fraction(document.digest[8:]) < self.recipe.sample
        )

    def _chosen(self, document: Document) -> bool:
        """Of a corpus larger than the limit, documents chosen by hash, so that they come from all of it."""
        size = self.inputs.bytes
        share = 1.0 if size is None else min(1.0, self.limit / max(1, size))
        return self._trained_on(document) and fraction(document.digest[8:]) < self.recipe.sample * share

    def _parts(self, wanted: Callable[[Document], bool], limit: int) -> Generator[str, None, bool]:
        """Parts of the documents that are wanted, up to `limit` characters; returns whether there were any."""
        left, found = limit, False
        for document in self.inputs.train():
            if document.digest == EMPTY or not wanted(document):
                continue
            for part in document.parts():
                found = found or bool(part)
                yield part[:left]
                left -= len(part)
                if left <= 0:
                    return found
        return found
