"""Peak arithmetic of known devices, for model FLOPs utilisation. Where a device is not known, there is none: no guess.

Dense (not sparse) tensor-core peaks, in TFLOP/s, from the makers' data sheets, for bfloat16 (and float16: the same) and
for float32 matrices on tensor cores as TF32.
"""

from __future__ import annotations

import re

import torch

PEAKS: dict[str, tuple[float, float | None]] = {
    # words in the device's name: (bfloat16, TF32), the more specific first
    "H200": (989.4, 494.7),
    "H100 NVL": (835.5, 417.8),
    "H100 PCIe": (756.0, 378.0),
    "H100": (989.4, 494.7),
    "H800": (989.4, 494.7),
    "GH200": (989.4, 494.7),
    "B200": (2250.0, 1125.0),
    "A100": (312.0, 156.0),
    "A800": (312.0, 156.0),
    "A40": (149.7, 74.8),
    "A30": (165.0, 82.0),
    "A10G": (70.0, 35.0),
    "L40S": (362.1, 183.0),
    "L40": (181.1, 90.5),
    "L4": (121.0, 60.0),
    "RTX 4090": (165.2, 82.6),
    "RTX 3090": (71.0, 35.6),
    "V100-PCIE": (112.0, None),
    "V100": (125.0, None),
    "T4": (65.0, None),
}
"""NVIDIA's data sheets; for V100 and T4 the first figure is float16's, they have no bfloat16."""

_OTHER = re.compile(r"\b(Laptop|Max-Q|Ti|SUPER|D|MIG)\b", re.IGNORECASE)
"""Words that make another device, or a part of one, of a name that is known without them."""


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Dense peak of one device in FLOP/s at a precision (`config.TrainingConfig.precision`); None where unknown."""
    if device.type != "cuda":
        return None
    return peak_of(torch.cuda.get_device_name(device), precision)


def peak_of(name: str, precision: str) -> float | None:
    """Dense peak in FLOP/s of a device of this name; None where it is unknown.

    32-true counts against TF32 where the device has it, which is what matrix products use there by default.
    """
    if _OTHER.search(name):
        return None
    for words, (half, single) in PEAKS.items():
        if re.search(rf"\b{re.escape(words)}\b", name):
            chosen = single if precision == "32-true" else half
            return chosen * 1e12 if chosen is not None else None
    return None
