"""JSON files in a run's directory and in the caches: whatever stands in them gives a value, a default or a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from support.publishing import REPO

from pico_conformance.runs import write_run
from pico_schema import layout
from pico_train.checkpoint import losses, metrics_log, moving, set_aside
from pico_train.checkpoint.lock import LOCK_FILE, RunLock
from pico_train.data.prepare.lines import json_records
from pico_train.data.prepare.records import TextLayout
from pico_train.data.shards import footers
from pico_train.data.sources import hub
from pico_train.errors import CheckpointError
from pico_train.json_file import read_json, read_model
from pico_train.publish.queue import Halt, Queue, halted
from pico_train.publish.revision import lines_before

AMBIGUOUS = {
    "a key twice": b'{"step": 1, "step": 2, "text": "a"}',
    "a key twice, deeper": b'{"step": 1, "x": [{"a": 1, "a": 2}]}',
    "5,000 digits": b'{"step": 1, "x": ' + b"9" * 5000 + b"}",
    "nested too deeply": b'{"step": 1, "x": ' + b"[" * 200_000,
    "nested too deeply and closed": b'{"step": 1, "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "not UTF-8": b'{"step": 1, "x": "\xff"}',
    "half a pair": b'{"step": 1, "x": "\\ud800"}',
    "half of it": b'{"step": 1',
    "nothing": b"",
}
OTHERS = {
    "beyond 64 bits": b'{"step": 1000000000000000000000000000000}',
    "not finite": b'{"step": 1e400}',
    "NaN": b'{"step": NaN}',
    "null": b"null",
    "a number": b"3",
    "a text": b'"step"',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "another type": b'{"step": "1", "version": "1", "files": {"a": ["x", 3]}, "accepted": {}, "pid": [], "host": 1}',
    "a list of lists": b"[[1, 2, 3, 4], [[]]]",
}
HOSTILE = AMBIGUOUS | OTHERS


class Point(BaseModel):
    step: int


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path, steps=(0, 1), max_steps=9)


def each(contents: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("content", contents.values(), ids=contents.keys())


@each(AMBIGUOUS)
def test_what_could_be_understood_in_two_ways_is_not_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]+"):
        read_json(path)


@each(HOSTILE)
def test_a_model_has_the_types_that_it_declares(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read_model(path, Point)
    path.write_bytes(b'{"step": 3}')
    assert read_model(path, Point) == Point(step=3)


def test_a_file_larger_than_its_bound_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"[1]" + b" " * 8)
    assert read_json(path, most=11) == [1]
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_json(path, most=10)


@each(HOSTILE)
def test_records_of_what_is_published_are_begun_anew(content: bytes, run: Path) -> None:
    queue = Queue(run, REPO)
    queue.save(queue.record(1).model_copy(update={"state": "done"}))
    (queue.root / "step-00000001.json").write_bytes(content)
    (queue.root / "commits.json").write_bytes(content)
    (run / "publish" / "halt.json").write_bytes(content)
    assert queue.record(1).state == "pending"
    assert queue.seconds_until_commit(1) == 0
    assert halted(run) is None


def test_a_record_that_says_two_things_is_not_taken_for_done(run: Path) -> None:
    queue = Queue(run, REPO)
    queue.save(queue.record(1).model_copy(update={"state": "done"}))
    path = queue.root / "step-00000001.json"
    path.write_text(path.read_text().replace('"state":"done"', '"state":"refused","state":"done"'))
    assert queue.record(1).state == "pending"
    (run / "publish" / "halt.json").write_text(Halt(step=10**6, reason="nan").model_dump_json())
    assert halted(run) is not None


@each(HOSTILE)
def test_a_lock_says_another_process(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    assert RunLock(tmp_path).holder() == "another process"


@each(HOSTILE)
def test_a_manifest_that_cannot_be_read_counts_no_tokens(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    assert moving._tokens(tmp_path / "manifest.json") == 0


@each({name: content for name, content in HOSTILE.items() if name != "an empty object"})
@pytest.mark.parametrize(
    ("file", "read"),
    [
        (f"checkpoints/{layout.SET_ASIDE}/0001/{layout.SET_ASIDE_NOTE}", set_aside.listed),
        (losses.ACCEPTED, losses.accepted),
    ],
    ids=["note", "accepted"],
)
def test_what_a_person_decided_is_not_guessed(
    file: str, read: Callable[[Path], Any], content: bytes, run: Path
) -> None:
    (run / file).parent.mkdir(parents=True, exist_ok=True)
    (run / file).write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read: ") as told:
        read(run)
    assert "\n" not in str(told.value)


@each(HOSTILE)
def test_what_a_cache_holds_is_asked_for_again(content: bytes, tmp_path: Path) -> None:
    commit = "a" * 40
    (tmp_path / f"{commit}.json").write_bytes(content)
    assert hub._remembered(tmp_path, commit) is None
    assert footers._remembered(tmp_path / f"{commit}.json", 2) is None


def test_what_a_cache_holds_is_used(tmp_path: Path) -> None:
    commit = "a" * 40
    (tmp_path / f"{commit}.json").write_text(
        json.dumps({"repo": "o/n", "commit": commit, "files": {"a": [3, None], "b": [4, "c" * 64]}})
    )
    found = hub._remembered(tmp_path, commit)
    assert found == hub.Listing("o/n", commit, {"a": (3, None), "b": (4, "c" * 64)})
    (tmp_path / "index.json").write_text(json.dumps([[5, "columns", "digest"]]))
    assert footers._remembered(tmp_path / "index.json", 1) == [footers.Footer(5, "columns", "digest")]


@each(HOSTILE)
def test_a_line_of_the_log_that_cannot_be_understood_is_none(content: bytes) -> None:
    assert metrics_log.parse_line(content + b"\n") is None
    log = b'{"step": 0}\n' + content + b'\n{"step": 1}\n{"step": 2}\n'
    assert lines_before(log, 2) == b'{"step": 0}\n{"step": 1}\n'


@pytest.mark.parametrize(
    "name", ["a key twice", "a key twice, deeper", "5,000 digits", "nested too deeply", "half of it"]
)
def test_a_record_of_a_text_that_cannot_be_understood_is_refused_by_its_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "first"}\n' + AMBIGUOUS[name] + b"\n")
    first, second = json_records(path, TextLayout("text", "source", "refuse", False, "refuse"))
    assert (first.problem, first.fields) == ("", {"text": "first"})
    assert second.where == f"{path}, line 2" and second.problem.startswith("not JSON")


def test_a_text_that_is_there_twice_is_not_half_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one", "source": "x", "text": "two"}\n')
    (record,) = json_records(path, TextLayout("text", "source", "refuse", False, "refuse"))
    assert record.problem == "not JSON (key 'text' is there twice)"
