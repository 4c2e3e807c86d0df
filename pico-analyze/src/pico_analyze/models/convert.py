"""A run of models as a run of Pico: each step's weights sealed, with where they are from, and readable site by site."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pico_analyze.counting import counted
from pico_analyze.errors import DataError
from pico_analyze.models import sealing
from pico_analyze.models.sources import ModelRun, check_origin
from pico_analyze.models.weights import weights_of
from pico_analyze.stores.base import ReadOptions, StepInfo
from pico_analyze.stores.transformers.model import Model
from pico_analyze.stores.transformers.weight_files import fault, weight_files
from pico_schema import DataFingerprint, RunManifest, layout

COMMAND = "convert"


@dataclass(frozen=True)
class Converted:
    """What a conversion came to."""

    out: Path
    steps: tuple[int, ...]
    """Steps that were sealed now."""
    kept: tuple[int, ...]
    """Steps that were there already."""


def convert_models(
    run: str,
    out: Path,
    *,
    steps: str = "all",
    copy: bool = False,
    read: ReadOptions | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Converted:
    """Seal the weights of a run of models.

    Args:
        run: Its name, path or address.
        out: The directory of the run that is made.
        steps: Which steps.
        copy: Copy files of weights that could be linked.
        read: How the run is read.
        told: Is told what is done.

    Raises:
        UsageError: a step that does not exist, or `out` holds something else.
        DataError: a model is damaged, or of an architecture that is not known.
        StorageError: disk or network.
    """
    source = ModelRun.open(run, read or ReadOptions())
    infos = source.chosen(steps)
    first = _model(source, infos[0].step)
    if first.decoder.unknown is not None:
        raise DataError(first.decoder.unknown)
    asked = {
        "source": source.location,
        "prefix": source.options.prefix,
        "architecture": source.options.architecture,
    }
    with sealing.only_writer(out, COMMAND):
        made = sealing.read_run(out, COMMAND)
        if made is None:
            made = _begun(source, infos[0], out, asked)
        else:
            sealing.check_same(out, made.config[COMMAND], asked)
        there = sealing.sealed(out, made)
        for info in infos:
            if info.step in there:
                check_origin(source, info.step, there[info.step])
        left = [info for info in infos if info.step not in there]
        for number, info in enumerate(left, start=1):
            left_out = _seal(source, info, out, made, copy=copy)
            sealing.add_to_index(out, info.step)
            told(f"step {info.step}: sealed ({number} of {len(left)})")
        if left and left_out:
            told(
                f"warning: {counted(len(left_out), 'matrix', 'matrices')} of experts ({left_out[0]} and so on) have no "
                "site in a run of Pico: their numbers are in it, and are measured in the models as they are"
            )
        done = {info.step for info in left}
        return Converted(out, tuple(sorted(done)), tuple(info.step for info in infos if info.step not in done))


def _model(source: ModelRun, step: int) -> Model:
    files = source.files(step)
    if (reason := fault(files)) is not None:
        raise DataError(f"{files.where}: {reason}")
    return Model(files, source.options)


def _begun(source: ModelRun, info: StepInfo, out: Path, asked: dict[str, str | None]) -> RunManifest:
    spec, sealed_run = source.store.spec(info.step), source.manifest(info.step)
    data = DataFingerprint(
        source="unknown",
        sha256=hashlib.sha256(source.location.encode()).hexdigest(),
        n_rows=0,
        seq_len=spec.max_seq_len,
        vocab_size=spec.vocab_size,
        details={"converted": source.location},
    )
    run = RunManifest(
        id=uuid.uuid4().hex,
        name=sealing.run_name(out),
        created=datetime.now(UTC),
        producer=sealing.PRODUCER,
        seed=None if sealed_run is None else sealed_run.seed,
        model=spec,
        data=data if sealed_run is None else sealed_run.data,
        config={COMMAND: asked},
    )
    sealing.write_run(out, run)
    return run


def _seal(source: ModelRun, info: StepInfo, out: Path, run: RunManifest, *, copy: bool) -> tuple[str, ...]:
    """Seal one step; the sites that it has no place for."""
    model, sealed_step = _model(source, info.step), source.manifest(info.step)
    if source.store.spec(info.step) != run.model:
        raise DataError(f"{model.files.where}: its geometry is not that of the other steps: convert it by itself")
    with weights_of(model, weight_files(model.files), room=out, copy=copy) as found:
        contents = sealing.Contents(
            step=info.step,
            files=found.files,
            links=found.links,
            tensors={layout.WEIGHTS: found.tensors} if found.tensors else {},
            manifest={
                **found.facts,
                "tokens_seen": info.tokens_seen,
                "seed": run.seed,
                "cursor": None if sealed_step is None else sealed_step.cursor,
                "metrics": dict(info.metrics),
                "origin": source.origin(info.step, found.digests),
            },
        )
        sealing.seal(out, run, contents)
        return found.left_out
