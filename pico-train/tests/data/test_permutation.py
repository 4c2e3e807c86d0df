"""The keyed permutation: a bijection, for any size, without a table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_train.data.permutation import permute


@given(n=st.integers(1, 3000), key=st.text(max_size=20))
def test_every_element_is_hit_once(n: int, key: str) -> None:
    assert np.array_equal(np.sort(permute(np.arange(n), n, key)), np.arange(n))


@given(n=st.integers(2, 2**62), data=st.data())
def test_distinct_elements_stay_distinct_and_in_range_whatever_the_size(n: int, data: st.DataObject) -> None:
    elements = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=50, unique=True))
    images = permute(np.array(elements), n, "key")
    assert len(set(images.tolist())) == len(elements)
    assert images.min() >= 0
    assert images.max() < n


@given(n=st.integers(1, 500), data=st.data())
def test_one_element_alone_goes_where_it_goes_among_all(n: int, data: st.DataObject) -> None:
    element = data.draw(st.integers(0, n - 1))
    assert permute(np.array([element]), n, "k")[0] == permute(np.arange(n), n, "k")[element]


def test_images_are_spread_evenly() -> None:
    """Chi-squared over a 20 × 20 grid of (place, image) for 40,000 elements: 361 degrees of freedom, sd 27."""
    n = 40_000
    images = permute(np.arange(n), n, "a key")
    grid, *_ = np.histogram2d(np.arange(n), images, bins=20)
    expected = n / 400
    chi_squared = ((grid - expected) ** 2 / expected).sum()
    assert abs(chi_squared - 361) < 5 * 27


def test_keys_give_unrelated_permutations() -> None:
    n = 10_000
    one, two = permute(np.arange(n), n, "epoch 0"), permute(np.arange(n), n, "epoch 1")
    assert (one == two).sum() < 10  # expected: 1
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.05


@pytest.mark.parametrize(("n", "indices"), [(0, [0]), (5, [5]), (5, [-1]), (2**62 + 1, [0])])
def test_impossible_permutations_are_refused(n: int, indices: list[int]) -> None:
    with pytest.raises(ValueError, match=r"permut"):
        permute(np.array(indices), n, "k")


@pytest.mark.parametrize(
    ("n", "images"),
    [
        (1, [0]),
        (3, [2, 0, 1]),
        (4, [2, 0, 1, 3]),
        (7, [0, 3, 4, 6, 1, 2, 5]),
        (8, [0, 3, 4, 6, 1, 2, 5, 7]),
    ],
)
def test_small_permutations_are_pinned_for_ever(n: int, images: list[int]) -> None:
    """Of even and odd numbers of bits, whole and with elements that land outside: what is shuffled by them is out."""
    assert permute(np.arange(n), n, "k").tolist() == images


@pytest.mark.parametrize(
    ("n", "images"),
    [
        (2**31, [1517193477, 1926940030, 1751580897, 427699517]),
        (2**32 + 1, [3757002995, 4198323650, 501634323, 3754755115]),
        (2**62, [1408868762982743071, 4018508525297668268, 4224472557205964473, 1934498601199616617]),
    ],
)
def test_large_permutations_are_pinned_for_ever(n: int, images: list[int]) -> None:
    assert permute(np.array([0, 1, n // 2, n - 1]), n, "k").tolist() == images


def test_no_index_has_no_image_and_what_was_given_stays() -> None:
    assert permute(np.array([], np.int64), 5, "k").tolist() == []
    given = np.arange(7)
    permute(given, 7, "k")
    assert given.tolist() == list(range(7))


def test_which_of_two_comes_first_is_pinned_for_each_key() -> None:
    assert [int(permute(np.array([0]), 2, key)[0]) for key in "abcdefgh"] == [0, 1, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("index", [-1, 7])
def test_the_message_names_the_range(index: int) -> None:
    with pytest.raises(ValueError, match=r"indices to permute must lie in 0 to 6$"):
        permute(np.array([index]), 7, "k")


@pytest.mark.parametrize("n", [0, 2**62 + 1])
def test_a_size_that_is_impossible_is_refused_whatever_is_permuted(n: int) -> None:
    with pytest.raises(ValueError, match=rf"a permutation of {n} elements: 1 to 2\^62 are possible"):
        permute(np.array([], np.int64), n, "k")
