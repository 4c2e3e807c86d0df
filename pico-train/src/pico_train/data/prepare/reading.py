"""What reads which kind of file: one file, or one dataset on the Hub, becomes documents.

Which files there are, and in which order, `files` decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pico_train.data.prepare import lines, plain_text, tables
from pico_train.data.prepare.documents import Document
from pico_train.data.prepare.hub_text import HubText, hub_records
from pico_train.data.prepare.kinds import CSV, JSON_LINES, PLAIN, readable, uncompressed
from pico_train.data.prepare.opening import ending
from pico_train.data.prepare.records import BadRecords, Record, TextLayout, record_documents
from pico_train.errors import DataError


def read_file(path: Path, label: str, layout: TextLayout, bad: BadRecords) -> Iterator[Document]:
    """The documents of one file, in order.

    Args:
        path: The file.
        label: Its name in the corpus: relative to what was named.
        layout: How documents lie in it.
        bad: Where records that are passed over are noted.

    Raises:
        DataError: the file is not what its ending says, or not UTF-8 where that is refused.
        StorageError: the disk failed.
    """
    folder = label.split("/")[0] if layout.group_by_folder and "/" in label else None
    if uncompressed(ending(path)) in PLAIN:
        yield plain_text.text_file(path, folder or label, layout, named=folder is not None)
    else:
        yield from record_documents(_records(path, layout), folder, label, layout, bad)


def read_hub(hub: HubText, layout: TextLayout, bad: BadRecords) -> Iterator[Document]:
    """The documents of a dataset on the Hub, streamed.

    Raises:
        ConfigError: it has no such files, configuration or split.
        StorageError: the Hub cannot be reached.
    """
    yield from record_documents(hub_records(hub), None, hub.repo, layout, bad)


def _records(path: Path, layout: TextLayout) -> Iterator[Record]:
    kind = ending(path)
    if path.is_dir() or kind in tables.WITH_DATASETS:
        return tables.dataset_records(path)
    if uncompressed(kind) in JSON_LINES:
        return lines.json_records(path, layout)
    if uncompressed(kind) in CSV:
        return lines.csv_records(path, layout)
    if kind == ".parquet":
        return tables.parquet_records(path, layout)
    if kind == ".arrow":
        return tables.arrow_records(path, layout)
    raise DataError(
        f"{path}: files ending in {kind or 'nothing'} cannot be read: these can: {readable()}; and by themselves "
        f"{' '.join(tables.WITH_DATASETS)}"
    )
