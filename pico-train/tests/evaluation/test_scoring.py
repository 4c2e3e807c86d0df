"""Each token counts once, whatever the stride, the batches and the processes; what is summed is the plain loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_train.evaluation.scoring import Scorer, batches_of, padded, sums, token_losses, windows_of

from .conftest import CONTEXT, VOCABULARY, scorer_of


@given(
    n=st.integers(0, 200),
    context=st.integers(1, 40),
    stride=st.none() | st.integers(1, 60),
    tail=st.none() | st.just(1),
)
def test_windows_score_each_token_once_and_read_no_more_than_the_model(n, context, stride, tail):
    ids = np.arange(n + 1)
    scored = None if tail is None else min(n, 7)
    windows = windows_of(ids, 5, context=context, stride=stride, n_scored=scored)
    taken = [token for window in windows for token in window.ids[len(window.ids) - window.n_scored :]]
    assert taken == list(range(1 if scored is None else n + 1 - scored, n + 1))
    for window in windows:
        assert window.owner == 5 and 1 <= window.n_scored < len(window.ids) <= context + 1
        assert (np.diff(window.ids) == 1).all()
    step = min(stride or max(1, context // 2), context)
    if n > context and scored is None:
        for window in windows[1:]:
            assert len(window.ids) - 1 == context and window.n_scored <= step, "each reads as much as it can"


@given(lengths=st.lists(st.integers(1, 50), max_size=60), most=st.integers(50, 300))
def test_batches_hold_each_window_once_and_no_more_tokens_than_allowed(lengths, most):
    batches = batches_of(lengths, most)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[place] for place in batch) <= most for batch in batches)


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_the_losses_of_a_batch_are_those_of_each_token_but_the_first(decoder, chunk):
    rows = torch.from_numpy(np.random.default_rng(1).integers(0, VOCABULARY, (3, CONTEXT + 1)))
    with torch.no_grad():
        found = token_losses(decoder, chunk=chunk)(rows)
        log_p = torch.log_softmax(decoder(rows[:, :-1]).double(), -1)
    expected = -log_p.gather(-1, rows[:, 1:, None])[..., 0]
    assert found.shape == (3, CONTEXT) and found.dtype == torch.float32
    # float32 logits of a size up to 30: their rounding, a few times over
    np.testing.assert_allclose(found.double(), expected, rtol=1e-5, atol=64 * np.finfo(np.float32).eps)


def test_shorter_rows_are_filled_up_with_their_last_token():
    rows = padded([np.array([1, 2, 3]), np.array([4, 5, 6, 7, 8]), np.array([9])])
    assert rows.tolist() == [[1, 2, 3, 3, 3], [4, 5, 6, 7, 8], [9, 9, 9, 9, 9]] and rows.dtype == torch.int64


def documents(seed: int, n: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, VOCABULARY, size=draw.integers(2, 3 * CONTEXT)).astype(np.int32) for _ in range(n)]


def by_hand(decoder, ids: np.ndarray, context: int, stride: int) -> float:
    """Token by token, in float64: what each reads begins where its window does."""
    total, end, begin = 0.0, 0, 0
    n = len(ids) - 1
    for token in range(1, n + 1):
        if token > end:  # the next window
            end = min(end + (context if end == 0 else stride), n)
            begin = max(0, end - context)
        read = torch.from_numpy(ids[begin:token].astype(np.int64))[None]
        with torch.no_grad():
            logits = decoder(read)[0, -1].double()
        total -= float(torch.log_softmax(logits, -1)[int(ids[token])])
    return total


def all_sums(scorer: Scorer, found: list[np.ndarray], size: int, stride: int | None = None) -> np.ndarray:
    windows = [w for number, ids in enumerate(found) for w in windows_of(ids, number, context=CONTEXT, stride=stride)]
    return sums(scorer, windows, len(found), batch_size=size)


@pytest.mark.parametrize("stride", [None, 1, CONTEXT])
def test_sums_are_those_of_one_token_after_another(decoder, scorer, stride):
    found = documents(0, 6)
    expected = [by_hand(decoder, ids, CONTEXT, stride or CONTEXT // 2) for ids in found]
    # float32 losses of up to 50 tokens; 1e-6 of their sum is what the task promises
    np.testing.assert_allclose(all_sums(scorer, found, 2, stride), expected, rtol=1e-6)


@settings(max_examples=10)
@given(seed=st.integers(0, 999), n=st.integers(1, 9), size=st.integers(1, 5), world=st.integers(1, 4))
def test_batch_size_and_processes_do_not_matter(decoder, seed, n, size, world):
    found = documents(seed, n)
    one = all_sums(scorer_of(decoder), found, 1)
    np.testing.assert_allclose(all_sums(scorer_of(decoder), found, size), one, rtol=1e-6)
    shares = [
        all_sums(Scorer(scorer_of(decoder).each, CONTEXT, torch.device("cpu"), rank, world), found, size)
        for rank in range(world)
    ]
    whole = all_sums(scorer_of(decoder), found, size)
    np.testing.assert_allclose(np.sum(shares, axis=0), whole, rtol=1e-12)
    assert all((np.count_nonzero([share[owner] for share in shares]) >= 1) for owner in range(n))
