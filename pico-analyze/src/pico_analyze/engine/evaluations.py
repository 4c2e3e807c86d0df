"""Results of evaluation as rows of a run's table: `metric` is ``eval/<task>/<measure>``, `component` evaluation, `data`
behaviour; standard errors stand in `extra`. Nothing is computed: what the run's documents say is brought beside what
was measured of its inside."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.engine.runs import identity, place
from pico_analyze.statistics.dynamics import PREFIX
from pico_analyze.stores.opening import ReadOptions
from pico_analyze.stores.run_names import open_named
from pico_analyze.table.columns import COLUMNS, Row, as_json, digest
from pico_analyze.table.rows_file import part_content, rows_of
from pico_analyze.table.store import RowStore, directory_for, frame_of, write_part

if TYPE_CHECKING:
    import pandas

    from pico_analyze.stores.base import Store

COMPONENT = "evaluation"
_COUNTS = ("n_documents", "n_pairs", "n_questions")


def measure_name(flat: str) -> str | None:
    """``eval/<task>/<measure>`` of a flat name, ``<task>.<measure>``; None for a scalar of training."""
    task, dot, measure = flat.rpartition(".")
    return f"{PREFIX}{task}/{measure}" if dot else None


def evaluation_rows(store: Store) -> list[Row]:
    """One row for each result at each step; counts and standard errors belong to the rows of what they are of."""
    infos = {info.step: info for info in store.steps()}
    rows = []
    for step, results in sorted(store.evaluations().items()):
        if step not in infos:
            continue
        provenance = as_json(store.provenance(step))
        for flat, value in results.items():
            metric = measure_name(flat)
            measure = flat.rpartition(".")[2]
            if metric is None or measure.endswith("_se") or measure.startswith("n_"):
                continue
            rows.append(_row(store, step, infos[step].tokens_seen, metric, flat, value, results, provenance))
    return rows


def _row(
    store: Store,
    step: int,
    tokens_seen: int | None,
    metric: str,
    flat: str,
    value: float,
    results: Mapping[str, float],
    provenance: str,
) -> Row:
    task = flat.rpartition(".")[0]
    error = results.get(f"{flat}_se")
    count = next((results[f"{task}.{name}"] for name in _COUNTS if f"{task}.{name}" in results), None)
    row: Row = dict.fromkeys(COLUMNS)
    return row | {
        "run": store.run,
        "step": step,
        "tokens_seen": tokens_seen,
        "data": "behaviour",
        "component": COMPONENT,
        "site": task,
        "metric": metric,
        "params": as_json({}),
        "value": value,
        "n_samples": None if count is None else int(count),
        "extra": None if error is None else as_json({"standard_error": error}),
        "provenance": provenance,
        "digest": digest("evaluation", identity(store), step, metric, value, error),
    }


def bring(run: str | Path, out: Path | None, options: ReadOptions) -> tuple[pandas.DataFrame, Path | None]:
    """A run's results as rows, also in its table.

    Args:
        run: The run.
        out: Directory in which the run has its own; None to write nothing.
        options: How it is read.

    Returns:
        The rows, and the directory of the table.

    Raises:
        DataError: a document of results is damaged, or of another checkpoint.
        StorageError: the disk refused.
    """
    store = open_named(run, options)
    rows, started = evaluation_rows(store), time.time_ns()
    content = part_content(rows)
    if out is None:
        return frame_of(rows_of(content, where=store.run)), None
    directory = directory_for(out, store.run, identity(store), place(store))
    with RowStore(directory, started, merge=True) as table:
        if rows:
            write_part(directory, f"{started:020d}-{digest('evaluation', store.run)}.parquet", content)
    return table.frame({str(row["digest"]) for row in rows}), directory
