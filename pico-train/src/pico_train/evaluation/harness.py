"""Tasks of lm-evaluation-harness (Gao et al.), through the harness's own model: what Pico seals is a plain checkpoint.

The only file that knows lm-eval, which the extra `eval` installs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Sequence
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
) -> Iterator[tuple[str, Tasks]]:
    """Results of a checkpoint's directory, task by task, `acc,none` as `acc` and its error as `acc_se`.

    A group comes with the tasks that are in it.

    Raises:
        CheckpointError: the checkpoint is not what was sealed, or cannot be loaded.
        DataError: a task fails.
    """
    manifest = sealed_manifest(directory)
    if manifest is not None:
        check_sealed(directory, manifest, [name for name in manifest.files if "/" not in name])
    with _quietly(", ".join(names)):
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        loaded = load_causal(directory, str(directory)).to(chosen_device(device))
        model = HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=batch_size)
    for name in names:
        yield name, _one(model, name, manager, limit)


def _one(model: Any, name: str, manager: Any, limit: int | None) -> Tasks:
    """One at a time: the harness takes no task that stands in a group beside it."""
    with _quietly(name):
        from lm_eval import simple_evaluate

        found = simple_evaluate(
            model=model,
            tasks=[name],
            task_manager=manager,
            limit=limit,
            bootstrap_iters=1000,
            log_samples=False,
            verbosity="ERROR",
        )
    results, sizes = ({}, {}) if found is None else (found["results"], found.get("n-samples", {}))
    if name not in results:
        raise DataError(f"lm-eval gave no results of {name}")
    tasks: Tasks = {}
    for each, measures in results.items():
        size = sizes.get(each, {}).get("effective")
        tasks[str(each)] = _measures(measures) | ({"n_documents": int(size)} if size is not None else {})
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
def _quietly(names: str = "") -> Iterator[None]:
    """Without the harness's own lines; what fails in it is one sentence about the tasks.

    Raises:
        DataError: it fails.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"lm-eval{', ' * bool(names)}{names}: {said}") from None
    finally:
        logging.disable(before)
