"""A run that begins at another run's sealed checkpoint: with its optimizer's state or without, on its data or others.

    RUN@STEP → configuration → the checkpoint, as the new run's first → training goes on from there as any run does

The fork's first checkpoint holds the parent's weights and tokenizer; with nothing changed it holds the parent's files,
so that training goes on bit for bit. `run.json` says the parent: its id, the step, the digest of its manifest. All of
it is made beside its place, and gets there by one rename: a fork is there whole, or not at all.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pico_schema import (
    CheckpointEntry,
    CheckpointManifest,
    DataCursor,
    DataFingerprint,
    FileEntry,
    Origin,
    Parent,
    RunManifest,
    documents,
    layout,
)
from pico_schema.digests import sha256_file
from pico_schema.run_names import parse_address, split_step
from pico_train import environment, tokenizer_files
from pico_train.addresses import open_run
from pico_train.checkpoint import changes, resume
from pico_train.checkpoint.consumed import Consumed, consumed_before
from pico_train.checkpoint.retention import has_training_state, in_training_state, is_pruned
from pico_train.checkpoint.storage import Disk, cannot_be_written
from pico_train.config import RunConfig, layers, recorded
from pico_train.data import fingerprint
from pico_train.data.corpus import open_corpus
from pico_train.errors import CheckpointError, ConfigError, StorageError, UsageError
from pico_train.training.snapshot import PRODUCER

OptimizerState = Literal["kept", "fresh"]
Rows = Literal["continued", "anew"]


@dataclass(frozen=True)
class Trunk:
    """The checkpoint that a fork begins at."""

    location: str
    """As it was named, without its step."""
    run: RunManifest
    checkpoint: resume.Sealed
    config: RunConfig
    """Under which the run came to it."""
    on_hub: bool

    @property
    def label(self) -> str:
        """``demo@128``."""
        return f"{self.run.name}@{self.checkpoint.step}"


def open_trunk(place: str, *, state: bool) -> Trunk:
    """The checkpoint that a place names, whole: each of its files has the content that was sealed.

    Args:
        place: As `addresses.open_run` takes it; without a step, the newest that fits.
        state: Whether it has to have a training state.

    Raises:
        CheckpointError: there is no such run, or its checkpoint is damaged or has no training state.
        UsageError: the run has no such step.
        StorageError: the Hub cannot be reached.
    """
    found = open_run(place)
    step = found.step
    if found.on_hub:
        if step is None:
            step = max((number for number, _ in documents.checkpoint_dirs(found.run_dir)), default=None)
            place = f"{place}@{step}"
        found = open_run(place, "everything")
    sealed = resume.newest_complete(found.run_dir, training_state=state, step=step)
    if sealed is None:
        raise CheckpointError(f"{found.run_dir} has no checkpoint that a fork can begin at: let it train first")
    run = documents.read_run(found.run_dir)
    before, _, _ = changes.configuration_at(run.config, run.changes, sealed.step)
    config = recorded.read(before, f"the run {run.name}")
    location = _address(place) if found.on_hub else str(found.run_dir.resolve())
    return Trunk(location, run, sealed, config, found.on_hub)


def _address(place: str) -> str:
    """The address of a run on the Hub, without the step that is named with it."""
    repo, revision, _ = parse_address(split_step(place)[0])
    return f"hf://{repo}@{revision}" if revision is not None else f"hf://{repo}"


def forked_config(
    trunk: Trunk, name: str, *, out: str | None, assignments: Iterable[str] = (), cooldown: int | None = None
) -> RunConfig:
    """The configuration of a fork: the trunk's, under what is set.

    Args:
        trunk: Where it begins.
        name: Name of the new run.
        out: Directory in which its directory is made; by default that of the trunk, and ``runs`` for one on the Hub.
        assignments: Texts ``section.field=value``.
        cooldown: Updates from the fork on over which the learning rate decays, of a schedule wsd.

    Raises:
        ConfigError: a setting is wrong, the model is another, or nothing is left to be trained.
    """
    step = trunk.checkpoint.step
    raw: dict[str, Any] = trunk.config.model_dump(mode="json")
    if trunk.on_hub:
        raw |= {"out": "runs"}
        raw.pop("publish")  # whoever published it decides about their repository
    else:
        raw["out"] = str(Path(trunk.location).parent)
    for assignment in assignments:
        raw = layers.over(raw, layers.parse_set(assignment))
    if cooldown is not None:
        decay = {"decay_fraction": cooldown / (step + cooldown)}
        raw = layers.over(raw, {"training": {"max_steps": step + cooldown, "schedule": decay}})
    config = layers.validate(raw | {"name": name} | ({"out": out} if out is not None else {}))
    schedule = config.training.schedule
    if cooldown is not None and schedule.name != "wsd":
        raise ConfigError(
            f"--cooldown is the decay of training.schedule.name=wsd, and that of {trunk.label} is {schedule.name}: add "
            "--set training.schedule.name=wsd, or give it another length with --set training.max_steps=…"
        )
    _check_model(trunk, config)
    if config.training.max_steps <= step:
        raise ConfigError(
            f"training.max_steps={config.training.max_steps} leaves nothing to train after step {step}: --set "
            f"training.max_steps={2 * step or 100}, or more than {step}"
        )
    if cooldown is not None and schedule.warmup_of(step + cooldown) > step:
        raise ConfigError(f"{trunk.label} is still in its warm-up: a cooldown begins after it")
    return recorded.with_whole_warmup(config, None)


def _check_model(trunk: Trunk, config: RunConfig) -> None:
    ours, theirs = config.spec.model_dump(), trunk.checkpoint.manifest.model.model_dump()
    differ = [name for name in ours if ours[name] != theirs.get(name)]
    if differ:
        where = {"max_seq_len": "data.seq_len"}
        said = "; ".join(f"{where.get(n, f'model.{n}')} is {theirs.get(n)} there and {ours[n]} here" for n in differ)
        raise ConfigError(f"{trunk.label} is of another shape: {said}: a fork goes on with the weights that there are")


def fork(
    trunk: Trunk, config: RunConfig, *, optimizer: OptimizerState = "kept", data: Rows | None = None
) -> tuple[Path, Parent]:
    """Make the run that begins at a checkpoint, or see that it was made.

    Args:
        trunk: Where it begins.
        config: As `forked_config` makes it.
        optimizer: Whether the optimizer's state goes on, or there is none.
        data: Whether rows go on where the trunk stood, or begin anew. By default they go on where the data and their
            order are the same.

    Returns:
        Its directory, and what it says of its parent.

    Raises:
        ConfigError: another tokenizer; other data that are to go on; a state that does not fit the optimizer.
        CheckpointError: there is another run of this name.
        StorageError: the disk refused.
    """
    run_dir = Path(config.out) / config.name
    if (run_dir / layout.RUN_MANIFEST).is_file():
        return run_dir, _same_fork(trunk, run_dir)
    if run_dir.is_dir() and any(run_dir.iterdir()):
        raise CheckpointError(f"{run_dir} is there already and is no run: choose another --name")
    moved, found = _data(trunk, config)
    chosen = data or ("anew" if moved else "continued")
    if chosen == "continued" and found.sha256 != trunk.checkpoint.manifest.data.sha256:
        raise ConfigError(
            f"--data continued: {trunk.label} was trained on other data, in which there is no place to go on at: "
            "--data anew begins at the first row"
        )
    parent = Parent(
        run_id=trunk.run.id,
        run_name=trunk.run.name,
        step=trunk.checkpoint.step,
        manifest_sha256=sha256_file(trunk.checkpoint.directory / layout.MANIFEST),
        location=trunk.location,
        optimizer=optimizer,
        data=chosen,
    )
    scratch = run_dir.with_name(f".{run_dir.name}.fork-{os.getpid()}")
    disk = Disk()
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        disk.remove(scratch)
        try:
            _write(scratch, trunk, config, parent, found, same=chosen == "continued" and not moved)
            scratch.rename(run_dir)
        finally:
            disk.remove(scratch)
        disk.fsync_directory(run_dir.parent)
    except OSError as error:
        raise StorageError(cannot_be_written(run_dir, error)) from None
    return run_dir, parent


def _same_fork(trunk: Trunk, run_dir: Path) -> Parent:
    """The parent of a run that is there, if it is this fork."""
    parent = documents.read_run(run_dir).parent
    digest = sha256_file(trunk.checkpoint.directory / layout.MANIFEST)
    if parent is None or (parent.run_id, parent.manifest_sha256) != (trunk.run.id, digest):
        what = "is no fork" if parent is None else f"was forked from {parent.run_name}@{parent.step}"
        raise CheckpointError(f"{run_dir} is there already and {what}: choose another --name")
    return parent


def _data(trunk: Trunk, config: RunConfig) -> tuple[bool, DataFingerprint]:
    """Whether the fork's rows, or their order, are others than the trunk's; and what its data are."""
    manifest = trunk.checkpoint.manifest
    section = config.data
    if section.revision == trunk.config.data.revision:
        section = fingerprint.pinned(section, manifest.data)
    corpus = open_corpus(section)
    found = corpus.fingerprint
    differ = fingerprint.check_unchanged(manifest.data, found, allow=True)
    if "tokenizer_sha256" in differ and not _same_tokenizer(trunk.checkpoint.directory, corpus.tokenizer_dir):
        raise ConfigError(
            f"the data have another tokenizer than {trunk.label}: its ids would mean other text to these weights: "
            f"prepare them with that one, --set data.tokenizer={trunk.checkpoint.directory}"
        )
    seeds = [each.sub_seed("data") for each in (config, trunk.config)]
    return bool(differ) or (config.data.order == "shuffled" and seeds[0] != seeds[1]), found


def _same_tokenizer(checkpoint: Path, directory: Path) -> bool:
    """Whether a corpus has the tokenizer of a checkpoint: beside weights, other words may be said around it."""
    if not (checkpoint / layout.TOKENIZER).is_file():
        return False
    return tokenizer_files.read_definition(checkpoint) == tokenizer_files.read_definition(directory)


def _write(
    scratch: Path, trunk: Trunk, config: RunConfig, parent: Parent, data: DataFingerprint, *, same: bool
) -> None:
    """The whole run: its first checkpoint, and `run.json` that lists it."""
    run = RunManifest(
        id=uuid.uuid4().hex,
        name=config.name,
        created=datetime.now(UTC),
        producer=PRODUCER,
        seed=config.seed,
        model=config.spec,
        data=data,
        config=config.model_dump(mode="json"),
        environment=environment.describe(),
        parent=parent,
    )
    source, manifest = trunk.checkpoint.directory, trunk.checkpoint.manifest
    target = scratch / layout.checkpoint_dir(manifest.step)
    target.mkdir(parents=True)
    batch = same and config.training.batch_size == trunk.config.training.batch_size
    captured = batch and config.data == trunk.config.data and config.captures == trunk.config.captures
    files = {
        path: entry
        for path, entry in manifest.files.items()
        if not in_training_state(path) and (captured or not path.startswith(f"{layout.CAPTURES}/"))
    }
    consumed = consumed_before(manifest)
    if parent.data == "anew":
        consumed = Consumed(consumed.step, 0, consumed.tokens)
    epoch, row = divmod(consumed.rows, data.n_rows)
    cursor = DataCursor(epoch=epoch, row=row, batch_size=config.training.batch_size)
    state = _state(target, trunk, config, parent, cursor)
    kept = manifest.files if state is None else {}
    files |= {path: entry for path, entry in kept.items() if in_training_state(path)}
    for path in files:
        _place(layout.inside(source, path), target / path)
    files |= state or {}
    own = CheckpointManifest(
        **manifest.model_dump(
            exclude={"schema_version", "run_id", "run_name", "created", "producer", "seed", "model", "data", "cursor"}
            | {"batch_sha256", "captures", "origin", "metrics", "files"}
        ),
        run_id=run.id,
        run_name=run.name,
        created=run.created,
        producer=PRODUCER,
        seed=config.seed,
        model=config.spec,
        data=data,
        cursor=cursor,
        batch_sha256=manifest.batch_sha256 if batch else None,
        captures=manifest.captures if captured else (),
        origin=Origin(
            location=trunk.location,
            run=trunk.run.name,
            revision=layout.step_dir(manifest.step),
            manifest_sha256=parent.manifest_sha256,
        ),
        metrics=manifest.metrics if captured else {},
        files=dict(sorted(files.items())),
    )
    documents.write(target / layout.MANIFEST, own)
    entry = CheckpointEntry(
        step=own.step, tokens_seen=own.tokens_seen, manifest_sha256=sha256_file(target / layout.MANIFEST)
    )
    disk = Disk()
    for folder in sorted({path.parent for path in target.rglob("*")} | {target, target.parent, scratch}):
        disk.fsync_directory(folder)
    (scratch / layout.RUN_CONFIG).write_text(layers.to_yaml(config), encoding="utf-8")
    documents.write(scratch / layout.RUN_MANIFEST, run.model_copy(update={"checkpoints": (entry,)}))


def _place(source: Path, target: Path) -> None:
    """The same content at another place: a second name of the file, else a copy. What is sealed is never rewritten."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _state(
    target: Path, trunk: Trunk, config: RunConfig, parent: Parent, cursor: DataCursor
) -> Mapping[str, FileEntry] | None:
    """The training state, where it is not the trunk's own to the last byte: without the optimizer's state, or with that
    and other settings of the optimizer. None where it is."""
    manifest, directory = trunk.checkpoint.manifest, trunk.checkpoint.directory
    ours, theirs = config.training.optimizer.model_dump(), trunk.config.training.optimizer.model_dump()
    ours, theirs = ({key: value for key, value in each.items() if key != "lr"} for each in (ours, theirs))
    if parent.optimizer == "kept" and ours == theirs:
        return None
    if ours.get("name") != theirs.get("name") and parent.optimizer == "kept":
        raise ConfigError(
            f"the state of {theirs.get('name')} is none of {ours.get('name')}: begin with none, --optimizer fresh"
        )
    from pico_train import forked_state

    there = has_training_state(manifest) and not is_pruned(directory, manifest)
    (target / layout.TRAINING_STATE).mkdir()
    return forked_state.write(
        target,
        directory if there else None,
        config,
        step=manifest.step,
        cursor=cursor,
        keep=parent.optimizer == "kept",
    )


def check_name(name: str, trunk: Trunk) -> None:
    """Raise UsageError where a fork would be called like its trunk."""
    if name == trunk.run.name and not trunk.on_hub:
        raise UsageError(f"--name {name} is the run that is forked: give the fork a name of its own")
