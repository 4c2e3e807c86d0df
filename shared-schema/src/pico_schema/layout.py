"""Where everything lies: each path of a run and each name of a revision, as a pure function.

Nothing here touches the disk. Paths are relative POSIX paths unless a function takes a root.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pico_schema.errors import DocumentError, UnsafePathError

RUN_MANIFEST = "run.json"
SUITE_MANIFEST = "suite.json"
"""In the directory above the runs of a suite: what its members are."""
RUN_CONFIG = "config.yaml"
METRICS_LOG = "metrics.jsonl"
VALIDATION_ROWS = "validation.parquet"
"""The rows that every `val` capture of a run is taken on, stored once: at the run's root, on the Hub at the root of
each revision beside `run.json`. One line a row, in columns `VALIDATION_COLUMNS`; `RunManifest.validation` holds its
digest."""
VALIDATION_COLUMNS = ("row", "input_ids", "text", "source")
"""Columns of `VALIDATION_ROWS`, and of `TRAIN_BATCH` but for the number:

- `row`: int64, the row's number among the validation rows, 0, 1, 2 … in the file's order. The ``rows`` in the metadata
  of a `val` captures file are these numbers. (In `TRAIN_BATCH` it is `row_id`, the row's number in the corpus; there
  ``rows`` count from the batch's first.)
- `input_ids`: list of int32, seq_len + 1 token ids. The activation at position p of a row was computed where the model
  read ``input_ids[p]``, having read those before it; ``input_ids[p + 1]`` is the token it was to predict.
- `text`: the row as text, special tokens included; empty where the data came without a tokenizer.
- `source`: where the row comes from, as the corpus names it (a file, a document's own source); empty where it does not.
"""
CHECKPOINTS = "checkpoints"
SET_ASIDE = "set_aside"
"""In a run's `checkpoints` (so that a checkpoint is moved there by a rename): numbered folders of what was done and
then done anew from an earlier step, each with a note, and with `checkpoints`, `evaluations` and a log of its own."""
SET_ASIDE_NOTE = "note.json"
EVALUATIONS = "evaluations"
REVISIONS = "revisions.json"
"""On the Hub only: the index of published checkpoints."""
CARD = "README.md"
"""On the Hub only: the model card."""

MANIFEST = "manifest.json"
MODEL_CONFIG = "config.json"
MODEL_CONFIG_UNBOUNDED = frozenset({"time_step_limit"})
"""Settings in other makers' `config.json` that may be infinite: transformers writes these so itself."""
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TRAINING_STATE = "training_state"
CAPTURES = "captures"
TRAIN_BATCH = "captures/train_batch.parquet"

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_MAX_PART = 255
"""Longest name of one file or directory, in bytes of UTF-8: what common file systems take."""
MAX_STEP = 10**8 - 1
"""Steps have eight digits in a directory's name."""
_STEP_DIR = re.compile(r"step-([0-9]{8})")


def check_run_name(name: str) -> str:
    """Return `name` if it can name a run: a directory, a branch and the stem of a tag.

    Raises:
        DocumentError: it cannot; the message says what may stand in a name.
    """
    if not _names_a_run(name):
        raise DocumentError(
            f"run name {name!r} cannot be used: take 1 to 96 letters, digits, '.', '_' or '-', beginning with a "
            "letter or digit, without '..', not ending with '.' or '.lock'"
        )
    return name


def _names_a_run(name: str) -> bool:
    return RUN_NAME.fullmatch(name) is not None and ".." not in name and not name.endswith((".", ".lock"))


def check_step(step: int) -> int:
    """Return `step` if it is a step a checkpoint can have, 0 to 99,999,999."""
    if not 0 <= step <= MAX_STEP:
        raise DocumentError(f"step {step} is out of range: steps are 0 to {MAX_STEP}")
    return step


def step_dir(step: int) -> str:
    """``step-00000128`` for step 128."""
    return f"step-{check_step(step):08d}"


def parse_step_dir(name: str) -> int | None:
    """The step of a checkpoint directory's name, or None if it is not one."""
    match = _STEP_DIR.fullmatch(name)
    return int(match[1]) if match else None


def checkpoint_dir(step: int) -> str:
    """``checkpoints/step-00000128``, relative to the run."""
    return f"{CHECKPOINTS}/{step_dir(step)}"


def captures_file(split: str) -> str:
    """``captures/train.safetensors``, relative to the checkpoint."""
    return f"{CAPTURES}/{split}.safetensors"


def evaluation_file(step: int) -> str:
    """``evaluations/step-00000128.json``, relative to the run."""
    return f"{EVALUATIONS}/{step_dir(step)}.json"


def activation_tensor(site: object) -> str:
    """Name of a site's activation in a captures file: ``activations/layers.0.attn.v``."""
    return f"activations/{site}"


def gradient_tensor(site: object) -> str:
    """Name of the gradient of a site's weight in a captures file: ``gradients/layers.0.attn.v``."""
    return f"gradients/{site}"


def noise_tensor(name: object) -> str:
    """Name of the noise of a gradient in a captures file: ``noise/layers.0.attn.v``, ``noise/layers.0.block``,
    ``noise/model``. Since schema 1.2.

    Float64, (n + 1, 3), of a batch that was cut into n parts of equally many rows, where g is the gradient of the mean
    token loss over a part, and G that over the whole batch. Line i: the rows of part i, ‖gᵢ‖² and ‖gᵢ − G‖², of these
    parameters; part i are the rows whose number in the batch is i modulo n. The last line: the rows of the batch, ‖G‖²
    and 0.
    """
    return f"noise/{name}"


def branch_name(run_name: str) -> str:
    """The Hub branch that holds a run's revisions: the run's own name."""
    return check_run_name(run_name)


def tag_name(run_name: str, step: int) -> str:
    """The Hub tag of one checkpoint: ``<run>-step-<N>``, without leading zeros."""
    return f"{check_run_name(run_name)}-step-{check_step(step)}"


def parse_tag(tag: str) -> tuple[str, int] | None:
    """The run name and step of a tag that `tag_name` made, or None."""
    run_name, _, digits = tag.rpartition("-step-")
    if not re.fullmatch(r"0|[1-9][0-9]{0,7}", digits) or not _names_a_run(run_name):
        return None
    return run_name, int(digits)


def safe_relative_path(path: str) -> PurePosixPath:
    """`path` as a relative POSIX path that stays inside its directory on every system.

    Raises:
        UnsafePathError: it is empty, absolute, climbs (``..``), is not normalised, holds a NUL, a backslash, a
            colon, a control character or half a surrogate pair, is longer than 1,024 characters, or a part of it is
            longer than file systems take.
    """
    parts = path.split("/")  # of an empty path and of an absolute one, the first is empty
    if (
        len(path) > 1024
        or any(part in ("", ".", "..") for part in parts)
        or any(ord(char) < 32 or char in '\\:\x7f<>"|?*' for char in path)
        or any("\ud800" <= char <= "\udfff" for char in path)
        or any(part.endswith((".", " ")) or len(part.encode()) > _MAX_PART for part in parts)
    ):
        raise UnsafePathError(f"path {path[:200]!r} is not a plain relative path: refusing to use it")
    return PurePosixPath(path)


def check_paths(paths: Iterable[str]) -> None:
    """Check that each path is safe and that no two are the same file, or a file and its directory, on a file system
    that ignores case or normalises Unicode.

    Raises:
        UnsafePathError: names the path or the two that collide.
    """
    seen: dict[str, str] = {}
    directories: dict[str, str] = {}
    for path in paths:
        pure = safe_relative_path(path)
        key = unicodedata.normalize("NFC", path).casefold()
        clash = seen.get(key) or directories.get(key)
        for parent in pure.parents:
            folder = unicodedata.normalize("NFC", str(parent)).casefold()
            clash = clash or seen.get(folder)
            if folder != ".":
                directories.setdefault(folder, path)
        if clash is not None:
            raise UnsafePathError(f"paths {clash[:200]!r} and {path[:200]!r} collide on some file systems")
        seen[key] = path


def inside(root: Path, path: str) -> Path:
    """The file of a relative `path` under `root`, checked not to leave it through a symbolic link.

    Raises:
        UnsafePathError: the path is unsafe, or resolves outside `root`.
    """
    target = root.joinpath(*safe_relative_path(path).parts)
    try:
        stays = target.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links that lead round in a circle
        stays = False
    if not stays:
        raise UnsafePathError(f"path {path!r} leaves {root} through a symbolic link: refusing to use it")
    return target
