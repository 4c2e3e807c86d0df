"""n-grams counted, and rows known by heart, against loops."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.probes.token_losses import counted_ngrams, matching_tokens

V = 6
tables = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, V, (3, 9)))


@given(tables)
def test_ngrams_are_those_of_a_count_by_hand(ids: np.ndarray) -> None:
    found = counted_ngrams(ids, V)
    singles = Counter(token for row in ids.tolist() for token in row[1:])
    np.testing.assert_allclose(found.unigram_V, [singles[v] / 24 for v in range(V)])
    pairs = Counter(pair for row in ids.tolist() for pair in pairwise(row))
    for context in range(V):
        after = slice(found.first[context], found.first[context + 1])
        total = sum(count for (first, _), count in pairs.items() if first == context)
        expected = {second: count / total for (first, second), count in pairs.items() if first == context}
        given_ = dict(zip(found.following[after].tolist(), found.share[after].tolist(), strict=True))
        assert given_.keys() == expected.keys()
        np.testing.assert_allclose([given_[key] for key in expected], list(expected.values()))


def test_no_bigram_reaches_across_two_rows() -> None:
    found = counted_ngrams(np.array([[0, 1], [2, 3]]), 4)
    assert found.first.tolist() == [0, 1, 1, 2, 2]
    assert found.following.tolist() == [1, 3] and found.share.tolist() == [1.0, 1.0]


def test_the_last_token_of_the_vocabulary_is_counted_too() -> None:
    found = counted_ngrams(np.array([[3, 3, 0]]), 4)
    assert found.first.tolist() == [0, 0, 0, 0, 2] and found.following.tolist() == [0, 3]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_matching_ends_with_the_first_mistake_after_the_prompt(seed: int, k: int) -> None:
    correct = np.random.default_rng(seed).random((4, 10)) < 0.7
    expected = []
    for row in correct.tolist():
        right = 0
        while right < k and row[k - 1 + right]:  # entry p is about token p + 1
            right += 1
        expected.append(right)
    assert matching_tokens(correct, k).tolist() == expected


def test_a_row_known_by_heart_matches_to_the_end() -> None:
    correct = np.ones((1, 7), bool)
    correct[0, :2] = False  # tokens of the prompt need not be predicted
    assert matching_tokens(correct, 3).tolist() == [3]
    correct[0, 2] = False  # token 3, the first of the continuation
    assert matching_tokens(correct, 3).tolist() == [0]
