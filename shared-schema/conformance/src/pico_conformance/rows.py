"""Token rows of made-up runs, as the contract stores them: validation rows, batches, and a tokenizer to read them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# Printable ASCII in the alphabet of a byte-level BPE, in which a space is Ġ; the rest of the vocabulary is words.
CHARACTERS = ["<|endoftext|>", "Ġ", *map(chr, range(33, 127))]


def tokenizer_json(n_tokens: int = 1000) -> bytes:
    """A byte-level BPE without merges: token 1 is a space, tokens 2 to 95 are the printable characters, then words."""
    vocab = [*CHARACTERS, *(f"Ġw{i}" for i in range(n_tokens - len(CHARACTERS)))]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = {"id": 0, "content": CHARACTERS[0], "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    model = {"type": "BPE", "vocab": {token: number for number, token in enumerate(vocab)}, "merges": []}
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [end | flags],
            "normalizer": None,
            "pre_tokenizer": level,
            "post_processor": None,
            "decoder": level,
            "model": model,
        }
    ).encode()


def draw_rows(rng: np.random.Generator, n_rows: int, row_len: int, vocab_size: int) -> np.ndarray:
    """(n_rows, row_len) int32 token ids."""
    return rng.integers(0, vocab_size, (n_rows, row_len), dtype=np.int32)


def text_of(row: Sequence[int]) -> str:
    """What a tokenizer makes of a row's characters."""
    return "".join(CHARACTERS[token].replace("Ġ", " ") if token < len(CHARACTERS) else "?" for token in row)


def rows_parquet(ids: np.ndarray, *, number: str, source: str) -> bytes:
    """The rows as a Parquet file with the columns of the contract; `number` names that of the rows' numbers."""
    table = pa.table(
        {
            number: pa.array(range(len(ids)), pa.int64()),
            "input_ids": pa.array(ids.tolist(), pa.list_(pa.int32())),
            "text": pa.array([text_of(row) for row in ids.tolist()], pa.string()),
            "source": pa.array([f"{source}/{i % 3}.txt" for i in range(len(ids))], pa.string()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
