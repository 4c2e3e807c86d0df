"""Packing: documents' tokens, laid end to end, cut into rows of equal length.

Letters: L ids per row (sequence length + 1), n tokens given, k rows that become whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Packer:
    """One endless line of tokens being cut into rows. Its state is the unfinished row."""

    row_len: int
    """L."""
    carry: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    """(fewer than L,) int32: tokens that wait for the row to be full."""
    begins: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Places in `carry` at which documents begin; the first may be negative (it began in an earlier row)."""
    sources: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    """Source of each of these documents, by number."""

    def add(self, tokens: np.ndarray, begins: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lay tokens down; take the rows that are full.

        Args:
            tokens: (n,) int32.
            begins: (d,) places in `tokens`, ascending, at which documents begin.
            sources: (d,) int32, the source of each.

        Returns:
            (k, L) int32 rows, and (k,) int32: the source of the document that each row's first token belongs to.
        """
        line = np.concatenate([self.carry, tokens])
        all_begins = np.concatenate([self.begins, begins + len(self.carry)])
        all_sources = np.concatenate([self.sources, sources]).astype(np.int32)
        k = len(line) // self.row_len
        used = k * self.row_len
        owners = np.searchsorted(all_begins, np.arange(k + 1) * self.row_len, side="right") - 1
        self.carry = line[used:].copy()
        first = owners[k]  # -1 only where there is no document at all, for a line begins with one
        self.begins, self.sources = all_begins[first:] - used, all_sources[first:]
        return line[:used].reshape(k, self.row_len), all_sources[owners[:k]]
