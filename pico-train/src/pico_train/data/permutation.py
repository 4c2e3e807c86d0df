"""A keyed permutation of 0 … n-1 that needs no table: any element on its own, in O(1) memory.

A Feistel network over the smallest power of two that holds n is a bijection whatever its round function is. Elements
that land outside 0 … n-1 are sent through again until they land inside ("cycle walking", Black & Rogaway 2002, §4),
which keeps it a bijection; less than half of them do. This decides how rows are shuffled; which rows a batch takes is
`order`'s business.
"""

from __future__ import annotations

import hashlib

import numpy as np

_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def permute(indices: np.ndarray, n: int, key: str) -> np.ndarray:
    """Where each index goes under the permutation of 0 … n-1 named by `key`.

    Args:
        indices: (k,) integers in 0 … n-1.
        n: Size of the permuted range, 1 … 2^62.
        key: Names the permutation; any text.

    Returns:
        (k,) int64 in 0 … n-1. Distinct indices give distinct results.

    Raises:
        ValueError: n or an index out of range.
    """
    if not 1 <= n <= 2**62:
        raise ValueError(f"a permutation of {n} elements: 1 to 2^62 are possible")
    values = np.asarray(indices, dtype=np.int64)
    if values.size and (values.min() < 0 or values.max() >= n):
        raise ValueError(f"indices to permute must lie in 0 to {n - 1}")
    bits = max(2, (n - 1).bit_length())
    widths = bits // 2, bits - bits // 2
    keys = _round_keys(key)
    result = _feistel(values.astype(np.uint64), widths, keys)
    outside = np.flatnonzero(result >= n)
    while outside.size:
        result[outside] = _feistel(result[outside], widths, keys)
        outside = outside[result[outside] >= n]
    return result.astype(np.int64)


def _round_keys(key: str) -> np.ndarray:
    """(8,) uint64, one for each round: 4 are pseudorandom (Luby & Rackoff 1988); narrow halves want more."""
    return np.frombuffer(hashlib.sha512(key.encode()).digest(), dtype="<u8")


def _feistel(values: np.ndarray, widths: tuple[int, int], keys: np.ndarray) -> np.ndarray:
    """One pass over (k,) uint64. The two parts change in turn, so that they need not be equally wide."""
    right_bits = np.uint64(widths[1])
    left_mask, right_mask = np.uint64((1 << widths[0]) - 1), np.uint64((1 << widths[1]) - 1)
    left, right = values >> right_bits, values & right_mask
    for number, key in enumerate(keys):
        if number % 2 == 0:
            left = left ^ (_mix(right, key) & left_mask)
        else:
            right = right ^ (_mix(left, key) & right_mask)
    return (left << right_bits) | right


def _mix(half: np.ndarray, key: np.uint64) -> np.ndarray:
    """Round function: splitmix64's finaliser (Steele, Lea & Flood 2014) of the keyed half."""
    mixed = half ^ key
    with np.errstate(over="ignore"):
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))
