"""Texts in pieces: their ids are those of the whole text, by the tokenizers library; or the text is not cut."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.tokenizers_of_all_kinds import CUT, LINES, WHOLE, save
from tokenizers import Tokenizer

from pico_train.data.cutting import LINE, SPACE, Cuts, cuts_of, pieces
from pico_train.data.encoding import Found, TextEncoder, TextPart, plain_definition
from pico_train.errors import DataError

ALL = CUT | LINES | WHOLE


@cache
def tokenizer_dir(name: str) -> Path:
    return save(ALL[name](), Path(mkdtemp(prefix="tokenizer-")))


@cache
def prepared(name: str) -> tuple[TextEncoder, Cuts, Tokenizer]:
    directory = tokenizer_dir(name)
    oracle = Tokenizer.from_file(str(directory / "tokenizer.json"))
    oracle.no_truncation()
    oracle.no_padding()
    oracle.encode_special_tokens = True
    return TextEncoder(directory), cuts_of(plain_definition(directory), directory), oracle


WORDS = (
    "the fox Fox naïve dog lazy lazy\u00a0dog don't 123 4.5 x+1 == /path a/b; ½ ´ \u0301 \u200d \u0600 \ufdfa \u00ad "
    "e\u0301 ﬁ ① 汉字和假名 カナ。 한국어 русский, İ ß ▁ ▁▁ \x1c \x85 \ufeff |||EMAIL||| <|endoftext|> <unk> <0x41> "
    "`` '' \U0001f600 \U0001f1eb\U0001f1f7 𞤀 \u0d4e"
)
GAPS = [" ", " ", " ", "\n", "\n", "  ", "   ", "\n\n", "\r\n", "\t", " \n", "\n ", "", "\u3000", "\u2028"]
TEXT = st.lists(st.tuples(st.sampled_from(WORDS.split(" ")), st.sampled_from(GAPS)), max_size=24).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)


@pytest.mark.parametrize("name", ALL)
@example(text="the ``x'' fox  Fox \n a\nb \n\nthe fox naïve lazy dog lazy\ndog", limit=1)
@example(text="foo.\n/bar baz)\n\nx.\nthe  the fox", limit=1)
@given(text=TEXT | st.text(max_size=60), limit=st.integers(1, 9))
def test_ids_of_pieces_are_those_of_the_whole_text(name: str, text: str, limit: int) -> None:
    encoder, cuts, oracle = prepared(name)
    cut = list(pieces([text], cuts, limit=limit))
    assert "".join(cut) == text
    whole = oracle.encode(text, add_special_tokens=False).ids
    parts = [TextPart(piece, begins=place == 0) for place, piece in enumerate(cut)]
    if oracle.token_to_id("<|endoftext|>") in whole:  # a Unigram takes it for the likeliest of its pieces
        with pytest.raises(DataError, match=r"makes its control token '<\|endoftext\|>'"):
            encoder.encode(parts, Found())
    else:
        assert np.concatenate(encoder.encode(parts, Found())).tolist() == whole


@pytest.mark.parametrize("name", CUT)
def test_long_texts_are_cut(name: str) -> None:
    encoder, cuts, oracle = prepared(name)
    text = "Of a text, the words and 1234 numbers (in it); naïve 汉字 they're.\n" * 600
    cut = list(pieces([text], cuts, limit=500))
    assert len(cut) > 60
    ids = encoder.encode([TextPart(piece, begins=place == 0) for place, piece in enumerate(cut)], Found())
    assert np.concatenate(ids).tolist() == oracle.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", LINES)
def test_where_a_token_holds_a_space_lines_are_left(name: str) -> None:
    assert prepared(name)[1].places == (LINE,)


@pytest.mark.parametrize("name", WHOLE)
def test_what_cannot_be_cut_is_encoded_whole_and_refused_where_that_is_too_much(name: str) -> None:
    cuts = prepared(name)[1]
    assert cuts.places == ()
    text = "a b\nc " * 100
    assert list(pieces([text[:300], text[300:]], cuts, limit=8, largest=600)) == [text]
    with pytest.raises(DataError, match=r"^book\.txt: 599 characters without a place .* divide the document"):
        list(pieces([text], cuts, limit=8, largest=599, where="book.txt"))


@given(
    text=st.text(alphabet="ab \n\r\té.", max_size=400),
    borders=st.lists(st.integers(0, 400), max_size=5),
    largest=st.integers(4, 60),
)
def test_how_a_text_is_parted_makes_no_difference_to_its_pieces(text: str, borders: list[int], largest: int) -> None:
    bounds = [0, *sorted(min(border, len(text)) for border in borders), len(text)]

    def cut(parts: list[str]) -> list[str] | None:
        try:
            return list(pieces(parts, Cuts((SPACE, LINE)), limit=8, largest=largest))
        except DataError:
            return None

    found = cut([text[a:b] for a, b in pairwise(bounds)])
    assert found == cut([text])
    if found is not None:
        assert "".join(found) == text
        assert max(map(len, found)) <= largest


def test_a_text_without_a_place_is_looked_through_once() -> None:
    """A hundred parts of a million characters would take an hour if each were looked through from the beginning."""
    with pytest.raises(DataError, match="2,097,152 characters"):
        list(pieces(("x" * 2**16 for _ in range(100)), Cuts((SPACE, LINE))))
