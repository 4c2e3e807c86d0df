"""The checkpoints in a folder: one model by itself, a folder of them named by their steps, or a cache of the Hub.

out/checkpoint-500/  out/checkpoint-1000/  out/config.json …    Trainer: the model in the root is the last step
run/step1000/  run/step2000/                                    any names that `step_names` knows
models--org--name/snapshots/<commit>/                           huggingface_hub's cache: refs name the commits
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.errors import DataError, NotARunError
from pico_analyze.stores.base import Unusable
from pico_analyze.stores.hub_cache import SNAPSHOTS, cached_repository, repository_name, repository_of
from pico_analyze.stores.transformers.files import LocalFiles, ModelFiles
from pico_analyze.stores.transformers.other_formats import other_format
from pico_analyze.stores.transformers.pickled_files import is_pickle
from pico_analyze.stores.transformers.step_names import NamedStep, StepPattern
from pico_analyze.stores.transformers.trainer_state import TrainerState, trainer_state
from pico_analyze.stores.transformers.weight_files import (
    fault,
    is_checkpoint,
    is_of_a_model,
    is_other,
    told,
    weight_files,
)
from pico_schema import layout

if TYPE_CHECKING:
    from pico_analyze.stores.pickled.pickles import Pickles

AsModel = Callable[[LocalFiles], ModelFiles]
"""Gives the files of the model that those of a checkpoint come to."""
_MOST_SHOWN = 5


def _as_it_is(files: LocalFiles) -> ModelFiles:
    return files


@dataclass(frozen=True)
class Checkpoint:
    """One model of a series."""

    name: str
    """Its directory, branch or tag."""
    step: int
    """Updates done; 0 for a model by itself of which nothing tells a step."""
    tokens: int | None
    """Tokens consumed, where that is known."""
    files: ModelFiles
    """Its files."""


@dataclass(frozen=True)
class Series:
    """The checkpoints of a run, by ascending step."""

    run: str
    """Its name."""
    checkpoints: tuple[Checkpoint, ...]
    """Those that can be read."""
    unusable: tuple[Unusable, ...] = ()
    """Those that cannot, with the reason."""
    rows: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """What a trainer logged, by step."""


def is_series(path: Path) -> bool:
    """Whether a folder holds checkpoints or models, each in a directory of its own."""
    return any((child / layout.MODEL_CONFIG).is_file() or is_other(child) for child in _foreign(path))


def find_series(
    path: Path, pattern: StepPattern, pickles: Pickles | None = None, as_model: AsModel = _as_it_is
) -> Series:
    """The checkpoints at a path.

    Args:
        path: A folder, or a file of weights.
        pattern: Tells steps from names.
        pickles: Opens pickled weights; None if they are not to be opened.
        as_model: Gives the files of a model that other formats come to.

    Raises:
        NotARunError: it holds models whose names tell no step.
        DataError: they belong to several runs, two are of one step, or a model by itself cannot be read.
    """
    if path.is_file():
        return _single(path.stem, LocalFiles(path.absolute().parent, pickles=pickles, only=path.name), pattern)
    if (refs := cached_repository(path)) is not None:
        return _cache_series(path, refs, pattern, lambda one: as_model(LocalFiles(one, pickles=pickles)))
    names = [child.name for child in _foreign(path) if is_checkpoint(child)]
    here = LocalFiles(path, pickles=pickles)
    files = here if names else as_model(here)
    if not names and (other := other_format(files.sizes, str(path))) is not None and fault(files) is not None:
        raise DataError(f"{path}: {other}")
    own = files if layout.MODEL_CONFIG in files.sizes or (not names and is_of_a_model(files.sizes)) else None
    name = _name(path) if own is not None else path.resolve().name

    def opened(one: str) -> ModelFiles:
        return as_model(LocalFiles(path / one, pickles=pickles))

    return assembled(name, str(path), names, opened, own, pattern)


def assembled(
    run: str,
    where: str,
    names: Iterable[str],
    open_files: Callable[[str], ModelFiles],
    own: ModelFiles | None,
    pattern: StepPattern,
) -> Series:
    """The checkpoints of a folder.

    Args:
        run: Its name.
        where: Its path or address, for messages.
        names: The directories in it that hold something of a model.
        open_files: Gives the files of one.
        own: The files of the folder itself, if it holds a model.
        pattern: Tells steps from names.

    Raises:
        NotARunError: the names tell no step.
        DataError: they belong to several runs, two are of one step, or a model by itself cannot be read.
    """
    names = list(names)
    named = pattern.one_series(names, where=where)
    if not named and own is None:
        shown = ", ".join(names[:_MOST_SHOWN]) + (", …" if len(names) > _MOST_SHOWN else "")
        by = f"--step-pattern {pattern.text!r}" if pattern.text is not None else "the names of checkpoints"
        raise NotARunError(
            f"{where}: the names of the models in it ({shown}) tell no step by {by}: name one of them, or say which "
            r"part of a name is the step, as by --step-pattern 'model-([0-9]+)'"
        )
    if not named and own is not None:
        return _single(run, own, pattern)
    usable, unusable, last = _usable(named, open_files)
    if pattern.text is None:  # who gives a pattern leaves out the others by it
        told_by_name = {one.name for one in named}
        unusable += [Unusable(name, None, "its name tells no step") for name in names if name not in told_by_name]
    if own is not None:
        _add_root(run, own, usable, unusable, last)
    rows = last.rows if last is not None else {}
    return Series(run, tuple(sorted(usable, key=lambda one: one.step)), tuple(unusable), rows)


def checkpoint_in(path: Path) -> tuple[Path, int] | None:
    """The folder and the step, if a directory is a checkpoint of a series; None for a model by itself."""
    parent, pattern = path.absolute().parent, StepPattern()
    if not is_checkpoint(path) or pattern.parse(path.name) is None or cached_repository(parent) is not None:
        return None
    try:
        found = {one.name: one.step for one in _named(parent, pattern)}
    except DataError:
        return None
    return (path.parent, found[path.name]) if len(found) > 1 or (parent / layout.MODEL_CONFIG).is_file() else None


def _children(path: Path) -> list[Path]:
    try:
        found = [entry for entry in path.iterdir() if entry.is_dir()]
    except OSError:
        return []
    return sorted(found)


def _foreign(path: Path) -> list[Path]:
    """The directories in a folder that are no checkpoints of Pico."""
    return [child for child in _children(path) if not (child / layout.MANIFEST).is_file()]


def _named(path: Path, pattern: StepPattern) -> list[NamedStep]:
    """The directories in a folder whose names tell a step and that hold something of a model."""
    names = [child.name for child in _foreign(path) if is_checkpoint(child)]
    return pattern.one_series(names, where=str(path))


def _usable(
    named: Iterable[NamedStep], open_files: Callable[[str], ModelFiles]
) -> tuple[list[Checkpoint], list[Unusable], TrainerState | None]:
    """Checkpoints, what is none, and the state of the last one that has any."""
    usable: list[Checkpoint] = []
    unusable: list[Unusable] = []
    last: TrainerState | None = None
    for one in named:
        files, reason, state = None, None, None
        try:
            files = open_files(one.name)
            reason, state = damage(files), trainer_state(files)
        except DataError as error:
            reason = str(error).partition(f"{one.name}: ")[2] if files is None else _short(error, files)
        if state is not None and state.step not in (None, one.step):
            reason = f"its trainer_state.json is that of step {state.step}"
        if files is None or reason is not None:
            unusable.append(Unusable(one.name, one.step, reason or "it cannot be read"))
            continue
        last = state or last
        usable.append(Checkpoint(one.name, one.step, (state.tokens if state else None) or one.tokens, files))
    return usable, unusable, last


def damage(files: ModelFiles) -> str | None:
    """Why the files are no model that can be read, headers of shards included."""
    if (reason := fault(files)) is not None:
        return reason
    try:
        for name in weight_files(files):
            if not is_pickle(name) and not files.remade:  # opening one takes a while: that is left to who reads it
                files.tensors(name)
    except DataError as error:
        return _short(error, files)
    return None


def _short(error: DataError, files: ModelFiles) -> str:
    return str(error).removeprefix(f"{files.where}/").removeprefix(f"{files.where}: ")


def _add_root(
    run: str, files: ModelFiles, usable: list[Checkpoint], unusable: list[Unusable], last: TrainerState | None
) -> None:
    """The model in the root of a Trainer's folder: the last step, where that is told and not there already."""
    name = f"{run} (the model in the folder itself)"
    try:
        reason, state = damage(files), trainer_state(files)
    except DataError as error:
        reason, state = _short(error, files), None
    if reason is not None:
        unusable.append(Unusable(name, None, reason))
        return
    step = state.step if state is not None and state.step is not None else last.max_steps if last is not None else None
    if step is None:
        unusable.append(Unusable(name, None, "nothing tells its step: it has no trainer_state.json"))
    elif any(one.step > step for one in usable):
        unusable.append(Unusable(name, step, f"it is that of step {step}, and there are later ones"))
    elif all(one.step != step for one in usable):
        usable.append(Checkpoint(name, step, state.tokens if state is not None else None, files))


def _single(run: str, files: ModelFiles, pattern: StepPattern) -> Series:
    """A model by itself."""
    if (reason := fault(files)) is not None:
        raise DataError(f"{files.where}: {reason}")
    state, named = trainer_state(files), pattern.parse(run)
    own = state.step if state is not None else None
    if own is None and layout.MODEL_CONFIG not in files.sizes:
        own = told(files).get("step")
    step = own if own is not None else named.step if named is not None else 0
    tokens = (state.tokens if state is not None else None) or (named.tokens if named is not None else None)
    rows = state.rows if state is not None else {}
    return Series(run, (Checkpoint(run, step, tokens, files),), (), rows)


def _name(path: Path) -> str:
    """The directory's name; in a cache of huggingface_hub, where that is a commit, the model's name and the commit."""
    if (folder := repository_of(path)) is not None:
        return f"{repository_name(folder)}-{path.absolute().name[:8]}"
    return path.resolve().name or "model"


def _cache_series(path: Path, folder: Path, pattern: StepPattern, open_files: Callable[[Path], ModelFiles]) -> Series:
    """The revisions of a repository that are in the cache: which commit is which step, its refs say."""
    refs = _refs(folder)
    named = pattern.one_series(refs, where=str(path))
    commits = {child.name: child for child in _children(folder / SNAPSHOTS)}
    usable, unusable, told = [], [], set()
    for one in named:
        commit = refs[one.name]
        told.add(commit)
        if commit not in commits:
            unusable.append(Unusable(one.name, one.step, "it is not in the cache: download it again"))
            continue
        try:
            files = open_files(commits[commit])
            reason = damage(files)
        except DataError as error:
            reason = str(error)
        if reason is not None:
            unusable.append(Unusable(one.name, one.step, reason))
        else:
            usable.append(Checkpoint(one.name, one.step, one.tokens, files))
    for commit in sorted(set(commits) - told):
        by = ", ".join(sorted(name for name, of in refs.items() if of == commit)) or "no ref"
        unusable.append(Unusable(commit[:12], None, f"nothing tells its step: {by} names it"))
    if not usable and not unusable:
        raise NotARunError(f"{path}: the cache holds no revision of this repository: download one")
    return Series(repository_name(folder), tuple(usable), tuple(unusable))


def _refs(folder: Path) -> dict[str, str]:
    """Branch or tag → commit, as far as they were downloaded by name."""
    root, found = folder / "refs", {}
    for file in sorted(root.rglob("*")) if root.is_dir() else ():
        if file.is_file() and file.stat().st_size <= 100:
            found[file.relative_to(root).as_posix()] = file.read_text("utf-8", "replace").strip()
    return found
