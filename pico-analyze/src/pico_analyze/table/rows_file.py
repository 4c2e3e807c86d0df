"""A file of rows: Parquet that any program can read, with a checksum over all of it in its last lines.

The checksum (`checksum.py`) stands in the file's own key-value metadata. What does not have it is refused, never read
as other rows. Tables of versions before had none; they are read once, and have one when they are written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pico_analyze.errors import DataError, StorageError
from pico_analyze.table.checksum import PLACE, is_sound, sealed
from pico_analyze.table.columns import CORE, VERSION, Row, schema
from pico_schema import strict_json
from pico_schema.files import NotRegularError, read_regular

if TYPE_CHECKING:
    import pyarrow

_NAME = "pico_analyze.checksum"
_FORMER_NAMES = {"unit": "digest"}
"""Columns of tables that earlier versions wrote."""

Compression = Literal["none", "zstd"]


def content_of(table: pyarrow.Table, *, compression: Compression) -> bytes:
    """A table as a file with its checksum, in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    # Statistics take a third of the time of a small file, and as much of its size.
    with pq.ParquetWriter(sink, table.schema, compression=compression, write_statistics=compression != "none") as file:
        file.write_table(table)
        file.add_key_value_metadata({_NAME: PLACE})
    return sealed(sink.getvalue().to_pybytes(), at_end=True)


def part_content(rows: Sequence[Row]) -> bytes:
    """Rows as such a file, in memory, made quickly."""
    import pyarrow as pa

    return content_of(pa.Table.from_pylist(list(rows), schema=schema()), compression="none")


def rows_of(content: bytes, *, where: str) -> pyarrow.Table:
    """The rows of a file, from its bytes.

    Raises:
        DataError: it is not what was written, or not a table of rows.
    """
    return _parsed(content, where)[0]


def read_rows_file(path: Path) -> tuple[pyarrow.Table, bool]:
    """The rows of a file, and whether it has a checksum: tables of earlier versions have none.

    Raises:
        DataError: it is not what was written, or not a table of rows.
        StorageError: the disk refused.
    """
    try:
        content = read_regular(path)
    except NotRegularError as error:
        raise _damaged(str(path), str(error.strerror)) from None
    except OSError as error:
        raise StorageError(f"{path}: reading failed ({error.strerror or error}): check the disk") from None
    return _parsed(content, str(path))


def read_csv_file(path: Path) -> pyarrow.Table:
    """The rows of a ``rows.csv``, or of a table of one's own with the same columns.

    Raises:
        DataError: it is no CSV, or not a table of rows.
        StorageError: the disk refused.
    """
    import pyarrow as pa
    from pyarrow import csv

    try:
        content = read_regular(path)
        types = {field.name: field.type for field in schema()}
        how = csv.ConvertOptions(column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False)
        table = csv.read_csv(pa.BufferReader(content), convert_options=how)
        missing = [name for name in CORE if name not in table.column_names]
    except NotRegularError as error:
        raise DataError(f"{path}: {error.strerror}: name a file") from None
    except OSError as error:
        raise StorageError(f"{path}: reading failed ({error.strerror or error}): check the disk") from None
    except (pa.ArrowException, ValueError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise DataError(
            f"{path}: it is not a table of rows ({why}): `pico-analyze compute` writes such tables"
        ) from None
    if missing:
        raise DataError(
            f"{path}: it has no column {missing[0]!r}: a table of rows has {', '.join(CORE[:4])}, … (docs/table.md)"
        )
    found = _in_columns(table, str(path))
    for name in ("run", "step", "metric", "params", "component", "data", "site"):
        if found[name].null_count:
            raise DataError(f"{path}: a row has no {name}: every row has one")
    for text in {*found["params"].unique().to_pylist(), *found["provenance"].unique().to_pylist()} - {None}:
        try:
            strict_json.parse(text.encode())
        except ValueError as error:
            raise DataError(f"{path}: params or provenance {text[:60]!r} is no JSON ({error})") from None
    return found


def _parsed(content: bytes, where: str) -> tuple[pyarrow.Table, bool]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sound = is_sound(content, at_end=True)
    if sound is False:
        raise _damaged(where, "its checksum is that of other content")
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        version = (table.schema.metadata or {}).get(VERSION.encode(), b"1").decode("ascii", "replace")
        if sound is None and version != "1":  # since then, every table has one
            raise _damaged(where, "it has lost its checksum")
        return _in_columns(table, where), sound is not None
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, pa.ArrowException) as error:
        raise _damaged(where, (str(error) or type(error).__name__).splitlines()[0][:120]) from None


def _in_columns(table: pyarrow.Table, where: str) -> pyarrow.Table:
    """The table's own columns, in their order and of their types; those that an earlier version lacked are empty."""
    import pyarrow as pa

    table = table.rename_columns([_FORMER_NAMES.get(name, name) for name in table.column_names])
    missing = [name for name in CORE if name not in table.column_names]
    if missing:
        raise _damaged(where, f"no column {missing[0]!r}")
    columns: list[Any] = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema()
    ]
    return pa.table(columns, schema=schema())


def _damaged(where: str, why: str) -> DataError:
    return DataError(
        f"{where}: it is not as it was written ({why}): move it away, and the same command computes its rows again"
    )
