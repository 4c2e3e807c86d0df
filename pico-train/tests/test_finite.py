"""Weights that are not numbers are found from their bits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save as save_bytes
from safetensors.torch import save_file as save_torch

from pico_train import finite
from pico_train.finite import first_nonfinite, first_nonfinite_in, is_finite


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_single_bad_weight_is_found(tmp_path: Path, dtype: type[np.floating], bad: float) -> None:
    good = np.array([[0.0, -1.0, np.finfo(dtype).max, np.finfo(dtype).tiny]], dtype)
    path = tmp_path / "w.safetensors"
    save_file({"a": good, "ids": np.arange(3), "b": good.copy()}, path)
    assert first_nonfinite_in(path) is None
    wrong = good.copy()
    wrong[0, 1] = bad
    save_file({"a": good, "b": wrong}, path)
    assert first_nonfinite_in(path) == "b"


def test_bfloat16_is_read_from_its_bits(tmp_path: Path) -> None:
    values = torch.tensor([1.0, float("inf")], dtype=torch.bfloat16)
    save_torch({"w": values[:1].clone()}, tmp_path / "good.safetensors")
    save_torch({"w": values}, tmp_path / "bad.safetensors")
    assert first_nonfinite_in(tmp_path / "good.safetensors") is None
    assert first_nonfinite_in(tmp_path / "bad.safetensors") == "w"


_NAMES = (
    "float64", "float32", "bfloat16", "float16", "float8_e5m2", "float8_e4m3fn", "float8_e8m0fnu", "float8_e4m3fnuz",
    "float8_e5m2fnuz",
)  # fmt: skip
TYPES = [getattr(torch, name) for name in _NAMES if hasattr(torch, name)]
"""The oldest torch does not have all of them."""


def _has_a_name(kind: torch.dtype) -> bool:
    try:
        return bool(save_bytes({"a": torch.zeros(kind.itemsize, dtype=torch.uint8).view(kind)}))
    except KeyError:
        return False


IN_FILES = [kind for kind in TYPES if "fnuz" not in str(kind) and _has_a_name(kind)]
"""Those that the format has a name for; the oldest safetensors does not know all."""


def patterns(dtype: torch.dtype) -> torch.Tensor:
    """Numbers with each pattern of the uppermost 16 bits of a type (of all bits, where there are no more)."""
    size = dtype.itemsize
    if size == 1:
        return torch.arange(256, dtype=torch.uint8).view(dtype)
    upper = np.arange(2**16, dtype=np.uint64) << np.uint64(8 * size - 16)
    low = np.uint64(1 if size > 2 else 0)  # so that the upper bits of a NaN alone are not an infinity's
    return torch.from_numpy((upper | low).astype(f"u{size}").view(f"i{size}")).view(dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_rule_is_that_of_each_number_in_float64(dtype: torch.dtype) -> None:
    """The oracle widens every number, which keeps NaN and infinity what they are."""
    numbers = patterns(dtype)
    good = numbers.to(torch.float64).isfinite()
    assert 0 < int((~good).sum()) < len(numbers) // 2
    bits = numbers.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize])
    assert is_finite(bits[good].clone().view(dtype))
    for at in (~good).nonzero().flatten()[:: max(1, int((~good).sum()) // 64)].tolist():
        assert not is_finite(bits[at : at + 1].clone().view(dtype))


@pytest.mark.parametrize("dtype", IN_FILES, ids=str)
def test_files_and_tensors_are_judged_alike(dtype: torch.dtype, tmp_path: Path) -> None:
    numbers = patterns(dtype)
    good = numbers.to(torch.float64).isfinite()
    bits = numbers.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize])
    path = tmp_path / "a.safetensors"
    for chosen in (good, *(torch.arange(len(bits)) == int(at) for at in (~good).nonzero().flatten()[[0, -1]])):
        tensor = bits[chosen].clone().view(dtype)
        save_torch({"a": tensor}, path)
        assert (first_nonfinite_in(path) is None) == is_finite(tensor) == (first_nonfinite({"a": tensor}) is None)
        assert is_finite(tensor) == bool(good[chosen].all())


def test_complex_numbers_and_those_of_four_bits() -> None:
    good = torch.tensor([1 + 2j, -3j])
    assert is_finite(good) and is_finite(good.conj())
    assert not is_finite(torch.tensor([complex(1, math.nan)])) and not is_finite(torch.tensor([complex(-math.inf, 0)]))
    if (four := getattr(torch, "float4_e2m1fn_x2", None)) is not None:
        assert is_finite(torch.arange(256, dtype=torch.uint8).view(four))


@pytest.mark.skipif(not _has_a_name(torch.complex64), reason="this safetensors writes no complex numbers")
def test_complex_numbers_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_torch({"a": torch.tensor([1 + 2j])}, path)
    assert first_nonfinite_in(path) is None
    save_torch({"a": torch.tensor([complex(1, math.inf)])}, path)
    assert first_nonfinite_in(path) == "a"


def test_the_last_number_of_a_file_of_several_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite, "_PIECE", 64)
    path = tmp_path / "a.safetensors"
    numbers = np.ones(1001, np.float32)
    save_file({"a": numbers}, path)
    assert first_nonfinite_in(path) is None
    numbers[-1] = np.nan
    save_file({"a": numbers}, path)
    assert first_nonfinite_in(path) == "a"
