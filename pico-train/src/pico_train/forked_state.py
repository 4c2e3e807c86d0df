"""The training state that a fork begins with, where it is not its parent's to the last byte.

Everything but the optimizer is the parent's: random numbers, loss scale. The optimizer's settings are those of the
fork's configuration; its state is the parent's, or none, as at step 0.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pico_schema import DataCursor, FileEntry, layout
from pico_train.checkpoint import state
from pico_train.checkpoint.sharded import META_FILE, is_sharded_state
from pico_train.checkpoint.storage import Disk, HashedFile
from pico_train.checkpoint.writer import STATE_FILE
from pico_train.config import RunConfig, recorded
from pico_train.errors import CheckpointError, ConfigError
from pico_train.training.engine import build_fabric, set_up


def write(
    target: Path, source: Path | None, config: RunConfig, *, step: int, cursor: DataCursor, keep: bool
) -> Mapping[str, FileEntry]:
    """Write the training state of a fork's first checkpoint.

    Args:
        target: Directory of that checkpoint; its folder for the state is there.
        source: The parent's checkpoint; None where it has no training state.
        config: The fork's.
        step: Updates done.
        cursor: Where in its data the fork begins.
        keep: Whether the optimizer's state is the parent's.

    Returns:
        The file, by its path in the checkpoint.

    Raises:
        CheckpointError: the parent's state cannot be read.
        ConfigError: it does not fit the fork's optimizer, or is sharded and to be kept.
    """
    import torch

    alone = config.distributed.model_copy(
        update={"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
    )
    plain = config.training.model_copy(update={"precision": "32-true", "compile": "off"})
    local = config.model_copy(update={"distributed": alone, "training": plain})
    fabric = build_fabric(local)
    engine = set_up(fabric, local, config.spec)
    before = _read(source, keep=keep)
    common = state.progress(step=step, lr=recorded.rate(config, step), cursor=cursor, rng=before.get("rng", ()))
    common |= {name: before[name] for name in ("scaler",) if name in before}
    fresh = state.snapshot_training_state(engine.decoder, engine.optimizer, common)
    assert isinstance(fresh, dict)
    if keep:
        _check_groups(before["optimizer"], fresh["optimizer"])
        fresh["optimizer"]["state"] = before["optimizer"]["state"]
    file = HashedFile(Disk(), target / STATE_FILE)
    try:
        torch.save(fresh, file)  # type: ignore[arg-type]
        return {STATE_FILE: file.seal()}
    finally:
        file.close()


def _read(source: Path | None, *, keep: bool) -> dict[str, Any]:
    import torch

    if source is None:
        return {}
    folder = source / layout.TRAINING_STATE
    sharded = is_sharded_state(folder)
    if sharded and keep:
        raise ConfigError(
            f"{source} has a sharded optimizer state, whose settings a fork takes as they are: leave "
            "training.optimizer.* but lr as they were, or begin with none, --optimizer fresh"
        )
    path = folder / META_FILE if sharded else source / STATE_FILE
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=not sharded)
    except (RuntimeError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: cannot be read: {str(error).partition(chr(10))[0]}") from None
    return found


def _check_groups(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Refuse a state whose parameters stand in other groups."""
    then, now = ([group.get("param_names") for group in each["param_groups"]] for each in (before, after))
    if then != now:
        raise ConfigError(
            "training.optimizer groups the parameters otherwise than the checkpoint's state does: leave "
            "training.optimizer.decay as it was, or begin with none, --optimizer fresh"
        )
