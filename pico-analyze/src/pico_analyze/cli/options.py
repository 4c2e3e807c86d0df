"""Options that several commands share, and what they mean: from the words of a command line to questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pico_analyze.components.spec import ComponentSpec
    from pico_analyze.engine.settings import Settings
    from pico_analyze.metrics.spec import MetricSpec
    from pico_analyze.questions.question import Question
    from pico_analyze.stores.base import Data


class Form(StrEnum):
    """How rows are printed."""

    table = "table"
    json = "json"
    csv = "csv"


class PairsOption(StrEnum):
    """What is compared with what."""

    target = "target"
    steps = "steps"
    layers = "layers"


class NullOption(StrEnum):
    """What stands for chance."""

    permutation = "permutation"
    random_init = "random_init"


class WandbMode(StrEnum):
    """How Weights & Biases is reached."""

    online = "online"
    offline = "offline"


Words = Annotated[
    list[str],
    typer.Argument(
        metavar="METRIC... [RUN]...",
        help="Metrics (see `pico-analyze metrics`), then runs: paths, names under ./runs, or hf://org/name@branch. "
        "Default: the run under ./runs that changed last.",
        show_default=False,
    ),
]
Component = Annotated[
    list[str], typer.Option("--component", "-c", help="What is measured; see `pico-analyze components`; repeatable.")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="weights, activations or gradients; repeatable. [default: by metric]"),
]
Split = Annotated[list[str], typer.Option("--split", help="val or train; repeatable.")]
Sites = Annotated[
    list[str] | None, typer.Option("--site", help="Site kind (attn.v) or name (layers.3.attn.v); repeatable.")
]
Layers = Annotated[str | None, typer.Option("--layers", help="0,3,5-7, first, last. [default: all]")]
Steps = Annotated[str, typer.Option("--steps", help="0,8,16-64, 0-1000:100, first, last.")]
Heads = Annotated[bool, typer.Option("--heads/--no-heads", help="Also each head of a circuit, or the whole only.")]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", help="last, first, prev, same, STEP, RUN (its same step), RUN@STEP. [default: last]"),
]
Pairs = Annotated[
    PairsOption,
    typer.Option("--pairs", help="Compare with the target; or all pairs of steps; or all pairs of layers."),
]
Between = Annotated[bool, typer.Option("--between-runs", help="Compare each pair of the runs named (seeds, sizes).")]
MetricParams = Annotated[
    list[str] | None, typer.Option("--metric-param", "-p", help="k=v, or METRIC.k=v for one of several; repeatable.")
]
ComponentParams = Annotated[
    list[str] | None, typer.Option("--component-param", help="k=v, such as form=head; repeatable.")
]
Bootstrap = Annotated[int, typer.Option("--bootstrap", help="Resamples for a 95 % interval; 0 for none.")]
Null = Annotated[NullOption | None, typer.Option("--null", help="Also the value by chance.")]
Draws = Annotated[int, typer.Option("--draws", help="Draws for --null.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of --bootstrap and --null.")]
Out = Annotated[Path, typer.Option("--out", help="Directory in which each run gets its own.")]
As = Annotated[Form, typer.Option("--format", help="How rows are printed on stdout.")]
Plot = Annotated[bool, typer.Option("--plot/--no-plot", help="Draw PNG files.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=1024, help="Processes.")]
Threads = Annotated[
    int, typer.Option("--threads", min=0, max=1024, show_default="cores", help="Threads, where there is one process.")
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler, tcp://HOST:PORT, whose workers compute."),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only the I-th of N shares, for job arrays; the same command without it brings all together.",
    ),
]
Memory = Annotated[float, typer.Option("--memory", min=0.01, help="Bound of tensors held at a time, in GiB.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Compute again what is already in the table.")]
Offline = Annotated[bool, typer.Option("--offline", help="Read runs on the Hub from the local cache only.")]
CacheDir = Annotated[Path | None, typer.Option("--cache-dir", help="Where remote files are cached.")]
Wandb = Annotated[WandbMode | None, typer.Option("--wandb", help="Also log table and figures to Weights & Biases.")]
WandbProject = Annotated[str, typer.Option("--wandb-project", help="Its project, or ENTITY/PROJECT.")]


def settings(
    out: Path,
    jobs: int,
    threads: int,
    scheduler: str | None,
    shard: str | None,
    memory: float,
    fresh: bool,
    offline: bool,
    cache_dir: Path | None,
) -> Settings:
    """How an analysis is carried out."""
    from pico_analyze.engine.settings import Settings
    from pico_analyze.engine.tasks import Shard
    from pico_analyze.stores.opening import ReadOptions

    read = ReadOptions(offline, cache_dir)
    return Settings(out, jobs, threads, scheduler, Shard.parse(shard) if shard else None, memory, fresh, read)


def metrics_and_runs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of metrics, and the runs after them; the newest run under ./runs where none is named.

    Raises:
        UnknownNameError: a word that is neither a metric nor a run.
        UsageError: no metric.
        NotARunError: no run is named, and there is none under ./runs.
    """
    from pico_analyze.errors import UsageError
    from pico_analyze.metrics.spec import METRICS
    from pico_analyze.stores.opening import RUNS, is_address, newest_run, open_store

    names, metrics, runs = METRICS.names(), [], []
    for word in words:
        if word in names:
            metrics.append(word)
        elif is_address(word) or Path(word).is_dir():
            runs.append(word)
        elif "/" in word or word.startswith("."):
            open_store(word)  # says what is wrong with it
        elif (RUNS / word).is_dir():
            runs.append(str(RUNS / word))
        else:
            METRICS.get(word)  # says what is nearest
    if not metrics:
        raise UsageError("name a metric, such as cka (`pico-analyze metrics` lists them)")
    return list(dict.fromkeys(metrics)), runs or [str(newest_run())]


def questions(
    metrics: Sequence[str],
    *,
    component: Sequence[str],
    data: Sequence[str] | None,
    split: Sequence[str],
    site: Sequence[str] | None,
    layers: str | None,
    heads: bool,
    steps: str,
    target: str | None,
    pairs: PairsOption,
    metric_param: Sequence[str] | None,
    component_param: Sequence[str] | None,
    bootstrap: int,
    null: NullOption | None,
    draws: int,
    seed: int,
) -> list[Question]:
    """The questions that these options ask: one per component, kind of data and split.

    Raises:
        UsageError: something that does not exist or does not go together.
    """
    from pico_analyze.components.spec import COMPONENTS
    from pico_analyze.metrics.spec import METRICS
    from pico_analyze.questions.question import SPLITS, Question, Selection, Target, Use, choose

    specs = [METRICS.get(name) for name in metrics]
    parts = [COMPONENTS.get(name) for name in _listed(component)]
    of_metric = params_of(metric_param or (), {spec.name: spec.params for spec in specs}, "metric")
    of_part = params_of(component_param or (), {part.name: part.params for part in parts}, "component")
    goal = Target.parse(target) if target is not None else None
    paired = any(spec.kind == "pair" for spec in specs)
    asked: list[Question] = []
    for part in parts:
        for kind, some in _by_data(specs, part, _listed(data or ())).items():
            splits = [choose(name, SPLITS, "split") for name in _listed(split)] if kind != "weights" else [None]
            compares = not paired or any(spec.kind == "pair" for spec in some)
            for one in splits:
                asked.append(
                    Question(
                        metrics=tuple(Use.of(spec.name, of_metric[spec.name]) for spec in some),
                        component=Use.of(part.name, of_part[part.name]),
                        data=kind,
                        split=one,
                        sites=tuple(_listed(site)) if site else None,
                        layers=Selection(layers) if layers is not None else None,
                        heads=heads,
                        steps=Selection(steps),
                        target=goal if compares else None,
                        pairs=pairs.value if compares else "target",
                        bootstrap=bootstrap if kind == "activations" or len(asked) == 0 else 0,
                        null=null.value if null else None,
                        draws=draws,
                        seed=seed,
                    )
                )
    return asked


def default_data(metric: MetricSpec, component: ComponentSpec) -> Data:
    """Comparisons are of activations where that makes sense, descriptions of one matrix of weights."""
    from pico_analyze.errors import UsageError

    order: tuple[Data, ...] = ("weights", "activations", "gradients")
    if metric.kind == "pair":
        order = ("activations", "weights", "gradients")
    for data in order:
        if data in metric.accepts and data in component.accepts:
            return data
    raise UsageError(f"metric {metric.name!r} and component {component.name!r} have no kind of data in common")


def _by_data(
    specs: Sequence[MetricSpec], component: ComponentSpec, data: Sequence[str]
) -> dict[Data, list[MetricSpec]]:
    from pico_analyze.questions.question import choose
    from pico_analyze.stores.base import DATA

    groups: dict[Data, list[MetricSpec]] = {}
    for spec in specs:
        chosen = [choose(kind, DATA, "data") for kind in data] or [default_data(spec, component)]
        for kind in chosen:
            groups.setdefault(kind, []).append(spec)  # type: ignore[arg-type]
    return groups


def _listed(values: Sequence[str]) -> list[str]:
    """Repeated options and comma-separated ones, each value once."""
    return list(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def params_of(
    given: Sequence[str], declared: Mapping[str, Mapping[str, object]], what: str
) -> dict[str, dict[str, bool | int | float | str]]:
    """``k=v`` and ``OWNER.k=v`` as parameters by owner; each has to belong to at least one of them.

    Raises:
        UsageError: not ``k=v``, or a parameter that none of them has.
    """
    from pico_analyze.errors import UsageError, nearest

    found: dict[str, dict[str, bool | int | float | str]] = {owner: {} for owner in declared}
    for text in given:
        key, sep, value = text.partition("=")
        if not sep or not key.strip():
            raise UsageError(f"--{what}-param {text!r} is not of the form k=v")
        owner, dot, name = key.strip().rpartition(".")
        if dot and owner not in declared:
            raise UsageError(f"--{what}-param {text!r}: {what} {owner!r} is not asked for{nearest(owner, declared)}")
        owners = [owner] if dot else [one for one, params in declared.items() if name in params]
        if not owners:
            known = [f"{one}: {', '.join(params) or 'none'}" for one, params in declared.items()]
            names = [each for params in declared.values() for each in params]
            raise UsageError(f"no {what} here has a parameter {name!r}{nearest(name, names)} ({'; '.join(known)})")
        for one in owners:
            found[one][name] = value.strip()
    return found
