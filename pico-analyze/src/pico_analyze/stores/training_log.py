"""Losses that a run of Pico logged while it trained, beside its checkpoints: `metrics.jsonl`, a line a logged step."""

from __future__ import annotations

import math
from pathlib import Path

from pico_analyze.errors import DataError
from pico_schema import layout, strict_json
from pico_schema.files import NotRegularError, read_regular

LIMIT = 512 * 2**20
"""Largest log that is read, in bytes."""


def logged_losses(run: Path) -> dict[int, float]:
    """Training loss by step; empty where nothing was logged. A line that is being written is left out.

    Raises:
        DataError: the log is no file, too large, or has a line that is none.
    """
    path = run / layout.METRICS_LOG
    try:
        content = read_regular(path, LIMIT + 1)
    except FileNotFoundError:
        return {}
    except NotRegularError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"{path}: reading failed ({error.strerror or error}): check the disk") from None
    if len(content) > LIMIT:
        raise DataError(f"{path}: it is larger than {LIMIT >> 20} MB: no log that is read")
    found: dict[int, float] = {}
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line's end is still being written
        if not line.strip():
            continue
        try:
            values = strict_json.parse(line, own=False)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: {error}: `pico-train verify` says what is lost") from None
        step, loss = (values.get("step"), values.get("loss")) if isinstance(values, dict) else (None, None)
        if isinstance(step, int) and isinstance(loss, int | float) and math.isfinite(loss):
            found[step] = float(loss)
    return found
