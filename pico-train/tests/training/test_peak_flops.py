"""Peaks of known devices."""

from __future__ import annotations

import pytest

from pico_train.training.peak_flops import peak_of


@pytest.mark.parametrize(
    ("device", "precision", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16-mixed", 312.0),
        ("NVIDIA A100-SXM4-80GB", "32-true", 156.0),
        ("NVIDIA H100 80GB HBM3", "bf16-true", 989.4),
        ("NVIDIA H100 PCIe", "bf16-mixed", 756.0),
        ("NVIDIA H200", "bf16-mixed", 989.4),
        ("NVIDIA L40S", "bf16-mixed", 362.1),
        ("NVIDIA L4", "bf16-mixed", 121.0),
        ("Tesla T4", "32-true", None),
        ("NVIDIA GH200 480GB", "bf16-mixed", 989.4),
        ("Tesla V100-PCIE-16GB", "16-mixed", 112.0),
        # Names that contain another device's: nothing is known of these.
        ("NVIDIA RTX A4000", "bf16-mixed", None),
        ("NVIDIA T400", "bf16-mixed", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16-mixed", None),
        ("NVIDIA GeForce RTX 3090 Ti", "bf16-mixed", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16-mixed", None),
        ("A device of next year", "bf16-mixed", None),
    ],
)
def test_peaks_are_the_data_sheets_and_absent_where_unknown(device, precision, teraflops):
    assert peak_of(device, precision) == (teraflops * 1e12 if teraflops else None)
