"""Tasks of lm-evaluation-harness (Gao et al.), through the harness's own model: what Pico seals is a plain checkpoint.

The only file that knows lm-eval, which the extra `eval` installs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pico_train.errors import ConfigError, DataError, UsageError
from pico_train.evaluation.models import chosen_device, load_causal
from pico_train.evaluation.tasks import KINDS, NAMED
from pico_train.model.sealed_files import check_sealed, sealed_manifest
from pico_train.training.step import Measures, Tasks


def check(names: Sequence[str], include_path: Path | None) -> Any:
    """The harness's tasks, which have all these names.

    Raises:
        ConfigError: lm-eval is not installed.
        UsageError: there is no such task, with the nearest; or no such folder.
    """
    built_in = [*KINDS, *NAMED]
    if find_spec("lm_eval") is None:
        near = get_close_matches(names[0].partition(":")[0], built_in, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"built in are {', '.join(built_in)}."
        raise ConfigError(
            f"there is no built-in task {names[0]!r}: {hint} Others are lm-eval's: pip install 'pico-train[eval]'"
        )
    if include_path is not None and not include_path.is_dir():
        raise UsageError(f"--include-path {include_path}: there is no such folder")
    with _quietly():
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=None if include_path is None else str(include_path))
    known = list(manager.all_tasks)
    for name in names:
        if name not in known:
            near = get_close_matches(name, [*built_in, *known], n=3, cutoff=0.6)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UsageError(f"there is no task {name!r}, built in or of lm-eval{hint}")
    return manager


def measure(
    directory: Path, names: Sequence[str], *, manager: Any, batch_size: int, device: str, limit: int | None
) -> Tasks:
    """Results of a checkpoint's directory, `acc,none` as `acc` and its error as `acc_se`.

    Raises:
        CheckpointError: the checkpoint is not what was sealed, or cannot be loaded.
        DataError: a task fails.
    """
    manifest = sealed_manifest(directory)
    if manifest is not None:
        check_sealed(directory, manifest, [name for name in manifest.files if "/" not in name])
    with _quietly():
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            loaded = load_causal(directory, str(directory)).to(chosen_device(device))
            model = HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=batch_size)
            found = simple_evaluate(
                model=model,
                tasks=list(names),
                task_manager=manager,
                limit=limit,
                bootstrap_iters=1000,
                log_samples=False,
                verbosity="ERROR",
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(f"lm-eval, {', '.join(names)}: {said}") from None
    if found is None:
        raise DataError(f"lm-eval gave no results of {', '.join(names)}")
    sizes = found.get("n-samples", {})
    tasks: Tasks = {}
    for name, measures in found["results"].items():
        size = sizes.get(name, {}).get("effective")
        tasks[str(name)] = _measures(measures) | ({"n_documents": int(size)} if size is not None else {})
    missing = [name for name in names if name not in tasks]
    if missing:
        raise DataError(f"lm-eval gave no results of {', '.join(missing)}")
    return tasks


def _measures(given: dict[str, Any]) -> Measures:
    """Numbers under plain names: the filter is left out where it is none."""
    found: Measures = {}
    for key, value in given.items():
        measure, _, chosen = key.partition(",")
        if isinstance(value, bool) or not isinstance(value, int | float) or not chosen:
            continue
        error = measure.endswith("_stderr")
        name = measure.removesuffix("_stderr") + ("" if chosen == "none" else f"-{chosen}")
        found[f"{name}_se" if error else name] = float(value)
    return found


@contextlib.contextmanager
def _quietly() -> Any:
    """Without the harness's own lines, and without what it asks of a network that a model on disk does not need."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
