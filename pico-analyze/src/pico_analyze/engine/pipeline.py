"""The way from questions to a table: open the runs, plan, compute what is not there yet, give the rows.

The only module that knows all the others. It prints nothing: what happens is told to a `Listener`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.engine import executors
from pico_analyze.engine.confirm import SIGN, judge
from pico_analyze.engine.outcome import Answer, Outcome
from pico_analyze.engine.plan import Plan, extend
from pico_analyze.engine.runs import OpenedRuns, identity, place
from pico_analyze.engine.settings import Listener, Settings, Silence
from pico_analyze.engine.tasks import Task, cut, only, without
from pico_analyze.engine.versions import package_versions
from pico_analyze.engine.work import Done, Opening, Tally, Work
from pico_analyze.engine.worker import carry_out, check, for_threads
from pico_analyze.errors import DataError, UsageError
from pico_analyze.questions.question import Question
from pico_analyze.stores.base import Confirms
from pico_analyze.stores.known_digests import cache_root, known_digests
from pico_analyze.table.columns import digest
from pico_analyze.table.rows_file import part_content, rows_of
from pico_analyze.table.store import RowStore, directory_for, frame_of, rows_saying, write_part

if TYPE_CHECKING:
    import pandas
    import pyarrow


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
        WorkerError: a scheduler or worker cannot be reached, does not fit, or was lost.
    """
    settings, listener = settings or Settings(), listener or Silence()
    plan = _plan(asked, OpenedRuns(settings.read, listener))
    tasks = cut(plan.jobs, plan.questions)
    if settings.shard is not None:
        tasks = list(settings.shard.of(tasks))
    tally = Tally(warnings=plan.warnings)
    started = time.time_ns()
    wanted: dict[int, set[str]] = {}
    for task in tasks:
        wanted.setdefault(task.store, set()).update(digest for job in task.jobs for digest in job.digests)
    tables = _tables(plan, settings, wanted, started, tally)
    known = _known(plan, tables, wanted, settings, started, tally)
    left = without(tasks, known)
    n_wanted, n_left = _values(tasks), _values(left)
    listener.planned(len(left))
    collected = _carry_out(plan, left, settings, tables, started, tally, listener)
    wrong = set() if settings.shard else _confirmed(plan, tables, wanted, started, collected)
    if wrong:  # of files that came damaged, and are whole by now
        again = only(tasks, wrong)
        listener.planned(len(again))
        collected += _carry_out(plan, again, settings, tables, time.time_ns(), tally, listener)
        if _confirmed(plan, tables, wanted, started, collected):
            raise DataError("what came from the Hub was damaged on its way, twice: try again")

    _say_what_is_not_remembered(tally)
    import pandas

    if settings.out is None:
        frame = _in_memory(collected)
    else:
        frames = [table.frame(wanted[index]) for index, table in tables.items()]
        frame = pandas.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0] if frames else frame_of(None)
    return Outcome(
        frame=frame,
        directories={plan.stores[index].location: table.directory for index, table in tables.items()},
        skipped=dict(plan.skipped + tally.skipped),
        tally=tally,
        computed=n_left,
        reused=n_wanted - n_left,
        new_rows=int((~frame["digest"].isin(known)).sum()),
        answers=_answers(plan),
        shard=settings.shard,
    )


def _plan(asked: Iterable[tuple[str | Path, Question]], runs: OpenedRuns) -> Plan:
    plan, planned = Plan(), set()
    for location, question in asked:
        store = runs(location)
        target = question.target
        other = runs(target.run) if target is not None and target.run is not None else None
        if (one := (id(store), question, id(other))) not in planned:  # a run that is named twice is one run
            planned.add(one)
            extend(plan, question, store, other)
    if not plan.questions:
        raise UsageError("nothing is asked: name a metric, such as cka")
    return plan


def _values(tasks: Sequence[Task]) -> int:
    return sum(len(job.digests) for task in tasks for job in task.jobs)


def _answers(plan: Plan) -> list[Answer]:
    digests: dict[tuple[int, int], set[str]] = {}
    for job in plan.jobs:
        digests.setdefault((job.x.store, job.question), set()).update(job.digests)
    return [
        Answer(plan.stores[store].location, frozenset(some), plan.questions[question].chosen())
        for (store, question), some in digests.items()
    ]


def _tables(plan: Plan, settings: Settings, wanted: Iterable[int], started: int, tally: Tally) -> dict[int, RowStore]:
    """The table of each run that rows belong to; none where nothing is written."""
    tables: dict[int, RowStore] = {}
    for index in wanted if settings.out is not None else ():
        assert settings.out is not None
        store = plan.stores[index]
        directory = directory_for(settings.out, store.run, identity(store), place(store))
        if directory.name != store.run:
            tally.warnings[
                f"{settings.out / store.run} belongs to another run called {store.run!r}: see {directory}"
            ] += 1
        tables[index] = RowStore(directory, started, merge=settings.shard is None)
    return tables


def _known(
    plan: Plan,
    tables: Mapping[int, RowStore],
    wanted: Mapping[int, set[str]],
    settings: Settings,
    started: int,
    tally: Tally,
) -> set[str]:
    """Digests of rows that need not be computed again. Tables are looked at even if all of it is to be computed: what
    is wrong with one is told before, not after."""
    known = set().union(*(table.known(wanted[index]) for index, table in tables.items()))
    for table in tables.values():
        for part in table.put_aside:
            tally.warnings[f"{part}: this part of the table was damaged; what it held is computed again"] += 1
    if settings.fresh:
        return set()
    # Shards leave that to the command that brings them together.
    return known if settings.shard else known - _confirmed(plan, tables, wanted, started, [])


def _say_what_is_not_remembered(tally: Tally) -> None:
    memory = known_digests(cache_root())
    if memory.refused is not None:
        why = memory.refused.strerror or memory.refused
        tally.warnings[
            f"{memory.folder}: cannot be written ({why}), so the next analysis reads all files through again to check "
            "them: PICO_CACHE names another place"
        ] += 1


def _confirmed(
    plan: Plan, tables: Mapping[int, RowStore], wanted: Mapping[int, set[str]], started: int, collected: list[bytes]
) -> set[str]:
    """Have rows say what is known by now of the files that they were made of; digests of those that are wrong."""
    if not any(isinstance(store, Confirms) for store in plan.stores):
        return set()
    wrong: set[str] = set()
    for index, table in tables.items():
        verdict = judge(table.rows_saying(SIGN, wanted[index]), plan.stores)
        wrong |= verdict.wrong
        if verdict.confirmed:
            name = f"{started:020d}-{digest(sorted(row['digest'] for row in verdict.confirmed))}.parquet"
            write_part(table.directory, name, part_content(verdict.confirmed))
            table.merge()
    if collected:
        every = set().union(*wanted.values())
        verdict = judge(rows_saying(_joined(collected), SIGN, every), plan.stores)
        wrong |= verdict.wrong
        collected += [part_content(verdict.confirmed)] if verdict.confirmed else []
    return wrong


def _carry_out(
    plan: Plan,
    tasks: Sequence[Task],
    settings: Settings,
    tables: Mapping[int, RowStore],
    started: int,
    tally: Tally,
    listener: Listener,
) -> list[bytes]:
    """Carry out the tasks; the parts that were not written, where there is no table."""
    collected: list[bytes] = []

    def finished(done: Done, count: int) -> None:
        tally.add(done.tally)
        for index, name, content in done.unwritten:
            if index in tables:
                write_part(tables[index].directory, name, content)
            else:
                collected.append(content)
        if count:
            listener.advanced(count)

    work = Work(
        started=started,
        locations=tuple(place(store) for store in plan.stores),
        checkpoints=tuple(_checkpoints(plan, index) for index in range(len(plan.stores))),
        options=settings.read,
        questions=tuple(plan.questions),
        memory=settings.memory * 2**30,
        tables={index: table.directory.resolve() for index, table in tables.items()} if tables else None,
        versions=package_versions(plan.questions),
    )
    with ExitStack() as stack:
        for table in tables.values():
            stack.enter_context(table)
        if tasks:
            executors.carry_out_all(
                work,
                tasks,
                _workers(settings),
                carry_out=carry_out,
                stores=for_threads(plan.stores),
                finished=finished,
            )
    return collected


def _workers(settings: Settings) -> Opening:
    """Starts or reaches the workers that the settings name."""
    if settings.scheduler is not None:
        from pico_analyze.engine.cluster import cluster

        return cluster(settings.scheduler, check)
    if settings.jobs > 1:
        return executors.processes(settings.jobs)
    return executors.threads(settings.threads or os.cpu_count() or 1)


def _checkpoints(plan: Plan, index: int) -> dict[int, str]:
    """The digest of each checkpoint of a run that the plan reads."""
    read = {side.step for job in plan.jobs for side in job.sides if side.store == index}
    return {info.step: info.digest for info in plan.stores[index].steps() if info.step in read}


def _in_memory(parts: Sequence[bytes]) -> pandas.DataFrame:
    return frame_of(_joined(parts))


def _joined(parts: Sequence[bytes]) -> pyarrow.Table | None:
    import pyarrow as pa

    tables = [rows_of(content, where="what a worker sent") for content in parts]
    return pa.concat_tables(tables) if tables else None
