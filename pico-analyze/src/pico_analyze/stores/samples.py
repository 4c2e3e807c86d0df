"""The tokens that activations belong to: one line for each row of an activation matrix of one step and split.

Rows of a `val` capture come from the run's `validation.parquet`, those of a `train` capture from the checkpoint's own
batch. Which of them were kept stands in the metadata of the captures file, at which positions in the manifest; that
they are the rows which were captured is proven by the digest that the manifest holds of them. How a file is read, from
a disk or from the Hub, is the stores' business.

Letters: N rows stored, T tokens of a row. Of them R rows are kept, P positions in each; n_samples = R × P.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stores.checked_file import read_small
from pico_schema import Capture, CheckpointManifest, FileEntry, RunManifest, layout, strict_json
from pico_schema.digests import samples_sha256

if TYPE_CHECKING:
    import pandas
    import pyarrow

COLUMNS = ("row", "position", "token_id", "token", "source")
"""Columns of a table of samples."""
MAX_FILE = 256 << 20
"""Largest file of rows, or tokenizer, that is read, in bytes."""
MAX_TOKENS = 64 << 20
"""Most tokens that a file of rows may hold."""


@dataclass(frozen=True)
class Files:
    """What a store gives of one checkpoint and its run."""

    run: Callable[[], RunManifest]
    """The manifest of the run."""
    metadata: Callable[[str], Mapping[str, str]]
    """The metadata in the header of a safetensors file of the checkpoint, by its path."""
    content: Callable[[str, FileEntry], bytes]
    """A whole file by its path: `layout.VALIDATION_ROWS` of the run, any other of the checkpoint."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens, as they are stored."""

    ids_NT: np.ndarray
    """Token ids, int32."""
    sources: list[str]
    """Where each row comes from; empty where the corpus does not say."""
    texts: list[str] | None = None
    """Each row as text, where that was asked for."""


def captured_samples(files: Files, manifest: CheckpointManifest, split: str, *, where: str) -> pandas.DataFrame:
    """The samples of a capture, in the order of its activation matrices.

    Args:
        files: Reads the checkpoint's files and the run's.
        manifest: The checkpoint's manifest.
        split: train or val.
        where: The checkpoint's path or address, for messages.

    Returns:
        n_samples lines in columns `COLUMNS`: the row's number (of `val`, among the validation rows; of `train`, in the
        batch), the position in it, the id of the token that the model read there, that token's text (missing where the
        checkpoint has no tokenizer), and the row's source.

    Raises:
        DataError: nothing was captured of the split, its rows are not stored, or they are not those captured.
    """
    capture = manifest.capture(split)
    if capture is None:
        there = ", ".join(known.split for known in manifest.captures) or "none"
        raise DataError(f"{where}: step {manifest.step} captured nothing of split {split!r}: there are {there}")
    path, entry = _place(files, manifest, split, where)
    rows = read_token_rows(_proven(files, path, entry, where), where=f"{where}: {path}")
    kept = _kept(files.metadata(capture.file), capture, len(rows.ids_NT))
    if kept is None or not _are_those_captured(rows.ids_NT, kept, capture):
        raise DataError(
            f"{where}: the rows in {path} are not those that step {manifest.step} captured: they are damaged, or of "
            "another run"
        )
    tokenizer = manifest.files.get(layout.TOKENIZER)
    text = None if tokenizer is None else _proven(files, layout.TOKENIZER, tokenizer, where)
    return samples_table(rows, kept, capture.positions, text, where=where)


def positions_of(manifest: CheckpointManifest, split: str) -> int:
    """Positions kept in each row of a capture.

    Raises:
        DataError: nothing was captured of the split.
    """
    capture = manifest.capture(split)
    if capture is None:
        raise DataError(f"run {manifest.run_name!r} step {manifest.step} captured nothing of split {split!r}")
    return len(capture.positions)


def _place(files: Files, manifest: CheckpointManifest, split: str, where: str) -> tuple[str, FileEntry]:
    """The file that holds a split's rows."""
    if split == "train":
        entry = manifest.files.get(layout.TRAIN_BATCH)
        if entry is None:
            raise DataError(f"{where}: step {manifest.step} does not hold its batch ({layout.TRAIN_BATCH})")
        return layout.TRAIN_BATCH, entry
    run = files.run()
    if run.validation is None:
        raise DataError(
            f"run {run.name!r} was made before validation rows were stored: resume it once with the present version of "
            "pico-train, which stores them"
        )
    return layout.VALIDATION_ROWS, run.validation


def _proven(files: Files, path: str, entry: FileEntry, where: str) -> bytes:
    """A file's content, which has the digest that is known of it."""
    if entry.size > MAX_FILE:
        raise DataError(f"{where}: {path} has {entry.size} bytes: more than the {MAX_FILE} that make sense")
    content = files.content(path, entry)
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise DataError(f"{where}: {path} does not have the content that was stored: it is damaged")
    return content


def stored_rows(content: bytes, entry: FileEntry, *, where: str) -> TokenRows:
    """All rows of a file that a manifest lists (validation rows, a batch), with their texts, from its content.

    Raises:
        DataError: it is not what the manifest lists.
    """
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise DataError(f"{where}: it does not have the content that was stored: it is damaged")
    return read_token_rows(content, where=where, texts=True)


def read_whole(path: Path) -> bytes:
    """The content of a file of at most `MAX_FILE` bytes.

    Raises:
        DataError: it is missing, or larger.
        StorageError: the disk refused.
    """
    return read_small(path, MAX_FILE)


def read_token_rows(content: bytes, *, where: str, texts: bool = False) -> TokenRows:
    """Rows from a Parquet file with the columns of the contract.

    Raises:
        DataError: it is not one, or holds rows of different lengths, or more than `MAX_TOKENS`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        about = file.metadata
        chunks = (about.row_group(g).column(c) for g in range(about.num_row_groups) for c in range(about.num_columns))
        if max((chunk.num_values for chunk in chunks), default=0) > MAX_TOKENS or about.num_rows > MAX_TOKENS:
            raise DataError(f"{where}: it claims more than {MAX_TOKENS} tokens: refusing to read it")
        table = file.read(["input_ids", "source", *(["text"] if texts else [])])
        table.validate(full=True)  # a text that is none, a list that ends before it begins
        ids, sources = table["input_ids"], table["source"].to_pylist()
        words = [text or "" for text in table["text"].to_pylist()] if texts else None
    except (OSError, KeyError, ValueError, OverflowError, pa.ArrowException) as error:
        raise _not_rows(where, error) from None
    return replace(token_rows(ids, sources, where=where), texts=words)


def token_rows(column: pyarrow.ChunkedArray, sources: Sequence[object] | None = None, *, where: str) -> TokenRows:
    """Rows from a column of lists of token ids, and a source for each where there are any.

    Raises:
        DataError: the column is of something else, or the lists differ in length.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        lengths = pc.unique(pc.list_value_length(column)).to_pylist()
        values = pc.list_flatten(column)
        if not pa.types.is_integer(values.type) or values.null_count:
            raise DataError(f"{where}: its token ids are not integers: it is damaged")
        flat = values.cast(pa.int32()).to_numpy()
    except pa.ArrowException as error:
        raise _not_rows(where, error) from None
    if len(lengths) > 1 or None in lengths:
        raise DataError(f"{where}: its rows differ in length: it is damaged")
    ids = flat.reshape(len(column), lengths[0] if lengths else 0)
    names = [""] * len(ids) if sources is None else ["" if source is None else str(source) for source in sources]
    return TokenRows(ids, names)


def _not_rows(where: str, error: Exception) -> DataError:
    first = (str(error) or type(error).__name__).splitlines()[0][:120]
    return DataError(f"{where}: not a file of token rows ({first}): it is damaged")


def _kept(metadata: Mapping[str, str], capture: Capture, n_rows: int) -> list[int] | None:
    """Numbers of the rows that a capture kept, or None if the metadata does not fit; without any, all rows in order."""
    if capture.n_rows > n_rows:
        return None
    try:
        kept = strict_json.parse(metadata["rows"].encode()) if "rows" in metadata else list(range(capture.n_rows))
    except ValueError:
        return None
    fits = isinstance(kept, list) and len(kept) == capture.n_rows and all(type(row) is int for row in kept)
    return kept if fits and all(0 <= row < n_rows for row in kept) else None


def _are_those_captured(ids_NT: np.ndarray, kept: list[int], capture: Capture) -> bool:
    content = np.ascontiguousarray(ids_NT[kept], "<i4")
    n_rows, row_len = content.shape
    digest = samples_sha256(content.tobytes(), (n_rows, row_len), capture.positions)
    return digest == capture.samples_sha256 and max(capture.positions, default=-1) < row_len


def samples_table(
    rows: TokenRows, kept: Sequence[int], positions: Sequence[int], tokenizer: bytes | None, *, where: str
) -> pandas.DataFrame:
    """One line for each position of each row that was kept, ordered by (row, position).

    Args:
        rows: All rows.
        kept: Numbers of those to list.
        positions: Positions in each of them.
        tokenizer: Content of `tokenizer.json`, or None: no token has a text then.
        where: The checkpoint's path or address, for messages.

    Raises:
        DataError: the tokenizer is damaged.
    """
    import pandas as pd

    ids = rows.ids_NT[np.asarray(kept, np.int64)[:, None], np.asarray(positions, np.int64)].reshape(-1)
    texts = dict.fromkeys(map(int, np.unique(ids)), None) if tokenizer is None else token_texts(tokenizer, ids, where)
    columns: dict[str, Any] = {
        "row": np.repeat(np.asarray(kept, np.int64), len(positions)),
        "position": np.tile(np.asarray(positions, np.int64), len(kept)),
        "token_id": ids.astype(np.int64),
        "token": [texts[token] for token in ids.tolist()],
        "source": [rows.sources[row] for row in kept for _ in positions],
    }
    return pd.DataFrame(columns)[list(COLUMNS)]


def token_texts(tokenizer: bytes, ids: np.ndarray, where: str) -> dict[int, str | None]:
    """Token id → its text. A token that is part of a character has the replacement character (U+FFFD) for it; an id
    that the tokenizer does not know has none."""
    from tokenizers import Tokenizer

    try:
        decoder = strict_json.parse(tokenizer, own=False).get("decoder")
        loaded = Tokenizer.from_str(tokenizer.decode())
        text_of = _text_of(loaded, decoder)
        return {
            token: text_of(token) if loaded.id_to_token(token) is not None else None
            for token in np.unique(ids).tolist()
        }
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # what tokenizers raises; where its Rust code panics, that is no Exception
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{where}: {layout.TOKENIZER} is not a tokenizer ({first}): it is damaged") from None


def _text_of(tokenizer: Any, decoder: Any) -> Callable[[int], str]:
    """How one token becomes text: what it adds to a text, its space included."""
    if "ByteLevel" in json.dumps(decoder):
        return lambda token: str(tokenizer.decode([token], skip_special_tokens=False))
    # Other decoders drop the space before a first word, so the token's own name is used; ▁ is SentencePiece's space.
    return lambda token: str(tokenizer.id_to_token(token)).replace("▁", " ")
