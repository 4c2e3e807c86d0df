"""What a run and its checkpoints hold, read from their documents and the headers of their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pico_schema import (
    CheckpointManifest,
    ForeignSpec,
    IncompleteError,
    ModelSpec,
    RunManifest,
    SchemaError,
    TensorHeaderError,
    documents,
    layout,
)
from pico_schema.tensor_header import read_file_header
from pico_train.checkpoint import losses, set_aside
from pico_train.checkpoint.retention import has_training_state, is_pruned
from pico_train.errors import CheckpointError, UsageError


def inspect_run(run_dir: Path, *, as_listed: bool = False) -> dict[str, Any]:
    """A run in JSON values: identity, model, data, and one line per checkpoint.

    Args:
        run_dir: The run.
        as_listed: Believe the manifests, of which the files need not be on this disk (a run on the Hub).

    Raises:
        IncompleteError: the directory is not a run.
    """
    run = documents.read_run(run_dir)
    return {
        "run": str(run_dir),
        "name": run.name,
        "id": run.id,
        "created": run.created.isoformat(),
        "producer": f"{run.producer.name} {run.producer.version}",
        "seed": run.seed,
        "parameters": _parameters(run.model),
        "model": run.model.model_dump(),
        "data": run.data.model_dump(),
        "suite": run.suite.model_dump() if run.suite is not None else None,
        "parent": run.parent.model_dump() if run.parent is not None else None,
        "changes": [change.model_dump(mode="json") for change in run.changes],
        "checkpoints": _lines(run_dir, run, as_listed=as_listed),
        "losses": [] if as_listed else [loss.detail for loss in losses.find(run_dir, run)],
        "accepted_losses": [item.detail for item in losses.accepted(run_dir)],
        "set_aside": [item.sentence for item in set_aside.listed(run_dir) if item.notable],
    }


def _parameters(model: ModelSpec) -> int | None:
    """How many parameters a model has; None for other makers', whose geometry does not tell."""
    return None if isinstance(model, ForeignSpec) else model.n_params


def _lines(run_dir: Path, run: RunManifest, *, as_listed: bool) -> list[dict[str, Any]]:
    """One line per checkpoint, and per one that the index lists and that is not there."""
    lines = {step: _line(path, as_listed=as_listed) for step, path in documents.checkpoint_dirs(run_dir)}
    for entry in run.checkpoints:
        if entry.step not in lines and not as_listed:
            gone = {"step": entry.step, "tokens": entry.tokens_seen, "holds": "missing: listed, but not there"}
            lines[entry.step] = gone | {"bytes": None}
    return [lines[step] for step in sorted(lines)]


def _line(directory: Path, *, as_listed: bool) -> dict[str, Any]:
    """One checkpoint in a few values."""
    step = layout.parse_step_dir(directory.name)
    try:
        manifest = documents.read_checkpoint(directory)
    except IncompleteError:
        return {"step": step, "tokens": None, "holds": "incomplete: no manifest", "bytes": None}
    except SchemaError as error:
        return {"step": step, "tokens": None, "holds": f"unreadable: {error}", "bytes": None}
    parts = ["weights"] if layout.WEIGHTS in manifest.files else []
    if has_training_state(manifest):
        pruned = not as_listed and is_pruned(directory, manifest)
        parts.append("training state (pruned)" if pruned else "training state")
    parts += [f"{capture.split} captures" for capture in manifest.captures]
    if layout.TRAIN_BATCH in manifest.files:
        parts.append("batch")
    size = sum(entry.size for path, entry in manifest.files.items() if as_listed or (directory / path).is_file())
    line: dict[str, Any] = {"step": step, "tokens": manifest.tokens_seen, "holds": ", ".join(parts), "bytes": size}
    for name in ("train_loss", "val_loss"):
        if manifest.metrics.get(name) is not None:
            line[name] = manifest.metrics[name]
    return line


def inspect_checkpoint(run_dir: Path, step: int, *, as_listed: bool = False) -> dict[str, Any]:
    """One checkpoint in JSON values: what the manifest says, and the name, type and shape of every tensor.

    Args:
        run_dir: The run.
        step: The checkpoint.
        as_listed: As for `inspect_run`.

    Raises:
        UsageError: the run has no checkpoint of that step.
        CheckpointError: a file of it is damaged, or another step lies in its place.
        IncompleteError: it has no manifest.
    """
    found = dict(documents.checkpoint_dirs(run_dir))
    if step not in found:
        there = ", ".join(map(str, sorted(found)[:20])) or "none"
        raise UsageError(f"{run_dir} has no checkpoint of step {step}: there are {there}")
    directory = found[step]
    manifest = documents.read_checkpoint(directory)
    if manifest.step != step:
        raise CheckpointError(
            f"{directory / layout.MANIFEST} is that of step {manifest.step}: put the checkpoint of step {step} in its "
            "place"
        )
    content = manifest.model_dump(mode="json", exclude={"files", "captures", "model", "data"})
    return {
        **content,
        "bytes": manifest.size,
        "parameters": _parameters(manifest.model),
        "model": manifest.model.model_dump(),
        "data": manifest.data.model_dump(),
        "captures": [_capture(capture) for capture in manifest.captures],
        "pruned": not as_listed and is_pruned(directory, manifest),
        "files": {path: entry.size for path, entry in manifest.files.items()},
        "tensors": _tensors(directory, manifest),
    }


def _capture(capture: Any) -> dict[str, Any]:
    content: dict[str, Any] = capture.model_dump(mode="json")
    return content | {"n_samples": capture.n_samples}


def _tensors(directory: Path, manifest: CheckpointManifest) -> dict[str, dict[str, str]]:
    """File → tensor → its type and shape, for every safetensors file that is there."""
    paths = [path for path in manifest.files if path.endswith(".safetensors") and (directory / path).is_file()]
    return {path: _described(directory / path) for path in paths}


def _described(path: Path) -> dict[str, str]:
    try:
        tensors = read_file_header(path).tensors
    except TensorHeaderError as error:
        raise CheckpointError(f"{error}: run `pico-train verify`") from None
    return {name: f"{entry.dtype} {list(entry.shape)}" for name, entry in tensors.items()}
