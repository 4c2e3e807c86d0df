"""Reading documents: text files, JSON lines, Parquet; anything else, and the Hub, through `datasets`.

Which files there are, and in which order, `inputs` decides; here one file, or one Hub dataset, becomes documents.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pico_train.data.prepare.documents import Document, digest
from pico_train.errors import ConfigError, DataError

PLAIN = (".txt", ".md")
LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*PLAIN, ".jsonl", ".ndjson", ".parquet", *(f"{kind}.gz" for kind in (*PLAIN, *LINES)))
"""Endings of the files that are taken from a folder."""

HUB = "hf://datasets/"
IN_MEMORY = 4 * 2**20
"""Bytes up to which a text file is read at once; larger ones are streamed, twice."""
LONGEST_LINE = 256 * 2**20
PART = 2**20

Errors = Literal["refuse", "replace"]


@dataclass(frozen=True)
class TextLayout:
    """How documents lie in files."""

    column: str = "text"
    """Field or column that holds the text."""
    source_column: str = "source"
    """Field or column that says where a text is from, if there is one."""
    errors: Errors = "refuse"
    """What to do with bytes that are not UTF-8."""
    group_by_folder: bool = False
    """Whether a file's first folder is its source, rather than what its records or its name say."""


def ending(path: Path) -> str:
    """The kind of a file: ".txt", ".jsonl.gz"; lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


@dataclass(frozen=True)
class HubText:
    """A text dataset on the Hub: hf://datasets/ORG/NAME[@REVISION][/FILES][?name=CONFIG&split=SPLIT]."""

    address: str
    """As given."""
    repo: str
    """ORG/NAME."""
    revision: str | None
    """Branch, tag or commit."""
    files: str | None
    """Glob of files inside the repository."""
    name: str | None
    """Configuration of the dataset."""
    split: str
    """Split of the dataset."""

    @classmethod
    def parse(cls, address: str) -> HubText:
        """What an address says.

        Raises:
            ConfigError: not such an address.
        """
        parts = urlsplit(address.removeprefix(HUB))
        segments = parts.path.split("/")
        if not address.startswith(HUB) or len(segments) < 2 or not all(segments[:2]):
            raise ConfigError(f"{address}: not a dataset: hf://datasets/ORG/NAME[@REVISION][/FILES][?split=SPLIT] is")
        name, _, revision = segments[1].partition("@")
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        files = "/".join(segments[2:]) or None
        return cls(
            address, f"{segments[0]}/{name}", revision or None, files, query.get("name"), query.get("split", "train")
        )

    def pinned(self) -> HubText:
        """The same at the commit that its revision is now.

        Raises:
            ConfigError: there is no such dataset or revision.
            StorageError: the Hub cannot be reached.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

        from pico_train.data.retry import with_retries

        try:
            info = with_retries(
                lambda: HfApi().dataset_info(self.repo, revision=self.revision), what=f"dataset {self.repo}"
            )
        except RevisionNotFoundError:
            raise ConfigError(f"{self.address}: the dataset has no revision {self.revision}") from None
        except (RepositoryNotFoundError, HFValidationError):
            raise ConfigError(f"{self.address}: no such dataset on the Hub, or no access to it") from None
        return replace(self, revision=info.sha)


def read_file(path: Path, label: str, layout: TextLayout) -> Iterator[Document]:
    """The documents of one file, in order.

    Args:
        path: The file.
        label: Its name in the corpus: relative to what was named.
        layout: How documents lie in it.

    Raises:
        DataError: the file is not what its ending says, or not UTF-8 where that is refused.
    """
    folder = label.split("/")[0] if layout.group_by_folder and "/" in label else None
    kind = ending(path).removesuffix(".gz")
    try:
        if kind in PLAIN:
            yield _text_file(path, folder or label, layout, named=folder is not None)
        elif kind in LINES:
            records: Iterable[tuple[str, Mapping[str, Any]]] = _json_lines(path, layout)
            yield from _documents(records, folder, label, layout)
        elif kind == ".parquet":
            yield from _documents(_parquet_rows(path, layout), folder, label, layout)
        else:
            yield from _documents(_with_datasets(path), folder, label, layout)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}): fetch it again") from None


def read_hub(hub: HubText, layout: TextLayout) -> Iterator[Document]:
    """The documents of a dataset on the Hub, streamed by `datasets`.

    Raises:
        ConfigError: it has no such files, configuration or split.
        StorageError: the Hub cannot be reached.
    """
    yield from _documents(_hub_rows(hub), None, hub.repo, layout)


def _text_file(path: Path, source: str, layout: TextLayout, *, named: bool) -> Document:
    if path.stat().st_size <= IN_MEMORY and not path.name.endswith(".gz"):
        return Document.of("".join(_decoded(path, layout.errors)), source=source, named=named)

    def parts() -> Iterator[str]:
        return _decoded(path, layout.errors)

    return Document(source, digest(parts()), parts, named)


def _decoded(path: Path, errors: Errors) -> Iterator[str]:
    """The text of a file, in parts; a byte-order mark at its start is not part of it."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace" if errors == "replace" else "strict")
    with _opened(path) as file:
        done = 0
        while block := file.read(PART):
            try:
                yield decoder.decode(block)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, f"byte {max(0, done + error.start)}") from None
            done += len(block)
        try:
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise _not_utf8(path, f"byte {done}, its end") from None


def _not_utf8(path: Path, where: str) -> DataError:
    return DataError(
        f"{path}: not UTF-8 at {where}: convert the file, or replace what cannot be read with "
        "--encoding-errors replace (data.encoding_errors=replace)"
    )


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _json_lines(path: Path, layout: TextLayout) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with _opened(path) as file:
        reader = io.BufferedReader(file, PART) if not isinstance(file, io.BufferedReader) else file  # type: ignore[type-var]
        number = 0
        while line := reader.readline(LONGEST_LINE + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(line) > LONGEST_LINE:
                raise DataError(f"{where}: longer than {LONGEST_LINE} bytes: one JSON object per line is expected")
            if line.isspace():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8", _python_errors(layout)))
            except UnicodeDecodeError as error:
                raise _not_utf8(path, f"line {number}, byte {error.start}") from None
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{where}: not JSON ({str(error)[:100]}): one JSON object per line is expected"
                ) from None
            if not isinstance(record, dict):
                raise DataError(f"{where}: a JSON object was expected, found {type(record).__name__}")
            yield where, record


def _python_errors(layout: TextLayout) -> str:
    return "replace" if layout.errors == "replace" else "strict"


def _parquet_rows(path: Path, layout: TextLayout) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as parquet:
            names = parquet.schema_arrow.names
            if layout.column not in names:
                raise DataError(
                    f"{path}: has no column {layout.column} (its columns: {', '.join(names)}): name the one that holds "
                    "the text with --text-column (data.text_column)"
                )
            columns = [name for name in (layout.column, layout.source_column) if name in names]
            number = 0
            for batch in parquet.iter_batches(batch_size=64, columns=columns, use_threads=False):
                for record in batch.to_pylist():
                    yield f"{path}, row {number}", record
                    number += 1
    except UnicodeDecodeError:
        raise _not_utf8(path, "a row") from None
    except (pa.ArrowException, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{path}: not a whole Parquet file ({reason}): it is cut short or damaged") from None


def _with_datasets(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a file that `datasets` knows how to read, or of a directory that its `save_to_disk` made."""
    import datasets

    if path.is_dir():
        loaded = datasets.load_from_disk(str(path))
        if isinstance(loaded, datasets.DatasetDict):
            raise DataError(f"{path}: holds the splits {', '.join(loaded)}: name the folder of one of them")
        rows: Iterable[Any] = loaded
    else:
        builders = {"csv": "csv", "tsv": "csv", "arrow": "arrow", "xml": "xml", "tar": "webdataset", "json": "json"}
        builder = builders.get(ending(path).removesuffix(".gz").removeprefix("."))
        if builder is None:
            raise DataError(
                f"{path}: files ending in {ending(path) or 'nothing'} cannot be read: these can: "
                f"{', '.join((*SUFFIXES, *(f'.{name}' for name in builders)))}"
            )
        options = {"sep": "\t"} if ending(path).startswith(".tsv") else {}
        rows = datasets.load_dataset(builder, data_files=str(path), split="train", streaming=True, **options)
    for number, record in enumerate(rows):
        yield f"{path}, row {number}", record


def _hub_rows(hub: HubText) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import datasets

    from pico_train.data.retry import with_retries

    def load() -> Iterable[Any]:
        loaded: Iterable[Any] = datasets.load_dataset(
            hub.repo, hub.name, data_files=hub.files, split=hub.split, revision=hub.revision, streaming=True
        )
        return loaded

    try:
        rows = with_retries(load, what=f"dataset {hub.repo}")
    except (datasets.exceptions.DatasetNotFoundError, datasets.exceptions.DataFilesNotFoundError, ValueError) as error:
        raise ConfigError(f"{hub.address}: cannot be opened: {str(error).splitlines()[0][:300]}") from None
    for number, record in enumerate(rows):
        yield f"{hub.address}, row {number}", record


def _documents(
    records: Iterable[tuple[str, Mapping[str, Any]]], folder: str | None, label: str, layout: TextLayout
) -> Iterator[Document]:
    for where, record in records:
        text = record.get(layout.column)
        if not isinstance(text, str):
            found = "nothing" if text is None else type(text).__name__
            fields = ", ".join(map(str, record)) or "none"
            raise DataError(
                f"{where}: {layout.column!r} holds {found}, not text (fields: {fields}): "
                "name the field with --text-column (data.text_column)"
            )
        stated = record.get(layout.source_column)
        if folder is None and isinstance(stated, str) and stated:
            yield Document.of(text, source=stated, named=True)
        else:
            yield Document.of(text, source=folder or label, named=folder is not None)
