"""Files that are not what their manifests say, and checkpoints that are none, as the store tells."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

from pico_analyze.auditing.finding import Finding
from pico_analyze.errors import DataError
from pico_schema import layout

if TYPE_CHECKING:
    from pico_analyze.auditing.evidence import Evidence
    from pico_analyze.stores.base import Store, Unusable
    from pico_analyze.stores.seals import ChecksSeals

_AT_ONCE = 4
_AGAIN = "put a sound copy in its place, publish it again, or leave the step out"


def sealed(store: Store, evidence: Sequence[Evidence]) -> list[Finding] | None:
    """Every file of every manifest against size and sha256; None for a store without manifests.

    Raises:
        StorageError: disk or network.
    """
    if not hasattr(store, "broken_seals"):  # not by isinstance: a run reduced to one step passes it on
        return None
    compare = cast("ChecksSeals", store).broken_seals

    def of(one: Evidence) -> list[Finding]:
        try:
            broken = compare(one.step)
        except DataError as error:  # the manifest itself
            return [] if one.fault is not None else [_of_seal(one, str(error), layout.MANIFEST)]
        return [_of_seal(one, f"{seal.file} of {one.label}: {seal.reason}", seal.file) for seal in broken]

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="seals") as pool:
        found = [finding for of_step in pool.map(of, evidence) for finding in of_step]
    try:
        store.evaluations()
    except DataError as error:
        found.append(Finding(None, "evaluations", "seals", "error", str(error)))
    return found


def _of_seal(one: Evidence, what: str, file: str) -> Finding:
    return Finding(one.step, one.name, "seals", "error", f"{what}: {_AGAIN}", {"file": file})


def complete(store: Store, evidence: Sequence[Evidence]) -> list[Finding]:
    """What looks like a checkpoint and cannot be read."""
    found = [_unusable(one) for one in store.unusable()]
    for one in evidence:
        if one.fault is not None:
            text = f"{one.label} cannot be read ({one.fault}): {_AGAIN}"
            found.append(Finding(one.step, one.name, "complete", "error", text))
    return found


def _unusable(one: Unusable) -> Finding:
    if one.step is None:
        return Finding(None, one.name, "complete", "note", f"{one.name} is no checkpoint: {one.reason}")
    if one.name.startswith("."):
        text = f"step {one.step} ({one.name}) is unfinished: let its writer finish, or resume the run"
        return Finding(one.step, one.name, "complete", "warning", text)
    text = f"step {one.step} ({one.name}) cannot be used ({one.reason}): {_AGAIN}"
    return Finding(one.step, one.name, "complete", "error", text)
