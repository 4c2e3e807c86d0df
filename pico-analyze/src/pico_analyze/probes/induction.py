"""Induction heads: repeated random tokens, prefix matching, copying; and what a longer context is worth.

After Olsson et al. 2022, In-context Learning and Induction Heads. Letters: B rows, H heads, T = 2 L positions of a
repeated row, N rows of text, V vocabulary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SEQUENCES = 8
"""Rows of repeated random tokens."""
LONGEST = 128
"""Most tokens that are repeated."""
SHORTEST = 4
"""Fewest, so that a head has somewhere else to look."""
SHORTEST_CONTEXT = 20
"""Fewest tokens of a row of which an in-context score is taken."""


def repeated_length(max_seq_len: int, vocab_size: int) -> int:
    """L for a model that reads so many tokens and knows so many: half of the first, at most `LONGEST`, at most V."""
    return min(max_seq_len // 2, LONGEST, vocab_size)


def repeated_tokens(vocab_size: int | np.ndarray, length: int, n_rows: int, seed: int) -> np.ndarray:
    """Rows x_0 … x_{L-1} x_0 … x_{L-1}, the x of a row distinct, uniform over the vocabulary.

    Args:
        vocab_size: V, at least `length`; or the tokens themselves, that many.
        length: L.
        n_rows: B.
        seed: Equal seeds give equal rows.

    Returns:
        (B, 2 L), int64.
    """
    rng = np.random.default_rng(seed)
    once = np.stack([rng.choice(vocab_size, length, replace=False) for _ in range(n_rows)])
    return np.concatenate([once, once], axis=1).astype(np.int64)


def prefix_matching(weights_BHTT: Tensor) -> Tensor:
    """Mean of A(t, t - L + 1) over the second copy, t = L … 2 L - 1: attention on what came after the earlier
    occurrence of the present token (Olsson et al. 2022, prefix matching score).

    Args:
        weights_BHTT: Attention on repeated rows, T = 2 L.

    Returns:
        (B, H), from 0 to 1.
    """
    from pico_analyze.probes.precision import wide

    length = weights_BHTT.shape[-1] // 2
    # Row t of the second copy, column t - L + 1: a diagonal of the lower half, moved by one.
    diagonal = weights_BHTT[..., length:, :].diagonal(offset=1, dim1=-2, dim2=-1)
    return diagonal.to(wide(weights_BHTT)).mean(-1)


def copying(contributions_LL: Tensor) -> Tensor:
    """2 r - 1, r the share of a token in the logits that are raised by attending to it alone.

    c less its mean over the tokens, negative entries set to 0, is what is raised (Olsson et al. 2022, copying score).

    Args:
        contributions_LL: (…, L, L): what attending to position j adds to the logit of token u of the sequence; token j
            stands at position j.

    Returns:
        (…,): mean over positions, from -1 to 1. A position that raises nothing counts as chance, r = 1 / L.
    """
    import torch

    raised = (contributions_LL - contributions_LL.mean(-1, keepdim=True)).clamp_min(0)
    total = raised.sum(-1)
    own = raised.diagonal(dim1=-2, dim2=-1)
    share = torch.where(total > 0, own / total.clamp_min(torch.finfo(total.dtype).tiny), 1 / raised.shape[-1])
    return 2 * share.mean(-1) - 1


def context_positions(seq_len: int) -> tuple[int, int]:
    """Positions, counted in tokens read, whose losses are compared: 50 and 500; a tenth and all of shorter rows."""
    return (50, 500) if seq_len >= 500 else (max(1, round(seq_len / 10)), seq_len)


def in_context_score(losses_NT: np.ndarray) -> tuple[float, float]:
    """Mean loss at the early position less mean loss at the late one, and its standard error over rows.

    Args:
        losses_NT: Loss of the token after 1, 2, … T read, at least `SHORTEST_CONTEXT`.

    Returns:
        The score in nats, positive where a longer context helps (Olsson et al. take the difference the other way), and
        the standard error; NaN for one row.
    """
    early, late = context_positions(losses_NT.shape[1])
    difference = losses_NT[:, early - 1].astype(np.float64) - losses_NT[:, late - 1]
    n = len(difference)
    return float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def curve_positions(seq_len: int) -> list[int]:
    """Where the curve of the loss has its rows in the table: powers of two, and the end."""
    powers = [2**i for i in range(seq_len.bit_length()) if 2**i < seq_len]
    return [*powers, seq_len]
