"""Ranges of remote files are compared with the file's digest once it is whole; until then the row says so."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from published import REPO

from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Settings
from pico_analyze.questions.question import Question, Selection, Use
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.hub import block_cache
from pico_conformance import Fault, Hub
from pico_conformance.published import put_run
from pico_conformance.runs import write_run
from pico_schema import layout
from pico_schema.digests import sha256_file

VAL = layout.captures_file("val")
ONE = Question((Use("per"),), sites=("layers.0.attn.v",), steps=Selection("3"))
REST = Question((Use("per"),), data="gradients", steps=Selection("3"))
ALL = Question((Use("per"),), steps=Selection("3"))


@pytest.fixture
def published(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of which no file is completed for what little it lacks."""
    monkeypatch.setattr(block_cache, "REMAINDER", 0)
    run = write_run(tmp_path / "runs", steps=(3,), n_samples=400)
    put_run(hub, run, REPO)
    return run


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(out=tmp_path / "analysis", threads=1, read=ReadOptions(cache_dir=tmp_path / "cache"))


def ask(settings: Settings, *questions: Question) -> pd.DataFrame:
    return analyze([(f"hf://{REPO}@demo", question) for question in questions], settings).frame


def said(frame: pd.DataFrame) -> list[object]:
    return [json.loads(text).get("unchecked") for text in frame["provenance"]]


def values(frame: pd.DataFrame) -> pd.Series:
    return frame["value"]


@pytest.mark.parametrize("out", [True, False], ids=["table", "memory"])
def test_a_row_of_one_tensor_says_that_its_range_could_not_be_compared(
    published: Path, settings: Settings, out: bool
) -> None:
    path = published / layout.checkpoint_dir(3) / VAL
    frame = ask(settings if out else Settings(read=settings.read), ONE)
    (unchecked,) = said(frame)
    assert isinstance(unchecked, dict) and list(unchecked) == [VAL]
    content = path.read_bytes()
    for text, digest in unchecked[VAL].items():
        offset, length = map(int, text.split("+"))
        assert hashlib.sha256(content[offset : offset + length]).hexdigest() == digest
    assert json.loads(frame["provenance"][0])["inputs"] == {VAL: sha256_file(path)}
    assert values(frame).equals(values(analyze([(published, ONE)]).frame))


def test_once_the_file_is_whole_its_rows_no_longer_say_so_and_are_not_computed_again(
    published: Path, settings: Settings, hub: Hub
) -> None:
    assert said(ask(settings, ONE)) != [None]
    frame = ask(settings, ALL, REST)  # what is left of the file, and what is there already
    assert said(frame) == [None] * len(frame)
    mark = hub.log.mark()
    again = analyze([(f"hf://{REPO}@demo", question) for question in (ONE, ALL, REST)], settings)
    assert again.computed == 0 and said(again.frame) == [None] * len(again.frame)
    assert hub.log.count("/_cdn/", since=mark) == 0
    everything = analyze([(published, ALL), (published, REST)]).frame
    assert values(again.frame).equals(values(everything))


def test_rows_of_one_analysis_that_reads_the_whole_file_say_nothing(published: Path, settings: Settings) -> None:
    frame = ask(settings, ALL, REST)
    assert len(frame) > 6 and said(frame) == [None] * len(frame)
    in_memory = ask(Settings(read=ReadOptions(cache_dir=settings.out)), ALL, REST)
    assert said(in_memory) == [None] * len(frame) and values(in_memory).equals(values(frame))
    assert published


def damage(hub: Hub, run: Path) -> None:
    """One bit of the first tensor that is asked for, on its way; the header is the file's first request."""
    path = run / layout.checkpoint_dir(3) / VAL
    hub.faults.add(Fault(f"GET /_cdn/.*{sha256_file(path)}", "flip", at=0.503, skip=1))


def test_a_row_of_a_range_that_came_damaged_is_computed_again_once_that_shows(
    published: Path, settings: Settings, hub: Hub
) -> None:
    right = values(analyze([(published, ONE)]).frame)
    damage(hub, published)
    first = ask(settings, ONE)
    assert not hub.faults.pending and not values(first).equals(right)  # no one could tell
    assert said(first) != [None]
    ask(settings, ALL, REST)
    third = analyze([(f"hf://{REPO}@demo", ONE)], settings)
    assert values(third.frame).equals(right) and said(third.frame) == [None]
    table = pd.read_parquet(next(settings.out.rglob("rows.parquet")))  # type: ignore[union-attr]
    assert values(first)[0] not in set(table["value"])


@pytest.mark.parametrize("out", [True, False], ids=["table", "memory"])
def test_damage_that_shows_within_the_same_analysis_is_mended_within_it(
    published: Path, settings: Settings, hub: Hub, out: bool
) -> None:
    expected = values(analyze([(published, ALL), (published, REST)]).frame)
    damage(hub, published)
    frame = ask(settings if out else Settings(read=settings.read), ALL, REST)
    assert not hub.faults.pending
    assert values(frame).equals(expected) and said(frame) == [None] * len(frame)
