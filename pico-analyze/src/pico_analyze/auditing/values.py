"""Numbers that no training leaves: NaN, infinities, and matrices that are zero although they were not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.auditing.finding import Finding, listed

if TYPE_CHECKING:
    from pico_analyze.auditing.evidence import Evidence


def values(evidence: Sequence[Evidence]) -> list[Finding]:
    """What is wrong with the numbers that were read."""
    found = []
    alive = {part for one in evidence for part, rows in one.slices.items() if one.step > 0 and rows.any()}
    for one in evidence:
        bad = {part.tensor: int((~np.isfinite(rows)).sum()) for part, rows in one.slices.items()}
        bad |= {name: int((~np.isfinite(vector)).sum()) for name, vector in one.norms.items()}
        bad = {name: n for name, n in bad.items() if n}
        if bad:
            text = f"{one.label} holds NaN or infinities in {listed(sorted(bad))}: the training or the file is broken"
            found.append(Finding(one.step, one.name, "values", "error", text, {"not_finite": sum(bad.values())}))
        empty = sorted(part.tensor for part, rows in one.slices.items() if part in alive and not rows.any())
        if empty and one.step > 0:
            text = f"{one.label} holds nothing but zeros in {listed(empty)}, other steps do not: convert it again"
            found.append(Finding(one.step, one.name, "values", "error", text, {"tensors": empty}))
    return found
