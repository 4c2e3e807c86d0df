"""Circuits: products of weight matrices that always act together, kept factored.

Alphabet: D d_model, H query heads, C head_dim, F d_ff, N samples. Head h uses the key/value head g = h // (H
/ H_kv). The gradient of a circuit is the first-order change of the product when its factors move along their
gradients (product rule), itself a product of factors of twice the rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pico_analyze.components.spec import Absent, ComponentSpec, Labelled, Read, Unit
from pico_analyze.errors import DataError
from pico_analyze.matrices.factored import Concatenated, Factor, Factored
from pico_analyze.matrices.matrix import Dense, Matrix, widened
from pico_analyze.matrices.rounding import Once, of_product
from pico_analyze.parameters import Param
from pico_analyze.stored import PRECISIONS, coarsest, side_by_side, stored_type
from pico_analyze.stores.base import ALL_DATA, Data
from pico_schema import ModelSpec
from pico_schema.sites import Site

_FRAMEWORK = (
    "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits, transformer-circuits.pub/2021/framework"
)


def _slice(array: np.ndarray, index: int, width: int, axis: int) -> np.ndarray:
    window = slice(index * width, (index + 1) * width)
    return array[window] if axis == 0 else array[:, window]


def _split(array: np.ndarray, count: int, width: int, axis: int, site: str) -> list[np.ndarray]:
    """`array` cut into `count` heads of `width`.

    Raises:
        DataError: the array does not have count x width entries along the axis.
    """
    if array.shape[axis] != count * width:
        raise DataError(
            f"{site} has {array.shape[axis]} {'rows' if axis == 0 else 'columns'}, but the model has "
            f"{count} heads of {width}: the model description and the tensors disagree"
        )
    return [_slice(array, head, width, axis) for head in range(count)]


def _site(unit: Unit, kind: str) -> str:
    return str(Site(unit.layer, kind))


def _layers(label: str) -> Callable[[ModelSpec, Data, Sequence[str]], list[Unit]]:
    def units(model: ModelSpec, _data: Data, _sites: Sequence[str]) -> list[Unit]:
        return [Unit(layer, label) for layer in range(model.n_layers)]

    return units


def _needs(
    *kinds: str, activations: tuple[tuple[Data, str], ...] = ()
) -> Callable[[Data, Unit], list[tuple[Data, str]]]:
    def needs(data: Data, unit: Unit) -> list[tuple[Data, str]]:
        if data == "activations":
            return [(source, _site(unit, kind)) for source, kind in activations]
        sources: tuple[Data, ...] = ("weights",) if data == "weights" else ("weights", "gradients")
        return [(source, _site(unit, kind)) for source in sources for kind in kinds]

    return needs


def _heads(read: Read, source: Data, unit: Unit, kind: str, count: int, width: int, axis: int) -> list[np.ndarray]:
    site = _site(unit, kind)
    array = widened(read(source, site), name=f"{source} of {site}")
    return _split(array, count, width, axis, f"{source} of {site}")


def _labelled(unit: Unit, parts: list[Matrix], whole: Matrix, heads: bool) -> Iterator[Labelled]:
    yield Labelled(unit.layer, unit.site, None, whole)
    if heads:
        for head, part in enumerate(parts):
            yield Labelled(unit.layer, unit.site, head, part)


def _paired(
    left: list[np.ndarray], right: list[np.ndarray], group: int, *, samples: bool = False
) -> tuple[list[Matrix], Matrix]:
    """Each head's left · rightᵀ and all of them side by side; the side with fewer entries is shared within
    groups.

    Factors that heads share become one `Factor`, so that what is derived from them is computed once.
    """
    n_heads = max(len(left), len(right))
    lefts, rights = [Factor(a) for a in left], [Factor(a) for a in right]
    parts = [
        Factored(
            lefts[h if len(left) == n_heads else h // group],
            rights[h if len(right) == n_heads else h // group],
            samples=samples,
        )
        for h in range(n_heads)
    ]
    return list(parts), Concatenated(parts)


def _build_ov(
    read: Read, model: ModelSpec, data: Data, unit: Unit, heads: bool = True, form: str = "residual"
) -> Iterator[Labelled]:
    width, n_heads, n_kv, group = model.head_dim, model.n_heads, model.n_kv_heads, model.group_size
    w_o = _heads(read, "weights", unit, "attn.o", n_heads, width, 1)  # H of (D, C)
    if data == "activations":
        values = _heads(read, "activations", unit, "attn.v", n_kv, width, 1)  # H_kv of (N, C)
        parts, whole = _paired(values, w_o, group, samples=True)
        yield from _labelled(unit, parts, whole, heads)
        return
    w_v = _heads(read, "weights", unit, "attn.v", n_kv, width, 0)  # H_kv of (C, D)
    if data == "weights":
        if form == "head":
            yield from _labelled_dense(unit, [[(w_v[h // group], w_o[h])] for h in range(n_heads)], heads)
            return
        parts, whole = _paired(w_o, [v.T for v in w_v], group)
        yield from _labelled(unit, parts, whole, heads)
        return
    g_o = _heads(read, "gradients", unit, "attn.o", n_heads, width, 1)
    g_v = _heads(read, "gradients", unit, "attn.v", n_kv, width, 0)
    if form == "head":
        terms = [[(g_v[h // group], w_o[h]), (w_v[h // group], g_o[h])] for h in range(n_heads)]
        yield from _labelled_dense(unit, terms, heads)
        return
    left = [side_by_side(pair) for pair in zip(g_o, w_o, strict=True)]
    right = [side_by_side([v.T, g.T]) for v, g in zip(w_v, g_v, strict=True)]
    parts, whole = _paired(left, right, group)
    yield from _labelled(unit, parts, whole, heads)


def _labelled_dense(unit: Unit, terms: list[_Terms], heads: bool) -> Iterator[Labelled]:
    parts = [_multiplied(of_head) for of_head in terms]
    whole = Dense(
        np.concatenate([part.array for part in parts], axis=1),
        stored=coarsest([part.stored for part in parts]),
        rounding=lambda: math.hypot(*(part.rounding for part in parts)),
    )
    yield from _labelled(unit, list(parts), whole, heads)


_Terms = list[tuple[np.ndarray, np.ndarray]]


def _multiplied(terms: _Terms) -> Dense:
    """Σ left · right in float64, which knows what storing the factors did to it."""
    product = sum(left.astype(np.float64) @ right for left, right in terms)
    types = [(PRECISIONS[stored_type(left)], PRECISIONS[stored_type(right)]) for left, right in terms]

    def rounding() -> float:
        return sum(of_product(a, a_type, b, b_type) for (a, b), (a_type, b_type) in zip(terms, types, strict=True))

    stored = coarsest([one.name for pair in types for one in pair])
    return Dense(np.asarray(product), stored=stored, rounding=Once(rounding))


def _build_qk(read: Read, model: ModelSpec, data: Data, unit: Unit, heads: bool = True) -> Iterator[Labelled]:
    width, n_heads, n_kv, group = model.head_dim, model.n_heads, model.n_kv_heads, model.group_size
    w_q = [q.T for q in _heads(read, "weights", unit, "attn.q", n_heads, width, 0)]  # H of (D, C)
    w_k = [k.T for k in _heads(read, "weights", unit, "attn.k", n_kv, width, 0)]  # H_kv of (D, C)
    if data == "gradients":
        g_q = [q.T for q in _heads(read, "gradients", unit, "attn.q", n_heads, width, 0)]
        g_k = [k.T for k in _heads(read, "gradients", unit, "attn.k", n_kv, width, 0)]
        w_q = [side_by_side(pair) for pair in zip(g_q, w_q, strict=True)]
        w_k = [side_by_side(pair) for pair in zip(w_k, g_k, strict=True)]
    parts, whole = _paired(w_q, w_k, group)
    yield from _labelled(unit, parts, whole, heads)


def _build_mlp(read: Read, _model: ModelSpec, data: Data, unit: Unit) -> Iterator[Labelled]:
    up = widened(read("weights", _site(unit, "mlp.up")))  # (F, D)
    down = widened(read("weights", _site(unit, "mlp.down")))  # (D, F)
    if data == "gradients":
        g_up = widened(read("gradients", _site(unit, "mlp.up")))
        g_down = widened(read("gradients", _site(unit, "mlp.down")))
        # Inner dimension 2F is wider than the D x D product: form it.
        product = _multiplied([(g_down, up), (down, g_up)])
    else:
        product = _multiplied([(down, up)])
    yield Labelled(unit.layer, unit.site, None, product)


OV_CIRCUIT = ComponentSpec(
    name="ov_circuit",
    definition=(
        "What attention writes into the residual stream, per head and whole (all heads side by side). "
        "Weights: W_O·W_V, residual (in) to residual (out), d_model x d_model of rank head_dim. "
        "Activations: V_h·W_Oᵀ, the values times the head's part of the output projection (samples x "
        "d_model), before attention mixes positions. Gradients: the product rule, dW_O·W_V + W_O·dW_V. "
        "Grouped-query heads share their V. form=head: W_V·W_O (head_dim x head_dim), which pico-analyze "
        "1.0 called the weights of this circuit."
    ),
    reference=_FRAMEWORK,
    units=_layers("attn.ov"),
    needs=_needs("attn.v", "attn.o", activations=(("activations", "attn.v"), ("weights", "attn.o"))),
    build=_build_ov,
    accepts=ALL_DATA,
    has_heads=True,
    params={
        "form": Param(
            "residual",
            "residual: W_O·W_V (d_model x d_model); head: W_V·W_O (head_dim x head_dim), weights and gradients only",
            choices=("residual", "head"),
        )
    },
    absent=(
        Absent(
            data="activations",
            param="form",
            value="head",
            why="form=head is a product of weights; use form=residual for activations",
        ),
    ),
)

QK_CIRCUIT = ComponentSpec(
    name="qk_circuit",
    definition=(
        "What attention compares, per head and whole (all heads side by side): W_Qᵀ·W_K, d_model x d_model "
        "of rank head_dim, without RoPE (the scores of two tokens at the same position) and without the "
        "scale 1/sqrt(head_dim). Gradients: the product rule. Grouped-query heads share their K."
    ),
    reference=_FRAMEWORK,
    units=_layers("attn.qk"),
    needs=_needs("attn.q", "attn.k"),
    build=_build_qk,
    accepts=frozenset({"weights", "gradients"}),
    has_heads=True,
)

MLP = ComponentSpec(
    name="mlp",
    definition=(
        "The linear path through a feed-forward block: W_down·W_up (d_model x d_model), without the gate "
        "and its non-linearity, so it is what the block does where the gate is one. Gradients: the product "
        "rule."
    ),
    reference=_FRAMEWORK,
    units=_layers("mlp"),
    needs=_needs("mlp.up", "mlp.down"),
    build=_build_mlp,
    accepts=frozenset({"weights", "gradients"}),
)
