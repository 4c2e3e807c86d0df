"""How a site's weight is taken out of the tensor that holds it.

Alphabet: D d_model, H heads, K heads of keys and values, C head_dim, F d_ff. Weights come out as (out, in): an
`nn.Linear` is stored so, the Conv1D of GPT-2 is stored transposed. Fused projections hold queries, keys and values
of all heads one above the other (`stacked`), those of a group of heads after those of another (`grouped`), or in
four blocks (`in_four`). GGUF has rows of queries and keys in another order (`unpermuted`), and scales of norms that
are one larger (`LESS_ONE`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stored import in_rows
from pico_schema import ModelSpec

Part = Literal["q", "k", "v"]
PARTS: tuple[Part, ...] = ("q", "k", "v")


@dataclass(frozen=True)
class Cut:
    """A stored tensor → the site's weight, (out, in)."""

    name: str
    """What it does, in a word or two; it is part of what rows are known by."""
    take: Callable[[np.ndarray, ModelSpec], np.ndarray]

    def __call__(self, array: np.ndarray, model: ModelSpec) -> np.ndarray:
        """The site's weight.

        Raises:
            DataError: the tensor does not have the shape that the cut needs.
        """
        return self.take(array, model)


WHOLE = Cut("whole", lambda array, _model: array)
"""(out, in), as it is."""
TRANSPOSED = Cut("transposed", lambda array, _model: in_rows(array.T))
"""(in, out): Conv1D."""


def stacked(part: Part) -> Cut:
    """(H·C + 2·K·C, in): q above k above v, as in Phi-3 and MPT."""

    def cut(array: np.ndarray, model: ModelSpec) -> np.ndarray:
        _rows(array, model.q_dim + 2 * model.kv_dim, model)
        first, second = model.q_dim, model.q_dim + model.kv_dim
        bounds = {"q": (0, first), "k": (first, second), "v": (second, len(array))}
        return array[slice(*bounds[part])]

    return Cut(f"{part} of stacked q, k, v", cut)


def stacked_transposed(part: Part) -> Cut:
    """(in, 3·H·C): q, k and v side by side, as in GPT-2."""
    inner = stacked(part)
    return Cut(f"{part} of transposed q, k, v", lambda array, model: in_rows(inner(_matrix(array).T, model)))


def grouped(part: Part) -> Cut:
    """(K · (H/K + 2) · C, in): the queries of a group of heads, its key and its value, then those of the next group.

    With as many keys as queries that is q, k and v head by head (GPT-NeoX, BLOOM); with one, all queries, the key, the
    value (multi-query: GPTBigCode, Falcon-7B); between them, Falcon-40B.
    """

    def cut(array: np.ndarray, model: ModelSpec) -> np.ndarray:
        _rows(array, model.q_dim + 2 * model.kv_dim, model)
        by_group = array.reshape(model.n_kv_heads, model.group_size + 2, model.head_dim, array.shape[1])
        chosen = {"q": by_group[:, :-2], "k": by_group[:, -2], "v": by_group[:, -1]}[part]
        return in_rows(chosen.reshape(-1, array.shape[1]))

    return Cut(f"{part} of grouped q, k, v", cut)


def in_four(part: Part) -> Cut:
    """(4 · 3 · D/4, in): queries, values and keys (in this order) of a quarter of the heads, as CodeGen was trained."""
    index = {"q": 0, "v": 1, "k": 2}[part]

    def cut(array: np.ndarray, model: ModelSpec) -> np.ndarray:
        if model.n_heads % 4:
            raise DataError(f"a projection in four blocks needs heads in fours, and there are {model.n_heads}")
        _rows(array, 3 * model.q_dim, model)
        return in_rows(array.reshape(4, 3, -1, array.shape[1])[:, index].reshape(-1, array.shape[1]))

    return Cut(f"{part} of four blocks of q, v, k", cut)


def half(index: Literal[0, 1]) -> Cut:
    """(2·F, in): one above the other, as gate and up are in Phi-3."""

    def cut(array: np.ndarray, _model: ModelSpec) -> np.ndarray:
        if len(_matrix(array)) % 2:
            raise DataError(f"a fused projection of {len(array)} rows has no halves")
        return np.split(array, 2)[index]

    return Cut(f"{('upper', 'lower')[index]} half", cut)


def unpermuted(part: Literal["q", "k"]) -> Cut:
    """(H·C, in) or (K·C, in): of each head, row i beside row i + C/2, as llama.cpp rotates them → one half above the
    other, as transformers does. What `permute` of llama.cpp's convert_hf_to_gguf.py does, undone."""

    def cut(array: np.ndarray, model: ModelSpec) -> np.ndarray:
        heads = model.n_heads if part == "q" else model.n_kv_heads
        if len(_matrix(array)) != heads * model.head_dim or model.head_dim % 2:
            raise DataError(f"a projection of {len(array)} rows is none of {heads} heads of {model.head_dim} in pairs")
        pairs = array.reshape(heads, model.head_dim // 2, 2, array.shape[1])
        return in_rows(pairs.swapaxes(1, 2).reshape(array.shape))

    return Cut(f"{part} with the rows of each head by halves", cut)


LESS_ONE = Cut("less one", lambda array, _model: array - np.float32(1))
"""A norm's scale where the model computes with 1 + w, and the file holds that."""


def half_transposed(index: Literal[0, 1]) -> Cut:
    """(in, 2·F): gate beside up, as Llama 4 has those of an expert."""
    inner = half(index)
    name = f"{('left', 'right')[index]} half, transposed"
    return Cut(name, lambda array, model: in_rows(inner(_matrix(array).T, model)))


def every_other(index: Literal[0, 1]) -> Cut:
    """(in, 2·F): columns of gate and up in turn, as gpt-oss has those of an expert."""

    def cut(array: np.ndarray, _model: ModelSpec) -> np.ndarray:
        if _matrix(array).shape[1] % 2:
            raise DataError(f"a fused projection of {array.shape[1]} columns does not hold pairs of them")
        return in_rows(array[:, index::2].T)

    return Cut(f"{('even', 'odd')[index]} columns, transposed", cut)


def _matrix(array: np.ndarray) -> np.ndarray:
    if array.ndim != 2:
        raise DataError(f"a fused projection of shape {array.shape} is no matrix")
    return array


def _rows(array: np.ndarray, expected: int, model: ModelSpec) -> None:
    if len(_matrix(array)) != expected:
        raise DataError(
            f"a fused projection has {len(array)} rows for {model.n_heads} heads of {model.head_dim} with "
            f"{model.n_kv_heads} of keys and values, where {expected} are needed"
        )
