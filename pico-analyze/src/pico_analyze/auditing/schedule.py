"""Steps that are missing where the others follow a rule, and tokens that do not follow the steps.

A rule is a stretch of steps at one distance, or of powers of two; a run may have several, one after the other. A
stretch is seen where at least four distances, and seven in ten, are the same, and the others whole multiples of it;
what is missing lies inside, between two such distances. Steps beside the rule end a stretch, so that schedules which
are no rule are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from pico_analyze.auditing.finding import Finding, named_steps

if TYPE_CHECKING:
    from pico_analyze.auditing.evidence import Evidence

FEWEST = 4
SHARE = 0.7
TOLERANCE = 0.02
"""By how much tokens may differ from what the other steps let expect, besides their rounding."""


def missing_steps(steps: Sequence[int], unusable: Sequence[int] = ()) -> list[tuple[int, int, tuple[int, ...]]]:
    """(step before, step after, the missing ones between) for each hole in a regular stretch.

    Args:
        steps: The steps that are there, ascending.
        unusable: Steps of which something is there; they fill holes.
    """
    there = sorted({*steps, *unusable})
    found = _holes(there)
    powers = [step for step in there if step > 0 and step & (step - 1) == 0]
    first = next((n for n, step in enumerate(there) if step > 0), len(there))
    leading = [step for step, power in zip(there[first:], powers, strict=False) if step == power]
    exponents = _holes([step.bit_length() - 1 for step in leading])
    found += [(2**a, 2**b, tuple(2**x for x in missing)) for a, b, missing in exponents]
    return sorted(set(found))


def _holes(steps: Sequence[int]) -> list[tuple[int, int, tuple[int, ...]]]:
    gaps = [b - a for a, b in pairwise(steps)]
    found = []
    for distance in sorted(set(gaps)):
        if gaps.count(distance) < FEWEST:
            continue
        for begin, end in _stretches(gaps, distance):
            part = gaps[begin:end]
            if part.count(distance) >= max(FEWEST, SHARE * len(part)):
                for n in range(begin, end):
                    if gaps[n] > distance:
                        missing = tuple(range(steps[n] + distance, steps[n + 1], distance))
                        found.append((steps[n], steps[n + 1], missing))
    return found


def _stretches(gaps: Sequence[int], distance: int) -> list[tuple[int, int]]:
    """Parts of the gaps that begin and end with the distance and hold its multiples only."""
    found, begin, end = [], None, 0
    for n, gap in enumerate([*gaps, 0]):
        if gap == distance:
            begin, end = (n if begin is None else begin), n + 1
        elif begin is not None and (gap == 0 or gap % distance):
            found.append((begin, end))
            begin = None
    return found


def schedule(evidence: Sequence[Evidence], unusable: Sequence[int]) -> list[Finding]:
    """Holes in a regular series: warnings, since a run may have been thinned out."""
    found = []
    for before, after, missing in missing_steps([one.step for one in evidence], unusable):
        verb = "is" if len(missing) == 1 else "are"
        text = (
            f"{named_steps(missing)} {verb} missing between steps {before} and {after}, where the steps are regular: "
            "publish again what was lost, or say that it was left out"
        )
        figures = {"missing": list(missing[:1000])}
        found.append(Finding(missing[0], "-", "schedule", "warning", text, figures))
    return found


def tokens(evidence: Sequence[Evidence]) -> list[Finding] | None:
    """Tokens that go down, or that are not proportional to the steps at few of them; None where fewer than three steps
    tell any. Where many are not, the batch size changed, and nothing is said."""
    told = [(one, one.tokens) for one in evidence if one.tokens is not None]
    if len(told) < 3:
        return None
    found = []
    units = {number: _unit(number) for _, number in told}
    odd = _not_proportional([(one.step, number) for one, number in told], units)
    for one, number in told:
        if one.step in odd:
            text = (
                f"{one.label} says {number:,} tokens, where the other steps let expect {odd[one.step]:,.0f}: check "
                "that the name belongs to the step"
            )
            figures = {"tokens": number, "expected": odd[one.step]}
            found.append(Finding(one.step, one.name, "tokens", "warning", text, figures))
    for (first, before), (second, after) in pairwise((one, n) for one, n in told if one.step not in odd):
        if after < before:
            text = f"{second.label} says {after:,} tokens, and {first.label} before it {before:,}: one of them is wrong"
            found.append(Finding(second.step, second.name, "tokens", "error", text, {"tokens": after}))
    return found


def _unit(number: int) -> int:
    """The last digit of a rounded number, such as 1,000,000 of 4,000,000."""
    unit = 1
    while number and number % (10 * unit) == 0:
        unit *= 10
    return unit


def _not_proportional(told: Sequence[tuple[int, int]], units: dict[int, int]) -> dict[int, float]:
    """Expected tokens of the steps that differ, where at least four in five agree."""
    unit = min((units[number] for _, number in told if number), default=1)
    moved = [(step, number) for step, number in told if step > 0]
    if not moved:
        return {}
    slope = median(number / step for step, number in sorted(moved)[len(moved) // 2 :])
    odd = {step: slope * step for step, n in told if abs(n - slope * step) > unit + TOLERANCE * slope * step}
    return odd if len(odd) <= len(told) / 5 else {}
