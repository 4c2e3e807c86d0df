"""The options that several commands share, as typer needs them; `questions/builder.py` makes questions of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pico_analyze.engine.settings import Settings
    from pico_analyze.stores.base import ReadOptions

MOST_DRAWS = 100_000
"""Most resamples, and most draws, that a question takes."""
LARGEST_SEED = 2**63 - 1


def finite(value: float) -> float:
    """The value, as every option that takes a fraction has it checked: "nan" is neither below nor above its bounds."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def finite_or_none(value: float | None) -> float | None:
    """As `finite`, of an option that may be left out."""
    return None if value is None else finite(value)


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


class DTypeOption(StrEnum):
    """What models compute in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class WandbMode(StrEnum):
    """How Weights & Biases is reached."""

    online = "online"
    offline = "offline"


Run = Annotated[
    str, typer.Argument(metavar="RUN", help="A name under ./runs, a path, or hf://org/name; RUN@STEP for one step.")
]
MetricsAndRuns = Annotated[
    list[str],
    typer.Argument(
        metavar="METRIC... [RUN]...",
        help="Metrics (see `pico-analyze metrics`), then runs: names under ./runs, paths, or hf://org/name@branch; "
        "RUN@STEP for one step. Default: the run under ./runs that changed last.",
        show_default=False,
    ),
]
Component = Annotated[
    list[str], typer.Option("--component", "-c", help="What is measured; see `pico-analyze components`; repeatable.")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="weights, activations, gradients or noise; repeatable. [default: by metric]"),
]
Split = Annotated[list[str], typer.Option("--split", help="val or train; repeatable.")]
Sites = Annotated[
    list[str] | None, typer.Option("--site", help="Site kind (attn.v) or name (layers.3.attn.v); repeatable.")
]
Tensors = Annotated[
    list[str] | None,
    typer.Option(
        "--tensor", metavar="GLOB", help="Whole matrices by name, 'model.layers.*.mlp.up_proj.weight'; repeatable."
    ),
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
Bootstrap = Annotated[
    int,
    typer.Option(
        "--bootstrap",
        min=0,
        max=MOST_DRAWS,
        help="Resamples of rows for a 95 % interval of what is measured of activations; 0 for none.",
    ),
]
Null = Annotated[NullOption | None, typer.Option("--null", help="Also the value by chance.")]
Draws = Annotated[int, typer.Option("--draws", min=1, max=MOST_DRAWS, help="Draws for --null.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of --bootstrap and --null.")]
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
Memory = Annotated[
    float,
    typer.Option("--memory", min=0.01, max=1e6, callback=finite, help="Bound of tensors held at a time, in GiB."),
]
Tau = Annotated[float, typer.Option("--tau", callback=finite, help="Threshold of the convergence step.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Compute again what is already in the table.")]
Offline = Annotated[bool, typer.Option("--offline", help="Read runs on the Hub from the local cache only.")]
CacheDir = Annotated[Path | None, typer.Option("--cache-dir", help="Where remote files are cached.")]
Prefix = Annotated[
    str | None,
    typer.Option("--prefix", help="Of models of other makers with several towers: what the wanted names begin with."),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        "--architecture", metavar="NAME", help="Whose names and layout models of other makers have, such as llama."
    ),
]
StepPattern = Annotated[
    str | None,
    typer.Option(
        "--step-pattern",
        metavar="REGEX",
        help="How names of other makers' checkpoints tell steps, as 'model-([0-9]+)'.",
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Open pickled weights of other makers too (.bin, .pt, .ckpt), in a process that takes tensors alone.",
    ),
]
BaseModel = Annotated[
    str | None,
    typer.Option(
        "--base-model",
        metavar="MODEL",
        help="What adapters of PEFT are merged with: a path or hf://org/name. [default: what they name, if it is here]",
    ),
]
Wandb = Annotated[WandbMode | None, typer.Option("--wandb", help="Also log table and figures to Weights & Biases.")]
WandbProject = Annotated[str, typer.Option("--wandb-project", help="Its project, or ENTITY/PROJECT.")]


@dataclass(frozen=True)
class Reading:
    """How runs are read: of every command that reads any."""

    offline: Offline = False
    cache_dir: CacheDir = None
    prefix: Prefix = None
    architecture: Architecture = None
    step_pattern: StepPattern = None
    allow_pickle: AllowPickle = False
    base_model: BaseModel = None

    def options(self) -> ReadOptions:
        """The same for what opens runs."""
        from pico_analyze.stores.base import ReadOptions

        return ReadOptions.of(
            self.offline,
            self.cache_dir,
            self.prefix,
            self.architecture,
            self.step_pattern,
            self.allow_pickle,
            self.base_model,
        )


@dataclass(frozen=True)
class Work:
    """How an analysis is carried out."""

    jobs: Jobs = 1
    threads: Threads = 0
    scheduler: Scheduler = None
    memory: Memory = 1.0
    fresh: Fresh = False

    def settings(self, out: Path, read: Reading, shard: str | None = None) -> Settings:
        """The same for the engine.

        Args:
            out: Directory of the tables.
            read: How runs are read.
            shard: The share that is asked for, of commands that can do one.

        Raises:
            UsageError: words that contradict each other, or no shard.
        """
        from pico_analyze.engine.settings import Settings

        options = read.options()
        return Settings.of(out, self.jobs, self.threads, self.scheduler, shard, self.memory, self.fresh, options)


def metrics_and_runs(words: Sequence[str]) -> tuple[list[str], list[str | Path]]:
    """Names of metrics, and of the runs after them.

    Raises:
        UsageError: no metric, or a word that is neither a metric nor a run; the message names the nearest.
        NotARunError: what can only be a run, and does not exist.
    """
    from pico_analyze.errors import UsageError
    from pico_analyze.metrics.spec import METRICS
    from pico_analyze.stores.run_names import is_known, resolve

    known = METRICS.names()
    metrics = [word for word in words if word in known]
    runs: list[str | Path] = [word for word in words if word not in known]
    for word in runs:
        if is_known(str(word)):
            continue
        if any(sign in str(word) for sign in "/@.") or word == "":
            resolve(word)  # says what is wrong with it
        raise UsageError(_neither(str(word), known))
    if not metrics:
        raise UsageError("name a metric, such as cka (`pico-analyze metrics` lists them)")
    return metrics, runs


def _neither(word: str, metrics: Sequence[str]) -> str:
    """What to say of a word that is no metric and no run."""
    from pico_analyze.errors import nearest
    from pico_analyze.stores.run_names import run_names

    runs = run_names()
    hint = nearest(word, metrics)
    if not hint and (near := nearest(word, runs)):
        hint = near.replace("did you mean", "did you mean the run")
    there = f"; runs under runs: {', '.join(runs[:12])}" if runs else ""
    return f"no metric is called {word!r}{hint} (nor a run; there are: {', '.join(metrics)}{there})"


def parameters(texts: Sequence[str] | None, what: str | None = None) -> list[tuple[str, str]]:
    """``k=v`` and ``OWNER.k=v`` as pairs.

    Raises:
        UsageError: a text without ``=``.
    """
    from pico_analyze.errors import UsageError

    pairs = []
    for text in texts or ():
        key, sep, value = text.partition("=")
        if not sep or not key.strip():
            raise UsageError(f"--{f'{what}-' if what else ''}param {text!r} is not of the form k=v")
        pairs.append((key.strip(), value.strip()))
    return pairs
