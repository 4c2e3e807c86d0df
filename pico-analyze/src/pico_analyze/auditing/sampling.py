"""Which ranges of a model's weights stand for it: a few rows of a few matrices of every file of weights.

Every file is represented, because a file may be that of another step. Rows are read by range, some hundred kilobytes a
step whatever the model's size, and are compared with no digest: what is to be found out is whether they are right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from pico_analyze.stores.safetensors import TensorFile
from pico_schema.tensor_header import TensorEntry

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
MOST_ENTRIES = 2**17
"""Most entries that are read of a step, where it has few files: half a megabyte of float32."""
ALL_STEPS = 2**25
"""Most entries of all steps together, which are held at a time, but for `FEWEST` a slice."""
FEWEST = 2**12
"""Entries of a slice in any case."""
MOST_NORMS = 6
"""Norms' weights and biases that are read of step 0."""
_KINDS = (("attn", "attention"), ("mlp", "ffn", "feed_forward", "swiglu"), ())
"""Words in a matrix's name, for one of each kind to be read: attention, feed-forward, and the others (embeddings)."""
_BUFFERS = ("rotary", "attn.bias", "attention.bias", "masked_bias", "position_ids")


@dataclass(frozen=True)
class Slice:
    """Rows of one matrix; of several stacked in a tensor, such as experts, one after the other."""

    tensor: str
    """Its name."""
    group: str
    """The file that holds it in the first step."""
    first: int
    """First row."""
    n: int
    """How many."""


@dataclass(frozen=True)
class Plan:
    """What is read of each step."""

    slices: tuple[Slice, ...]
    norms: tuple[str, ...]
    """Vectors of norms, by name: read of step 0 alone."""


def plan(tensors: Mapping[str, tuple[str, TensorEntry]], n_steps: int) -> Plan:
    """Choose the ranges.

    Args:
        tensors: Tensor → file and entry, of the first step that can be read.
        n_steps: How many steps there are, over which the memory is shared.
    """
    groups: dict[str, list[str]] = {}
    for name, (file, entry) in sorted(tensors.items()):
        matrix = len(entry.shape) > 1 and min(entry.shape) > 1 and entry.dtype in FLOATS
        if matrix and not any(word in name for word in _BUFFERS):
            groups.setdefault(file, []).append(name)
    chosen = [(name, file) for file, names in groups.items() for name in _of_each_kind(names)]
    entries = max(FEWEST, min(MOST_ENTRIES, ALL_STEPS // max(n_steps, 1)) // max(len(chosen), 1))
    slices = [_rows(name, file, tensors[name][1].shape, entries) for name, file in chosen]
    vectors = [name for name, (_, entry) in sorted(tensors.items()) if is_norm(name) and len(entry.shape) == 1]
    return Plan(tuple(slices), tuple(spread(vectors, MOST_NORMS)))


def _of_each_kind(names: Sequence[str]) -> list[str]:
    """The middle one of the matrices of attention, of those of feed-forward layers, and of the others."""
    kinds: dict[int, list[str]] = {}
    for name in names:
        kind = next((n for n, words in enumerate(_KINDS) if any(word in name for word in words)), len(_KINDS) - 1)
        kinds.setdefault(kind, []).append(name)
    return [of[len(of) // 2] for _, of in sorted(kinds.items())]


def _rows(name: str, file: str, shape: tuple[int, ...], entries: int) -> Slice:
    """Rows from the middle; of a matrix with many more rows than columns, an embedding, from the first quarter, where
    the frequent tokens are."""
    rows, columns = prod(shape[:-1]), shape[-1]
    n = max(1, min(rows, entries // columns))
    return Slice(name, file, max(0, (rows - n) // (8 if len(shape) == 2 and rows > 4 * columns else 2)), n)


def is_norm(name: str) -> bool:
    """Whether a tensor is a norm's weight or bias."""
    return "norm" in name or ".ln_" in name


def spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many of the names, evenly spread."""
    if len(names) <= most:
        return list(names)
    return [names[n * (len(names) - 1) // (most - 1)] for n in range(most)]


def read_slice(file: TensorFile, wanted: Slice) -> np.ndarray:
    """The rows as float32, (rows, columns).

    Raises:
        DataError: the file has no such tensor or rows.
    """
    return file.read_rows(wanted.tensor, wanted.first, wanted.n).astype(np.float32, copy=False)
