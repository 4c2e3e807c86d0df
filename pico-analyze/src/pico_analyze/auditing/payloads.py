"""Weights that stand under more than one step: by the digests of files where they are known (on the Hub, and where
there are manifests), and by the rows that were read; only files whose rows agree are then read through.

What is the same in more than half of the steps, and in more than two, is taken for frozen, unless all of the files are.
Steps 0 to 2 that are the same are a warning: a learning rate that begins at zero leaves the weights as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pico_analyze.errors import DataError

if TYPE_CHECKING:
    from pico_analyze.auditing.evidence import Evidence

UNMOVED = 2
"""Last step that a warmup may not have moved."""


@dataclass(frozen=True)
class Same:
    """Steps that hold the same weights."""

    steps: tuple[int, ...]
    shards: tuple[str, ...] = ()
    """The files that are the same; empty where all of them are."""
    by: str = "sha256"
    """How that is known: ``sha256``, or ``rows``: every number that was compared is."""

    @property
    def unmoved(self) -> bool:
        """Whether a warmup explains it."""
        return not self.shards and self.steps[-1] <= UNMOVED


def same_weights(evidence: Sequence[Evidence]) -> list[Same]:
    """The groups of steps that hold the same weights, and of those that share single files."""
    keys = [_keys(one) for one in evidence]
    _read_through(evidence, keys)
    found = [Same(tuple(steps)) for steps in _groups(evidence, [_whole(of) for of in keys])]
    grouped = {step for same in found for step in same.steps}
    by_rows = _groups(evidence, [_rows(one) for one in evidence])
    found += [
        Same(tuple(steps), by="rows")
        for steps in by_rows
        if not _frozen(steps, evidence) and not grouped.issuperset(steps)
    ]
    grouped |= {step for same in found for step in same.steps}
    return found + _shards(evidence, keys, grouped)


def _keys(one: Evidence) -> dict[str, str | None]:
    """File → digest; None where it would have to be read through."""
    return dict(one.digests)


def _read_through(evidence: Sequence[Evidence], keys: Sequence[dict[str, str | None]]) -> None:
    """Find the digests that are not known, of files whose rows and sizes are those of another step's."""
    candidates: dict[tuple[str, str, int], list[int]] = {}
    for n, one in enumerate(evidence):
        for file, digest in keys[n].items():
            sample = one.sample(file)
            if digest is None and sample is not None and one.files is not None:
                candidates.setdefault((file, sample, one.files.sizes.get(file, 0)), []).append(n)
    for (file, _, _), numbers in candidates.items():
        for n in numbers if len(numbers) > 1 else ():
            files = evidence[n].files
            try:
                keys[n][file] = files.sha256(file) if files is not None else None
            except DataError as error:
                evidence[n].fault = str(error)


def _whole(digests: dict[str, str | None]) -> str | None:
    if not digests or None in digests.values():
        return None
    return repr(sorted(str(digest) for digest in digests.values()))


def _rows(one: Evidence) -> str | None:
    groups = sorted({part.group for part in one.slices})
    return repr([one.sample(group) for group in groups]) if groups else None


def _groups(evidence: Sequence[Evidence], keys: Sequence[str | None]) -> list[list[int]]:
    """Steps with equal keys, where there are several."""
    found: dict[str, list[int]] = {}
    for one, key in zip(evidence, keys, strict=True):
        if key is not None:
            found.setdefault(key, []).append(one.step)
    return [steps for steps in found.values() if len(steps) > 1]


def _shards(evidence: Sequence[Evidence], keys: Sequence[dict[str, str | None]], grouped: set[int]) -> list[Same]:
    """Files that two steps share whose other files differ."""
    by_steps: dict[tuple[int, ...], list[str]] = {}
    for file in sorted({file for of in keys for file in of}):
        if not any(len(of) > 1 for of in keys):
            break
        for steps in _groups(evidence, [of.get(file) for of in keys]):
            alone = [step for step in steps if step not in grouped]
            if alone and not _frozen(steps, evidence):
                by_steps.setdefault(tuple(steps), []).append(file)
    return [Same(steps, tuple(files)) for steps, files in by_steps.items()]


def _frozen(steps: Sequence[int], evidence: Sequence[Evidence]) -> bool:
    """Whether so many steps share something that it is no step's own."""
    return len(steps) > max(2, len(evidence) / 2) or len(evidence) < 3
