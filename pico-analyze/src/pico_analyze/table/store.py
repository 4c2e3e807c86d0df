"""How rows reach the disk and come back.

`analysis/<run>/rows.parquet` holds every row ever computed for a run, one per question (`KEY`). Rows are appended as
small Parquet files, each complete in itself, while the analysis runs; at the end they are merged into the table, which
is replaced atomically, with `rows.csv` beside it. What a killed analysis left behind is merged by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.errors import DataError, StorageError
from pico_analyze.table.columns import CORE, KEY, ORDER, Row, as_json, digest, schema

if TYPE_CHECKING:
    import pandas
    import pyarrow

ROWS, CSV, PARTS, SOURCE = "rows.parquet", "rows.csv", ".parts", "source.json"
_FLUSH_ROWS, _FLUSH_SECONDS = 20_000, 1.0


class RowStore:
    """The rows of one run under `directory`: what is there, what is added.

    Use as a context manager: leaving it, even by an exception, merges what was added into the table.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._buffer: list[Row] = []
        self._flushed = time.monotonic()
        self._n_parts = 0
        try:
            (directory / PARTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{directory}: cannot be made ({error.strerror}): choose another --out") from None

    def __enter__(self) -> RowStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()
        self.merge()

    def known(self, units: Iterable[str]) -> set[str]:
        """Those of `units` whose rows are in the table."""
        import pyarrow.compute as pc

        with _locked(self.directory):
            table = self._load()
        if table is None:
            return set()
        return set(pc.unique(table["unit"]).to_pylist()) & set(units)

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of one or more complete units; they reach the disk within a second or so."""
        self._buffer.extend(rows)
        if len(self._buffer) >= _FLUSH_ROWS or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added, as one part."""
        self._flushed = time.monotonic()
        if not self._buffer:
            return
        import pyarrow as pa

        part = pa.Table.from_pylist(self._buffer, schema=schema())
        name = f"{time.time_ns():020d}-{os.getpid()}-{self._n_parts}.parquet"
        _write(part, self.directory / PARTS / name)
        self._n_parts += 1
        self._buffer = []

    def _parts(self) -> list[Path]:
        return sorted((self.directory / PARTS).glob("*.parquet"))

    def _load(self, parts: Sequence[Path] | None = None) -> pyarrow.Table | None:
        """Everything there is, older rows first, or None."""
        import pyarrow as pa

        files = [self.directory / ROWS, *(self._parts() if parts is None else parts)]
        tables = [_read(path) for path in files if path.is_file()]
        return pa.concat_tables(tables) if tables else None

    def merge(self) -> None:
        """Bring table and CSV up to date; of two rows with the same key the newer one stays."""
        import pyarrow.csv

        with _locked(self.directory):
            parts = self._parts()
            if not parts and (self.directory / CSV).is_file():
                return
            table = self._load(parts)
            if table is None:
                return
            table = _newest(table)
            _write(table, self.directory / ROWS)
            temporary = self.directory / f".{CSV}.{os.getpid()}.tmp"
            try:
                pyarrow.csv.write_csv(table, temporary)
                temporary.replace(self.directory / CSV)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                why = error.strerror or error
                raise StorageError(f"{self.directory / CSV}: cannot be written ({why}): check the disk") from None
            for part in parts:
                part.unlink(missing_ok=True)

    def frame(self, units: Iterable[str] | None = None) -> pandas.DataFrame:
        """The rows of these units (of all without), as a DataFrame in a stable order."""
        import pyarrow as pa
        import pyarrow.compute as pc

        with _locked(self.directory):
            table = self._load()
        if table is None:
            return to_pandas(schema().empty_table())
        if units is not None:
            table = table.filter(pc.is_in(table["unit"], pa.array(sorted(set(units)), pa.string())))
        return to_pandas(table)


def read_frame(directory: Path) -> pandas.DataFrame:
    """All rows of a table on disk."""
    return to_pandas(_read(directory / ROWS))


def to_pandas(table: pyarrow.Table) -> pandas.DataFrame:
    """A DataFrame whose integers stay integers where some are missing."""
    import pandas as pd
    import pyarrow as pa

    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def _newest(table: pyarrow.Table) -> pyarrow.Table:
    import pyarrow as pa

    keys = table.select([*KEY, "target_layer"]).to_pandas(types_mapper=None)
    keys = keys[~keys.duplicated(list(KEY), keep="last")]
    return table.take(pa.array(keys.sort_values(list(ORDER), na_position="first", kind="stable").index))


def _read(path: Path) -> pyarrow.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        first = str(error).splitlines()[0][:120]
        raise DataError(f"{path}: not a table of rows ({first}): move it away and compute again") from None
    missing = [name for name in CORE if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: not a table of rows (no column {missing[0]!r}): move it away and compute again")
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema()
    ]
    return pa.table(columns, schema=schema())


def _write(table: pyarrow.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}): check the disk") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Only one analysis at a time reads or merges a table: merging moves rows from one file to another."""
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def directory_for(out: Path, run: str, identity: str, location: str) -> Path:
    """``out/<run>``, or ``out/<run>-<digest>`` where that belongs to another run of the same name.

    A run that was made anew in the same place takes over its name; what was computed of the one before is moved aside.
    """
    plain_name, own_name = out / run, out / f"{run}-{digest(identity)[:8]}"
    owner = _owner(plain_name)
    try:
        if owner is not None and owner != identity and _owner(plain_name, "location") == location:
            plain_name.rename(out / f"{run}-{digest(owner)[:8]}")
            owner = None
        chosen = plain_name if owner in (None, identity) else own_name
        chosen.mkdir(parents=True, exist_ok=True)
        source = as_json({"run": run, "identity": identity, "location": location})
        (chosen / SOURCE).write_text(source + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{plain_name}: cannot be written ({error.strerror}): choose another --out") from None
    return chosen


def _owner(directory: Path, key: str = "identity") -> str | None:
    """Whose table lies in a directory, or None where there is none."""
    try:
        value = json.loads((directory / SOURCE).read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None
