"""From runs and tables to a report: what is missing is computed, then everything is put into one document.

It prints nothing. Who computes is given to it: a page of rows at hand needs neither engine nor models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import DataError, NotARunError, StorageError, UsageError
from pico_analyze.output.text import params_text
from pico_analyze.stores.base import ReadOptions
from pico_schema.layout import CHECKPOINTS, EVALUATIONS, METRICS_LOG, RUN_MANIFEST

if TYPE_CHECKING:
    from pico_analyze.engine.outcome import Outcome
    from pico_analyze.engine.settings import Listener, Settings
    from pico_analyze.output.figures.sources import Source
    from pico_analyze.output.report.document import Shown, Told
    from pico_analyze.questions.question import Question
    from pico_analyze.questions.study import Study
    from pico_analyze.stores.base import Store


@dataclass(frozen=True)
class Means:
    """Who computes."""

    analyze: Callable[[Sequence[tuple[str, Question]], Settings, Listener | None], Outcome]
    """The engine: `engine.pipeline.analyze`."""
    probe: Callable[[Study, str, Settings], object]
    """Measures the probes of a study on a run."""


@dataclass(frozen=True)
class Asked:
    """What a page is to show."""

    sources: Sequence[str | Path] = ()
    tables: Sequence[str | Path] = ()
    study: Study | None = None
    study_file: Path | None = None
    """How the study was named, for the command that makes the page again."""
    analyses: Path = Path("analysis")
    jobs: int = 1
    threads: int = 0
    read: ReadOptions = field(default_factory=ReadOptions)
    means: Means | None = None
    """Who computes what is missing; None shows what there is."""
    growing: bool = False
    """Whether the run is still training: comparisons are then with its first step, which stays the same."""


def write(asked: Asked, out: Path, listener: Listener | None = None) -> Path:
    """Make the page of what was asked and write it, whole or not at all.

    Raises:
        UsageError: `out` is a folder, or something asked for does not exist.
        NotARunError: a source is neither a table nor a run.
        DataError: a table or run is damaged.
        StorageError: disk or network.
    """
    from pico_analyze.output.report.page import page
    from pico_analyze.output.report.recipes import report_command
    from pico_schema.files import replace_file

    if out.is_dir():
        raise UsageError(f"{out} is a folder: name a file, such as {out / 'report.html'}")
    study = None if asked.study_file is None else str(asked.study_file)
    command = report_command(asked.sources, asked.tables, study, asked.analyses, out)
    content = page(made(asked, command, listener))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, content, durable=False)
    except OSError as error:
        raise StorageError(f"{out}: writing failed ({error.strerror or error}): choose another --out") from None
    return out


def made(asked: Asked, command: str, listener: Listener | None = None) -> dict[str, Any]:
    """Compute what is missing, and give the document of a page.

    Args:
        asked: What it is to show.
        command: What makes it again.
        listener: Is told of the analysis.
    """
    from pico_analyze.output.figures.sources import sources
    from pico_analyze.output.report.document import Told, told_apart

    found = [] if asked.tables and not asked.sources else sources(asked.sources, asked.analyses, asked.read)
    notes: list[str] = []
    shown: list[Shown] = []
    for source in found:
        store = _store(source, notes)
        if asked.means is not None and store is not None and not _is_table(source):
            notes += _computed(source, store, asked, asked.means, listener)
            source = sources([source.word], asked.analyses, asked.read)[0]
            store = source.opened or store
        shown.append(_shown(source, store))
    shown += [one for path in asked.tables for one in _of_file(Path(path))]
    shown = told_apart(shown)
    told = Told(command, notes=list(dict.fromkeys(notes)), findings=_findings(shown))
    return document_of(shown, told, str(asked.analyses))


def _findings(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """What stands out in the rows, each with the part of the address that shows it."""
    import pandas

    from pico_analyze.output.findings import findings, validation_loss

    frames = [one.frame for one in shown if one.frame is not None and len(one.frame)]
    if not frames:
        return []
    losses = {one.name or one.own_name: validation_loss(one.store) for one in shown if one.store is not None}
    found = findings(pandas.concat(frames, ignore_index=True), losses)
    return [{"text": one.text, "caveat": one.caveat, "selection": _address(one.selection)} for one in found]


def _address(selection: Mapping[str, str | int]) -> dict[str, str | int]:
    """The words of a page's address: its panels are of questions, which are named by more than a metric."""
    words = {name: selection[name] for name in ("run", "site", "split", "layer", "head", "step") if name in selection}
    if "metric" in selection:
        params = params_text(selection).strip(" []")
        named = f"{selection['metric']}[{params}]" if params else str(selection["metric"])
        words["metric"] = f"{named}:{selection['component']}:{selection['data']}"
    return words


def document_of(shown: Sequence[Shown], told: Told | None = None, analyses: str = "analysis") -> dict[str, Any]:
    """The document of runs and their rows; raises as `document.document` does."""
    from pico_analyze.output.report.cubes import cubes
    from pico_analyze.output.report.document import document

    frames = [one.frame for one in shown if one.frame is not None]
    return document(shown, [cube.packed() for cube in cubes(*frames)], told, analyses)


def _is_table(source: Source) -> bool:
    return source.opened is None


def _store(source: Source, notes: list[str]) -> Store | None:
    """The run of a source; None where only its table is at hand, and that is said."""
    try:
        return source.store
    except (NotARunError, UsageError) as error:
        if not _is_table(source):
            raise
        notes.append(f"the rows alone are shown: {error}")
        return None


def _shown(source: Source, store: Store | None) -> Shown:
    from pico_analyze.output.report.document import Shown

    return Shown(source.rows() if source.table is not None else None, store, source.table)


def _of_file(path: Path) -> list[Shown]:
    from pico_analyze.output.report.document import Shown
    from pico_analyze.table.rows_file import read_csv_file, read_rows_file
    from pico_analyze.table.store import to_pandas

    if not path.is_file():
        raise DataError(f"{path}: there is no such file: name a rows.parquet or rows.csv")
    table = read_csv_file(path) if path.suffix.lower() == ".csv" else read_rows_file(path)[0]
    frame = to_pandas(table)
    if frame.empty:
        return [Shown(frame)]
    return [Shown(rows.reset_index(drop=True)) for _, rows in frame.groupby("run", sort=False)]


def _computed(source: Source, store: Store, asked: Asked, means: Means, listener: Listener | None) -> list[str]:
    """Compute the study of a page; what could not be is said, and hides nothing else."""
    from pico_analyze.engine.settings import Settings
    from pico_analyze.questions.builder import questions
    from pico_analyze.questions.overview import overview

    if not store.steps():
        return [f"{store.run}: no checkpoint is sealed yet"]
    settings = Settings(out=asked.analyses, jobs=asked.jobs, threads=asked.threads, read=asked.read)
    if asked.study is not None:
        return _studied(source, asked.study, means, settings, listener)
    try:
        config, notes = overview(store, growing=asked.growing)
    except DataError as error:
        return [str(error)]
    wanted = [question for one in config.measurements for question in questions(one)]
    try:
        return notes + _said(means.analyze([(store.location, question) for question in wanted], settings, listener))
    except (UsageError, DataError):
        pass
    for question in wanted:  # one that this run cannot answer takes none of the others with it
        try:
            notes += _said(means.analyze([(store.location, question)], settings, listener))
        except (UsageError, DataError) as error:
            notes.append(f"{', '.join(use.name for use in question.metrics)} is left out: {error}")
    return notes


def _said(outcome: Outcome) -> list[str]:
    """What an analysis warned of, and what it skipped."""
    return [*outcome.tally.warnings, *outcome.skipped]


def _studied(source: Source, study: Study, means: Means, settings: Settings, listener: Listener | None) -> list[str]:
    means.probe(study, source.word, settings)
    outcome = means.analyze(study.asked([source.word]), settings, listener)
    return _said(outcome)


@dataclass(frozen=True)
class Watched:
    """A run on this machine, looked at while it trains."""

    path: Path

    @property
    def state(self) -> tuple[object, ...]:
        """What differs as soon as a checkpoint is sealed, a line is logged or a result of evaluation is added."""
        places = (self.path, *(self.path / name for name in (RUN_MANIFEST, METRICS_LOG, CHECKPOINTS, EVALUATIONS)))
        return tuple(_seen(place) for place in places)


def _seen(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def watched(asked: Asked) -> list[Watched]:
    """The runs of a page that grows.

    Raises:
        UsageError: one of them is not on this machine, or a file of rows, which does not grow.
        NotARunError: there is no such run.
    """
    from pico_analyze.output.figures.sources import sources
    from pico_analyze.stores.opening import is_address

    if asked.tables:
        raise UsageError("--live follows a run that trains: leave --table out")
    found = []
    for source in sources(asked.sources, asked.analyses, asked.read):
        location = source.store.location
        if is_address(location):
            raise UsageError(
                f"{source.word}: --live follows a run on this machine: leave --live out, or name its directory"
            )
        found.append(Watched(Path(location)))
    return found
