"""Captures of the models of a run: each put through the same rows at the same positions, sealed as a run of Pico.

Steps are taken one after the other, a model at a time in memory (of each process). What is sealed stays: the same
command goes on from there, and one that asks something else is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.engine.executors import process_pool
from pico_analyze.errors import DataError, WorkerError
from pico_analyze.models import sealing
from pico_analyze.models.beginning import COMMAND, Told, Work, begin
from pico_analyze.models.extra import extra
from pico_analyze.models.places import chosen_sites, places
from pico_analyze.models.settings import CaptureSettings
from pico_analyze.models.sources import ModelRun, check_origin, weights_digests
from pico_analyze.models.weights import stored_dtype, weights_of
from pico_analyze.stores.transformers.model import Model
from pico_analyze.stores.transformers.weight_files import weight_files
from pico_schema import (
    Capture,
    Site,
    layout,
)
from pico_schema.digests import samples_sha256


@dataclass(frozen=True)
class Captured:
    """What a capture came to."""

    out: Path
    steps: tuple[int, ...]
    """Steps that were captured now."""
    kept: tuple[int, ...]
    """Steps that were there already."""
    n_samples: int
    sites: tuple[str, ...]


def capture_models(run: str, settings: CaptureSettings, told: Told = lambda _: None) -> Captured:
    """Capture steps of a run of models.

    Args:
        run: Its name, path or address.
        settings: What, and how.
        told: Is told what is done.

    Raises:
        UsageError: something asked for does not exist or does not fit, or `out` holds another answer.
        DataError: a model is damaged, is not loaded, or gives what is not finite.
        StorageError: disk or network.
        WorkerError: processes were killed.
        PluginError: torch or transformers is not installed.
    """
    with extra():
        from pico_analyze.models import loading
    source = ModelRun.open(run, settings.read)
    infos = source.chosen(settings.steps)
    settings = replace(settings, device=loading.chosen_device(settings.device))
    first = Model(source.files(infos[0].step), settings.read)
    sites = chosen_sites(first, settings.sites)
    with sealing.only_writer(settings.out, COMMAND):
        work = begin(source, infos[0], first, sites, settings, told, loading.versions())
        there = sealing.sealed(settings.out, work.run)
        wanted = [info.step for info in infos]
        kept = [step for step in wanted if step in there]
        for step in kept:
            check_origin(source, step, there[step])
        left = [step for step in wanted if step not in there]
        samples = len(work.rows.ids_NT) * len(work.positions)
        told(
            f"capturing {counted(len(left), 'step')} of {source.store.run} ({counted(len(sites), 'site')}, "
            f"{counted(samples, 'sample')}, on {settings.device})"
            + (f"; {counted(len(kept), 'step')} already there" if kept else "")
        )
        _carry_out(work, source, left, told)
        return Captured(settings.out, tuple(left), tuple(kept), samples, sites)


def _carry_out(work: Work, source: ModelRun, steps: Sequence[int], told: Told) -> None:
    """Capture steps, here or in processes, and name each in the run's index once it is sealed."""
    done = 0
    with _finished(work, source, steps) as finished:
        for step in finished:
            sealing.add_to_index(work.out, step)
            done += 1
            told(f"step {step}: sealed ({done} of {len(steps)})")


@contextmanager
def _finished(work: Work, source: ModelRun, steps: Sequence[int]) -> Iterator[Iterator[int]]:
    """The steps, each as soon as it is sealed."""
    if work.settings.jobs == 1 or len(steps) < 2:
        yield (_capture(work, source, step) for step in steps)
        return
    with process_pool(min(work.settings.jobs, len(steps))) as pool:
        futures = [pool.submit(_in_process, work, step) for step in steps]

        def as_done() -> Iterator[int]:
            ended = 0
            try:
                for future in as_completed(futures):
                    yield future.result()
                    ended += 1
            except BrokenExecutor:
                raise WorkerError(
                    f"a process was killed (out of memory? take fewer --jobs): {ended} of "
                    f"{counted(len(steps), 'step')} sealed and kept, and the same command goes on from there"
                ) from None

        yield as_done()


_opened: dict[str, ModelRun] = {}


def _in_process(work: Work, step: int) -> int:
    """Capture a step in another process, which opens the run itself, once."""
    if work.name not in _opened:
        _opened.clear()
        _opened[work.name] = ModelRun.open(work.name, work.options)
    return _capture(work, _opened[work.name], step)


def _capture(work: Work, source: ModelRun, step: int) -> int:
    """Run one model, and seal what it gave."""
    from pico_analyze.models import loading, running

    settings, files = work.settings, source.files(step)
    model = Model(files, source.options)
    if source.store.spec(step) != work.run.model:
        raise DataError(f"{files.where}: its geometry is not that of the other steps: capture it into another --out")
    with (
        running.torch_threads(work.torch_threads),
        loading.loaded(
            files,
            device=settings.device,
            dtype=settings.dtype,
            trust_remote_code=settings.trust_remote_code,
            room=work.out,
        ) as (module, digests),
    ):
        found = running.take(
            module,
            places(model, work.sites, running.state_of(module), source.options),
            model.spec,
            work.rows.ids_NT,
            work.positions,
            gradients=settings.gradients,
            batch_size=settings.batch_size,
            device=settings.device,
        )
    contents = _contents(work, source, step, found, digests)
    if not settings.weights:
        sealing.seal(work.out, work.run, contents)
        return step
    with weights_of(model, weight_files(files), room=work.out) as beside:
        contents.files = {**contents.files, **beside.files}
        contents.links = beside.links
        contents.tensors = {**contents.tensors, **({layout.WEIGHTS: beside.tensors} if beside.tensors else {})}
        contents.manifest = {**contents.manifest, **beside.facts}
        sealing.seal(work.out, work.run, contents)
    return step


def _contents(work: Work, source: ModelRun, step: int, found: Any, digests: dict[str, str]) -> sealing.Contents:
    """What a captured step's checkpoint holds."""
    from pico_analyze.models import running

    path, info = layout.captures_file("val"), next(one for one in source.store.steps() if one.step == step)
    ids = work.rows.ids_NT
    entry = Capture(
        split="val",
        file=path,
        dtype=work.settings.dtype,
        activations=work.sites,
        gradients=tuple(site for site in work.sites if work.settings.gradients and Site.parse(site).has_weight),
        n_rows=len(ids),
        positions=work.positions,
        samples_sha256=samples_sha256(ids.astype("<i4").tobytes(), ids.shape, work.positions),
        loss=found.loss,
    )
    metadata = {
        "step": str(step),
        "rows": json.dumps(np.arange(len(ids)).tolist()),
        "positions": json.dumps(work.positions),
        "samples_sha256": entry.samples_sha256,
    }
    config = source.small(step, layout.MODEL_CONFIG, work.out) or b"{}"
    tokenizer = {} if work.tokenizer is None else {layout.TOKENIZER: work.tokenizer}
    files, sealed_step = source.files(step), source.manifest(step)
    weights = weights_digests(files)
    return sealing.Contents(
        step=step,
        files={layout.MODEL_CONFIG: config, **tokenizer},
        tensors={path: {name: running.stored(tensor) for name, tensor in found.tensors.items()}},
        metadata={path: metadata},
        manifest={
            "tokens_seen": info.tokens_seen,
            "seed": work.run.seed,
            "cursor": None if sealed_step is None else sealed_step.cursor,
            "captures": (entry,),
            "weights_dtype": stored_dtype(files.tensors(next(iter(weights))).tensors),
            "weights_sha256": next(iter(weights.values())) if len(weights) == 1 else None,
            "metrics": dict(info.metrics),
            "origin": source.origin(step, digests),
        },
    )
