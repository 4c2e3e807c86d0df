"""What the training loop hands to the writer: everything one checkpoint will hold, copied off the model.

Nothing in a contents is shared with the running model, so that training goes on while it is written.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_schema import Capture
from pico_train.finite import first_nonfinite

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

ShardedSave = Callable[[Path | None], None]
"""Writes this process's part of a sharded training state. All processes call it together; the directory that the first
process gives counts, and None there means that nothing is saved."""


@dataclass(frozen=True)
class CaptureContents:
    """One split's activations and gradients."""

    capture: Capture
    """Its entry in the manifest: names, positions, digests."""
    tensors: Mapping[str, Tensor]
    """On the CPU, by their names in the file: `activations/<site>`, `gradients/<site>`, extras."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Text for the file's header."""


@dataclass(frozen=True)
class BatchContents:
    """The rows of batch N, as ids and as text."""

    input_ids: np.ndarray
    """(n_rows, seq_len + 1), integers."""
    row_ids: np.ndarray
    """(n_rows,), each row's number in the corpus."""
    texts: Callable[[], Sequence[str]]
    """Decodes the rows; called in the background, since it takes a while."""
    sources: Sequence[str]
    """Where each row comes from."""

    def parquet(self) -> bytes:
        """A Parquet file with the columns row_id, source, text, input_ids."""
        import pyarrow.parquet as pq

        table = token_rows_table("row_id", self.row_ids, self.input_ids, list(self.texts()), self.sources)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()


def token_rows_table(
    number: str, numbers: np.ndarray, input_ids: np.ndarray, texts: Sequence[str], sources: Sequence[str]
) -> pa.Table:
    """Rows of tokens as a table with the columns `number`, source, text, input_ids.

    Args:
        number: Name of the column with the rows' numbers.
        numbers: (n_rows,) integers.
        input_ids: (n_rows, seq_len + 1) integers.
        texts: Each row as text.
        sources: Where each row is from.
    """
    import pyarrow as pa

    ids = np.ascontiguousarray(input_ids, dtype=np.int32)
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * (ids.shape[1] if ids.ndim == 2 else 0)
    return pa.table(
        {
            number: pa.array(np.asarray(numbers, dtype=np.int64)),
            "source": pa.array(list(sources), pa.string()),
            "text": pa.array(list(texts), pa.string()),
            "input_ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids.reshape(-1))),
        }
    )


@dataclass(frozen=True)
class CheckpointContents:
    """One checkpoint, ready to be written."""

    step: int
    """Updates done."""
    manifest: Mapping[str, Any]
    """Every field of `CheckpointManifest` except step, captures, files and weights_sha256: the writer knows those."""
    weights: Mapping[str, Tensor]
    """On the CPU, by their names in transformers' checkpoints."""
    hf_files: Mapping[str, bytes] = field(default_factory=dict)
    """config.json, generation_config.json and the tokenizer's files, by name."""
    training_state: Mapping[str, Any] | ShardedSave | None = None
    """What a resume needs besides the weights, as one dictionary, or as a function where it is sharded; None where it
    is not due."""
    captures: Sequence[CaptureContents] = ()
    """At most one per split."""
    batch: BatchContents | None = None
    """The batch that the next update consumes."""

    @cached_property
    def nonfinite(self) -> str | None:
        """Name of the first of its tensors that holds a NaN or an infinity, or None. With one, it is not sealed.

        A sharded training state is not looked into: each process does that before it hands over its shards.
        """
        parts: dict[str, Any] = {f"{item.capture.split} capture": item.tensors for item in self.captures}
        if isinstance(self.training_state, Mapping):
            parts["training state"] = self.training_state
        return first_nonfinite(self.weights) or first_nonfinite(parts)
