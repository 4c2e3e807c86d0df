"""Every read that fails (EIO) and every write that finds no room (ENOSPC), once and for good."""

import re
import shutil
from pathlib import Path

import pytest
from faulty_disk import FaultyDisk, on_disk
from synthetic import make_run

from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Settings
from pico_analyze.errors import StorageError
from pico_analyze.questions.question import Question, Use
from pico_analyze.stores import known_digests
from pico_analyze.table.store import PARTS

CKA = Question((Use("cka"),))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A small run, and a cache of the test's own, all under one directory."""
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_digests, "SETTLED_NS", 0)
    make_run(tmp_path / "runs", steps=(0, 1), captured=("attn.o",), splits=("val",))
    return tmp_path


def attempt(place: Path, disk: FaultyDisk | None = None):
    known_digests.known_digests.cache_clear()  # as a new process
    asked = [(place / "runs" / "demo", CKA)]
    settings = Settings(out=place / "analysis", threads=1)
    if disk is None:
        return analyze(asked, settings)
    with on_disk(disk):
        return analyze(asked, settings)


def clean(place: Path) -> None:
    for name in ("analysis", "cache"):
        shutil.rmtree(place / name, ignore_errors=True)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize("again", [False, True], ids=["first call", "second call"])
def test_a_disk_that_refuses_costs_what_was_not_done_and_is_told_of_in_one_sentence(place, kind, lasting, again):
    """The same for a call that finds the table of an earlier one."""
    expected = attempt(place).frame
    if not again:
        clean(place)
    counted = FaultyDisk(place)
    attempt(place, counted)
    n_calls, refused = counted.calls[kind], 0
    assert n_calls >= (6 if again else 12)
    for number in range(n_calls):
        clean(place)
        if again:
            attempt(place)
        disk = FaultyDisk(place, kind, number, lasting=lasting)
        try:
            frame = attempt(place, disk).frame
        except StorageError as error:
            refused += 1
            said = str(error)
            assert re.fullmatch(r"[^\n]+: .*(check the disk|choose another --out)[^\n]*", said), said
            assert str(place) in said and len(said) < 400
        else:  # of what can be done without
            assert frame.equals(expected)
        assert disk.refused > 0, (kind, number)
        assert not list((place / "analysis").rglob("*.tmp"))
        kept = len(list((place / "analysis" / "demo" / PARTS).glob("*.parquet")))
        rest = attempt(place)
        assert rest.frame.equals(expected), (kind, number)
        assert rest.reused >= kept
    assert refused > 0
