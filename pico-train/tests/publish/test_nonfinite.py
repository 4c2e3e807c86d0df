"""Weights that are not numbers are found from their bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pico_train.publish.nonfinite import first_nonfinite


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_single_bad_weight_is_found(tmp_path: Path, dtype: type[np.floating], bad: float) -> None:
    good = np.array([[0.0, -1.0, np.finfo(dtype).max, np.finfo(dtype).tiny]], dtype)
    path = tmp_path / "w.safetensors"
    save_file({"a": good, "ids": np.arange(3), "b": good.copy()}, path)
    assert first_nonfinite(path) is None
    wrong = good.copy()
    wrong[0, 1] = bad
    save_file({"a": good, "b": wrong}, path)
    assert first_nonfinite(path) == "b"


def test_bfloat16_is_read_from_its_bits(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    values = torch.tensor([1.0, float("inf")], dtype=torch.bfloat16)
    save_torch({"w": values[:1].clone()}, tmp_path / "good.safetensors")
    save_torch({"w": values}, tmp_path / "bad.safetensors")
    assert first_nonfinite(tmp_path / "good.safetensors") is None
    assert first_nonfinite(tmp_path / "bad.safetensors") == "w"
