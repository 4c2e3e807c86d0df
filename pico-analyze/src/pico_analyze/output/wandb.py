"""Tables and figures to Weights & Biases, if asked for (`--wandb`): the only file of this package that knows it.

An analysis is one wandb run of its own: the tidy table whole, the figures as images, and each series as a curve against
the step. `offline` writes files below the working directory and opens no connection.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pico_analyze.errors import StorageError, UsageError

if TYPE_CHECKING:
    import pandas as pd

Mode = Literal["offline", "online"]
MAX_ROWS = 200_000
"""wandb shows at most this many rows of a table."""
MAX_CURVES = 200


def log_analysis(
    frame: pd.DataFrame,
    figures: Sequence[Path],
    *,
    project: str = "pico",
    entity: str | None = None,
    mode: Mode = "offline",
    name: str,
    directory: Path | None = None,
) -> Path | None:
    """Log the rows of an analysis and its pictures as one wandb run.

    Args:
        frame: Tidy rows.
        figures: PNG files.
        project: wandb's project.
        entity: wandb's user or team; by default the account's.
        mode: `offline` needs no account.
        name: Name of the wandb run.
        directory: Where wandb keeps its files (in a folder `wandb`); by default the working directory.

    Returns:
        The directory of the offline run, or None online.

    Raises:
        UsageError: wandb is not installed, or knows no account.
        StorageError: wandb failed.
    """
    try:
        import wandb
    except ImportError:
        raise UsageError("--wandb needs wandb: run `pip install 'pico-analyze[wandb]'`") from None
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no reports to wandb's makers
    shown = frame.head(MAX_ROWS)
    try:
        run = wandb.init(
            project=project,
            entity=entity,
            name=name,
            mode=mode,
            job_type="analysis",
            # Said each time: by itself wandb stays where it was when this process called it first.
            dir=str(directory or os.environ.get("WANDB_DIR") or Path.cwd()),
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, x_disable_machine_info=True
            ),
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        table = wandb.Table(columns=[str(c) for c in shown.columns], data=_cells(shown))
        run.log({"analysis": table, **{f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}})
        for step, values in curves(frame):
            run.log({"step": step, **values})
        where = Path(run.dir).parent if mode == "offline" else None
        run.finish()
    except wandb.errors.UsageError as error:
        raise UsageError(f"wandb: {_first_line(error)}; log in with `wandb login`, or use offline mode") from None
    except Exception as error:
        raise StorageError(f"wandb failed ({_first_line(error)}); the table and the figures are on disk") from None
    return where


def curves(frame: pd.DataFrame) -> list[tuple[int, dict[str, float]]]:
    """Values by step, each named after what it is: ``cka/attn.v/layer 3/val``; at most `MAX_CURVES` series.

    Values that are undefined are left out; the table keeps them with their reason.
    """
    parts = [
        c for c in ("metric", "component", "site", "layer", "head", "split", "data", "params") if c in frame.columns
    ]
    by_step: dict[int, dict[str, float]] = {}
    names: set[str] = set()
    columns = {column: position for position, column in enumerate(frame.columns)}
    for row in frame.itertuples(index=False, name=None):
        value = row[columns["value"]]
        if _is_missing(value):
            continue
        name = "/".join(_label(part, row[columns[part]]) for part in parts if not _is_missing(row[columns[part]]))
        if name not in names and len(names) >= MAX_CURVES:
            continue
        names.add(name)
        by_step.setdefault(int(row[columns["step"]]), {})[name] = float(value)
    return sorted(by_step.items())


def _is_missing(value: object) -> bool:
    """None, NaN, pandas' NA, or a text that says nothing. (NA has no truth value, so it is told by its name.)"""
    return value is None or str(value) in ("", "{}", "nan", "<NA>", "NaT")


def _label(part: str, value: object) -> str:
    if part in ("layer", "head"):
        return f"{part} {int(float(str(value)))}"
    return str(value)


def _cells(frame: pd.DataFrame) -> list[Iterable[Any]]:
    """Rows of plain Python values: missing ones None, nested ones JSON."""
    return [[_plain(value) for value in row] for row in frame.itertuples(index=False, name=None)]


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, default=str)
    if value is None or str(value) in ("nan", "<NA>", "NaT"):
        return None
    return value.item() if hasattr(value, "item") else value


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
