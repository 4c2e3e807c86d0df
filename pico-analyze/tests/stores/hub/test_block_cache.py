"""The cache of pieces by itself: where it lies, and what it does where locks or writing fail."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from pico_analyze.stores.hub import client
from pico_analyze.stores.hub.block_cache import BlockCache, default_cache

CONTENT = random.Random(0).randbytes(200_000)
KEY = hashlib.sha256(CONTENT).hexdigest()


def part(offset: int, length: int) -> bytes:
    return CONTENT[offset : offset + length]


def nothing(offset: int, length: int) -> bytes:
    raise AssertionError(f"asked for {length} bytes from {offset}")


def test_the_cache_lies_where_the_platform_or_pico_cache_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PICO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == user_cache_path("pico") / "hub"
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine" / "hub"


def test_a_lock_that_cannot_be_had_is_gone_without(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10**6)
    (tmp_path / KEY[:2] / KEY / ".lock").mkdir(parents=True)  # so that it cannot be opened as a file
    assert cache.read(KEY, len(CONTENT), 10, 1000, part) == CONTENT[10:1010]
    assert cache.read(KEY, len(CONTENT), 10, 1000, nothing) == CONTENT[10:1010]


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(38, "no flock"), PermissionError(13, "no")])
def test_a_file_system_without_locks_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("pico_analyze.stores.hub.block_cache.FileLock.acquire", refuse)
    cache = BlockCache(tmp_path, 10**6)
    assert cache.read(KEY, len(CONTENT), 0, len(CONTENT), part) == CONTENT
    assert cache.read(KEY, len(CONTENT), 0, len(CONTENT), nothing) == CONTENT


def test_what_is_in_a_cache_that_cannot_be_written_is_read_and_the_rest_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BlockCache(tmp_path, 10**6).read(KEY, len(CONTENT), 0, 1000, part)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("os.utime", "pathlib.Path.mkdir", "pathlib.Path.unlink", "pathlib.Path.replace"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("pico_analyze.stores.hub.block_cache.FileLock.acquire", refuse)
    cache = BlockCache(tmp_path, 10**6)
    assert cache.read(KEY, len(CONTENT), 0, 1000, nothing) == CONTENT[:1000]
    assert cache.read(KEY, len(CONTENT), 500, 1000, part) == CONTENT[500:1500]
    other = hashlib.sha256(CONTENT[:10]).hexdigest()
    assert cache.read(other, 10, 0, 10, part) == CONTENT[:10]


def _read(root: Path, fetched: object, barrier: object) -> None:
    def slow(offset: int, length: int) -> bytes:
        with fetched.get_lock():  # type: ignore[attr-defined]
            fetched.value += 1  # type: ignore[attr-defined]
        return part(offset, length)

    barrier.wait(30)  # type: ignore[attr-defined]
    assert BlockCache(root, 10**6).read(KEY, len(CONTENT), 0, len(CONTENT), slow) == CONTENT


def test_processes_that_want_the_same_piece_fetch_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    fetched, barrier = context.Value("i", 0), context.Barrier(3)
    workers = [context.Process(target=_read, args=(tmp_path, fetched, barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert fetched.value == 1


def test_attempts_wait_twice_as_long_each_time_and_as_long_as_the_hub_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.5 s, doubled, times a number from one half to one; Retry-After, up to two minutes, if that is longer."""
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    again = iter([client._TryAgain("busy"), client._TryAgain("busy", 7.0), client._TryAgain("busy", 1e6)] * 2)

    def attempt() -> bytes:
        raise next(again)

    with pytest.raises(client.StorageError, match="/x: busy, 6 times: check the network, try later"):
        client.HubClient("org/name")._repeat(attempt, "https://hub/x?secret")
    assert len(waits) == client.ATTEMPTS - 1
    assert 0.25 <= waits[0] <= 0.5
    assert waits[1] == 7.0
    assert waits[2] == 120.0
    assert 2.0 <= waits[3] <= 4.0
    assert 7.0 <= waits[4] <= 8.0


def test_a_success_or_another_error_ends_the_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    answers = iter([client._TryAgain("busy"), b"it"])

    def attempt() -> bytes:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert client.HubClient("org/name")._repeat(attempt, "https://hub/x") == b"it"

    def missing() -> bytes:
        raise client.MissingError

    with pytest.raises(client.MissingError):
        client.HubClient("org/name")._repeat(missing, "https://hub/x")
