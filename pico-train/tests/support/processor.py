"""What torch cannot do on the processor, or as the processor that it was told to take this one for."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def bf16_attention_fails() -> str | None:
    """Why attention in bfloat16 does not work here: with ATEN_CPU_CAPABILITY=default or avx2, on a processor with AMX,
    torch 2.13 takes a kernel that it then refuses. None where it works."""
    q_BHTC = torch.zeros(1, 4, 200, 8, dtype=torch.bfloat16)
    try:
        F.scaled_dot_product_attention(q_BHTC, q_BHTC, q_BHTC, is_causal=True)
    except RuntimeError as error:
        return f"torch: {error}"
    return None
