"""Rows that were computed of ranges of files which were not whole yet: once they are, the rows are confirmed, or go.

Such rows say in their provenance which ranges those were, with the digest of what was read. A run that can tell by now
(`stores.base.Confirms`) is asked; rows whose ranges were right no longer say so, rows whose ranges were not are
computed again. Of a file that is still in parts no one can tell: its rows keep what they say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pico_analyze.stores.base import Confirms, Store
from pico_analyze.table.columns import Row, as_json

SIGN = '"unchecked": {'
"""What stands in the provenance of such rows."""


@dataclass
class Verdict:
    """What is known of some rows by now."""

    confirmed: list[Row] = field(default_factory=list)
    """Rows whose every range was right, as they read now."""
    wrong: set[str] = field(default_factory=set)
    """Digests of rows of which a range was not."""


def judge(rows: Iterable[Row], stores: Sequence[Store]) -> Verdict:
    """Ask the runs about rows.

    Args:
        rows: Rows with `SIGN` in their provenance.
        stores: The runs of the analysis.
    """
    verdict, seen = Verdict(), dict[tuple[object, ...], tuple[bool | None, str]]()
    for row in rows:
        key = row["provenance"], row["step"], row["target_step"]
        if key not in seen:
            seen[key] = _answer(row, stores)
        right, provenance = seen[key]
        if right is False:
            verdict.wrong.add(row["digest"])
        elif provenance != row["provenance"]:
            verdict.confirmed.append(row | {"provenance": provenance})
    return verdict


def _answer(row: Row, stores: Sequence[Store]) -> tuple[bool | None, str]:
    """Whether all ranges of a row were right (None: not all are known), and its provenance without those that were."""
    facts = json.loads(row["provenance"])
    answers: list[bool | None] = []
    for side, step in ((facts, row["step"]), (facts.get("target"), row["target_step"])):
        unchecked = side.get("unchecked") if side is not None else None
        if not isinstance(unchecked, dict):
            continue
        store = _store_of(side, step, stores)
        for file in list(unchecked):
            answer = None if store is None else store.confirms(step, file, unchecked[file])
            answers.append(answer)
            if answer:
                del unchecked[file]
        if not unchecked:
            del side["unchecked"]
    right = False if False in answers else None if None in answers else True
    return right, as_json(facts)


def _store_of(side: dict[str, object], step: int, stores: Sequence[Store]) -> Confirms | None:
    """The run that one side of a row comes from."""
    for store in stores:
        if isinstance(store, Confirms) and store.kind == side.get("kind"):
            known = {info.step for info in store.steps()}
            if step in known and store.provenance(step).items() <= side.items():
                return store
    return None
