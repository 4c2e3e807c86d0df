"""How a person names a run or one of its checkpoints: RUN, RUN@step-N, or the directory of the checkpoint itself."""

from __future__ import annotations

import re
from pathlib import Path

from pico_schema import layout
from pico_train.errors import UsageError

_STEP = re.compile(r"(?:step-)?([0-9]{1,8})")
RUNS = Path("runs")
"""Where a bare name is looked for."""


def parse_target(text: str) -> tuple[Path, int | None]:
    """The directory of a run, and the step if one is named.

    `demo`, `runs/demo`, `runs/demo@step-128`, `demo@128` and `runs/demo/checkpoints/step-00000128` are all understood.

    Raises:
        UsageError: there is no such run, or what follows the @ is not a step; the message says what is there.
    """
    name, at, suffix = text.rpartition("@")
    if not at or Path(text).exists():
        name, at, suffix = text, "", ""
    match = _STEP.fullmatch(suffix)
    if at and match is None:
        raise UsageError(f"{text!r}: after the @ a step is expected, such as {name}@step-128")
    step = int(match[1]) if match else None
    path = Path(name)
    if not at and (inside := layout.parse_step_dir(path.resolve().name)) is not None:
        path, step = path.resolve().parent.parent, inside
    for candidate in (path, RUNS / name):
        if (candidate / layout.RUN_MANIFEST).is_file():
            return candidate, step
    known = sorted(entry.parent.name for entry in RUNS.glob(f"*/{layout.RUN_MANIFEST}"))
    there = f"; in {RUNS}/ there are {', '.join(known)}" if known else ""
    raise UsageError(f"{name} is not a run: it has no {layout.RUN_MANIFEST}{there}")
