"""Parts become a table, once and whole; what was damaged, forgotten or taken away meanwhile costs no rows."""

import os
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pico_analyze.errors import DataError
from pico_analyze.table import store
from pico_analyze.table.columns import COLUMNS, Row, schema
from pico_analyze.table.rows_file import part_content, read_rows_file
from pico_analyze.table.store import CSV, PARTS, ROWS, RowStore, is_current, part_path, read_frame, write_part
from pico_schema.files import discard_unfinished


def row(step: int, value: float = 0.5, **others: object) -> Row:
    """A row of one question at a step."""
    digest = f"{step:016x}"
    return dict.fromkeys(COLUMNS) | {"run": "demo", "step": step, "value": value, "digest": digest} | others


def leave(directory: Path, name: str, *rows: Row) -> Path:
    write_part(directory, name, part_content(rows))
    return part_path(directory, name)


def opened(directory: Path, *, merge: bool = True) -> RowStore:
    return RowStore(directory, 7, merge=merge)


def merged(directory: Path, *rows: Row) -> RowStore:
    """A table with these rows."""
    table = opened(directory)
    leave(directory, "first.parquet", *rows)
    table.merge()
    return table


def parts(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / PARTS).iterdir())


def steps(frame: pd.DataFrame) -> list[int]:
    return frame["step"].tolist()


def age(directory: Path) -> None:
    """Files of a time long ago: one that is written anew is known by its own."""
    for name in (ROWS, CSV):
        os.utime(directory / name, (1, 1))


def written_anew(directory: Path) -> list[str]:
    return [name for name in (ROWS, CSV) if (directory / name).stat().st_mtime != 1]


def test_what_was_left_beside_a_table_is_merged_on_leaving(tmp_path):
    directory = tmp_path / "analysis" / "demo"
    with opened(directory) as table:
        leave(directory, "a.parquet", row(2))
        leave(directory, "b.parquet", row(1))
        assert steps(table.frame()) == [1, 2] and not (directory / ROWS).exists()
        assert len(parts(directory)) == 3  # with the mark of the command
    assert parts(directory) == []
    assert steps(read_frame(directory)) == [1, 2] and steps(pd.read_csv(directory / CSV)) == [1, 2]
    assert read_rows_file(directory / ROWS)[1]


def test_leaving_by_an_exception_merges_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), opened(tmp_path):
        leave(tmp_path, "a.parquet", row(1))
        raise KeyboardInterrupt
    assert steps(read_frame(tmp_path)) == [1] and parts(tmp_path) == []


def test_parts_of_work_that_others_share_stay(tmp_path):
    with opened(tmp_path, merge=False):
        leave(tmp_path, "a.parquet", row(1))
    assert parts(tmp_path) == ["a.parquet"] and not (tmp_path / ROWS).exists()


def test_a_directory_is_that_of_a_command_while_it_runs_and_of_no_other(tmp_path):
    with opened(tmp_path):
        assert is_current(tmp_path, 7) and not is_current(tmp_path, 8)
    assert not is_current(tmp_path, 7)


def test_the_mark_of_a_command_goes_with_its_process(tmp_path):
    with opened(tmp_path):
        discard_unfinished()  # as before `os._exit`
        assert not is_current(tmp_path, 7)
        leave(tmp_path, "a.parquet", row(1))
    assert steps(read_frame(tmp_path)) == [1]  # that the mark is gone already does not matter


def test_of_two_rows_of_one_question_the_newer_stays(tmp_path):
    merged(tmp_path, row(1, 0.1), row(2, 0.2))
    leave(tmp_path, "second.parquet", row(1, 0.3))
    leave(tmp_path, "third.parquet", row(1, 0.4))
    table = opened(tmp_path)
    assert table.frame()["value"].tolist() == [0.4, 0.2]
    table.merge()
    assert read_frame(tmp_path)["value"].tolist() == [0.4, 0.2]


def test_rows_come_in_one_order_whatever_order_they_were_computed_in(tmp_path):
    places = [(None, None), (0, None), (0, 0), (0, 1), (1, None), (10, None)]
    rows = [row(step, layer=layer, head=head, metric="cka") for layer, head in places for step in (1, 2, 10)]
    merged(tmp_path, *reversed(rows))
    frame = read_frame(tmp_path)
    assert frame["layer"].dtype == "Int64" and frame["layer"].isna().sum() == 3
    found = [tuple(None if cell is pd.NA else cell for cell in cells) for cells in frame[["layer", "head"]].to_numpy()]
    assert found == [place for place in places for _ in range(3)] and steps(frame) == [1, 2, 10] * 6


def test_a_table_without_rows_has_the_columns_and_leaves_no_file(tmp_path):
    table = opened(tmp_path)
    table.merge()
    assert not (tmp_path / ROWS).exists() and not (tmp_path / CSV).exists()
    assert table.known(["x"]) == set() and table.rows_saying("", ["x"]) == []
    assert len(table.frame()) == 0 and table.frame().columns.tolist() == schema().names


def test_rows_are_known_and_given_by_their_digests(tmp_path):
    table = merged(tmp_path, row(1), row(2))
    leave(tmp_path, "a.parquet", row(3))
    digests = [f"{step:016x}" for step in (1, 3, 4)]
    assert table.known(digests) == set(digests[:2])
    assert steps(table.frame(digests)) == [1, 3] and steps(table.frame()) == [1, 2, 3]
    assert steps(table.frame([])) == []


def test_rows_that_say_a_text_are_the_newest_of_the_digests_asked_for(tmp_path):
    said = [row(step, provenance='{"unchecked": {}}') for step in (1, 2, 3)]
    table = merged(tmp_path, *said, row(4, provenance="{}"), row(5))
    digests = [f"{step:016x}" for step in (1, 2, 4, 5)]
    assert table.rows_saying("unchecked", digests) == said[:2]
    assert table.rows_saying("unchecked", digests[2:]) == []
    leave(tmp_path, "a.parquet", row(1, provenance="{}"))
    assert table.rows_saying("unchecked", digests) == said[1:2]


@pytest.mark.parametrize("known", [False, True])
def test_a_table_that_is_up_to_date_is_left_as_it_is(tmp_path, known):
    table = merged(tmp_path, row(1))
    for one in (table, opened(tmp_path)):
        age(tmp_path)
        if known:
            assert one.known([row(1)["digest"]])
        one.merge()
        assert written_anew(tmp_path) == []


def test_a_csv_that_is_gone_is_made_again(tmp_path):
    table = merged(tmp_path, row(1))
    content = (tmp_path / CSV).read_bytes()
    (tmp_path / CSV).unlink()
    table.merge()
    assert (tmp_path / CSV).read_bytes() == content


def test_a_table_of_before_checksums_has_one_when_it_was_read_and_merged_and_is_then_left(tmp_path):
    merged(tmp_path, row(1))
    table, _ = read_rows_file(tmp_path / ROWS)
    pq.write_table(table.replace_schema_metadata({"pico_analyze.columns": "1"}), tmp_path / ROWS)
    again = opened(tmp_path)
    assert again.known([row(1)["digest"]]) and not read_rows_file(tmp_path / ROWS)[1]
    again.merge()
    assert read_rows_file(tmp_path / ROWS)[1]
    age(tmp_path)
    again.merge()
    assert written_anew(tmp_path) == []


def test_a_damaged_part_is_put_aside_and_its_rows_are_not_known(tmp_path):
    table = opened(tmp_path)
    leave(tmp_path, "a.parquet", row(1))
    damaged = leave(tmp_path, "b.parquet", row(2))
    content = damaged.read_bytes()[:-1]
    damaged.write_bytes(content)
    for refused in (table.frame, table.merge):
        with pytest.raises(DataError, match=r"b\.parquet: it is not as it was written"):
            refused()
    assert damaged.read_bytes() == content and table.put_aside == []
    assert table.known([row(1)["digest"], row(2)["digest"]]) == {row(1)["digest"]}
    assert [path.name for path in table.put_aside] == ["b.parquet.damaged"]
    assert table.put_aside[0].read_bytes() == content and not damaged.exists()
    table.merge()
    assert steps(read_frame(tmp_path)) == [1] and parts(tmp_path) == ["b.parquet.damaged"]


def test_a_part_that_another_took_away_while_it_was_merged_is_no_failure(tmp_path, monkeypatch):
    part, real = leave_in(tmp_path), store.content_of

    def taken_away(*args, **options):
        part.unlink()
        return real(*args, **options)

    monkeypatch.setattr(store, "content_of", taken_away)
    opened(tmp_path).merge()
    assert steps(read_frame(tmp_path)) == [1]


def leave_in(directory: Path) -> Path:
    opened(directory)
    return leave(directory, "a.parquet", row(1))


def test_a_mark_is_forgotten_after_a_week_to_the_second(tmp_path, monkeypatch):
    table, now, week = opened(tmp_path), 1_700_000_000, 7 * 24 * 3600
    for name, seconds in {"1": 0, "2": week, "3": week + 1, "4": 30 * week}.items():
        mark = tmp_path / PARTS / f".command-{name}"
        mark.touch()
        os.utime(mark, (now - seconds, now - seconds))
    monkeypatch.setattr(time, "time", lambda: float(now))
    table.merge()
    assert parts(tmp_path) == [".command-1", ".command-2"]


def test_what_can_be_computed_again_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    directory = store.directory_for(tmp_path, "demo", "a run", "runs/demo")
    merged(directory, row(1))
    assert waited == [] and (directory / ROWS).exists()
