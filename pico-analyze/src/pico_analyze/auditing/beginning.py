"""Step 0: whether it is an initialisation, and whether the run descends from it.

An initialisation has independent entries. The largest singular value of such a matrix of r × c entries is about
σ (√r + √c), whatever they are drawn from (Marchenko and Pastur 1967; Bai and Yin 1993), and training drives it beyond;
so a matrix is taken for trained above `STRUCTURE` times that. Norms are constant (1, or 0) until they are trained. Step
0 is no initialisation where a norm varies, or at least half of its matrices are trained. If the next step has much in
common with it, that is a warning: a training may be begun from another one.

With any weights whatever, independent entries have a cosine of 0 ± 1/√n. So a run does not descend from its step 0 if
the cosine with the next step is no more than that, pooled over the slices, five standard deviations being the bound;
while that step has a cosine above `KEPT` with one that is as many steps further on, and is not more than ten times as
large as step 0. A run that really has forgotten its initialisation changes as much in the second stretch: of it nothing
is said, and between `KEPT` and `HALF` a warning. Nothing is said either of fewer than three steps, of a run whose next
step has no other so far on, and of matrices too small to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.auditing.finding import Finding, Severity, listed

if TYPE_CHECKING:
    from pico_analyze.auditing.distances import Distances
    from pico_analyze.auditing.evidence import Evidence

STRUCTURE = 1.5
"""How much larger than chance the largest singular value may be."""
VARIES = 1e-3
"""Spread of a norm's entries, over their size, above which it was trained."""
DEVIATIONS = 5.0
KEPT, HALF = 0.2, 0.5
GROWN = 10.0
_ADVICE = "publish the step 0 of this run, or leave it out"


def beginning(evidence: Sequence[Evidence], space: Distances | None, without: frozenset[int]) -> list[Finding] | None:
    """What is wrong with step 0; None where there is none, or it is known to be wrong by `without`."""
    first = evidence[0] if evidence else None
    if first is None or first.step != 0 or not first.slices or 0 in without:
        return None
    others = [n for n, step in enumerate(space.steps) if step and step not in without] if space is not None else []
    found = _forgotten(first, space, others) if space is not None and space.index(0) is not None else None
    signs, figures = _signs_of_training(first)
    if not signs:
        return [found] if found is not None else []
    kept = float(np.mean(space.cos[:, 0, others[0]])) if space is not None and others else 0.0
    goes_on = kept > HALF
    text = f"{first.label} is no initialisation: {listed(signs)}"
    if goes_on and space is not None:
        text += f"; step {space.steps[others[0]]} goes on from it: right only if the training was begun from a model"
    else:
        text += f": {_ADVICE}"
    severity: Severity = "warning" if goes_on else "error"
    return [Finding(0, first.name, "beginning", severity, text, figures | {"cosine": kept})]


def _signs_of_training(first: Evidence) -> tuple[list[str], dict[str, float]]:
    signs = []
    varying = []
    for name, vector in first.norms.items():
        spread, size = float(np.std(vector)), float(np.abs(vector).mean())
        if np.isfinite(spread) and spread > VARIES * max(size, VARIES):
            varying.append(name)
    if varying:
        signs.append(f"norms vary ({listed(varying[:2])})")
    ratios, kurtoses = {}, []
    for part, rows in first.slices.items():
        values = rows.astype(np.float64)
        spread = float(values.std())
        if not np.isfinite(spread) or not spread or min(values.shape) < 2:
            continue
        largest = float(np.linalg.norm(values, 2))
        ratios[part.tensor] = largest / (spread * (np.sqrt(len(values)) + np.sqrt(values.shape[1])))
        kurtoses.append(float(np.mean((values - values.mean()) ** 4)) / spread**4)
    structured = [name for name, ratio in ratios.items() if ratio > STRUCTURE]
    if structured and 2 * len(structured) >= len(ratios):
        signs.append(f"the entries of {listed(structured[:2])} are not independent")
    figures = {"structure": max(ratios.values(), default=0.0), "kurtosis": max(kurtoses, default=0.0)}
    return signs, figures


def _forgotten(first: Evidence, space: Distances, others: list[int]) -> Finding | None:
    """Whether the next step has nothing in common with step 0 although it should."""
    if len(others) < 2:
        return None
    own, following = space.steps.index(0), others[0]
    gap = space.steps[following]
    later = next((n for n in others[1:] if space.steps[n] >= 2 * gap), None)
    if later is None:
        return None
    little = [
        n
        for n in range(len(space.entries))
        if space.norms[n, own] > 0 and space.norms[n, following] <= GROWN * space.norms[n, own]
    ]
    if not little:
        return None
    sizes = np.sqrt([space.entries[n] for n in little])
    cosines = space.cos[little, own, following]
    deviations = float(np.sum(cosines * sizes) / np.sqrt(len(little)))
    possible = float(np.sum(sizes) / np.sqrt(len(little)))
    kept = float(np.mean(space.cos[little, following, later]))
    if possible < 2 * DEVIATIONS or deviations > DEVIATIONS or kept < KEPT:
        return None
    text = (
        f"step {gap} does not descend from {first.label}: their cosine is {np.mean(cosines):.3f}, as of weights "
        f"that have nothing to do with each other, and that of steps {gap} and {space.steps[later]} is {kept:.2f}: "
        f"{_ADVICE}"
    )
    figures = {"cosine": float(np.mean(cosines)), "deviations": deviations, "cosine_later": kept}
    return Finding(0, first.name, "beginning", "error" if kept > HALF else "warning", text, figures)
