"""What a run of Pico logged while it trained, beside its checkpoints: `metrics.jsonl`, a line a logged step."""

from __future__ import annotations

import sys
from pathlib import Path

from pico_analyze.errors import DataError
from pico_schema import layout, strict_json
from pico_schema.files import NotRegularError, read_regular

LIMIT = 512 * 2**20
"""Largest log that is read, in bytes."""
_LARGEST = sys.float_info.max


def logged_losses(run: Path) -> dict[int, float]:
    """Training loss by step; empty where nothing was logged. Raises as `logged_values` does."""
    return logged_values(run).get("loss", {})


def logged_values(run: Path) -> dict[str, dict[int, float]]:
    """Every number that was logged, by its name and by step: loss, lr, grad_norm, tokens_seen, …; what is not finite is
    left out, and so is a line that is being written.

    Raises:
        DataError: the log is no file, too large, or has a line that is none.
    """
    path = run / layout.METRICS_LOG
    content = _content(path)
    found: dict[str, dict[int, float]] = {}
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line's end is still being written
        if not line.strip():
            continue
        try:
            values = strict_json.parse(line, own=False)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: {error}: `pico-train verify` says what is lost") from None
        step = values.get("step") if isinstance(values, dict) else None
        if type(step) is int:
            for name, value in values.items():
                if name != "step" and type(value) in (int, float) and abs(value) <= _LARGEST:  # which NaN is not
                    found.setdefault(name, {})[step] = float(value)
    return found


def _content(path: Path) -> bytes:
    """The whole log; empty where there is none."""
    try:
        content = read_regular(path, LIMIT + 1)
    except FileNotFoundError:
        return b""
    except NotRegularError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"{path}: reading failed ({error.strerror or error}): check the disk") from None
    if len(content) > LIMIT:
        raise DataError(f"{path}: it is larger than {LIMIT >> 20} MB: no log that is read")
    return content
