"""The mathematics of probes on tensors: hand-built patterns, closed forms, loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from pico_analyze.probes.attention import entropy, pattern_means
from pico_analyze.probes.induction import copying, prefix_matching
from pico_analyze.probes.token_losses import counted_ngrams, kl_to_ngrams

seeds = st.integers(0, 2**32 - 1)


def causal(seed: int, rows: int = 2, heads: int = 3, length: int = 8) -> torch.Tensor:
    """Random attention of positions on those before."""
    scores = torch.from_numpy(2 * np.random.default_rng(seed).standard_normal((rows, heads, length, length)))
    return scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf).softmax(-1)


@given(seeds)
def test_means_of_patterns_are_those_of_loops(seed: int) -> None:
    weights = causal(seed)
    found = pattern_means(weights)
    for row in range(2):
        for head in range(3):
            a = weights[row, head].numpy()
            asking = range(1, 8)
            expected = {
                "attention_entropy": np.mean([scipy_entropy(a[t, : t + 1]) for t in asking]),
                "sink_mass": np.mean([a[t, 0] for t in asking]),
                "previous_token": np.mean([a[t, t - 1] for t in asking]),
                "attention_distance": np.mean([sum(a[t, j] * (t - j) for j in range(t + 1)) for t in asking]),
            }
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                assert float(found[name][row, head]) == pytest.approx(value, rel=1e-10), name


@pytest.mark.parametrize("length", [1, 2, 7, 512])
def test_uniform_attention_has_the_entropy_ln_t(length: int) -> None:
    assert float(entropy(torch.full((length,), 1 / length))) == pytest.approx(math.log(length), abs=1e-5)


def test_patterns_built_by_hand_score_1() -> None:
    length = 6
    on_first, on_previous = torch.zeros(1, 1, length, length), torch.zeros(1, 1, length, length)
    on_first[..., 0] = 1
    for t in range(length):
        on_previous[..., t, max(t - 1, 0)] = 1
    sink, previous = pattern_means(on_first), pattern_means(on_previous)
    assert float(sink["sink_mass"]) == 1 and float(sink["attention_entropy"]) == 0
    assert float(sink["attention_distance"]) == pytest.approx(3)  # mean of 1 to 5
    assert float(previous["previous_token"]) == 1 and float(previous["attention_distance"]) == 1


def test_a_head_built_by_hand_to_look_after_the_earlier_occurrence_scores_1() -> None:
    length = 5
    weights = torch.zeros(1, 2, 2 * length, 2 * length)
    weights[0, :, :length, 0] = 1
    for t in range(length, 2 * length):
        weights[0, 0, t, t - length + 1] = 1  # induction
        weights[0, 1, t, t - length] = 1  # the earlier occurrence itself
    assert prefix_matching(weights).tolist() == [[1.0, 0.0]]


@given(seeds)
def test_prefix_matching_is_that_of_a_loop(seed: int) -> None:
    weights = causal(seed)
    expected = [[np.mean([w[t, t - 3] for t in range(4, 8)]) for w in row] for row in weights.numpy()]
    np.testing.assert_allclose(prefix_matching(weights), expected, rtol=1e-12)


def test_uniform_attention_matches_by_chance() -> None:
    length = 4
    weights = torch.ones(1, 1, 2 * length, 2 * length).tril()
    weights /= weights.sum(-1, keepdim=True)
    assert float(prefix_matching(weights)) == pytest.approx(np.mean([1 / (t + 1) for t in range(4, 8)]))


def test_a_head_that_raises_what_it_reads_copies_and_one_that_lowers_it_does_not() -> None:
    assert float(copying(torch.eye(6))) == pytest.approx(1)
    assert float(copying(-torch.eye(6))) == pytest.approx(-1)
    assert float(copying(torch.zeros(6, 6))) == pytest.approx(2 / 6 - 1)  # raises nothing: as chance does


@given(seeds)
def test_copying_is_that_of_a_loop_and_does_not_see_what_all_tokens_share(seed: int) -> None:
    added = np.random.default_rng(seed).standard_normal((5, 5))
    shares = []
    for at in range(5):
        raised = np.maximum(added[at] - added[at].mean(), 0)
        shares.append(raised[at] / raised.sum())
    found = float(copying(torch.from_numpy(added)))
    assert found == pytest.approx(2 * np.mean(shares) - 1, rel=1e-9, abs=1e-12) and -1 <= found <= 1
    assert float(copying(torch.from_numpy(3 * added + 7))) == pytest.approx(found, rel=1e-9, abs=1e-9)


V = 6


@given(seeds)
def test_divergences_from_ngrams_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ngrams = counted_ngrams(rng.integers(0, V - 1, (4, 9)), V)  # the last token never stands anywhere
    read = rng.integers(0, V, 7)
    log_p = torch.from_numpy(rng.standard_normal((7, V))).log_softmax(-1)
    unigram, bigram = kl_to_ngrams(log_p, read, ngrams)
    for t, token in enumerate(read):
        p = log_p[t].exp().numpy()
        assert unigram[t] == pytest.approx(scipy_entropy(ngrams.unigram_V, p), rel=1e-9, abs=1e-12)
        q = np.zeros(V)
        after = slice(ngrams.first[token], ngrams.first[token + 1])
        q[ngrams.following[after]] = ngrams.share[after]
        if q.sum() == 0:
            assert math.isnan(bigram[t])
        else:
            assert bigram[t] == pytest.approx(scipy_entropy(q, p), rel=1e-9, abs=1e-12)


def test_a_bigram_model_has_no_divergence_from_bigrams_and_a_unigram_model_none_from_unigrams() -> None:
    ids = np.random.default_rng(0).integers(0, V, (20, 12))
    ngrams, read = counted_ngrams(ids, V), ids[0, :-1]
    table = np.zeros((V, V))
    for context in range(V):
        after = slice(ngrams.first[context], ngrams.first[context + 1])
        table[context, ngrams.following[after]] = ngrams.share[after]
    _, bigram = kl_to_ngrams(torch.from_numpy(table[read]).clamp_min(1e-300).log(), read, ngrams)
    unigram, _ = kl_to_ngrams(torch.from_numpy(ngrams.unigram_V).log().expand(len(read), V), read, ngrams)
    np.testing.assert_allclose(bigram, 0, atol=1e-12)
    np.testing.assert_allclose(unigram, 0, atol=1e-12)
