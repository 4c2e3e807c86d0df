"""A loaded model, watched while it reads rows: what it says, where it looks (`patterns.py`), and what it would have
said after each block (`lens.py`), from one pass.

Letters: N rows, B of them at a time, T positions read, H heads, L layers,
S = N × P positions at which distributions are kept, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pico_analyze.errors import DataError
from pico_analyze.models.lens import Lens
from pico_analyze.models.patterns import Patterns
from pico_analyze.probes.attention import pattern_means
from pico_analyze.probes.token_losses import NGrams, kl_to_ngrams

if TYPE_CHECKING:
    from pico_analyze.models.anatomy import Anatomy


@dataclass
class Seen:
    """What was seen while rows were read."""

    losses_NT: np.ndarray
    """-ln p of the token after 1, 2, … T read, nats."""
    correct_NT: np.ndarray
    """Whether it was the most probable one."""
    unigram_kl_NT: np.ndarray | None = None
    bigram_kl_NT: np.ndarray | None = None
    attention: dict[str, np.ndarray] = field(default_factory=dict)
    """(L, H, N) by metric."""
    no_attention: str | None = None
    """Why there is none."""
    log_p_SV: np.ndarray | None = None
    """The output at the kept positions, float32."""
    lens_kl_LS: np.ndarray | None = None
    lens_same_LS: np.ndarray | None = None
    no_lens: str | None = None
    """Why there is none."""


@dataclass(frozen=True)
class Look:
    """What to look at."""

    attention: bool = False
    ngrams: NGrams | None = None
    positions: Sequence[int] = ()
    """Where distributions are looked at."""
    lens: bool = False
    outputs: bool = False


def read_rows(
    model: nn.Module, parts: Anatomy, ids_NT: np.ndarray, look: Look, *, batch_size: int, device: str
) -> Seen:
    """Have a model read rows, and see.

    Args:
        model: In evaluation mode.
        parts: Where it has what.
        ids_NT: (N, T + 1) token ids; the last of a row is only predicted.
        look: What to look at.
        batch_size: Rows of a forward pass.
        device: Where the model is.

    Raises:
        DataError: what it says is not finite.
    """
    shape = len(ids_NT), ids_NT.shape[1] - 1
    seen = Seen(np.zeros(shape, np.float32), np.zeros(shape, bool))
    if look.ngrams is not None:
        seen.unigram_kl_NT, seen.bigram_kl_NT = np.zeros(shape), np.zeros(shape)
    patterns = Patterns(parts, pattern_means) if look.attention else None
    lens = Lens(model, parts, look.positions) if look.lens else None
    kept: list[np.ndarray] = []
    with torch.inference_mode(), ExitStack() as stack:
        for watcher in (patterns, lens):
            stack.enter_context(nullcontext() if watcher is None else watcher.on(model))
        for first in range(0, len(ids_NT), batch_size):
            ids = np.asarray(ids_NT[first : first + batch_size], np.int64)
            read = torch.as_tensor(ids[:, :-1], device=device)
            if patterns is not None:
                patterns.begin(*read.shape)
            logits_BTV = model(input_ids=read, use_cache=False).logits
            for number, logits_TV in enumerate(logits_BTV):  # row by row: several of V are large
                log_p_PV = _of_row(seen, first + number, logits_TV, ids[number], look)
                if lens is not None:
                    lens.compare(number, log_p_PV)
                kept += [log_p_PV] if look.outputs else []
            del logits_BTV
    _put_together(seen, patterns, lens, kept)
    return seen


def _put_together(seen: Seen, patterns: Patterns | None, lens: Lens | None, kept: Sequence[np.ndarray]) -> None:
    if not np.isfinite(seen.losses_NT).all():
        raise DataError("what the model says is not finite: it is broken, or computes beyond what its type can hold")
    if patterns is not None:
        seen.attention, seen.no_attention = patterns.found()
    if lens is not None:
        seen.lens_kl_LS, seen.lens_same_LS, seen.no_lens = lens.found()
    if kept:
        seen.log_p_SV = np.concatenate(kept)


def _of_row(seen: Seen, row: int, logits_TV: Tensor, ids: np.ndarray, look: Look) -> np.ndarray:
    """Losses of a row, and its outputs at the kept positions, (P, V)."""
    log_p_TV = logits_TV.float().log_softmax(-1)
    targets = torch.as_tensor(ids[1:], device=log_p_TV.device)
    seen.losses_NT[row] = -log_p_TV.gather(1, targets[:, None])[:, 0].float().cpu().numpy()
    seen.correct_NT[row] = (logits_TV.argmax(-1) == targets).cpu().numpy()
    if look.ngrams is not None:
        assert seen.unigram_kl_NT is not None and seen.bigram_kl_NT is not None
        seen.unigram_kl_NT[row], seen.bigram_kl_NT[row] = kl_to_ngrams(log_p_TV, ids[:-1], look.ngrams)
    return np.asarray(log_p_TV[list(look.positions)].float().cpu().numpy())
