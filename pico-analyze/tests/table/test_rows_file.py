"""A file of rows is read as it was written, or refused."""

import errno
import hashlib
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pico_analyze.errors import DataError, StorageError
from pico_analyze.table.columns import COLUMNS, CORE, schema
from pico_analyze.table.rows_file import content_of, part_content, read_rows_file, rows_of

ROWS = [
    dict.fromkeys(COLUMNS)
    | {"run": "demo", "step": step, "metric": "cka", "value": 1 / (step + 1), "digest": f"{step:016x}"}
    for step in range(40)
]
TABLE = pa.Table.from_pylist(ROWS, schema=schema())
FLIPS = 300


@pytest.mark.parametrize("content", [content_of(TABLE, compression="zstd"), part_content(ROWS)], ids=["table", "part"])
class TestEveryBit:
    def test_what_was_written_is_read(self, content):
        assert rows_of(content, where="x").equals(TABLE)

    def test_any_program_reads_it(self, content):
        assert pq.read_table(pa.BufferReader(content)).equals(TABLE)

    def test_no_flipped_bit_is_read_as_rows(self, content):
        """The 300 of the report: 49 of them were read as other rows."""
        draw = random.Random(11)
        for _ in range(FLIPS):
            damaged = bytearray(content)
            at = draw.randrange(8 * len(damaged))
            damaged[at // 8] ^= 1 << at % 8
            with pytest.raises(DataError, match=r"^a/rows\.parquet: it is not as it was written \(.*\): move it away"):
                rows_of(bytes(damaged), where="a/rows.parquet")

    def test_no_bit_of_the_checksum_and_of_what_stands_around_it_makes_a_table_without_one_of_it(self, content):
        at = content.rindex(b"pico_analyze.checksum")
        for bit in range(8 * (at - 8), 8 * len(content)):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(DataError, match="it is not as it was written"):
                rows_of(bytes(damaged), where="x")

    def test_a_file_that_was_cut_or_is_longer_is_refused(self, content):
        for damaged in (b"", content[:-1], content[: len(content) // 2], content[8:], content + b"\0", content * 2):
            with pytest.raises(DataError, match="it is not as it was written"):
                rows_of(damaged, where="x")


def test_the_checksum_is_that_of_the_file_with_64_zeros_in_its_place():
    content = part_content(ROWS)
    at = content.rindex(b"zeros here: ") + len(b"zeros here: ")
    zeros = content[:at] + b"0" * 64 + content[at + 64 :]
    assert content[at : at + 64].decode() == hashlib.sha256(zeros).hexdigest()


def test_a_table_is_small_and_has_statistics_and_a_part_is_made_quickly():
    kinds = [(content_of(TABLE, compression="zstd"), "ZSTD", True), (part_content(ROWS), "UNCOMPRESSED", False)]
    for content, compression, has in kinds:
        column = pq.ParquetFile(pa.BufferReader(content)).metadata.row_group(0).column(TABLE.column_names.index("step"))
        assert (column.compression, column.is_stats_set) == (compression, has)


def old(table: pa.Table, version: bytes | None = b"1") -> bytes:
    """A file as versions before wrote it."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"pico_analyze.columns": version} if version else None), sink)
    return sink.getvalue().to_pybytes()


def test_a_table_of_before_checksums_is_read_and_known_to_have_none(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(old(TABLE))
    assert read_rows_file(path) == (TABLE, False)
    path.write_bytes(content_of(TABLE, compression="zstd"))
    assert read_rows_file(path) == (TABLE, True)


def test_a_table_that_must_have_a_checksum_and_has_none_is_refused():
    with pytest.raises(DataError, match="it has lost its checksum"):
        rows_of(old(TABLE, b"2"), where="x")


def test_a_column_of_former_versions_has_its_name_of_now():
    names = ["unit" if name == "digest" else name for name in COLUMNS]
    assert rows_of(old(TABLE.rename_columns(names)), where="x").equals(TABLE)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("step", ["three"] * 40),
        ("step", [2**63 + 1] * 40),
        ("step", [[1]] * 40),
        ("value", [{"a": 1}] * 40),
        ("value", [b"\xff"] * 40),
        ("run", [[["x"]]] * 40),
        ("layer", [1.5] * 40),
    ],
)
def test_columns_of_another_type_are_refused_in_one_sentence(name, values):
    kind = pa.uint64() if values[0] == 2**63 + 1 else None
    table = TABLE.set_column(TABLE.column_names.index(name), name, pa.array(values, kind))
    with pytest.raises(DataError, match=r"^x: it is not as it was written \([^\n]*\): move it away") as refused:
        rows_of(old(table), where="x")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("three\nand four", "Failed to parse string: 'three"),
        ("y" * 500, "Failed to parse string: '" + "y" * (120 - len("Failed to parse string: '"))),
    ],
    ids=["two lines", "long"],
)
def test_of_what_is_wrong_with_a_column_one_line_of_120_letters_is_said(text, said):
    table = TABLE.set_column(1, "step", pa.array([text] * 40))
    with pytest.raises(DataError) as error:
        rows_of(old(table), where="x")
    assert str(error.value) == (
        f"x: it is not as it was written ({said}): move it away, and the same command computes its rows again"
    )


def test_columns_that_are_missing_or_there_twice_are_refused():
    with pytest.raises(DataError, match="no column 'value'"):
        rows_of(old(TABLE.drop_columns(["value"])), where="x")
    with pytest.raises(DataError, match="no column 'metric'"):
        rows_of(old(TABLE.drop_columns(["value", "metric"])), where="x")
    twice = pa.table([*TABLE.columns, TABLE["value"]], names=[*TABLE.column_names, "value"])
    with pytest.raises(DataError, match="it is not as it was written"):
        rows_of(old(twice), where="x")
    assert set(CORE) <= set(TABLE.column_names)


def test_a_disk_that_refuses_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError) as error:
        read_rows_file(tmp_path)  # a directory
    assert str(error.value) == f"{tmp_path}: reading failed ({os.strerror(errno.EISDIR)}): check the disk"
