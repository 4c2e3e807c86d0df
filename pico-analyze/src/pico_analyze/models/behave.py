"""What the models of a run do: each checkpoint loaded once, put through the same rows, and told in rows of the table.

Steps are taken one after the other, a model at a time in memory (of each process). What a step left stays: the same
command goes on from there, and computes what is missing and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.counting import counted
from pico_analyze.engine.executors import process_pool
from pico_analyze.engine.runs import identity, place
from pico_analyze.errors import DataError, UsageError, WorkerError
from pico_analyze.models.anatomy import anatomy
from pico_analyze.models.beginning import Told, chosen_rows
from pico_analyze.models.behave_plan import Given, work_of
from pico_analyze.models.behave_settings import SEQ_LEN, BehaveSettings
from pico_analyze.models.behaving import Around, Work, complete, leave
from pico_analyze.models.behaviour_series import Series
from pico_analyze.models.cost import Cost, agreed
from pico_analyze.models.extra import extra
from pico_analyze.models.rows import check_fit
from pico_analyze.models.sources import ModelRun, weights_digests
from pico_analyze.models.trained_rows import trained_rows
from pico_analyze.probes.spec import costly
from pico_analyze.questions.question import Selection
from pico_analyze.stores.base import HasManifests, StepInfo
from pico_analyze.stores.run_names import is_known
from pico_analyze.stores.transformers.model import Model
from pico_analyze.table.arrays_file import read_arrays
from pico_analyze.table.store import RowStore, directory_for
from pico_schema import layout

if TYPE_CHECKING:
    import pandas

    from pico_analyze.engine.tasks import Shard


@dataclass(frozen=True)
class Behaved:
    """What probing a run came to."""

    frame: pandas.DataFrame
    """The rows that answer, those that were there before included."""
    directory: Path
    """Where the run's table lies."""
    steps: tuple[int, ...]
    """Steps whose models were run now."""
    kept: tuple[int, ...]
    """Steps of which all was there."""
    shard: Shard | None = None
    """The share of the steps that this was: rows lie in parts, and what follows from several steps is missing."""


def behave_models(run: str, settings: BehaveSettings, told: Told = lambda _: None) -> Behaved:
    """Probe steps of a run of models.

    Args:
        run: Its name, path or address.
        settings: What, and how.
        told: Is told what is done.

    Raises:
        UsageError: something asked for does not exist or does not fit.
        DataError: a model is damaged, is not loaded, or says what is not finite.
        StorageError: disk or network.
        WorkerError: processes were killed.
        PluginError: torch or transformers is not installed.
    """
    with extra():
        from pico_analyze.models import loading
    if costly(settings.probes):
        from pico_analyze.models import curvature as curvature  # says first what is not installed
    settings = replace(settings, device=loading.chosen_device(settings.device))
    source = ModelRun.open(run, settings.read)
    infos = source.chosen(settings.steps)
    if settings.shard is not None:
        return _share(source, infos, settings, settings.shard, told)
    steps = [info.step for info in infos]
    compared = _Target(settings, source, steps) if "output_distance" in settings.probes else None
    if compared is not None and compared.beyond:
        infos = [info for info in source.store.steps() if info.step in {*steps, *compared.beyond}]
    work = _prepared(source, infos, settings, told, loading.versions())
    loading.sweep(work.directory)
    done, kept = _carry_out(work, source, steps, told)
    other = work, source.store.run
    if compared is not None:
        if compared.beyond:
            only = replace(work, settings=replace(settings, probes=("output_distance",)))
            _carry_out(only, source, compared.beyond, told)
        if compared.run is not None:
            other = _other_run(compared.run, work, told, loading.versions(), sorted(set(compared.steps.values())))
    with RowStore(work.directory, work.started, merge=True) as table:
        series = Series(work, source.store, table, steps)
        if "token_losses" in settings.probes:
            series.losses()
        if compared is not None:
            series.outputs(*other, compared.steps)
        series.write()
    wanted = {work.digests[probe, step] for probe in settings.probes for step in steps} | series.digests
    frame = RowStore(work.directory, work.started, merge=False).frame(wanted)
    return Behaved(frame, work.directory, tuple(done), tuple(kept))


def _share(source: ModelRun, infos: Sequence[StepInfo], settings: BehaveSettings, shard: Shard, told: Told) -> Behaved:
    """Probe one share of the steps; what compares steps is left to the call that brings all together."""
    from pico_analyze.models import loading

    steps = [info.step for info in shard.of(infos)]
    work = _prepared(source, infos, settings, told, loading.versions())
    loading.sweep(work.directory)
    done, kept = _carry_out(work, source, steps, told)
    wanted = {work.digests[probe, step] for probe in settings.probes for step in steps}
    frame = RowStore(work.directory, work.started, merge=False).frame(wanted)
    return Behaved(frame, work.directory, tuple(done), tuple(kept), shard)


class _Target:
    """What outputs are compared with."""

    def __init__(self, settings: BehaveSettings, source: ModelRun, steps: Sequence[int]) -> None:
        known = [info.step for info in source.store.steps()]
        self.run: ModelRun | None = None
        self.beyond: list[int] = []
        """Steps of this run that are compared with and were not asked for."""
        name = settings.target
        if name in ("last", "first"):
            target = steps[-1 if name == "last" else 0]
            self.steps = dict.fromkeys(steps, target)
        elif name.isdigit() and not is_known(name):
            (target,) = Selection(name).pick(known, what="step", of=f"run {source.store.run!r}")
            self.steps = dict.fromkeys(steps, target)
            self.beyond = [] if target in steps else [target]
        else:
            self.run = ModelRun.open(name, settings.read)
            there = {info.step for info in self.run.store.steps()}
            self.steps = {step: step for step in steps if step in there}
            if not self.steps:
                raise UsageError(f"run {self.run.store.run!r} has none of these steps: name another --target")


def _other_run(
    source: ModelRun, work: Work, told: Told, versions: dict[str, str], steps: Sequence[int]
) -> tuple[Work, str]:
    """The outputs of another run on the same rows."""
    infos = [info for info in source.store.steps() if info.step in steps]
    if source.store.spec(infos[0].step).vocab_size != work.model.vocab_size:
        raise UsageError(
            f"run {source.store.run!r} has a vocabulary of {source.store.spec(infos[0].step).vocab_size}, and this run "
            f"of {work.model.vocab_size}: outputs over other tokens cannot be compared"
        )
    settings = replace(work.settings, probes=("output_distance",))
    other = _prepared(source, infos, settings, told, versions, work)
    _carry_out(other, source, steps, told)
    return other, source.store.run


def _prepared(
    source: ModelRun,
    infos: Sequence[StepInfo],
    settings: BehaveSettings,
    told: Told,
    versions: dict[str, str],
    like: Work | None = None,
) -> Work:
    """Rows (those of `like`, where they are given), and the digest of each probe at each step."""
    store, first = source.store, infos[0].step
    spec = store.spec(first)
    directory = directory_for(settings.out, store.run, identity(store), place(store))
    if like is None:
        tokenizer = source.small(first, layout.TOKENIZER, directory)
        seq_len = settings.seq_len or min(SEQ_LEN, spec.max_seq_len)
        rows = chosen_rows(source, first, tokenizer, settings, seq_len, told)
        split = "val" if not settings.data and isinstance(store, HasManifests) and not rows.tokenized else None
    else:
        rows, split = like.rows, like.split
    check_fit(rows, spec.vocab_size, spec.max_seq_len)
    trained = trained_rows(store) if "token_losses" in settings.probes else None
    if trained is None and "token_losses" in settings.probes:
        told(f"{store.run} keeps no batches that it was trained on: of memorisation there is the control alone")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return work_of(
        Given(source.name, source.options, directory, spec, settings, rows, split, trained, versions),
        {info.step: _content(source, info) for info in infos},
        torch_threads=max(1, cores // settings.jobs),
    )


def _content(source: ModelRun, info: StepInfo) -> object:
    """What stands for the bytes of a step's model."""
    if info.sealed:
        return info.digest
    files = source.files(info.step)
    config = {layout.MODEL_CONFIG: files.sha256(layout.MODEL_CONFIG)} if layout.MODEL_CONFIG in files.sizes else {}
    return {**weights_digests(files), **config}


def _carry_out(work: Work, source: ModelRun, steps: Sequence[int], told: Told) -> tuple[list[int], list[int]]:
    """Measure what is missing of steps; which they were, and of which all was there."""
    with RowStore(work.directory, work.started, merge=work.settings.shard is None) as table:
        known = table.known(work.digests.values())
        known = set() if work.settings.fresh else known & complete(table.frame(known))
        for part in table.put_aside:
            told(f"warning: {part}: this part of the table was damaged; what it held is computed again")
        left = {
            step: tuple(name for name in work.settings.probes if not _there(work, name, step, known)) for step in steps
        }
        left = {step: probes for step, probes in left.items() if probes}
        _agree(work, source, left, told)
        kept = [step for step in steps if step not in left]
        told(
            f"probing {counted(len(left), 'step')} of {source.store.run} ({', '.join(work.settings.probes)}, "
            f"{counted(len(work.rows.ids_NT), 'row')} of {work.rows.ids_NT.shape[1] - 1}, on {work.settings.device})"
            + (f"; {counted(len(kept), 'step')} already there" if kept else "")
        )
        with _finished(work, source, left) as finished:
            for number, step in enumerate(finished, start=1):
                told(f"step {step}: done ({number} of {len(left)})")
    return list(left), kept


def _agree(work: Work, source: ModelRun, left: Mapping[int, Sequence[str]], told: Told) -> None:
    """Measure what costly probes will take, on the first of the models, and go on where that was agreed to."""
    steps = {step: wanted for step, probes in left.items() if (wanted := costly(probes))}
    if not steps:
        return
    from pico_analyze.models import running

    settings = work.settings
    with running.torch_threads(work.torch_threads), _model(work, source, min(steps)) as (module, _):
        agreed(settings, Cost.of(settings, steps, module, work.rows.ids_NT), told)


@contextmanager
def _model(work: Work, source: ModelRun, step: int) -> Iterator[tuple[Any, dict[str, str]]]:
    """The model of a step, with attention computed step by step, and digests of its files."""
    from pico_analyze.models import loading

    how = work.settings
    with loading.loaded(
        source.files(step),
        device=how.device,
        dtype=how.dtype,
        trust_remote_code=how.trust_remote_code,
        room=work.directory,
        eager=True,
    ) as found:
        yield found


def _there(work: Work, name: str, step: int, known: set[str]) -> bool:
    """Whether rows and arrays of a probe at a step are there, as they were written."""
    if work.digests[name, step] not in known:
        return False
    if name not in ("token_losses", "output_distance"):  # nothing is made of the others' arrays
        return True
    try:
        read_arrays(work.arrays(name, step), work.digests[name, step])
    except DataError:
        return False
    return True


@contextmanager
def _finished(work: Work, source: ModelRun, left: dict[int, tuple[str, ...]]) -> Iterator[Iterator[int]]:
    """The steps, each as soon as it is measured."""
    if work.settings.jobs == 1 or len(left) < 2:
        yield (_measured(work, source, step, probes) for step, probes in left.items())
        return
    with process_pool(min(work.settings.jobs, len(left))) as pool:
        futures = [pool.submit(_in_process, work, step, probes) for step, probes in left.items()]

        def as_done() -> Iterator[int]:
            ended = 0
            try:
                for future in as_completed(futures):
                    yield future.result()
                    ended += 1
            except BrokenExecutor:
                raise WorkerError(
                    f"a process was killed (out of memory? take fewer --jobs): {ended} of "
                    f"{counted(len(left), 'step')} done and kept, and the same command goes on from there"
                ) from None

        yield as_done()


def _measured(work: Work, source: ModelRun, step: int, probes: tuple[str, ...]) -> int:
    """Load the model of a step once, have it read once what is needed, and leave what was seen."""
    from pico_analyze.models import running
    from pico_analyze.models.repeats import read_repeats
    from pico_analyze.models.watching import Look, read_rows

    settings, files = work.settings, source.files(step)
    model = Model(files, source.options)
    if source.store.spec(step) != work.model:
        raise DataError(f"{files.where}: its geometry is not that of the other steps: choose --steps of one geometry")
    how: dict[str, Any] = {"batch_size": settings.batch_size, "device": settings.device}
    with (
        running.torch_threads(work.torch_threads),
        _model(work, source, step) as (module, inputs),
    ):
        parts = anatomy(model, module, running.state_of(module), source.options)
        look = Look(
            attention="attention" in probes and work.rows.ids_NT.shape[1] > 2,
            ngrams=work.ngrams if "token_losses" in probes else None,
            positions=work.positions if {"logit_lens", "output_distance"} & {*probes} else (),
            lens="logit_lens" in probes,
            outputs="output_distance" in probes,
        )
        seen = read_rows(module, parts, work.rows.ids_NT, look, **how)
        repeats = trained = None
        if "induction" in probes and work.repeats is not None:
            repeats = read_repeats(module, parts, work.repeats, **how)
        if "token_losses" in probes and work.trained is not None:
            ids = work.trained.ids_NT[work.trained.run_on, : 2 * work.continuation]  # prompt and continuation
            trained = read_rows(module, parts, ids, Look(), **how) if ids.shape[1] else None
        around = _around(work, probes, module)
    origin_of = partial(work.origin, source.store, step, inputs=inputs)
    leave(work, origin_of, step, probes, seen, repeats, trained, around)
    return step


def _around(work: Work, probes: Sequence[str], module: Any) -> Around:
    """What costly probes see around the weights of a model."""
    if not costly(probes):
        return Around()
    from pico_analyze.models.curvature import batches_of, read_chains, read_hessian

    settings = work.settings
    batches = batches_of(work.rows.ids_NT, settings.batch_size, settings.device)
    hessian = chains = None
    if "curvature" in probes:
        how: dict[str, Any] = dict(settings.probe_params["curvature"])
        hessian = read_hessian(module, batches, **how, seed=settings.seed)
    if "llc" in probes:
        how = {name: value for name, value in settings.probe_params["llc"].items() if name != "n_beta"}
        chains = read_chains(module, batches, n_beta=work.n_beta, how=how, seed=settings.seed)
    return Around(hessian, chains)


_opened: dict[str, ModelRun] = {}


def _in_process(work: Work, step: int, probes: tuple[str, ...]) -> int:
    """Measure a step in another process, which opens the run itself, once."""
    if work.name not in _opened:
        _opened.clear()
        _opened[work.name] = ModelRun.open(work.name, work.options)
    return _measured(work, _opened[work.name], step, probes)
