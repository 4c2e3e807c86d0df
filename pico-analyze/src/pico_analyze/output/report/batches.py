"""What a run read: the batches that its checkpoints keep, and its validation rows with the loss of each token where
that was measured.

Letters: N rows, T tokens of a row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stores.base import HasBatches, HasValidationRows
from pico_analyze.stores.samples import token_texts
from pico_analyze.stores.transformers.files import HoldsModels
from pico_analyze.table.arrays_file import read_arrays
from pico_schema import layout

if TYPE_CHECKING:
    import pandas

    from pico_analyze.stores.base import Store
    from pico_analyze.stores.samples import TokenRows

MOST_ROWS = 16
"""Rows of a batch that a page holds."""
MOST_TOKENS = 1024
"""Tokens of each of them."""
MOST_BATCHES = 40
"""Steps whose batch a page holds, evenly spaced."""


def batches(store: Store, frame: pandas.DataFrame | None, table: Path | None) -> dict[str, Any]:
    """The token rows of a run, for reading.

    Args:
        store: The run.
        frame: Its rows; None where there are none.
        table: The folder of its table, which holds the losses of tokens.

    Returns:
        `texts` (token id → its text), `batches` (each with step, split, ids (N, T), sources, n_rows and n_tokens of
        which these are a part), `losses` (step → (N, T), of the validation rows, NaN for a first token), `warnings`
        (files of losses that are damaged).
    """
    found = [*_read(store)]
    warnings: list[str] = []
    losses = {} if frame is None or table is None else dict(_losses(store, frame, table, warnings))
    ids = np.unique(np.concatenate([one["ids"].ravel() for one in found])) if found else np.zeros(0, np.int32)
    return {"texts": _texts(store, ids), "batches": found, "losses": losses, "warnings": warnings}


def _read(store: Store) -> Iterator[dict[str, Any]]:
    infos = store.steps()
    if isinstance(store, HasBatches):
        places = np.unique(np.linspace(0, max(len(infos) - 1, 0), min(len(infos), MOST_BATCHES)).round().astype(int))
        for at in places if infos else ():
            rows = store.batch_rows(infos[at].step)
            if rows is not None:
                yield _shortened(infos[at].step, "train", rows)
    if isinstance(store, HasValidationRows):
        kept = store.validation_rows()
        if kept is not None:
            yield _shortened(None, "val", kept)


def _shortened(step: int | None, split: str, rows: TokenRows) -> dict[str, Any]:
    n_rows, n_tokens = rows.ids_NT.shape
    return {
        "step": step,
        "split": split,
        "ids": np.ascontiguousarray(rows.ids_NT[:MOST_ROWS, :MOST_TOKENS], np.int32),
        "sources": list(rows.sources[:MOST_ROWS]),
        "n_rows": n_rows,
        "n_tokens": n_tokens,
    }


def _losses(
    store: Store, frame: pandas.DataFrame, table: Path, warnings: list[str]
) -> Iterator[tuple[int, np.ndarray]]:
    """Step → losses, where a table holds those of the validation rows: the rows' digest says that they are those."""
    if not isinstance(store, HasValidationRows) or (rows := store.validation_rows()) is None:
        return
    wanted = frame[(frame["site"] == "token_losses") & (frame["metric"] == "mean_loss") & (frame["run"] == store.run)]
    for row in wanted[["step", "digest", "params", "n_samples"]].itertuples(index=False):
        kept = _those_read(rows.ids_NT, int(row[3]), str(json.loads(row[2]).get("rows")))
        if kept is None:
            continue
        path = table / "behaviour" / "token_losses" / f"{layout.step_dir(int(row[0]))}-{row[1]}.safetensors"
        if not path.exists():  # arrays that were taken away: the text is shown without shading
            continue
        try:
            measured = read_arrays(path, str(row[1]))["losses"]
        except (DataError, KeyError) as error:
            warnings.append(f"losses of tokens at step {row[0]} are not shown: {error}")
            continue
        if measured.shape != (len(kept), rows.ids_NT.shape[1] - 1):
            continue
        shading = np.full(rows.ids_NT.shape, np.nan, np.float32)
        shading[kept, 1:] = measured
        yield int(row[0]), np.ascontiguousarray(shading[:MOST_ROWS, :MOST_TOKENS])


def _those_read(ids_NT: np.ndarray, n_rows: int, digest: str) -> list[int] | None:
    """Which of the rows a probe read, if its digest is that of so many of them, evenly spaced as probes take them."""
    total = len(ids_NT)
    if not 0 < n_rows <= total:
        return None
    kept = [((i + 1) * total) // n_rows - 1 for i in range(n_rows)]
    ids = np.ascontiguousarray(ids_NT[kept], np.int32)
    same = hashlib.sha256(repr(ids.shape).encode() + ids.tobytes()).hexdigest()[:12] == digest
    return kept if same else None


def _texts(store: Store, ids: np.ndarray) -> dict[int, str | None]:
    """Token id → its text; without a tokenizer, none has one."""
    infos = store.steps()
    if not len(ids) or not infos or not isinstance(store, HoldsModels):
        return {}
    files = store.model_files(infos[-1].step)
    if layout.TOKENIZER not in files.sizes:
        return {}
    with TemporaryDirectory(prefix="pico-report-") as directory:
        files.place(layout.TOKENIZER, target := Path(directory, layout.TOKENIZER))
        content = target.read_bytes()
    return token_texts(content, ids, store.location)
