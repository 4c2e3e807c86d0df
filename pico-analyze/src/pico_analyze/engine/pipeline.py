"""The way from questions to a table: open the runs, plan, compute what is not there yet, write rows, draw.

The only module that knows all the others. It prints nothing: what happens is told to a `Listener`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pico_analyze.engine.plan import Job, Plan, extend, split_by_known
from pico_analyze.errors import UsageError
from pico_analyze.questions.question import Question, Target
from pico_analyze.stores.base import Store, Unusable
from pico_analyze.stores.opening import ReadOptions, open_store

if TYPE_CHECKING:
    import pandas

    from pico_analyze.engine.compute import Tally
    from pico_analyze.table.columns import Row

OUT = Path("analysis")
"""Where results go when nothing else is said."""
MEMORY_GB = 1.0


@dataclass(frozen=True)
class Settings:
    """How an analysis is carried out; none of it changes a value."""

    out: Path = OUT
    """Directory in which each run gets its own."""
    processes: int = 1
    """Processes on this machine."""
    threads: int = 1
    """Threads of this process, where it is the only one; then BLAS should use one (OPENBLAS_NUM_THREADS=1)."""
    memory_gb: float = MEMORY_GB
    """Bound of tensors and matrices held at a time, in GiB."""
    fresh: bool = False
    """Compute again what is already in the table."""
    read: ReadOptions = field(default_factory=ReadOptions)
    """How remote runs are read."""


class Listener(Protocol):
    """What is told about a running analysis."""

    def opened(self, store: Store) -> None:
        """A run was opened and its kind found out."""

    def unusable(self, store: Store, found: Sequence[Unusable]) -> None:
        """Checkpoints that are not complete, and are left out."""

    def planned(self, jobs: int, reused: int) -> None:
        """So many jobs are to do; so many values are already there."""

    def advanced(self, jobs: int, rows: Sequence[Row]) -> None:
        """Jobs done, and the rows they gave."""


class Silence:
    """A listener that does not listen."""

    def opened(self, store: Store) -> None: ...  # noqa: D102
    def unusable(self, store: Store, found: Sequence[Unusable]) -> None: ...  # noqa: D102
    def planned(self, jobs: int, reused: int) -> None: ...  # noqa: D102
    def advanced(self, jobs: int, rows: Sequence[Row]) -> None: ...  # noqa: D102


@dataclass
class Outcome:
    """What an analysis gave."""

    frame: pandas.DataFrame
    """The rows that answer the questions, those computed before included."""
    directories: Mapping[str, Path]
    """Where each run's table lies, by the run's location."""
    skipped: Mapping[str, int]
    """What could not be computed, and how often."""
    tally: Tally
    """What was read, and what metrics warned of."""
    computed: int
    """Metrics of a unit (a matrix and its heads) computed now."""
    reused: int
    """Those that were already there."""
    new_rows: int
    """Rows computed now."""
    parts: Sequence[tuple[str, frozenset[str]]]
    """Of each question, the run's location and the units of its rows."""
    figures: list[Path] = field(default_factory=list)
    """Pictures drawn of it, by whoever drew them."""

    def frames(self) -> Iterator[tuple[Path, pandas.DataFrame]]:
        """The rows of each question, and the directory of their run."""
        for location, units in self.parts:
            rows = self.frame[self.frame["unit"].isin(units)]
            if len(rows):
                yield self.directories[location], rows


class Runs:
    """The runs of an analysis, each opened once."""

    def __init__(self, options: ReadOptions, listener: Listener) -> None:
        self._options, self._listener = options, listener
        self._opened: dict[str, Store] = {}

    def __call__(self, location: str | Path) -> Store:
        """The run at a path or address."""
        text = str(location)
        if text not in self._opened:
            store = open_store(text, self._options)
            twin = next((known for known in self._opened.values() if known.location == store.location), None)
            self._opened[text] = twin or store
            if twin is None:
                self._listener.opened(store)
                if found := store.unusable():
                    self._listener.unusable(store, found)
        return self._opened[text]


def identity(store: Store) -> str:
    """What tells two runs of the same name apart: the run's id, or where it lies."""
    steps = store.steps()
    facts = store.provenance(steps[-1].step) if steps else {}
    return facts.get("run_id") or _place(store)


def _place(store: Store) -> str:
    return store.location if "://" in store.location else str(Path(store.location).resolve())


def analyze(
    asked: Iterable[tuple[str | Path, Question]], settings: Settings | None = None, listener: Listener | None = None
) -> Outcome:
    """Answer questions about runs in one pass.

    Args:
        asked: Pairs of a run (path or address) and a question.
        settings: Where results go and what may be used.
        listener: Is told what happens.

    Raises:
        UsageError: something asked for does not exist.
        DataError: a run does not hold what is needed, or is damaged.
        StorageError: disk or network.
    """
    settings, listener = settings or Settings(), listener or Silence()
    runs = Runs(settings.read, listener)
    plan = Plan()
    for location, question in asked:
        store = runs(location)
        target = question.target
        other = runs(target.run) if target is not None and target.run is not None else None
        extend(plan, question, store, other)
    if not plan.questions:
        raise UsageError("nothing is asked: name a metric, such as cka")
    return _carry_out(plan, settings, listener)


def between_runs(locations: Sequence[str | Path], question: Question) -> list[tuple[str | Path, Question]]:
    """The question for each pair of runs, at the same steps unless its target says otherwise (seeds, sizes).

    Raises:
        UsageError: fewer than two runs, or a target that names one.
    """
    if len(locations) < 2:
        raise UsageError("comparing runs with each other needs at least two: name them")
    if question.target is not None and question.target.run is not None:
        raise UsageError(f"--target {question.target} names a run: with --between runs the other runs are the targets")
    step = question.target.step if question.target is not None else "same"
    return [(a, replace(question, target=Target(step, str(b)))) for a, b in combinations(locations, 2)]


def _carry_out(plan: Plan, settings: Settings, listener: Listener) -> Outcome:
    from contextlib import ExitStack

    from pico_analyze.engine.compute import Tally, Work
    from pico_analyze.engine.executors import compute
    from pico_analyze.table.store import RowStore, directory_for

    tally = Tally(warnings=plan.doubts)
    units: dict[int, set[str]] = {}
    by_question: dict[tuple[int, int], list[Job]] = {}
    for job in plan.jobs:
        units.setdefault(job.x.store, set()).update(job.units)
        by_question.setdefault((job.x.store, job.question), []).append(job)
    tables: dict[int, RowStore] = {}
    for index in units:
        store = plan.stores[index]
        directory = directory_for(settings.out, store.run, identity(store), _place(store))
        if directory.name != store.run:
            tally.warnings[
                f"{settings.out / store.run} belongs to another run called {store.run!r}: see {directory}"
            ] += 1
        tables[index] = RowStore(directory)
    known: set[str] = set()
    if not settings.fresh:
        known = set().union(*(table.known(units[index]) for index, table in tables.items()))
    jobs = split_by_known(plan, known)
    computed, wanted = sum(len(job.units) for job in jobs), sum(len(job.units) for job in plan.jobs)
    listener.planned(len(jobs), wanted - computed)
    of_unit = {unit: index for index, some in units.items() for unit in some}

    new_rows = 0

    def emit(rows: list[Row], count: int) -> None:
        nonlocal new_rows
        new_rows += len(rows)
        for index, table in tables.items():
            table.add([row for row in rows if of_unit[row["unit"]] == index] if len(tables) > 1 else rows)
        listener.advanced(count, rows)

    work = Work(
        tuple(store.location for store in plan.stores), settings.read, tuple(plan.questions), settings.memory_gb * 2**30
    )
    work.__dict__["stores"] = plan.stores  # already open in this process
    with ExitStack() as stack:
        for table in tables.values():
            stack.enter_context(table)
        compute(work, jobs, tally, processes=settings.processes, threads=settings.threads, emit=emit)

    import pandas

    frames = [table.frame(units[index]) for index, table in tables.items()]
    frame = pandas.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    locations = {index: plan.stores[index].location for index in units}
    return Outcome(
        frame=frame,
        directories={locations[index]: table.directory for index, table in tables.items()},
        skipped=dict(plan.skipped + tally.skipped),
        tally=tally,
        computed=computed,
        reused=wanted - computed,
        new_rows=new_rows,
        parts=[
            (locations[own], frozenset(unit for job in jobs_of for unit in job.units))
            for (own, _), jobs_of in by_question.items()
        ],
    )
