"""Tokenizers that cannot be used: one sentence, whatever is in their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tokenizers_of_all_kinds import gpt2, save

from pico_train.data.cutting import cuts_of
from pico_train.data.encoding import Found, TextEncoder, TextPart, plain_definition
from pico_train.data.tokenizer import describe, load, obtain
from pico_train.errors import DataError


def test_unusable_tokenizers_are_named(tmp_path: Path, corpus_dir: Path) -> None:
    with pytest.raises(DataError, match=r"not a tokenizer: it has no tokenizer\.json"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((corpus_dir / "tokenizer/tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(DataError, match="names no end-of-text token of its vocabulary: set eos_token"):
        describe(tmp_path)


GARBAGE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not valid JSON"),
    "text": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "not valid JSON"),
    "zeros": (bytes(1000), "not valid JSON"),
    "other encoding": ('{"a": "ü"}'.encode("latin-1"), "not valid JSON"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, r"not valid JSON \(it is nested too deeply\)"),
    "a token twice": (
        b'{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}}',
        r"not valid JSON \(key 'a'",
    ),
    "deep model": (b'{"model": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}", "not (valid JSON|a tokenizer)"),
    "a list": (b"[1, 2]", "a JSON object was expected, found list"),
    "another object": (b'{"hidden_size": 64}', "not a tokenizer: it has no model"),
    "another model": (b'{"model": {"type": "RNN"}}', "not a tokenizer"),
    "no vocabulary": (b'{"model": {"type": "BPE", "vocab": 3, "merges": []}}', "not a tokenizer"),
    "tokens without ids": (
        b'{"model": {}, "added_tokens": [{"content": "a"}]}',
        "not a tokenizer: added_tokens is not a list",
    ),
    "huge ids": (
        b'{"model": {}, "added_tokens": [{"content": "a", "id": 99999999999}]}',
        "not a tokenizer: added_tokens is not",
    ),
    "huge numbers": (
        b'{"model": {"type": "BPE", "vocab": {"a": 1' + b"0" * 400 + b'}, "merges": []}}',
        r"not valid JSON \(a number",
    ),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_tokenizer_json_that_is_something_else_is_one_sentence(tmp_path: Path, name: str) -> None:
    content, says = GARBAGE[name]
    (tmp_path / "tokenizer.json").write_bytes(content)
    for use in (load, describe, TextEncoder):
        with pytest.raises(DataError, match=rf"tokenizer\.json: {says}") as refused:
            use(tmp_path)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < len(str(tmp_path)) + 300


def test_a_tokenizer_json_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(2**40)  # holes: it takes no room
    with pytest.raises(DataError, match="larger than 256 MiB"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'"text"', "a JSON object was expected, found str"),
        (b"[]", "a JSON object was expected, found list"),
        (b'{"eos_token": 3}', "names no end-of-text token"),
        (b'{"eos_token": {"content": ["a"]}}', "names no end-of-text token"),
        (b'{"eos_token": "<nowhere>"}', "names no end-of-text token"),
    ],
)
def test_a_tokenizer_config_that_is_something_else_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (save(gpt2(), tmp_path) / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(DataError, match=says):
        describe(tmp_path)


def test_the_older_file_of_special_tokens_counts_where_the_newer_says_nothing(tmp_path: Path) -> None:
    (save(gpt2(), tmp_path) / "tokenizer_config.json").write_text("{}")
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|endoftext|>"}}')
    assert describe(tmp_path).eos_id == 0


def test_a_damaged_description_in_the_cache_is_made_anew(tmp_path: Path) -> None:
    directory = save(gpt2(), tmp_path / "tokenizer")
    known = describe(directory, cache=tmp_path)
    for kept in (tmp_path / "tokenizers").iterdir():
        for damaged in ("{", "[]", '{"vocab_size": "many", "eos_token": "x", "eos_id": 0}'):
            kept.write_text(damaged)
            assert describe(directory, cache=tmp_path) == known


@given(data=st.data())
def test_a_damaged_tokenizer_encodes_or_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Values of its JSON taken out or replaced, and bytes of its file: no other exception, and nothing hangs."""
    directory = save(gpt2(), tmp_path_factory.mktemp("damaged"))
    path = directory / "tokenizer.json"
    definition = json.loads(path.read_text())
    holder: object = definition
    while isinstance(holder, dict | list) and holder:
        keys = list(holder)[:40] if isinstance(holder, dict) else list(range(min(len(holder), 40)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(holder[key], dict | list) or not holder[key] or data.draw(st.integers(0, 2)) == 0:
            if data.draw(st.booleans()):
                del holder[key]
            else:
                holder[key] = data.draw(st.sampled_from([None, -1, 2**40, 1.5, "x", "", [], {}, [[]], True]))
            break
        holder = holder[key]
    path.write_text(json.dumps(definition))
    try:
        info = describe(directory)
        cuts_of(plain_definition(directory), directory)
        TextEncoder(directory).encode([TextPart("the quick fox, don't ½ 汉")], Found())
        assert info.eos_id < info.vocab_size
    except DataError as error:
        assert "\n" not in str(error)


def test_what_is_wrong_is_said_of_the_place_that_was_named(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match=rf"^{given}/tokenizer\.json: not valid JSON"):
        obtain(str(given), tmp_path / "staging")
    assert not (tmp_path / "staging").exists()


def test_a_damaged_tokenizer_of_the_hub_is_named_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import RemoteEntryNotFoundError

    damaged = tmp_path / "tokenizer.json"
    damaged.write_text("{")

    def download(_repo: str, file: str, *, revision: str | None) -> str:
        assert revision == "main"
        if file != "tokenizer.json":
            raise RemoteEntryNotFoundError.__new__(RemoteEntryNotFoundError)
        return str(damaged)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError, match=r"^tokenizer org/name@main/tokenizer\.json: not valid JSON"):
        obtain("org/name@main", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
