"""What a run is, as its card shows it: architecture, data, schedule, versions, commit, and what is to be warned of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pico_analyze.counting import counted
from pico_analyze.output.text import size_text
from pico_analyze.output.without_site import why_incomplete
from pico_analyze.stores.base import HasLineage, HasManifests, HasRunManifest, NamesTensors, SetsAside, Store
from pico_analyze.stores.spec import STORES
from pico_schema import SchemaError

if TYPE_CHECKING:
    from pico_schema import ModelSpec, RunManifest

Facts = list[list[str]]
"""Pairs of a name and a value, both text."""
_MOST_WARNINGS = 40


def card(store: Store) -> dict[str, Any]:
    """The card of one run.

    Returns:
        name, location, kind, `facts` (headed groups of pairs), `config` (pairs), `warnings`, `checkpoints`.

    Raises:
        DataError, StorageError: of the store.
    """
    infos = store.steps()
    manifest = store.run_manifest() if isinstance(store, HasRunManifest) else None
    facts: list[tuple[str, Facts]] = []
    if infos:
        facts.append(("architecture", _architecture(store.spec(infos[-1].step))))
    if isinstance(store, HasLineage):
        facts.append(("lineage", _lineage(store)))
    if manifest is not None:
        facts += [("data", _data(manifest)), ("schedule", _schedule(manifest.config)), ("made by", _made_by(manifest))]
    elif infos:
        facts.append(("where from", [[name, str(value)] for name, value in store.provenance(infos[-1].step).items()]))
    return {
        "name": store.run,
        "location": store.location,
        "kind": STORES.get(store.kind).title,
        "facts": [[name, pairs] for name, pairs in facts if pairs],
        "config": [] if manifest is None else [list(pair) for pair in flat(manifest.config)],
        "warnings": _warnings(store, manifest),
        "checkpoints": [
            {
                "step": info.step,
                "tokens": info.tokens_seen,
                "size": size_text(info.size),
                "captures": [
                    f"{split}: {counted(len(one.activations), 'activation')}, {counted(len(one.gradients), 'gradient')}"
                    for split, one in info.splits.items()
                ],
                "digest": info.digest[:12],
            }
            for info in infos
        ],
    }


def _architecture(spec: ModelSpec) -> Facts:
    found = spec.model_dump()
    with suppress(SchemaError):  # of a foreign model they do not follow from its geometry
        found = {"parameters": f"{spec.n_params:,}", **found}
    return [[name, _text(value)] for name, value in found.items() if value is not None]


def _lineage(store: HasLineage) -> Facts:
    """Of which suite a run is, and from which checkpoint it was forked."""
    found: dict[str, Any] = {}
    if (membership := store.membership()) is not None:
        found = {"suite": membership.name, **membership.coordinates}
    if (parent := store.parent()) is not None:
        found |= {
            "forked from": f"{parent.run_name}@{parent.step}",
            "at": parent.location,
            "run": parent.run_id,
            "optimizer": parent.optimizer,
            "data": parent.data,
        }
    return [[name, _text(value)] for name, value in found.items()]


def _data(run: RunManifest) -> Facts:
    data = run.data
    rows = f"{data.n_rows:,} of {data.seq_len:,} tokens, {data.order}"
    found = {"source": data.source, **data.details, "rows": rows, "vocabulary": data.vocab_size, "sha256": data.sha256}
    if run.validation is not None:
        found["validation"] = counted(run.validation.n_rows, "row")
    return [[name, _text(value)] for name, value in found.items() if value is not None]


def _schedule(config: Mapping[str, Any]) -> Facts:
    """What of the configuration decides how the weights move."""
    training = config.get("training")
    if not isinstance(training, Mapping):
        return []
    kept = ("max_steps", "batch_size", "precision", "grad_clip", "optimizer.", "schedule.")
    return [[name, value] for name, value in flat(training) if name.startswith(kept) and value != "none"]


def _made_by(run: RunManifest) -> Facts:
    environment = run.environment
    found: dict[str, Any] = {
        "run id": run.id,
        "seed": run.seed,
        "begun": run.created.isoformat(timespec="seconds"),
        "producer": f"{run.producer.name} {run.producer.version}",
    }
    git = environment.get("git")
    if isinstance(git, Mapping) and git.get("commit"):
        found["commit"] = f"{str(git['commit'])[:12]}{', changed since' if git.get('changed') else ''}"
    packages = environment.get("packages")
    rest = {name: value for name, value in environment.items() if name not in ("git", "packages")}
    found |= {name: value for name, value in rest.items() if not isinstance(value, Mapping | list)}
    found |= dict(packages) if isinstance(packages, Mapping) else {}
    return [[str(name), _text(value)] for name, value in found.items() if value is not None]


def _warnings(store: Store, manifest: RunManifest | None) -> list[str]:
    """What a reader has to know before trusting a curve."""
    found = [f"{lost.name} is left out: {lost.reason}" for lost in store.unusable()]
    if isinstance(store, SetsAside):
        found += [
            f"{counted(len(aside.steps), 'step')} set aside ({', '.join(map(str, aside.steps[:8]))}"
            f"{', …' if len(aside.steps) > 8 else ''}): {aside.reason}"
            for aside in store.set_aside()
        ]
    if manifest is not None:
        found += [
            f"{change.field} was changed at step {change.step}: {_text(change.before)} → {_text(change.after)}"
            for change in manifest.changes
        ]
        git = manifest.environment.get("git")
        if isinstance(git, Mapping) and git.get("changed"):
            found.append("the code was changed since its commit: the commit alone does not make this run again")
    infos = store.steps()
    if infos and isinstance(store, NamesTensors):
        why = why_incomplete(store.without_site(infos[-1].step))
        found += [why] if why else []
    if infos and isinstance(store, HasManifests):
        origin = store.checkpoint_manifest(infos[-1].step).origin
        found += [f"made from {origin.location}, run {origin.run}"] if origin else []
    if len(found) > _MOST_WARNINGS:
        found = [*found[:_MOST_WARNINGS], f"and {len(found) - _MOST_WARNINGS} more: `pico-analyze list` names them"]
    return found


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """``optimizer.lr``, ``0.003``: nested values with dotted names, as text."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", _text(value)


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
