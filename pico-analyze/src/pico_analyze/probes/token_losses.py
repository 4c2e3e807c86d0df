"""Losses of single tokens: distance from n-grams, and what is known by heart.

Letters: N rows, T positions that a model reads, V vocabulary; a row has T + 1 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlogy

from pico_analyze.probes.precision import wide

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NGrams:
    """Frequencies counted in a text, not smoothed."""

    unigram_V: np.ndarray
    """q(v), float64."""
    first: np.ndarray
    """(V + 1,): where in `following` the tokens begin that came after token c, and end at c + 1."""
    following: np.ndarray
    """Tokens that came after each, int64."""
    share: np.ndarray
    """q(v | c) of each of them, float64."""


def counted_ngrams(ids_NT: np.ndarray, vocab_size: int) -> NGrams:
    """Unigrams and bigrams of rows; no bigram reaches across two rows.

    Unigrams are counted over the tokens that are predicted, all but the first of each row.
    """
    ids = ids_NT.astype(np.int64)
    unigrams = np.bincount(ids[:, 1:].ravel(), minlength=vocab_size).astype(np.float64)
    pairs, counts = np.unique(ids[:, :-1].ravel() * vocab_size + ids[:, 1:].ravel(), return_counts=True)
    context, following = np.divmod(pairs, vocab_size)
    totals = np.bincount(context, weights=counts, minlength=vocab_size)
    first = np.searchsorted(context, np.arange(vocab_size + 1))
    return NGrams(unigrams / unigrams.sum(), first, following, counts / totals[context])


def kl_to_ngrams(log_p_TV: Tensor, ids_T: np.ndarray, ngrams: NGrams) -> tuple[np.ndarray, np.ndarray]:
    """KL(unigram || model) and KL(bigram || model) at each position, Σ_v q(v) (ln q(v) - ln p(v)).

    Args:
        log_p_TV: ln p of the next token; in float32, divergences are exact to some 1e-6 nats.
        ids_T: The tokens that were read.
        ngrams: Of the same vocabulary.

    Returns:
        (T,) and (T,), in nats; NaN in the second where a token was never counted with one after it.
    """
    import torch

    device, dtype = log_p_TV.device, wide(log_p_TV)
    q = ngrams.unigram_V
    cross = log_p_TV @ torch.as_tensor(q, device=device, dtype=log_p_TV.dtype)
    unigram = float(xlogy(q, q).sum()) - cross.cpu().numpy().astype(np.float64)
    begin, sizes = ngrams.first[ids_T], ngrams.first[ids_T + 1] - ngrams.first[ids_T]
    at = np.repeat(np.arange(len(ids_T)), sizes)
    entries = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(begin, sizes)
    share = torch.as_tensor(ngrams.share[entries], device=device, dtype=dtype)
    found = log_p_TV[torch.as_tensor(at, device=device), torch.as_tensor(ngrams.following[entries], device=device)]
    sums = torch.zeros(len(ids_T), device=device, dtype=dtype)
    sums.index_add_(0, torch.as_tensor(at, device=device), share * (share.log() - found.to(dtype)))
    bigram = sums.cpu().numpy().astype(np.float64)
    bigram[sizes == 0] = np.nan
    # A divergence is not negative; what rounding leaves below 0 is 0.
    return np.maximum(unigram, 0), np.maximum(bigram, 0)


def matching_tokens(correct_NT: np.ndarray, k: int) -> np.ndarray:
    """Of the k tokens after the first k, how many greedy decoding gets right before its first mistake.

    Until then greedy decoding has read the row itself, so it is told by the most probable tokens after each of the
    row's own: no text is generated. A row is memorised where all k are right (Biderman et al. 2023, section 2, with
    prompt and continuation of k tokens).

    Args:
        correct_NT: Whether the token after 1, 2, … T read was the most probable one.
        k: At most (T + 1) / 2.

    Returns:
        (N,), from 0 to k.
    """
    wanted = correct_NT[:, k - 1 : 2 * k - 1].astype(bool)
    return np.asarray(np.cumprod(wanted, axis=1).sum(axis=1))
