"""Which rows of the spools are trained on and which are held out, and what documents and tokens they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pico_train.data.prepare.holding_out import HoldingOut
from pico_train.data.prepare.journal import Journal
from pico_train.data.prepare.recipe import Recipe
from pico_train.data.prepare.spool import Spool, Stretch

_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class SplitRows:
    """The rows of one split, on their way to shards."""

    rows: Stretch
    """All of them, in reading order."""
    n_rows: int
    """Rows of them that are kept: the first of the shuffled order."""
    n_documents: int
    """Documents that they are of."""
    n_tokens: int
    """Tokens of these documents that lie in this split."""


def split_rows(
    spools: Mapping[str, Spool], journal: Journal, holding_out: HoldingOut, recipe: Recipe, *, eos_id: int
) -> dict[str, SplitRows]:
    """The rows of each split that there is.

    Args:
        spools: The rows as they were read, by split.
        journal: How many documents and tokens they are.
        holding_out: What is held out: if the end, rows of the training spool.
        recipe: How many rows are wanted.
        eos_id: Id that ends a document.

    Raises:
        DataError: there is but one row, of which nothing can be held out.
    """
    documents, tokens = journal.documents, journal.tokens
    train, val = spools["train"], spools["val"]
    n_held_out = holding_out.rows_at_the_end(train.n_rows, recipe)
    n_train, n_tokens = train.n_rows - n_held_out, tokens.get("train", 0)
    kept = n_train if recipe.max_rows is None else min(recipe.max_rows, n_train)
    if not n_held_out:
        parts = {"train": SplitRows(Stretch(train, 0, n_train), kept, documents.get("train", 0), n_tokens)}
        if val.n_rows:
            held = Stretch(val, 0, val.n_rows)
            parts["val"] = SplitRows(held, val.n_rows, documents.get("val", 0), tokens.get("val", 0))
        return parts
    end = Stretch(train, n_train, n_held_out)
    begun, cut = _documents_begun(end, train, eos_id)
    held_out_tokens = n_held_out * train.row_len
    whole = Stretch(train, 0, n_train)
    per_source = n_held_out if recipe.val_rows_per_source is None else min(n_held_out, recipe.val_rows_per_source)
    return {
        "train": SplitRows(whole, kept, documents.get("train", 0) - begun, n_tokens - held_out_tokens),
        "val": SplitRows(end, per_source, begun + cut, held_out_tokens),
    }


def _documents_begun(end: Stretch, spool: Spool, eos_id: int) -> tuple[int, bool]:
    """How many documents begin in the rows at the end of a spool, and whether one goes on there that began before."""
    before, _ = spool.read(np.array([end.first - 1]))
    cut = bool(before[0, -1] != eos_id)
    begun = int(not cut)
    block = max(1, _BLOCK_BYTES // (4 * end.row_len))
    for first in range(0, end.n_rows, block):
        ids, _ = end.read(np.arange(first, min(first + block, end.n_rows), dtype=np.int64))
        begun += int((ids == eos_id).sum())
        if first + block >= end.n_rows and ids[-1, -1] == eos_id:
            begun -= 1  # nothing comes after it in these rows
    return begun, cut
