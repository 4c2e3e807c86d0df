"""Where each member of a suite stands, from what lies in its directory: no process is asked, no tensor read.

waiting     nothing is there yet
running     a process of this machine holds it, or one of another machine wrote to it a short while ago
finished    its last step is sealed
failed      its process ended with an error, which is told
stopped     begun, and neither of these: a second call goes on
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pico_schema import SchemaError, documents, layout
from pico_schema.files import replace_file
from pico_train.checkpoint import metrics_log
from pico_train.checkpoint.lock import LOCK_FILE
from pico_train.config.suites import Member
from pico_train.json_file import read_json
from pico_train.suite.record import NOTES, OpenSuite

State = Literal["waiting", "running", "stopped", "failed", "finished"]
STOPPED_BY_SIGNAL = frozenset({130, 138, 140, 143})
"""Exit codes of a run that a signal stopped: 128 + INT, USR1, USR2, TERM."""
_SILENCE = 900.0
"""Seconds without a line of the log after which a process on another machine is taken for gone."""
_TAIL = 2**16


@dataclass(frozen=True)
class MemberState:
    """Where one member stands."""

    name: str
    state: State
    step: int | None
    """Of the newest line of its log."""
    steps: int
    """Updates in all."""
    loss: float | None
    val_loss: float | None
    tokens_per_second: float | None
    checkpoints: int
    where: str | None
    """Who trains it."""
    error: str | None
    """What its process ended with, if that was an error."""

    def as_row(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def states(suite: OpenSuite) -> list[MemberState]:
    """Where every member stands, in the suite's order."""
    return [member_state(suite, member) for member in suite.members]


def member_state(suite: OpenSuite, member: Member) -> MemberState:
    """Where a member stands."""
    run_dir, steps = suite.run_dir(member), member.config.training.max_steps
    outcome = read_outcome(suite, member)
    error = outcome.get("error") if outcome.get("exit_code") not in (0, None, *STOPPED_BY_SIGNAL) else None
    sealed: list[int] = []
    if (run_dir / layout.RUN_MANIFEST).is_file():
        try:
            sealed = [entry.step for entry in documents.read_run(run_dir).checkpoints]
        except SchemaError as damaged:
            error = str(damaged)
    rows = _last_rows(run_dir / layout.METRICS_LOG)
    known = {
        name: next((v for row in reversed(rows) if (v := metrics_log.number(row, name)) is not None), None)
        for name in ("loss", "val_loss", "tokens_per_second")
    }
    where = holder(run_dir)
    state: State
    if where is not None:
        state, error = "running", None
    elif sealed and sealed[-1] >= steps:
        state, error = "finished", None
    elif error is not None:
        state = "failed"
    else:
        state = "stopped" if (run_dir / layout.RUN_MANIFEST).is_file() else "waiting"
    return MemberState(
        name=member.name,
        state=state,
        step=rows[-1]["step"] if rows else None,
        steps=steps,
        checkpoints=len(sealed),
        where=where,
        error=error,
        **known,
    )


def _last_rows(path: Path) -> list[dict[str, Any]]:
    """The last lines of a log, however long it is."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return []
    return [row for line in lines if (row := metrics_log.parse_line(line)) is not None]


def holder(run_dir: Path) -> str | None:
    """Who trains a run now, as far as its lock tells; None where nobody does."""
    path = run_dir / LOCK_FILE
    try:
        if path.stat().st_size == 0:
            return None
        known = read_json(path, most=10_000)
        pid, host = int(known["pid"]), str(known["host"])[:100]
    except (ValueError, KeyError, TypeError, OSError):
        return None
    if host == socket.gethostname():
        return f"process {pid}" if _lives(pid) else None
    try:
        newest = max(each.stat().st_mtime for each in (path, run_dir / layout.METRICS_LOG) if each.exists())
    except (ValueError, OSError):
        return None
    return f"process {pid} on {host}" if time.time() - newest < _SILENCE else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def outcome_file(suite: OpenSuite, member: Member) -> Path:
    """Where it is noted how a member's process ended."""
    return suite.directory / NOTES / f"{member.name}.json"


def log_file(suite: OpenSuite, member: Member) -> Path:
    """What a member's processes said."""
    return suite.directory / NOTES / f"{member.name}.log"


def note_outcome(suite: OpenSuite, member: Member, exit_code: int) -> str | None:
    """Note how a member's process ended; returns what it said last, if that was an error."""
    error = None
    if exit_code in (-signal.SIGINT, -signal.SIGTERM):  # it had not come to its own handlers yet
        exit_code = 128 - exit_code
    if exit_code not in (0, *STOPPED_BY_SIGNAL):
        error = _last_error(log_file(suite, member)) or (
            f"ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        )
    content = {
        "exit_code": exit_code,
        "error": error,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
    }
    replace_file(outcome_file(suite, member), json.dumps(content, indent=1) + "\n", durable=False)
    return error


def read_outcome(suite: OpenSuite, member: Member) -> dict[str, Any]:
    """How a member's last process ended; empty where none has."""
    try:
        found = read_json(outcome_file(suite, member), most=100_000)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _last_error(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return said[-1][:2000] if said else None
