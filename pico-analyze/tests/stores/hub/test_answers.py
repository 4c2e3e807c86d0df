"""JSON that the Hub sends, or that is kept of it, means one thing or is refused in a sentence; and how long to wait."""

from __future__ import annotations

import json

import pytest

from pico_analyze.errors import DataError, StorageError, UsageError
from pico_analyze.stores.hub.address import KnownRefs
from pico_analyze.stores.hub.client import HubClient, parse_files, parse_refs
from pico_schema.revisions import BranchesAndTags

COMMIT = "a" * 40
HOSTILE = {
    "nothing": b"",
    "half of it": b"{",
    "null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "a key twice": b'{"branches": [], "branches": [], "tags": []}',
    "5,000 digits": b'{"branches": [], "tags": [], "x": ' + b"9" * 5000 + b"}",
    "nested too deeply": b'{"branches": ' + b"[" * 200_000 + b"]" * 200_000 + b', "tags": []}',
    "half a pair": b'{"branches": [], "tags": [], "x": "\\ud800"}',
    "not UTF-8": b'{"branches": [], "tags": [], "x": "\xff"}',
    "a number": b'{"branches": [{"name": 3, "targetCommit": "' + b"a" * 40 + b'"}], "tags": []}',
    "no commit": b'{"branches": [{"name": "main", "targetCommit": null}], "tags": []}',
}


class _Answering(HubClient):
    """A client that gets the same answer to everything."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("org/name", timeout=1)
        self.answer = answer

    def _get(self, *_: object, **__: object) -> bytes:
        return self.answer


def each(contents):
    return pytest.mark.parametrize("content", contents.values(), ids=contents.keys())


@each(HOSTILE)
def test_a_listing_that_is_none_is_one_sentence(content):
    with pytest.raises(DataError, match=r"^the Hub's list of branches and tags of org/name is damaged: try again$"):
        _Answering(content).refs()
    with pytest.raises(DataError, match=r"^the Hub's list of the files of org/name is damaged: try again$"):
        parse_files(_Answering(content).listing(COMMIT), where="org/name")


@each(HOSTILE)
def test_a_listing_that_was_kept_is_read_as_one_that_comes(content, tmp_path):
    known = KnownRefs(tmp_path, _Answering(b""), offline=True)
    known._folder.mkdir(parents=True)
    (known._folder / "refs.json").write_bytes(content)
    with pytest.raises(StorageError, match="was never listed on this machine"):
        known.refs()


@each({name: content for name, content in HOSTILE.items() if name not in ("a number", "no commit")})
def test_pins_that_cannot_be_read_are_none(content, tmp_path):
    known = KnownRefs(tmp_path, _Answering(b""), offline=True)
    known._folder.mkdir(parents=True)
    (known._folder / "pins.json").write_bytes(content)
    known.pin("demo-step-1", COMMIT)
    assert json.loads((known._folder / "pins.json").read_bytes()) == {"demo-step-1": COMMIT}
    with pytest.raises(DataError, match="was moved"):
        known.pin("demo-step-1", "b" * 40)


def test_a_listing_that_is_one_is_read():
    row = {"name": "main", "targetCommit": COMMIT, "ref": "refs/heads/main"}
    content = json.dumps({"branches": [row], "tags": [], "converts": []}).encode()
    assert parse_refs(content) == BranchesAndTags({"main": COMMIT}, {})


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1e400", "-1", "0", "1e6"])
def test_a_time_to_wait_is_a_number_of_seconds(text, monkeypatch):
    monkeypatch.setenv("PICO_HUB_TIMEOUT", text)
    with pytest.raises(UsageError, match="is no number of seconds above 0"):
        HubClient("org/name")
