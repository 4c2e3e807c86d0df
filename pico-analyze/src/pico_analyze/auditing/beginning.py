"""Step 0: whether it is an initialisation, and whether the run descends from it.

An initialisation has independent entries. The largest singular value of such a matrix of r × c entries is about
σ (√r + √c), whatever they are drawn from (Marchenko and Pastur 1967; Bai and Yin 1993), and training drives it beyond;
so a matrix is taken for trained above `STRUCTURE` times that. Norms are constant (1, or 0) until they are trained. Step
0 is no initialisation where a norm varies, or at least half of its matrices are trained. If the next step has much in
common with it, that is a warning: a training may be begun from another one.

With any weights whatever, independent entries have a cosine of 0 ± 1/√n. So a run does not descend from its step 0 if
the cosine with the next step is no more than that, pooled over the slices, five standard deviations being the bound. It
has to be known that it should be more: where weight decay has left a fifth of the initialisation, and all else that the
next step holds is new, the cosine is a fifth of the ratio of their norms, which has to be ten standard deviations; and
the next step has to have a cosine above `KEPT` with one that is as many steps further on, so that such a time does not
change everything: between `KEPT` and `HALF` that is a warning. Of runs that moved far before their next step, of fewer
than three steps, and of matrices too small to tell, nothing is said.
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
LEFT = 0.2
"""Share of an initialisation that weight decay leaves up to the next step, at the least."""
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
    there = [n for n in range(len(space.entries)) if space.norms[n, own] > 0]
    if not there:
        return None
    sizes = np.sqrt([space.entries[n] for n in there]) / np.sqrt(len(there))
    cosines = space.cos[there, own, following]
    deviations = float(np.sum(cosines * sizes))
    left = LEFT * np.minimum(1, space.norms[there, own] / space.norms[there, following])
    expected = float(np.sum(left * sizes))
    kept = float(np.mean(space.cos[there, following, later]))
    if expected < 2 * DEVIATIONS or deviations > DEVIATIONS or kept < KEPT:
        return None
    text = (
        f"step {gap} does not descend from {first.label}: their cosine is {np.mean(cosines):.3f}, as of weights "
        f"that have nothing to do with each other, and that of steps {gap} and {space.steps[later]} is {kept:.2f}: "
        f"{_ADVICE}"
    )
    figures = {
        "cosine": float(np.mean(cosines)),
        "deviations": deviations,
        "expected_deviations": expected,
        "cosine_later": kept,
    }
    return Finding(0, first.name, "beginning", "error" if kept > HALF else "warning", text, figures)
