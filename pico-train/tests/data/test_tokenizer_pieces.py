"""Texts in pieces small enough to be encoded at once."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pico_train.data import tokenizer


@given(
    text=st.text(alphabet="ab \n\r\té", max_size=400),
    cuts=st.lists(st.integers(0, 400), max_size=5),
)
def test_how_a_text_is_parted_makes_no_difference_to_its_pieces(text: str, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(bounds)]
    pieces = list(tokenizer.pieces(parts, limit=8))
    assert "".join(pieces) == text
    assert pieces == list(tokenizer.pieces([text], limit=8))
    assert max(map(len, pieces)) <= 17 * 8
