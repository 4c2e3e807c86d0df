"""What a person's name of a run means: the one place that decides it, for every command, target, study and function.

    m1                          the directory m1, or runs/m1
    runs/m1                     a directory
    hf://org/name@branch        a run on the Hub; hf://org/name@branch:step-128 one checkpoint of it
    m1@128, m1@step-128         step 128 of a run, by any of these names; m1@first and m1@last likewise
    runs/sizes                  a suite (`pico-train suite`): each of its runs, where several may be named
    runs/m1/checkpoints/step-00000128    the directory of a checkpoint: that step of its run

Which kind of run lies at a location is found out by `opening.py`, and whether it has that step by whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pico_analyze.errors import DataError, NotARunError, UsageError, nearest
from pico_analyze.stores.opening import (
    RUNS,
    ReadOptions,
    checkpoint_of,
    is_address,
    is_run,
    local_runs,
    newest_run,
    open_store,
)
from pico_schema import SchemaError, SuiteManifest, documents, layout
from pico_schema.run_names import Step, split_step

if TYPE_CHECKING:
    from pico_analyze.stores.base import StepInfo, Store

_MOST_NAMED = 12


@dataclass(frozen=True)
class RunName:
    """A run, and the one step of it if one is named."""

    location: str
    """Path or address, as `open_store` takes it."""
    step: Step | None = None
    """The step named; None for the whole run."""
    text: str = ""
    """What was written, for messages."""


def resolve(name: str | Path) -> RunName:
    """The run that a name means. Nothing is opened, and an address on the Hub is taken as it is.

    Raises:
        NotARunError: there is nothing of this name; the message names the nearest run and those that exist.
        UsageError: the name gives two steps.
    """
    text = str(name)
    if is_address(text):
        location, step = split_step(text)
        return RunName(location, step, text)
    if (whole := _directory(text)) is not None:
        return _at(whole, None, text)
    run, step = split_step(text)
    directory = None if step is None else _directory(run)
    if directory is None:
        raise NotARunError(_unknown(text if step is None else run))
    return _at(directory, step, text)


def resolve_all(names: list[str | Path]) -> list[RunName]:
    """The runs of these names; without a name the one under ./runs that changed last.

    Raises:
        NotARunError: a name means nothing, or none is given and there is no run under ./runs.
    """
    return [resolve(name) for name in expanded(names)] if names else [RunName(str(newest_run()))]


def expanded(names: Iterable[str | Path]) -> list[str | Path]:
    """The names, with a suite's directory replaced by its runs that are begun, in the suite's order.

    Raises:
        NotARunError: none of a suite's runs is begun.
        DataError: a suite's document is damaged.
    """
    found: list[str | Path] = []
    for name in names:
        suite, step = str(name), ""
        directory = _suite(suite)
        if directory is None and split_step(suite)[1] is not None:
            suite, _, step = suite.rpartition("@")
            directory = _suite(suite)
        if directory is None:
            found.append(name)
            continue
        try:
            suite_of = documents.read(directory / layout.SUITE_MANIFEST, SuiteManifest)
        except SchemaError as error:
            raise DataError(str(error)) from None
        places = [directory / member.name for member in suite_of.members]
        begun = [str(place) for place in places if is_run(place)]
        if not begun:
            raise NotARunError(
                f"{name}: none of the suite's {len(places)} runs is begun: `pico-train suite resume {directory}` begins"
            )
        found += [f"{run}@{step}" if step else run for run in begun]
    return found


def _suite(name: str) -> Path | None:
    """The directory of a suite: itself, or that of one under ./runs."""
    if is_address(name):
        return None
    return next((path for path in (Path(name), RUNS / name) if (path / layout.SUITE_MANIFEST).is_file()), None)


def is_known(name: str) -> bool:
    """Whether a name means something that is there, or is an address on the Hub."""
    try:
        resolve(name)
    except NotARunError:
        return False
    return True


def run_names() -> list[str]:
    """Names of the runs under ./runs, newest first."""
    return [path.name for path in local_runs()]


def open_named(name: str | Path, options: ReadOptions | None = None) -> Store:
    """Open the run of a name; with a step, it has that checkpoint alone.

    Raises:
        NotARunError: there is nothing of this name, or nothing of a known kind.
        UsageError: the run has no such step.
        DataError: it is a run, and damaged.
    """
    found = resolve(name)
    store = open_store(found.location, options)
    return store if found.step is None else cast("Store", _OneCheckpoint(store, found.step))


class _OneCheckpoint:
    """A run reduced to one of its checkpoints; in all else the store of the run."""

    def __init__(self, store: Store, step: Step) -> None:
        known = store.steps()
        number = known[0 if step == "first" else -1].step if isinstance(step, str) and known else step
        self._store = store
        self._kept = tuple(info for info in known if info.step == number)
        if not self._kept:
            steps = ", ".join(str(info.step) for info in known[:_MOST_NAMED]) or "none"
            raise UsageError(f"step {step} does not exist: run {store.run!r} has the steps {steps}")
        self.location = f"{store.location}@{number}"

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def steps(self) -> tuple[StepInfo, ...]:
        """The one checkpoint."""
        return self._kept

    def unusable(self) -> tuple[()]:
        """None: no other checkpoint is asked for."""
        return ()

    def set_aside(self) -> tuple[()]:
        """None either."""
        return ()

    def evaluations(self) -> Mapping[int, Mapping[str, float]]:
        """The results of this step."""
        return {step: found for step, found in self._store.evaluations().items() if step == self._kept[0].step}


def _directory(name: str) -> Path | None:
    """The directory of a name: itself, or that of a run under ./runs; a run before what is none."""
    path, inside = Path(name), RUNS / name
    candidates = [path, inside] if not path.is_absolute() else [path]
    there = [candidate for candidate in candidates if candidate.is_dir()]
    runs = [candidate for candidate in there if is_run(candidate)]
    if runs or there:
        return (runs or there)[0]
    return path if path.exists() else None


def _at(directory: Path, step: Step | None, text: str) -> RunName:
    """A directory that was found: of a run, or of one of its checkpoints."""
    found = checkpoint_of(directory) or checkpoint_of(directory.resolve())
    if found is None:
        return RunName(str(directory), step, text)
    run, own = found
    if step is not None and step != own:
        raise UsageError(f"{text}: this directory is step {own}: leave @{step} out, or name the run")
    return RunName(str(run), own, text)


def _unknown(name: str) -> str:
    path = Path(name)
    if "@" in name and (run := name.rpartition("@")[0]) and _directory(run) is not None:
        return f"{name}: after the @ of a run stands a step: {run}@128, {run}@first or {run}@last"
    root = path.parent if len(path.parts) > 1 else RUNS
    runs = [entry.name for entry in local_runs(root)]
    others = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    more = ", …" if len(runs) > _MOST_NAMED else ""
    there = f"runs under {root}: {', '.join(runs[:_MOST_NAMED])}{more}" if runs else f"there is no run under {root}"
    return f"{name}: there is no such path{nearest(path.name, [*runs, *others])} ({there})"
