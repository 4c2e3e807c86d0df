"""A file's bytes are given out only when all of them were compared with its digest, which is done once per content."""

import hashlib
import multiprocessing
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pico_analyze.errors import DataError, StorageError
from pico_analyze.stores import checked_file, known_digests
from pico_analyze.stores.checked_file import CheckedFile
from pico_analyze.stores.known_digests import KnownDigests, key_of, state_of

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()
OLD = 1_600_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own; `again()` is what another process remembers."""
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    # Files of a test are as young as the test; how long one must have been left alone is tested by itself below.
    monkeypatch.setattr(known_digests, "SETTLED_NS", 0)

    def again():
        known_digests.known_digests.cache_clear()

    again()
    yield again
    again()


@pytest.fixture
def hashed(monkeypatch):
    """How many files are read through."""
    real, counted = hashlib.file_digest, []
    monkeypatch.setattr(checked_file.hashlib, "file_digest", lambda *words: counted.append(1) or real(*words))
    return counted


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "capture"
    file.write_bytes(CONTENT)
    return file


def flip(path: Path, at: int = 5000) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_a_sound_file_is_read_through_once_whatever_is_read_of_it(path, cache, hashed):
    file = CheckedFile(path, SHA)
    assert file.read(10, 100) == CONTENT[10:110] and file.read(0, len(CONTENT)) == CONTENT
    assert CheckedFile(path, SHA).read(5, 5) == CONTENT[5:10]
    cache()
    assert CheckedFile(path, SHA).read(5, 5) == CONTENT[5:10]
    assert len(hashed) == 1


def test_one_bit_anywhere_is_enough_to_refuse_the_file_by_name(path):
    flip(path)
    with pytest.raises(DataError, match=rf"{path}: it does not have the content that was sealed \(sha256 .*manifest"):
        CheckedFile(path, SHA).read(0, 4)  # the bit is elsewhere


def test_a_file_that_is_damaged_after_it_was_found_sound_is_refused_and_given_out_when_it_is_mended(path):
    file = CheckedFile(path, SHA)
    file.read(0, 4)
    flip(path)
    with pytest.raises(DataError, match="content that was sealed"):
        file.read(0, 4)
    path.write_bytes(CONTENT)
    assert file.read(0, 4) == CONTENT[:4]


def test_a_file_put_in_its_place_with_the_same_times_and_size_is_read_through(path, hashed):
    """As rsync and cp -p leave it: the inode is another one, and so is the time at which that was changed."""
    CheckedFile(path, SHA).read(0, 4)
    times = path.stat()
    other = path.with_name("other")
    shutil.copy(path, other)
    flip(other)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (times.st_mtime_ns, times.st_size)
    with pytest.raises(DataError, match="content that was sealed"):
        CheckedFile(path, SHA).read(0, 4)
    assert len(hashed) == 2


@pytest.mark.parametrize("fact", ["st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"])
def test_each_fact_about_a_file_stands_for_its_content_by_itself(path, fact):
    facts = {name: getattr(path.stat(), name) for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")}
    one, other = (SimpleNamespace(**facts), SimpleNamespace(**facts | {fact: facts[fact] + 1}))
    assert key_of(path, state_of(one)) != key_of(path, state_of(other))
    assert key_of(path, state_of(one)) != key_of(path.with_name("other"), state_of(one))


def test_a_file_that_changes_while_it_is_read_is_refused(path, monkeypatch):
    real = checked_file._range

    def in_the_meantime(*words):
        flip(path)
        return real(*words)

    monkeypatch.setattr(checked_file, "_range", in_the_meantime)
    with pytest.raises(DataError, match="it was changed during the analysis"):
        CheckedFile(path, SHA).read(0, 4)


def test_without_a_manifest_the_digest_is_that_of_the_content_and_stays_for_the_analysis(path):
    file = CheckedFile(path)
    assert file.sha256 == SHA and file.read(1, 3) == CONTENT[1:4]
    flip(path)
    with pytest.raises(DataError, match="it was changed during the analysis"):
        file.read(1, 3)
    assert CheckedFile(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_was_peeked_into_must_be_what_is_read(path):
    """A header of a damaged file would give the wrong places in the mended one."""
    flip(path)
    file = CheckedFile(path, SHA)
    file.peek(0, 8)
    path.write_bytes(CONTENT)
    with pytest.raises(DataError, match="it was changed during the analysis"):
        file.read(0, 4)


def test_a_file_that_changed_a_moment_ago_is_remembered_in_this_process_alone(path, cache, hashed, monkeypatch):
    monkeypatch.setattr(known_digests, "SETTLED_NS", 60_000_000_000)
    for _ in range(2):
        CheckedFile(path, SHA).read(0, 4)
    assert len(hashed) == 1
    cache()
    CheckedFile(path, SHA).read(0, 4)
    assert len(hashed) == 2


def test_nothing_is_refused_because_what_is_remembered_is_damaged(path, cache, tmp_path):
    CheckedFile(path, SHA).read(0, 4)
    remembered = tmp_path / "cache" / "digests" / "sha256.txt"
    for damage in (bytes(reversed(remembered.read_bytes())), b"\xff\n" * 50, remembered.read_bytes()[:-9], b""):
        remembered.write_bytes(damage)
        cache()
        assert CheckedFile(path, SHA).read(0, 4) == CONTENT[:4]
    state = state_of(path.stat())
    remembered.write_text(f"{key_of(path, state)} {'0' * 64}\n")
    cache()
    assert CheckedFile(path, SHA).read(0, 4) == CONTENT[:4]


def test_a_cache_that_cannot_be_written_costs_time_alone_and_says_why(path, tmp_path):
    (tmp_path / "cache").write_text("a file where a directory is needed")
    assert CheckedFile(path, SHA).read(0, 4) == CONTENT[:4]
    known = known_digests.known_digests(tmp_path / "cache")
    assert isinstance(known.refused, OSError)


def test_what_is_remembered_has_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(known_digests, "LIMIT", 98 * 100)
    monkeypatch.setattr(known_digests, "SETTLED_NS", 0)
    state = (1, 2, 3, OLD, OLD)
    for number in range(300):
        KnownDigests(tmp_path).keep(f"{number:032x}", f"{number:064x}", state)
        KnownDigests(tmp_path).find("0" * 32)
    assert (tmp_path / "sha256.txt").stat().st_size <= 98 * 101
    known = KnownDigests(tmp_path)
    assert known.find(f"{299:032x}") == f"{299:064x}" and known.find(f"{0:032x}") is None


def _read(path, started, counted):
    real = hashlib.file_digest

    def slow(*words):
        with counted.get_lock():
            counted.value += 1
        return real(*words)

    checked_file.hashlib.file_digest = slow
    started.wait(30)
    assert CheckedFile(path, SHA).read(0, 4) == CONTENT[:4]


def test_processes_that_want_the_same_file_read_it_through_once(path):
    context = multiprocessing.get_context("fork")
    counted, started = context.Value("i", 0), context.Barrier(3)
    workers = [context.Process(target=_read, args=(path, started, counted)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert counted.value == 1


@pytest.mark.parametrize("kind", ["missing", "directory", "short", "disk"])
def test_what_cannot_be_read_is_told_in_one_sentence(tmp_path, path, kind, monkeypatch):
    if kind == "missing":
        with pytest.raises(DataError, match="nothing: it is missing"):
            CheckedFile(tmp_path / "nothing", SHA).read(0, 1)
    elif kind == "directory":
        with pytest.raises(DataError, match="a file is needed, and this is a directory"):
            CheckedFile(tmp_path, SHA).read(0, 1)
    elif kind == "short":
        with pytest.raises(DataError, match=f"it ends after {len(CONTENT)} bytes: the file is truncated"):
            CheckedFile(path, SHA).read(len(CONTENT) - 4, 5)
    else:

        def broken(*_):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(checked_file.hashlib, "file_digest", broken)
        with pytest.raises(StorageError, match=r"reading failed \(Input/output error\): check the disk"):
            CheckedFile(path, SHA).read(0, 1)
