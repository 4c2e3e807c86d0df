"""What is held out of a corpus: files that are named, documents that the hash of their text chooses, or its end.

The hash chooses whole documents, so that no text is on both sides. Of a single file, or of few documents, it may choose
none, or all: then the last rows in reading order are held out. At most one document, the one that the cut goes through,
is on both sides then, in different rows; documents that occur again are left out, so that none is on both sides whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pico_train.data.prepare.documents import EMPTY, fraction
from pico_train.data.prepare.recipe import Inputs, Recipe
from pico_train.errors import DataError

FEW_DOCUMENTS = 2**16
"""Documents up to which the end of a corpus is held out where the hash chooses none; of more, it is to be told."""


class Rule(StrEnum):
    """How it is decided what is held out."""

    NOTHING = "nothing"
    FILES = "files"
    HASH = "hash"
    END = "end"


@dataclass(frozen=True)
class HoldingOut:
    """What is held out of a corpus."""

    rule: Rule
    """How it is decided."""
    characters: int = 0
    """Characters of all documents, where its end is held out; elsewhere they are not counted."""

    def describe(self, recipe: Recipe) -> str:
        """The rule in words, for people."""
        part = f"{recipe.val_fraction:.4g}"
        return {
            Rule.NOTHING: "nothing",
            Rule.FILES: "the files named for it",
            Rule.HASH: f"documents chosen by the hash of their text, {part} of them",
            Rule.END: f"the end of the text, {part} of its rows: the hash leaves one side of so few documents empty",
        }[self.rule]

    def rows_at_the_end(self, n_rows: int, recipe: Recipe) -> int:
        """How many of `n_rows` rows in reading order are held out at their end.

        Raises:
            DataError: there is but one row.
        """
        if self.rule is not Rule.END:
            return 0
        if n_rows < 2:
            raise DataError(
                f"the text makes {n_rows} row of {recipe.seq_len + 1} tokens, of which no part can be held out: "
                "give more text, or a smaller --seq-len (data.seq_len)"
            )
        return min(max(1, round(recipe.val_fraction * n_rows)), n_rows // 2)

    def characters_before(self, recipe: Recipe) -> int:
        """Characters at the beginning that are surely not held out, where the end is: tokens are not equally long."""
        return int(self.characters * max(0.5, 1 - 2 * recipe.val_fraction))


def choose(inputs: Inputs, recipe: Recipe) -> HoldingOut:
    """Decide what is held out. Documents are read until the hash has chosen one and passed over one: most often few."""
    if inputs.val is not None:
        return HoldingOut(Rule.FILES)
    if not recipe.val_fraction:
        return HoldingOut(Rule.NOTHING)
    chosen, characters = set(), 0
    digests: set[bytes] = set()
    for document in inputs.train():
        if document.digest == EMPTY or document.digest in digests:
            continue
        digests.add(document.digest)
        chosen.add(fraction(document.digest) < recipe.val_fraction)
        if len(chosen) == 2 or len(digests) > FEW_DOCUMENTS:
            return HoldingOut(Rule.HASH)
        characters += sum(map(len, document.parts()))
    return HoldingOut(Rule.END if chosen else Rule.HASH, characters)
