"""Bytes of tokens add up to the bytes of the text, for each kind of tokenizer that is known; others claim nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_train.data import tokenizer as tokenizers
from pico_train.evaluation.sentences import Encoder
from pico_train.evaluation.token_bytes import bytes_of, token_bytes

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bytes")
    texts = ["the cat saw the dog under the tree", "naïve café 東京 🌳", "def f(x):\n    return x"] * 3
    tokenizers.save_trained(tokenizers.train(texts, 340), directory, max_length=32)
    return directory


@given(text=TEXT)
def test_of_a_byte_level_vocabulary(byte_level, text):
    ids = Encoder.of(byte_level, "test")([text], "test")
    assert bytes_of(ids, token_bytes(byte_level)).tolist() == [len(text.encode())]


def test_special_tokens_stand_for_no_text(byte_level):
    sizes = token_bytes(byte_level)
    assert (
        sizes[0] == 0
        and sizes[1:].min() >= 1
        and len(sizes) == 1 + max(tokenizers.load(byte_level).get_vocab().values())
    )
    assert bytes_of([np.array([5, 0, 0], np.int32)], sizes).tolist() == [0]


def saved(directory, definition):
    (directory / "tokenizer.json").write_text(json.dumps(definition))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return directory


def test_of_byte_fallback(tmp_path):
    """As Llama's: a space is ▁, and what is not in the vocabulary becomes bytes."""
    vocabulary = {"</s>": 0, "<unk>": 1} | {f"<0x{n:02X}>": n + 2 for n in range(256)}
    vocabulary |= {token: len(vocabulary) + n for n, token in enumerate(["▁", "a", "b", "é", "▁a"])}
    definition = {
        "version": "1.0", "truncation": None, "padding": None, "post_processor": None,
        "added_tokens": [{"id": 0, "content": "</s>", "special": True, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False}],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None, "decoder": None,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [["▁", "a"]], "unk_token": "<unk>",
                  "byte_fallback": True, "fuse_unk": True, "dropout": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "ignore_merges": False},
    }  # fmt: skip
    directory = saved(tmp_path, definition)
    for text in ("a b", " a", "éa 東 a"):
        ids = Encoder.of(directory, "test")([text], "test")
        assert bytes_of(ids, token_bytes(directory)).tolist() == [len(text.encode())]


def test_of_another_kind_nothing_is_claimed(tmp_path):
    definition = {
        "version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"</s>": 0, "the": 1}, "unk_token": "</s>"},
    }  # fmt: skip
    assert token_bytes(saved(tmp_path, definition)) is None
