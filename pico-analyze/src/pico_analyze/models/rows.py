"""The rows of tokens that models are run on, the same for every step: cut from texts, or given as token ids.

Texts are tokenized once, with the tokenizer of the first model. A file is one line of tokens, cut into rows of T + 1
(its documents follow one another without a mark between them, and no row begins with one); what does not fill a row is
left out. Of more rows than are wanted, evenly spaced ones are taken.

Letters: N rows, T tokens that a model reads of each; a row has T + 1, the last of which is only predicted.
"""

from __future__ import annotations

import io
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pico_analyze.errors import DataError, UsageError
from pico_analyze.stores.checked_file import file_size, read_small
from pico_analyze.stores.samples import TokenRows, token_rows
from pico_schema import layout, strict_json

MAX_TEXT = 64 << 20
"""Largest file of text, or of rows, that is read, in bytes."""
DEFAULT_ROWS = 32
"""Rows cut from texts, where no number is given."""
_BEGINNING = 1 << 14
"""Characters of a file of the standard library that are read."""
_MODULES = 64
"""Files of the standard library that are read."""


@dataclass(frozen=True)
class Rows:
    """Rows of tokens, and where they are from."""

    ids_NT: np.ndarray
    """(N, T + 1) token ids, int32."""
    texts: list[str]
    """Each row as text; empty where there is no tokenizer."""
    sources: list[str]
    """Where each row is from."""
    tokenized: bool = False
    """Whether they were made of text, with the model's own tokenizer."""

    def parquet(self) -> bytes:
        """The content of `layout.VALIDATION_ROWS`: the same bytes for the same rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            "row": pa.array(np.arange(len(self.ids_NT), dtype=np.int64)),
            "input_ids": pa.array(self.ids_NT.tolist(), pa.list_(pa.int32())),
            "text": pa.array(self.texts, pa.string()),
            "source": pa.array(self.sources, pa.string()),
        }
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns).select(list(layout.VALIDATION_COLUMNS)), buffer, compression="zstd")
        return buffer.getvalue()


def spaced(k: int, n: int) -> list[int]:
    """k of n, evenly spaced: the last of each of k equal stretches, as pico-train takes them."""
    k = min(k, n)
    return [((i + 1) * n) // k - 1 for i in range(k)]


def rows_of_files(files: Sequence[Path], tokenizer: bytes | None, *, n_rows: int | None, seq_len: int) -> Rows:
    """Rows from files: text (of any name), `.jsonl` with ``text`` or ``input_ids``, `.parquet` with either column.

    Args:
        files: Their paths; all of them hold text, or all of them ids.
        tokenizer: Content of the model's `tokenizer.json`; None where it has none, and ids must be given.
        n_rows: Rows to take; None for `DEFAULT_ROWS` of text, and for all that are given as ids.
        seq_len: Tokens that a model reads of a row cut from text; rows given as ids are as long as they are.

    Raises:
        UsageError: text and no tokenizer, files of both kinds, or no text as long as a row.
        DataError: a file cannot be read, or is not what its name says.
    """
    if not files:
        return cut(_standard_library(), tokenizer, n_rows=n_rows, seq_len=seq_len)
    found = [_read(path) for path in files]
    if all(isinstance(one, TokenRows) for one in found):
        given = [one for one in found if isinstance(one, TokenRows)]
        if len({one.ids_NT.shape[1] for one in given}) > 1:
            raise UsageError("the files of token ids hold rows of different lengths: give rows of one")
        ids = np.concatenate([one.ids_NT for one in given])
        sources = [name or path.name for path, one in zip(files, given, strict=True) for name in one.sources]
        return taken(ids, sources, tokenizer, n_rows=n_rows)
    if any(isinstance(one, TokenRows) for one in found):
        raise UsageError("some of the files hold token ids and some text: give one kind")
    texts = [(path.name, one) for path, one in zip(files, found, strict=True) if not isinstance(one, TokenRows)]
    return cut(texts, tokenizer, n_rows=n_rows, seq_len=seq_len)


def cut(
    texts: Iterable[tuple[str, Sequence[str]]], tokenizer: bytes | None, *, n_rows: int | None, seq_len: int
) -> Rows:
    """Rows cut from texts: of each a source, and its documents in order; raises as `rows_of_files` does."""
    if tokenizer is None:
        raise UsageError(
            f"the model has no {layout.TOKENIZER} to tokenize text with: give rows of token ids (--data ROWS.parquet "
            "with a column input_ids, or a run of Pico)"
        )
    encoder, wanted = _loaded(tokenizer), n_rows or DEFAULT_ROWS
    pieces, sources = [], []
    for source, documents in texts:
        ids = np.concatenate([_encoded(encoder, document, source) for document in documents] or [np.zeros(0, np.int32)])
        count = len(ids) // (seq_len + 1)
        pieces.append(ids[: count * (seq_len + 1)].reshape(count, seq_len + 1))
        sources += [source] * count
    whole = np.concatenate(pieces) if pieces else np.zeros((0, seq_len + 1), np.int32)
    if not len(whole):
        raise UsageError(f"the text holds no row of {seq_len + 1} tokens: give more of it, or a smaller --seq-len")
    kept = spaced(wanted, len(whole))
    chosen = np.ascontiguousarray(whole[kept])
    return Rows(chosen, _decoded(encoder, chosen), [sources[row] for row in kept], tokenized=True)


def taken(
    ids_NT: np.ndarray,
    sources: Sequence[str],
    tokenizer: bytes | None,
    *,
    n_rows: int | None,
    texts: Sequence[str] | None = None,
) -> Rows:
    """Rows given as ids: all, or so many of them, evenly spaced."""
    if not len(ids_NT) or ids_NT.shape[1] < 2:
        raise UsageError(f"rows of at least two tokens are needed, and there are {len(ids_NT)} of {ids_NT.shape[-1]}")
    kept = spaced(n_rows or len(ids_NT), len(ids_NT))
    chosen = np.ascontiguousarray(ids_NT[kept], np.int32)
    if texts is None:
        known = _decoded(_loaded(tokenizer), chosen) if tokenizer is not None else [""] * len(chosen)
    else:
        known = [texts[row] for row in kept]
    return Rows(chosen, known, [sources[row] for row in kept])


def check_fit(rows: Rows, vocab_size: int, max_seq_len: int) -> None:
    """Refuse rows that a model cannot read.

    Raises:
        UsageError: a token id that it does not know, or rows longer than it reads.
    """
    low, high = int(rows.ids_NT.min()), int(rows.ids_NT.max())
    if low < 0 or high >= vocab_size:
        raise UsageError(f"the rows hold token {high if low >= 0 else low}, and the model knows 0 to {vocab_size - 1}")
    if (length := rows.ids_NT.shape[1] - 1) > max_seq_len:
        raise UsageError(f"rows of {length} tokens are longer than the {max_seq_len} that the model reads")


def _read(path: Path) -> TokenRows | list[str]:
    """Token ids, or the documents of a text."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _parquet(path)
    if file_size(path) > MAX_TEXT:
        raise DataError(f"{path}: it has more than the {MAX_TEXT >> 20} MiB that are read of one file: give a part")
    try:
        text = read_small(path, MAX_TEXT).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: it is no UTF-8 text ({error.reason} at byte {error.start})") from None
    return _json_lines(text, path) if kind == ".jsonl" else [text]


def _parquet(path: Path) -> TokenRows | list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file_size(path) > MAX_TEXT:
        raise DataError(f"{path}: it has more than the {MAX_TEXT >> 20} MiB that are read of one file: give a part")
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        wanted = [name for name in ("input_ids", "source") if name in names] if "input_ids" in names else ["text"]
        if wanted == ["text"] and "text" not in names:
            raise DataError(f"{path}: it has neither a column input_ids nor a column text")
        table = file.read(wanted)
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a Parquet file that can be read ({str(error).splitlines()[0][:120]})") from None
    if wanted == ["text"]:
        return [str(text) for text in table["text"].to_pylist() if text is not None]
    sources = table["source"].to_pylist() if "source" in wanted else None
    return token_rows(table["input_ids"], sources, where=str(path))


def _json_lines(text: str, path: Path) -> TokenRows | list[str]:
    import pyarrow as pa

    documents: list[str] = []
    ids: list[list[int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = strict_json.parse(line.encode(), own=False)
        except ValueError as error:
            raise DataError(f"{path}: line {number} is not JSON ({str(error)[:100]})") from None
        held = value if isinstance(value, dict) else {}
        if isinstance(held.get("text"), str):
            documents.append(held["text"])
        elif isinstance(held.get("input_ids"), list) and all(type(one) is int for one in held["input_ids"]):
            ids.append(held["input_ids"])
        else:
            raise DataError(f"{path}: line {number} has neither a text ('text') nor token ids ('input_ids')")
    if documents and ids:
        raise DataError(f"{path}: some lines hold text and some token ids: give one kind")
    if not ids:
        return documents
    try:
        return token_rows(pa.chunked_array([pa.array(ids, pa.list_(pa.int64()))]), where=str(path))
    except (OverflowError, pa.ArrowException):
        raise DataError(f"{path}: its token ids are no 64-bit numbers") from None


def _standard_library() -> list[tuple[str, list[str]]]:
    """The beginnings of some modules of Python's own library: text that every installation has."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    chosen = [files[index] for index in spaced(_MODULES, len(files))] if files else []
    texts = ((f"stdlib/{file.name}", file.read_text("utf-8", "replace")[:_BEGINNING]) for file in chosen)
    return [(name, [text]) for name, text in texts]


def _loaded(tokenizer: bytes) -> Any:
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_str(tokenizer.decode())
        loaded.no_truncation()
        loaded.no_padding()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # where its Rust code panics, that is no Exception
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{layout.TOKENIZER} is not a tokenizer ({first}): it is damaged") from None
    return loaded


def _encoded(tokenizer: Any, text: str, source: str) -> np.ndarray:
    try:
        return np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{source}: the model's tokenizer cannot tokenize it ({first})") from None


def _decoded(tokenizer: Any, ids_NT: np.ndarray) -> list[str]:
    return [str(text) for text in tokenizer.decode_batch(ids_NT.tolist(), skip_special_tokens=False)]
