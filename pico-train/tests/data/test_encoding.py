"""Text to ids: all of the text, nothing but the text, and what was in it is counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from support.tokenizers_of_all_kinds import TEXTS, gpt2, llama2, save, t5
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from pico_train.data.encoding import Found, TextEncoder, TextPart
from pico_train.errors import DataError


def encode(directory: Path, text: str) -> tuple[list[int], Found]:
    found = Found()
    return TextEncoder(directory).encode([TextPart(text, where="a.txt")], found)[0].tolist(), found


def test_what_a_call_left_in_the_tokenizer_is_not_applied(tmp_path: Path) -> None:
    """Truncation, padding, a template that puts tokens around a text, and dropout of merges."""
    plain = gpt2()
    expected = plain.encode(TEXTS[0]).ids
    plain.enable_truncation(8)
    plain.enable_padding(length=64, pad_id=3, pad_token="x")
    plain.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    plain.model.dropout = 0.9
    ids, found = encode(save(plain, tmp_path), TEXTS[0])
    assert ids == expected
    assert (found.special, found.unknown) == (Counter(), 0)


@pytest.mark.parametrize("special", [True, False])
def test_a_special_tokens_name_in_the_text_is_text(tmp_path: Path, special: bool) -> None:
    """Also where tokenizer.json does not say that it is special, and its configuration names it end of text."""
    directory = save(gpt2(), tmp_path)
    definition = json.loads((directory / "tokenizer.json").read_text())
    definition["added_tokens"][0]["special"] = special
    (directory / "tokenizer.json").write_text(json.dumps(definition))
    text = "a <|endoftext|>b<|endoftext|><|endoftext"
    ids, found = encode(directory, text)
    assert 0 not in ids
    assert Tokenizer.from_file(str(directory / "tokenizer.json")).decode(ids, skip_special_tokens=False) == text
    assert found.special == Counter({"<|endoftext|>": 2})


def test_the_longest_name_counts(tmp_path: Path) -> None:
    tokenizer = gpt2()
    tokenizer.add_special_tokens(["<|end", "<|end|>x"])
    assert encode(save(tokenizer, tmp_path), "<|end|>x <|end <|endo")[1].special == Counter({"<|end|>x": 1, "<|end": 2})


def test_a_control_token_that_the_model_makes_of_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^a\.txt: the tokenizer makes its control token '<\|endoftext\|>' \(1\)"):
        encode(save(t5(), tmp_path), "a <|endoftext|> b")


def test_what_is_unknown_is_counted(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "<|endoftext|>": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["[UNK]", "<|endoftext|>"])
    ids, found = encode(save(tokenizer, tmp_path / "kept"), "a b a c")
    assert (ids, found.unknown) == ([1, 0, 1, 0], 2)
    directory = save(tokenizer, tmp_path / "ends", eos_token="[UNK]")
    with pytest.raises(DataError, match=r"control token '\[UNK\]' \(0\) of plain text"):
        encode(directory, "a b")


def test_a_tokenizer_that_drops_characters_is_refused(tmp_path: Path) -> None:
    """The library leaves out what a BPE without an unknown token does not know."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.train_from_iterator(["plain text"], trainer)
    assert tokenizer.encode("tüxt", add_special_tokens=False).ids == tokenizer.encode("txt").ids
    directory = save(tokenizer, tmp_path / "bytes")
    encode(directory, "plain text")
    with pytest.raises(DataError, match=r"^a\.txt: the tokenizer has no token for byte 0xbc and would drop it"):
        encode(directory, "pl\u00fcin")
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(DataError, match="drops every character that is not in its vocabulary: give it an unk_token"):
        encode(save(tokenizer, tmp_path / "characters"), "plain")
    assert encode(save(llama2(), tmp_path / "fallback"), "\U0001f600")[1].unknown == 0


def test_a_text_that_the_library_cannot_take_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot encode a\.txt"):
        encode(save(gpt2(), tmp_path), "half a pair \ud83d")
