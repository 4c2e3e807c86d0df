"""What the disk refuses is told of in one sentence, with the file and what the system says."""

import errno
import os
from pathlib import Path

import pytest

from pico_analyze.errors import DataError, StorageError
from pico_analyze.table.columns import COLUMNS
from pico_analyze.table.rows_file import part_content
from pico_analyze.table.store import PARTS, ROWS, RowStore, part_path, write_part


def refusal(call) -> str:
    with pytest.raises(StorageError) as error:
        call()
    return str(error.value)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / "demo"
    assert refusal(lambda: RowStore(directory, 7, merge=True)) == (
        f"{directory}: cannot be made ({os.strerror(errno.ENOTDIR)}): choose another --out"
    )


def test_a_part_that_cannot_be_written(tmp_path):
    path = tmp_path / PARTS / "a.parquet"
    assert refusal(lambda: write_part(tmp_path, "a.parquet", b"")) == (
        f"{path}: cannot be written ({os.strerror(errno.ENOENT)}): check the disk"
    )


def test_a_failure_without_a_number_is_told_in_its_own_words(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("the disk is on fire")

    table = RowStore(tmp_path, 7, merge=True)
    monkeypatch.setattr(Path, "touch", refuse)
    assert refusal(table.__enter__) == f"{tmp_path}: cannot be written (the disk is on fire): check the disk"


def test_a_table_that_cannot_be_replaced(tmp_path):
    table = RowStore(tmp_path, 7, merge=True)
    (tmp_path / ROWS).mkdir()
    write_part(tmp_path, "a.parquet", part_content([dict.fromkeys(COLUMNS)]))
    assert refusal(table.merge).startswith(f"{tmp_path / ROWS}: cannot be written (")
    assert part_path(tmp_path, "a.parquet").exists()


def test_a_lock_that_cannot_be_made(tmp_path):
    table = RowStore(tmp_path, 7, merge=True)
    (tmp_path / ".lock").mkdir()
    assert refusal(table.merge) == (
        f"{tmp_path}: cannot be written ({os.strerror(errno.EISDIR)}): choose another --out"
    )


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def missing(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    table = RowStore(tmp_path, 7, merge=True)
    monkeypatch.setattr(fcntl, "flock", missing)
    assert refusal(table.merge) == f"{tmp_path}: its file system has no locks: choose another --out"


def test_the_lock_is_given_back_after_a_failure(tmp_path):
    table = RowStore(tmp_path, 7, merge=True)
    (tmp_path / ROWS).write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(DataError, match="it is not as it was written"):
            table.known([])
    (tmp_path / ROWS).unlink()
    assert table.known([]) == set()
