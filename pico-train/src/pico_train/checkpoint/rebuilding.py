"""`run.json` from what sealed checkpoints and `config.yaml` say, where it is lost, damaged or that of another run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pico_schema import CheckpointManifest, ConfigChange, RunManifest, SchemaError, ValidationRows, documents, layout
from pico_schema.digests import samples_sha256, sha256_file
from pico_train.checkpoint import resume, set_aside, validation_rows
from pico_train.checkpoint.consumed import BATCH_SIZE, consumed_before
from pico_train.checkpoint.storage import Disk, replace_file
from pico_train.config import RunConfig, layers
from pico_train.counting import counted
from pico_train.errors import CheckpointError, ConfigError


def run_manifest(
    run_dir: Path,
    manifests: Mapping[int, CheckpointManifest],
    rebuilt: list[str],
    not_rebuilt: list[str],
    disk: Disk,
) -> RunManifest:
    """The run's manifest as it stands, or else rebuilt and stored.

    Args:
        run_dir: The run.
        manifests: Its sealed checkpoints' manifests, by step.
        rebuilt: Gets a sentence for what was made anew.
        not_rebuilt: Gets a sentence for what could not be known.
        disk: Where to write.

    Raises:
        CheckpointError: there is nothing to rebuild it from, or it is of more than one run.
    """
    run, why = _stored(run_dir)
    owners: dict[str, list[int]] = {}
    for step, manifest in sorted(manifests.items()):
        owners.setdefault(manifest.run_id, []).append(step)
    if len(owners) > 1:
        mixed = "; ".join(f"steps {', '.join(map(str, steps))} are of run {owner}" for owner, steps in owners.items())
        raise CheckpointError(
            f"{run_dir} holds checkpoints of more than one run: {mixed}: move those of the other away"
        )
    if run is not None and (not owners or run.id in owners):
        return run
    if not manifests:
        raise CheckpointError(
            f"{run_dir}: {why}, and there is no sealed checkpoint to rebuild it from: put it back, or begin another run"
        )
    if run is not None:
        why = f"{layout.RUN_MANIFEST} is that of run {run.id}"
    made = _rebuild(run_dir, manifests, not_rebuilt)
    if (run_dir / layout.RUN_MANIFEST).is_file():
        set_aside.put_file_aside(run_dir, layout.RUN_MANIFEST, reason=why, disk=disk)
    replace_file(disk, run_dir / layout.RUN_MANIFEST, documents.dump(made))
    rebuilt.append(
        f"{layout.RUN_MANIFEST} ({why}) from the manifests of {counted(len(manifests), 'sealed checkpoint')}"
    )
    return made


def _stored(run_dir: Path) -> tuple[RunManifest | None, str]:
    """`run.json`, or why there is none."""
    if not (run_dir / layout.RUN_MANIFEST).is_file():
        return None, f"{layout.RUN_MANIFEST} is missing"
    try:
        return documents.read_run(run_dir), ""
    except SchemaError:
        return None, f"{layout.RUN_MANIFEST} is damaged"


def _rebuild(run_dir: Path, manifests: Mapping[int, CheckpointManifest], not_rebuilt: list[str]) -> RunManifest:
    first, last = manifests[min(manifests)], manifests[max(manifests)]
    imported = last.data.details.get("imported")
    config = _configuration(run_dir, last) if imported is None else None
    entries = [
        resume.index_entry(run_dir / layout.checkpoint_dir(step), manifest)
        for step, manifest in sorted(manifests.items())
    ]
    not_rebuilt += [
        f"when the run was begun: {layout.RUN_MANIFEST} says when its first checkpoint was taken",
        "the environment in which it was begun",
        "what was changed when it was resumed, but for the batch size",
        "whether a manifest was altered since it was sealed: the digests that would tell were in the index",
    ]
    run = RunManifest(
        id=last.run_id,
        name=last.run_name,
        created=min(manifest.created for manifest in manifests.values()),
        producer=first.producer,
        seed=last.seed,
        model=last.model,
        data=last.data,
        config={"imported": imported} if config is None else config.model_dump(mode="json"),
        changes=() if config is None else _batch_size_changes(manifests, config),
        checkpoints=tuple(entries),
    )
    rows = _validation(run_dir, run, manifests)
    if rows is None and imported is None:
        not_rebuilt.append(f"{layout.VALIDATION_ROWS}: the next `pico-train run` stores it again")
    return run.model_copy(update={"validation": rows})


def _configuration(run_dir: Path, manifest: CheckpointManifest) -> RunConfig:
    """The run's configuration from `config.yaml`, checked to be that of its checkpoints."""
    path = run_dir / layout.RUN_CONFIG
    write = f"write it again with `pico-train config show … > {path}`"
    if not path.is_file():
        raise CheckpointError(f"{path} is missing too, and no checkpoint holds the configuration: {write}")
    try:
        config = layers.load_config(path)
    except ConfigError as error:
        raise CheckpointError(f"{path} is not this run's configuration ({error}): {write}") from None
    said = {"model": config.spec, "seed": config.seed, "data.seq_len": config.data.seq_len}
    sealed = {"model": manifest.model, "seed": manifest.seed, "data.seq_len": manifest.data.seq_len}
    for name in said:
        if said[name] != sealed[name]:
            raise CheckpointError(
                f"{path} is not this run's configuration: {name} is {said[name]!r}, and step {manifest.step} was "
                f"trained with {sealed[name]!r}: {write}"
            )
    return config


def _batch_size_changes(manifests: Mapping[int, CheckpointManifest], config: RunConfig) -> tuple[ConfigChange, ...]:
    """From which steps on the batch size was another, as the rows that had been consumed at each checkpoint tell."""
    ordered = [manifests[step] for step in sorted(manifests)]
    changes = []
    cursors = [manifest.cursor for manifest in ordered]
    sizes = [cursor.batch_size for cursor in cursors if cursor is not None] + [config.training.batch_size]
    if len(sizes) <= len(ordered):
        raise CheckpointError("a checkpoint does not say where in its data it stands: it is not one that was trained")
    for number, manifest in enumerate(ordered):
        before, after = sizes[number], sizes[number + 1]
        if before == after:
            continue
        step = manifest.step
        if number + 1 < len(ordered):
            # rows = (step - start) × before + (end - step) × after, over the steps from this checkpoint to the next
            start, end = consumed_before(manifest), consumed_before(ordered[number + 1])
            rows = (end.tokens - start.tokens) // manifest.data.seq_len
            step = start.step + ((end.step - start.step) * after - rows) // (after - before)
            step = min(max(step, manifest.step), ordered[number + 1].step)
        changes.append(ConfigChange(step=step, when=manifest.created, field=BATCH_SIZE, before=before, after=after))
    return tuple(changes)


def _validation(run_dir: Path, run: RunManifest, manifests: Mapping[int, CheckpointManifest]) -> ValidationRows | None:
    """The entry of the stored validation rows, if they are those that the checkpoints captured."""
    path = run_dir / layout.VALIDATION_ROWS
    if not path.is_file():
        return None
    try:
        entry = ValidationRows(size=path.stat().st_size, sha256=sha256_file(path), n_rows=0)
        stored = validation_rows.read(run_dir, run.model_copy(update={"validation": entry}))
    except CheckpointError:
        return None
    ids = stored.input_ids
    whole = [
        capture
        for manifest in manifests.values()
        for capture in manifest.captures
        if capture.split == "val" and capture.n_rows == len(ids)
    ]
    if any(
        samples_sha256(ids.astype("<i4").tobytes(), ids.shape, item.positions) != item.samples_sha256 for item in whole
    ):
        return None
    return entry.model_copy(update={"n_rows": len(ids)})
