"""Tables of Arrow and Parquet, read in blocks of rows; and what the `datasets` library reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pico_train.data.prepare import opening
from pico_train.data.prepare.records import REPLACE, Record, TextLayout, no_column
from pico_train.errors import DataError

WITH_DATASETS = {".xml": "xml", ".tar": "webdataset", ".tar.gz": "webdataset"}
"""Endings of files that the `datasets` library reads, and its name for what is in them."""


def parquet_records(path: Path, layout: TextLayout) -> Iterator[Record]:
    """The rows of a Parquet file.

    Raises:
        DataError: it is cut short or damaged, or has no column of text of that name.
        StorageError: the disk failed.
    """
    with _whole(path, "Parquet"), pq.ParquetFile(path) as parquet:
        columns = _columns(path, parquet.schema_arrow, layout)
        batches = parquet.iter_batches(batch_size=64, columns=columns, use_threads=False)
        yield from _rows(path, batches, layout)


def arrow_records(path: Path, layout: TextLayout) -> Iterator[Record]:
    """The rows of an Arrow file, or of a stream that was saved as one.

    Raises:
        DataError: it is cut short or damaged, or has no column of text of that name.
        StorageError: the disk failed.
    """
    with _whole(path, "Arrow"), pa.OSFile(str(path)) as source:
        if source.read(6) == b"ARROW1":
            table = pa.ipc.open_file(source)
            batches: Iterable[pa.RecordBatch] = (table.get_batch(i) for i in range(table.num_record_batches))
        else:
            source.seek(0)
            table = batches = pa.ipc.open_stream(source)
        columns = _columns(path, table.schema, layout)
        yield from _rows(path, (batch.select(columns) for batch in batches), layout)


@contextmanager
def _whole(path: Path, kind: str) -> Iterator[None]:
    """Inside, what Arrow says of a file that it cannot read becomes one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            with opening.reading(path):
                raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{path}: not a whole {kind} file ({reason}): it is cut short or damaged") from None


def _columns(path: Path, schema: pa.Schema, layout: TextLayout) -> list[str]:
    """The columns that are read, once it is known that the text is text."""
    if layout.column not in schema.names:
        raise no_column(path, layout.column, schema.names)
    if schema.names.count(layout.column) > 1:
        raise DataError(f"{path}: has {schema.names.count(layout.column)} columns {layout.column}: leave one")
    kind = schema.field(layout.column).type
    if not (_is_text(kind) or pa.types.is_null(kind)):
        raise DataError(
            f"{path}: column {layout.column} holds {str(kind)[:100]}, not text: name the one that holds the text with "
            "--text-column (data.text_column)"
        )
    wanted = (layout.column, layout.source_column)
    return [name for name in dict.fromkeys(wanted) if schema.names.count(name) == 1]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _rows(path: Path, batches: Iterable[pa.RecordBatch], layout: TextLayout) -> Iterator[Record]:
    number = 0
    for batch in batches:
        for row in range(batch.num_rows):
            yield _row(f"{path}, row {number}", batch, row, layout)
            number += 1


def _row(where: str, batch: pa.RecordBatch, row: int, layout: TextLayout) -> Record:
    fields: dict[str, Any] = {}
    for name in batch.schema.names:
        scalar = batch.column(name)[row]
        try:
            fields[name] = scalar.as_py()
        except UnicodeDecodeError as error:
            if layout.errors == "refuse":
                return Record(where, {}, f"{name!r} is not UTF-8 at byte {error.start}", REPLACE)
            fields[name] = error.object.decode("utf-8", "replace")
    return Record(where, fields)


def dataset_records(path: Path) -> Iterator[Record]:
    """The rows of a file that `datasets` knows how to read, or of a folder that its `save_to_disk` made.

    Raises:
        DataError: it cannot be read, or holds several splits.
        StorageError: the disk failed.
    """
    import datasets

    try:
        if path.is_dir():
            loaded = datasets.load_from_disk(str(path))
            if isinstance(loaded, datasets.DatasetDict):
                raise DataError(f"{path}: holds the splits {', '.join(loaded)}: name the folder of one of them")
            rows: Iterable[Any] = loaded
        else:
            builder = WITH_DATASETS[opening.ending(path)]
            rows = datasets.load_dataset(builder, data_files=str(path), split="train", streaming=True)
        for number, record in enumerate(rows):
            yield Record(f"{path}, row {number}", record)
    except (DataError, GeneratorExit):
        raise
    except OSError as error:
        if error.errno is not None:
            with opening.reading(path):
                raise
        raise _not_readable(path, error) from None
    except Exception as error:  # whatever the library and those below it raise over a damaged file
        raise _not_readable(path, error) from None


def _not_readable(path: Path, error: Exception) -> DataError:
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    return DataError(f"{path}: `datasets` cannot read it ({type(error).__name__}: {reason})")
