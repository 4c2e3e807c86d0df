"""How rows reach the disk and come back.

`analysis/<run>/rows.parquet` holds every row ever computed for a run, one per question (`KEY`). While an analysis runs,
each task leaves a small Parquet file of its own, a *part*, complete in itself, from whatever process or machine it was
computed on. What is read is the table and the parts together; at the end the parts are merged into the table, which is
replaced atomically, with `rows.csv` beside it. What a killed analysis left behind is merged by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.errors import DataError, StorageError
from pico_analyze.table.columns import KEY, ORDER, Row, as_json, digest, schema
from pico_analyze.table.coordinates import with_axes, with_coordinates
from pico_analyze.table.rows_file import content_of, read_rows_file
from pico_schema import strict_json
from pico_schema.files import discard_with_process, open_replacement, read_regular, replace_file

if TYPE_CHECKING:
    import pandas
    import pyarrow

ROWS, CSV, PARTS, SOURCE = "rows.parquet", "rows.csv", ".parts", "source.json"
_DAMAGED = ".damaged"
"""What is added to the name of a part that is not as it was written."""
_FORGOTTEN_SECONDS = 7 * 86_400
"""Age at which the mark of a command that never ended is taken away."""


def part_path(directory: Path, name: str) -> Path:
    """Where a part of this name lies, until it is merged."""
    return directory / PARTS / name


def write_part(directory: Path, name: str, content: bytes) -> None:
    """Leave a part beside a table: all of it, or nothing.

    Raises:
        StorageError: the disk refused.
    """
    path = part_path(directory, name)
    with _written(path):
        replace_file(path, content, durable=False)


def _mark(directory: Path, started: int) -> Path:
    return directory / PARTS / f".command-{started}"


def is_current(directory: Path, started: int) -> bool:
    """Whether this is, also for this machine, the directory that the command that began then writes to."""
    return _mark(directory, started).is_file()


class RowStore:
    """The rows of one run under `directory`: the table, and parts that are not merged yet.

    Use as a context manager around work that leaves parts: leaving it, even by an exception, merges them.

    Args:
        directory: The run's own.
        started: When the command began, in ns; stands in the names of its parts.
        merge: Whether leaving merges; not where other commands write parts of the same work.
    """

    def __init__(self, directory: Path, started: int, *, merge: bool) -> None:
        self.directory, self._started, self._merges = directory, started, merge
        self.put_aside: list[Path] = []
        """Parts that were found damaged, where they lie now."""
        self._lacks_checksum = False
        try:
            (directory / PARTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{directory}: cannot be made ({error.strerror}): choose another --out") from None

    def __enter__(self) -> RowStore:
        with _written(self.directory):
            discard_with_process(_mark(self.directory, self._started))
            _mark(self.directory, self._started).touch()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            _mark(self.directory, self._started).unlink()
        if self._merges:
            self.merge()

    def known(self, digests: Iterable[str]) -> set[str]:
        """Those of `digests` whose rows are there.

        Parts that are not as they were written are put aside: what they held is computed again.

        Raises:
            DataError: the table itself is not as it was written.
            StorageError: the disk refused.
        """
        import pyarrow.compute as pc

        with _locked(self.directory):
            table = self._load(put_aside=True)
        if table is None:
            return set()
        return set(pc.unique(table["digest"]).to_pylist()) & set(digests)

    def _parts(self) -> list[Path]:
        return sorted((self.directory / PARTS).glob("*.parquet"))

    def _load(self, parts: Sequence[Path] | None = None, *, put_aside: bool = False) -> pyarrow.Table | None:
        """Everything there is, older rows first, or None; with `put_aside`, without parts that are damaged."""
        import pyarrow as pa

        found = [read_rows_file(self.directory / ROWS)] if (self.directory / ROWS).is_file() else []
        for part in self._parts() if parts is None else parts:
            try:
                found.append(read_rows_file(part))
            except DataError:
                if not put_aside:
                    raise
                aside = part.with_name(part.name + _DAMAGED)
                with _written(aside):
                    part.replace(aside)
                self.put_aside.append(aside)
        self._lacks_checksum |= not all(has_checksum for _, has_checksum in found)
        return pa.concat_tables([table for table, _ in found]) if found else None

    def merge(self) -> None:
        """Bring table and CSV up to date; of two rows with the same key the newer one stays."""
        import pyarrow.csv

        with _locked(self.directory):
            self._take_away_forgotten_marks()
            parts = self._parts()
            if not parts and (self.directory / CSV).is_file() and not self._lacks_checksum:
                return
            table = self._load(parts)
            if table is None:
                return
            table = _newest(table)
            with _written(self.directory / ROWS):
                replace_file(self.directory / ROWS, content_of(table, compression="zstd"), durable=False)
            with _written(self.directory / CSV), open_replacement(self.directory / CSV, durable=False) as file:
                pyarrow.csv.write_csv(with_axes(table), file)
            for part in parts:
                with _written(part):
                    part.unlink(missing_ok=True)
            self._lacks_checksum = False

    def _take_away_forgotten_marks(self) -> None:
        for mark in (self.directory / PARTS).glob(".command-*"):
            with contextlib.suppress(OSError):
                if time.time() - mark.stat().st_mtime > _FORGOTTEN_SECONDS:
                    mark.unlink()

    def rows_saying(self, text: str, digests: Iterable[str]) -> list[Row]:
        """Those rows of `digests` in whose provenance a text stands."""
        with _locked(self.directory):
            table = self._load()
        return rows_saying(table, text, digests)

    def frame(self, digests: Iterable[str] | None = None) -> pandas.DataFrame:
        """The rows of these digests (all without), as a DataFrame in a stable order."""

        with _locked(self.directory):
            table = self._load()
        return frame_of(table, digests)


def frame_of(table: pyarrow.Table | None, digests: Iterable[str] | None = None) -> pandas.DataFrame:
    """Rows as a DataFrame in a stable order, each question once; only those of `digests`, where given."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if table is None:
        return to_pandas(schema().empty_table())
    if digests is not None:
        table = table.filter(pc.is_in(table["digest"], pa.array(sorted(set(digests)), pa.string())))
    return to_pandas(_newest(table))


def rows_saying(table: pyarrow.Table | None, text: str, digests: Iterable[str]) -> list[Row]:
    """Those rows of `digests` in whose provenance a text stands."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if table is None:
        return []
    says = pc.match_substring(table["provenance"], text)
    chosen = pc.unique(table.filter(says)["digest"]).to_pylist()
    chosen = sorted({*chosen} & {*digests})
    if not chosen:
        return []
    newest = _newest(table.filter(pc.is_in(table["digest"], pa.array(chosen, pa.string()))))
    rows: list[Row] = newest.filter(pc.match_substring(newest["provenance"], text)).to_pylist()
    return rows


def read_frame(directory: Path) -> pandas.DataFrame:
    """All rows of a table on disk."""
    return to_pandas(read_rows_file(directory / ROWS)[0])


def to_pandas(table: pyarrow.Table) -> pandas.DataFrame:
    """A DataFrame whose integers stay integers where some are missing, with the axes of suites as columns."""
    import pandas as pd
    import pyarrow as pa

    frame: pandas.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return with_coordinates(frame)


def _newest(table: pyarrow.Table) -> pyarrow.Table:
    import pyarrow as pa

    keys = table.select([*KEY, "target_layer"]).to_pandas(types_mapper=None)
    keys = keys[~keys.duplicated(list(KEY), keep="last")]
    return table.take(pa.array(keys.sort_values(list(ORDER), na_position="first", kind="stable").index))


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Say which file it is that the disk refused in this block."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}): check the disk") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Only one analysis at a time reads or merges a table: merging moves rows from one file to another."""
    from filelock import FileLock

    lock = FileLock(directory / ".lock", fallback_to_soft=False)
    try:
        held = lock.acquire()
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise StorageError(f"{directory}: its file system has no locks: choose another --out") from None
        raise StorageError(f"{directory}: cannot be written ({error.strerror}): choose another --out") from None
    with held:
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
        if _owner(chosen) != identity or _owner(chosen, "location") != location:
            source = as_json({"run": run, "identity": identity, "location": location})
            replace_file(chosen / SOURCE, source + "\n", durable=False)
    except OSError as error:
        raise StorageError(f"{plain_name}: cannot be written ({error.strerror}): choose another --out") from None
    return chosen


def location_of(directory: Path) -> str | None:
    """Path or address of the run whose table lies in a directory; None where that is not told."""
    return _owner(directory, "location")


def _owner(directory: Path, key: str = "identity") -> str | None:
    """Whose table lies in a directory, or None where there is none."""
    try:
        value = strict_json.parse(read_regular(directory / SOURCE))[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None
