"""The digests that content is known by: the contract's own, and the two that the Hub names files by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pico_schema.files import open_regular


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, lower-case hexadecimal, read in pieces: the digest that manifests list.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_id(content: bytes) -> str:
    """The id that git gives to a file of this content: how the Hub names small files (large ones by their SHA-256)."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def samples_sha256(rows: bytes | bytearray | memoryview, shape: tuple[int, int], positions: Sequence[int]) -> str:
    """Digest of captured samples, as `Capture.samples_sha256` holds it: equal means the same samples in the same order.

    The writer of a capture records it; a reader of token rows compares it, which proves that they are those captured.

    Args:
        rows: Token ids of the rows that were kept, little-endian int32, row after row.
        shape: (rows kept, tokens of a row).
        positions: Positions kept in each row, ascending.

    Raises:
        ValueError: `rows` has not as many bytes as the shape takes.
    """
    n_rows, row_len = shape
    if memoryview(rows).nbytes != 4 * n_rows * row_len:
        raise ValueError(f"{n_rows} rows of {row_len} tokens take {4 * n_rows * row_len} bytes, not {len(rows)}")
    digest = hashlib.sha256(json.dumps([[n_rows, row_len], list(positions)]).encode())
    digest.update(rows)
    return digest.hexdigest()
