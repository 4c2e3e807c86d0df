"""What an audit found, as text: a table for people, records for programs, and the line at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pico_analyze.counting import counted
from pico_analyze.output.text import Format, aligned, as_csv, as_json

if TYPE_CHECKING:
    from pico_analyze.auditing.audit import Audit

_HEADER = ["step", "name", "check", "severity", "finding"]


def findings_as(audits: Sequence[Audit], form: Format) -> str:
    """The findings of several runs; for people, those of each run under its name."""
    if form == "table":
        return "\n\n".join(_table(audit) for audit in audits)
    records = [record for audit in audits for record in _records(audit)]
    return as_json(records) if form == "json" else as_csv(records)


def _records(audit: Audit) -> list[dict[str, Any]]:
    return [
        {
            "run": audit.run,
            "step": one.step,
            "name": one.name,
            "check": one.check,
            "severity": one.severity,
            "finding": one.finding,
            "figures": json.loads(json.dumps(dict(one.figures), default=float)),
        }
        for one in audit.findings
    ]


def _table(audit: Audit) -> str:
    if not audit.findings:
        return f"{audit.run}: nothing found"
    rows = [
        ["-" if one.step is None else str(one.step), one.name, one.check, one.severity, one.finding]
        for one in audit.findings
    ]
    return f"{audit.run}\n{aligned(_HEADER, rows, left=(1, 2, 3, 4))}"


def conclusion(audit: Audit) -> str:
    """``pythia-70m: 154 checkpoints, 6 checks (…), 2 errors, 1 warning``."""
    counts = [counted(audit.count("error"), "error")]
    counts += [counted(n, word) for word in ("warning", "note") if (n := audit.count(word))]
    checks = f"{counted(len(audit.checks), 'check')} ({', '.join(audit.checks)})"
    return f"{audit.run}: {counted(audit.n_checkpoints, 'checkpoint')}, {checks}, {', '.join(counts)}"
