"""Whether a fork begins with its parent's weights, and has no steps before it.

The parent is looked up where it lay when the fork was made, on this disk or at an address, and known by its id and by
the digest of the checkpoint's manifest. Where it is not there, or has changed since, that is a note: the fork may be as
it should. Of a run at an address no parent is looked up: a path would be one of another machine, and what a stranger's
document names is not fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.auditing.finding import Finding, named_steps
from pico_analyze.errors import PicoAnalyzeError
from pico_analyze.stores.base import HasLineage, HasManifests, HasRunManifest, ReadOptions, Store
from pico_analyze.stores.opening import is_address, open_store
from pico_analyze.stores.set_aside import printable
from pico_schema import CheckpointManifest, Parent, SchemaError, documents, layout
from pico_schema.digests import sha256_file

if TYPE_CHECKING:
    from pico_analyze.auditing.evidence import Evidence


def lineage(store: Store, evidence: Sequence[Evidence], options: ReadOptions | None = None) -> list[Finding] | None:
    """What is wrong with a fork's beginning; None for runs that are none."""
    parent = store.parent() if isinstance(store, HasLineage) else None
    if parent is None or not evidence:
        return None
    origin = f"{parent.run_name}@{parent.step}"
    before = [one for one in evidence if one.step < parent.step]
    if before:
        lie = "lies" if len(before) == 1 else "lie"
        text = (
            f"{named_steps([one.step for one in before])} {lie} before step {parent.step}, at which the run was forked "
            f"from {parent.run_name}: what lies before is the parent's, leave it out"
        )
        return [Finding(before[0].step, before[0].name, "lineage", "error", text)]
    first = next((one for one in evidence if one.step == parent.step), None)
    if first is None:
        text = f"step {parent.step}, with which it was forked from {parent.run_name}, is missing"
        return [Finding(parent.step, "-", "lineage", "warning", text)]
    found = _manifest(parent, options) if store.kind == "pico" else None
    if found is None:
        text = f"its parent {origin} is not at {printable(parent.location)} to be compared with (any more)"
        return [Finding(parent.step, first.name, "lineage", "note", text)]
    own = store.checkpoint_manifest(parent.step) if isinstance(store, HasManifests) else None
    if own is not None and own.weights_sha256 != found.weights_sha256:
        text = f"{first.label} does not hold the weights of {origin}, from which it was forked: fork it again"
        return [Finding(parent.step, first.name, "lineage", "error", text)]
    return []


def _manifest(parent: Parent, options: ReadOptions | None) -> CheckpointManifest | None:
    """The manifest of the checkpoint that was forked, where it still is; None else."""
    if is_address(parent.location):
        return _published(parent, options)
    run_dir = Path(parent.location)
    directory = run_dir / layout.checkpoint_dir(parent.step)
    try:
        if documents.read_run(run_dir).id != parent.run_id:
            return None
        manifest = documents.read_checkpoint(directory)
        unchanged = sha256_file(directory / layout.MANIFEST) == parent.manifest_sha256
    except (SchemaError, OSError, ValueError):
        return None
    return manifest if unchanged else None


def _published(parent: Parent, options: ReadOptions | None) -> CheckpointManifest | None:
    """The same at an address; whoever published a step again under its name has changed it."""
    try:
        store = open_store(parent.location, options)
        if not (isinstance(store, HasRunManifest) and isinstance(store, HasManifests)):
            return None
        if store.run_manifest().id != parent.run_id:
            return None
        there = any((one.step, one.digest) == (parent.step, parent.manifest_sha256) for one in store.steps())
        return store.checkpoint_manifest(parent.step) if there else None
    except PicoAnalyzeError:
        return None
