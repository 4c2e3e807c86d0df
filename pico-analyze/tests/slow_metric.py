"""A package with one metric, `slow`, for processes that a test starts: quick at first, then busy for a minute.

What it is busy with is one call in C, as a decomposition of a large matrix would be: no signal interrupts it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import MetricSpec, Result

_done = 0


def slow(matrix: Matrix) -> Result:
    """The first number, after a while."""
    global _done
    _done += 1
    if _done > int(os.environ.get("QUICK_CALLS", "1000000")):
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    return Result(float(matrix.dense()[0, 0]))


SLOW = MetricSpec(
    name="slow",
    kind="single",
    fn=slow,
    definition="The first number.",
    range="any",
    best="none",
    cost="a minute",
    reference="none",
)


def install(folder: Path) -> Path:
    """Put the package where PYTHONPATH may point to."""
    folder.mkdir()
    (folder / "slow_metric.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    about = folder / "slow_metric-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-metric\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pico_analyze.metrics]\nslow = slow_metric:SLOW\n")
    return folder
