"""Whether two computations of the same numbers agree: a tolerance that follows the type and the size of the numbers.

Rounding is relative to the type's epsilon and to the largest number that entered a sum, not to each result: sums that
cancel leave small results with the error of large terms. So every comparison here is of the largest difference with
`factor` epsilons of the largest magnitude, and the test states the factor and why it is that much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

Numbers = torch.Tensor | np.ndarray | Sequence[float] | float


def distance(found: Numbers, expected: Numbers, dtype: torch.dtype | None = None) -> float:
    """The largest difference, in epsilons of the largest magnitude of `expected`; infinite where one is not finite.

    Args:
        found: Numbers of any shape.
        expected: Numbers of the same shape.
        dtype: In which they were computed; by default the coarser of the two types (Python's numbers are float64).
    """
    ours, theirs = _tensor(found), _tensor(expected)
    assert ours.shape == theirs.shape, f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"
    eps = torch.finfo(dtype).eps if dtype else max(torch.finfo(each.dtype).eps for each in (ours, theirs))
    ours, theirs = ours.double(), theirs.double()
    if not (ours.isfinite().all() and theirs.isfinite().all()):
        return float("inf")
    difference = (ours - theirs).abs().max().item() if ours.numel() else 0.0
    scale = theirs.abs().max().item() if theirs.numel() else 0.0
    if difference == 0.0:
        return 0.0
    return difference / (eps * scale) if scale else float("inf")


def relative_distance(found: Numbers, expected: Numbers) -> float:
    """The Euclidean norm of the difference over that of `expected`."""
    ours, theirs = _tensor(found).double(), _tensor(expected).double()
    assert ours.shape == theirs.shape, f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"
    return float((ours - theirs).norm() / theirs.norm())


def largest_difference(found: Mapping[str, Numbers], expected: Mapping[str, Numbers]) -> float:
    """The largest difference between tensors of the same names."""
    assert found.keys() == expected.keys(), "not the same names"
    pairs = [(_tensor(found[name]).double(), _tensor(expected[name]).double()) for name in expected]
    return max(float((ours - theirs).abs().max()) for ours, theirs in pairs)


def assert_close(
    found: Numbers | Mapping[Any, Numbers],
    expected: Numbers | Mapping[Any, Numbers],
    *,
    factor: float,
    dtype: torch.dtype | None = None,
    name: str = "",
) -> None:
    """Fail unless the largest difference is at most `factor` epsilons of the largest expected magnitude.

    Mappings must have the same keys and are compared entry by entry, each by its own magnitude.
    """
    if isinstance(expected, Mapping):
        assert isinstance(found, Mapping) and found.keys() == expected.keys(), "not the same names"
        for key, value in expected.items():
            assert_close(found[key], value, factor=factor, dtype=dtype, name=f"{name} {key}".strip())
        return
    assert not isinstance(found, Mapping)
    apart = distance(found, expected, dtype)
    assert apart <= factor, f"{name or 'the numbers'}: {apart:.3g} epsilons of the largest apart, {factor:g} allowed"


def _tensor(numbers: Numbers) -> torch.Tensor:
    if isinstance(numbers, torch.Tensor):
        return numbers.detach() if numbers.is_floating_point() else numbers.double()
    if isinstance(numbers, np.ndarray):
        return _tensor(torch.from_numpy(np.ascontiguousarray(numbers)))
    return torch.tensor(numbers, dtype=torch.float64)
