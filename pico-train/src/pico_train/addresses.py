"""What a person's name of a run means: the one place that decides it, for every command and function.

    m1                                   the directory m1, or runs/m1
    runs/m1                              a directory
    hf://org/name@branch                 a run on the Hub; hf://org/name@branch:step-128 one checkpoint of it
    m1@128, m1@step-128                  step 128 of a run, by any of these names; m1@first and m1@last likewise
    runs/m1/checkpoints/step-00000128    the directory of a checkpoint: that step of its run

pico-analyze understands the same. A run on the Hub is brought to this disk (`hub_runs`), as much of it as is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pico_schema import documents, layout
from pico_schema.digests import sha256_file
from pico_schema.run_names import Step, split_step
from pico_train.errors import CheckpointError, UsageError
from pico_train.hub_runs import Wanted, bring

RUNS = Path("runs")
"""Where a bare name is looked for."""
HUB = "hf://"

_MOST_NAMED = 12


@dataclass(frozen=True)
class RunPlace:
    """A run on this disk, and the step if one is meant."""

    run_dir: Path
    """Directory of the run; of one on the Hub, where it was brought to."""
    step: int | None
    """The step that was named; None for the whole run."""
    on_hub: bool = False
    """Whether it was brought from the Hub, so that what is missing here need not be missing there."""


def open_run(
    place: str | Path, wanted: Wanted = "documents", on_retry: Callable[[str], None] | None = None
) -> RunPlace:
    """The run, and the step if one is named, that `place` means.

    Args:
        place: A name, a path or an address.
        wanted: How much of it is needed, if it is on the Hub.
        on_retry: Called with a sentence before the Hub is asked again.

    Raises:
        CheckpointError: there is no such run, and the message names the nearest; or it has no sealed checkpoint, where
            the first or last is asked for.
        UsageError: the name gives two steps, or on the Hub one that the run does not have.
        StorageError: the Hub cannot be reached.
    """
    text = str(place)
    if text.startswith(HUB):
        location, named = split_step(text)
        run_dir, number = bring(location, named, wanted, on_retry)
        return RunPlace(run_dir, number, on_hub=True)
    directory, step = _local(text)
    if not (directory / layout.RUN_MANIFEST).is_file():
        if any(True for _ in documents.checkpoint_dirs(directory)):
            raise CheckpointError(
                f"{text} has checkpoints and no {layout.RUN_MANIFEST}: put it back, or rebuild it with "
                f"`pico-train repair {directory}`"
            )
        raise CheckpointError(f"{text} is not a run: it has no {layout.RUN_MANIFEST}{_nearest(text)}")
    return RunPlace(directory, _number(directory, step))


def checkpoint_directory(place: str | Path, wanted: Wanted = "model") -> Path:
    """The directory of the checkpoint that `place` means: the last sealed one where no step is named.

    A directory of a model that belongs to no run is taken as it is.

    Raises:
        CheckpointError, StorageError: as `open_run`; or the run has no sealed checkpoint.
        UsageError: as `open_run`; or the run has no such step, and the message lists those there are.
    """
    if not str(place).startswith(HUB):
        directory, step = _local(str(place))
        if step is None and not (directory / layout.RUN_MANIFEST).is_file() and _is_model(directory):
            return directory
    found = open_run(place, wanted)
    return sealed_checkpoint(found.run_dir, found.step)


def sealed_checkpoint(run_dir: Path, step: int | None) -> Path:
    """Directory of the sealed checkpoint of a step, the newest by default.

    Raises:
        CheckpointError: the run has no sealed checkpoint, or it is not the one that the run's index lists.
        SchemaError: the run's index is damaged.
        UsageError: no such step; the message lists the steps there are.
    """
    sealed = _sealed(run_dir)
    if not sealed:
        raise CheckpointError(f"{run_dir}: the run has no complete checkpoint yet")
    if step is not None and step not in sealed:
        raise UsageError(f"{run_dir} has no checkpoint of step {step}: there are {', '.join(map(str, sealed))}")
    number = max(sealed) if step is None else step
    directory = sealed[number]
    _refuse_link(directory)
    _check_listed(run_dir, number, directory / layout.MANIFEST)
    return directory


def _check_listed(run_dir: Path, step: int, manifest: Path) -> None:
    """A checkpoint is that of its step, and the one that the index lists; a new one may not be listed yet."""
    found = documents.read_checkpoint(manifest.parent).step
    if found != step:
        raise CheckpointError(f"{manifest} is that of step {found}: put the checkpoint of step {step} in its place")
    if not (run_dir / layout.RUN_MANIFEST).is_file():
        return
    listed = next((entry for entry in documents.read_run(run_dir).checkpoints if entry.step == step), None)
    if listed is not None and sha256_file(manifest) != listed.manifest_sha256:
        raise CheckpointError(
            f"{manifest} is not the one that {layout.RUN_MANIFEST} lists: another checkpoint lies in its place, see "
            f"`pico-train verify {run_dir}`"
        )


def _refuse_link(directory: Path) -> None:
    """A checkpoint lies in its run's own directory: a link may show another run's, or change behind its seal."""
    if directory.is_symlink():
        raise CheckpointError(f"{directory} is a symbolic link, not a checkpoint's own directory: refusing to use it")


def newest_run() -> Path:
    """The run under ./runs that changed last.

    Raises:
        CheckpointError: there is none.
    """
    found = sorted(RUNS.glob(f"*/{layout.RUN_MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise CheckpointError("there is no run in ./runs: name one, or begin with pico-train run")
    return found[-1].parent


def _local(text: str) -> tuple[Path, Step | None]:
    """A directory that is there, and the step that is named or that the directory is of."""
    if (whole := _directory(text)) is not None:
        return _at(whole, None, text)
    run, step = split_step(text)
    directory = None if step is None else _directory(run)
    if directory is not None:
        return _at(directory, step, text)
    before = text.rpartition("@")[0]
    if before and _directory(before) is not None:
        raise CheckpointError(f"{text!r}: after the @ a step is expected, such as {before}@step-128, or first or last")
    raise CheckpointError(f"{run} is not a run: it has no {layout.RUN_MANIFEST}{_nearest(run)}")


def _directory(name: str) -> Path | None:
    """The directory of a name: itself, or that of a run under ./runs; a run before what is none."""
    there = [path for path in dict.fromkeys((Path(name), RUNS / name)) if path.is_dir()]
    runs = [path for path in there if (path / layout.RUN_MANIFEST).is_file()]
    return next(iter(runs or there), None)


def _at(directory: Path, step: Step | None, text: str) -> tuple[Path, Step | None]:
    """A directory that was found: of a run, or of one of its checkpoints."""
    if layout.parse_step_dir(directory.name) is not None:
        _refuse_link(directory)
    place = directory.resolve()
    own = layout.parse_step_dir(place.name)
    run = place.parent.parent
    if own is None or place.parent.name != layout.CHECKPOINTS or not (run / layout.RUN_MANIFEST).is_file():
        return directory, step
    if step is not None and step != own:
        raise UsageError(f"{text}: this directory is step {own}: leave @{step} out, or name the run")
    return run, own


def _number(run_dir: Path, step: Step | None) -> int | None:
    if not isinstance(step, str):
        return step
    sealed = _sealed(run_dir)
    if not sealed:
        raise CheckpointError(f"{run_dir}: the run has no complete checkpoint yet")
    return min(sealed) if step == "first" else max(sealed)


def _sealed(run_dir: Path) -> dict[int, Path]:
    return {step: path for step, path in documents.checkpoint_dirs(run_dir) if (path / layout.MANIFEST).is_file()}


def _is_model(directory: Path) -> bool:
    return (directory / layout.MODEL_CONFIG).is_file() and (directory / layout.WEIGHTS).is_file()


def _nearest(name: str) -> str:
    """The run that may have been meant, and those that there are."""
    path = Path(name)
    root = path.parent if len(path.parts) > 1 else RUNS
    known = sorted(entry.parent.name for entry in root.glob(f"*/{layout.RUN_MANIFEST}"))
    near = get_close_matches(path.name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}" if near else ""
    more = ", …" if len(known) > _MOST_NAMED else ""
    return hint + (f"; in {root}/ there are {', '.join(known[:_MOST_NAMED])}{more}" if known else "")
