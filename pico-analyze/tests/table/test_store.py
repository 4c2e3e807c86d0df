"""Where the table of a run lies, and whose it is."""

import errno
import os
import re

import pytest

from pico_analyze.errors import StorageError
from pico_analyze.table.columns import digest
from pico_analyze.table.store import SOURCE, directory_for


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"identity": 7}', b'{"identity": ' + b"[" * 100_000, b"\xff"])
def test_a_directory_that_does_not_say_whose_table_it_holds_is_taken_and_says_so_again(tmp_path, content):
    directory = directory_for(tmp_path, "run", "a run", "runs/run")
    said = (directory / SOURCE).read_bytes()
    (directory / SOURCE).write_bytes(content)
    assert directory_for(tmp_path, "run", "a run", "runs/run") == directory
    assert (directory / SOURCE).read_bytes() == said


def test_a_table_lies_under_the_name_of_its_run_with_a_note_whose_it_is(tmp_path):
    directory = directory_for(tmp_path / "new" / "analysis", "run", "a run", "runs/run")
    assert directory == tmp_path / "new" / "analysis" / "run"
    assert (directory / SOURCE).read_text() == '{"identity": "a run", "location": "runs/run", "run": "run"}\n'


def test_a_note_that_is_right_is_not_written_again(tmp_path):
    directory = directory_for(tmp_path, "run", "a run", "runs/run")
    os.utime(directory / SOURCE, (1, 1))
    assert directory_for(tmp_path, "run", "a run", "runs/run") == directory
    assert (directory / SOURCE).stat().st_mtime == 1


def test_a_run_that_moved_keeps_its_table_and_the_note_says_where_it_is_now(tmp_path):
    directory = directory_for(tmp_path, "run", "a run", "runs/run")
    (directory / "rows.parquet").touch()
    assert directory_for(tmp_path, "run", "a run", "elsewhere/run") == directory
    assert '"location": "elsewhere/run"' in (directory / SOURCE).read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and (directory / "rows.parquet").exists()


def test_another_run_of_the_same_name_has_a_directory_of_its_own_each_time(tmp_path):
    first = directory_for(tmp_path, "run", "a run", "runs/run")
    said = (first / SOURCE).read_bytes()
    for _ in range(2):
        second = directory_for(tmp_path, "run", "another", "elsewhere/run")
        assert second == tmp_path / f"run-{digest('another')[:8]}"
        assert '"identity": "another"' in (second / SOURCE).read_text()
    assert (first / SOURCE).read_bytes() == said
    assert directory_for(tmp_path, "run", "a run", "runs/run") == first


def test_a_run_made_anew_in_the_same_place_has_the_name_and_the_table_before_is_moved_aside(tmp_path):
    directory = directory_for(tmp_path, "run", "a run", "runs/run")
    (directory / "rows.parquet").touch()
    assert directory_for(tmp_path, "run", "made anew", "runs/run") == directory
    aside = tmp_path / f"run-{digest('a run')[:8]}"
    assert sorted(tmp_path.iterdir()) == sorted([directory, aside])
    assert (aside / "rows.parquet").exists() and not (directory / "rows.parquet").exists()
    assert '"identity": "a run"' in (aside / SOURCE).read_text()
    assert '"identity": "made anew"' in (directory / SOURCE).read_text()


def test_a_place_where_nothing_can_be_made_is_named_with_what_the_system_says(tmp_path):
    (tmp_path / "file").touch()
    says = f"{tmp_path / 'file' / 'run'}: cannot be written ({os.strerror(errno.ENOTDIR)}): choose another --out"
    with pytest.raises(StorageError, match=f"^{re.escape(says)}$"):
        directory_for(tmp_path / "file", "run", "a run", "runs/run")
