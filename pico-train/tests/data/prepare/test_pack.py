"""Packing tokens into rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pico_train.data.prepare.pack import Packer


@given(lengths=st.lists(st.integers(1, 40), max_size=30), chunks=st.integers(1, 7), row_len=st.integers(2, 9))
def test_packing_in_chunks_is_packing_at_once(lengths: list[int], chunks: int, row_len: int) -> None:
    tokens = np.arange(sum(lengths), dtype=np.int32)
    begins = np.concatenate([[0], np.cumsum(lengths)])[: len(lengths)].astype(np.int64)
    sources = np.arange(len(lengths), dtype=np.int32)
    packer, got, got_sources = Packer(row_len), [], []
    bounds = np.linspace(0, len(tokens), chunks + 1).astype(int)
    for first, last in pairwise(bounds):
        here = (begins >= first) & (begins < last)
        found, owners = packer.add(tokens[first:last], begins[here] - first, sources[here])
        got.append(found)
        got_sources.append(owners)
    k = len(tokens) // row_len
    assert np.array_equal(np.concatenate(got), tokens[: k * row_len].reshape(k, row_len))
    expected = np.searchsorted(begins, np.arange(k) * row_len, side="right") - 1
    assert np.array_equal(np.concatenate(got_sources), expected)


def test_before_the_first_document_there_is_neither_row_nor_rest() -> None:
    nothing = np.empty(0, np.int32)
    packer = Packer(3)
    rows, sources = packer.add(nothing, nothing, nothing)
    assert rows.shape == (0, 3) and sources.shape == (0,)
    rows, sources = packer.add(np.array([7, 8, 9, 4], np.int32), np.array([0, 3]), np.array([5, 6], np.int32))
    assert (rows.tolist(), sources.tolist()) == ([[7, 8, 9]], [5])
    assert (packer.carry.tolist(), packer.begins.tolist(), packer.sources.tolist()) == ([4], [0], [6])
