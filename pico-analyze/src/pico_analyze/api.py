"""What Python programs call: the commands as functions that give DataFrames and print nothing.

The words are those of the command line, and so is what they mean (`questions/builder.py`). Nothing is written unless
`out` is given; without it nothing that was computed before is looked at either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.engine.outcome import Outcome
from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Listener, Settings
from pico_analyze.questions.builder import Chosen, Words, asked, measurement
from pico_analyze.questions.question import Null, Pairs, Question
from pico_analyze.stores.opening import ReadOptions
from pico_analyze.stores.run_names import open_named

if TYPE_CHECKING:
    import pandas

    from pico_analyze.parameters import ParamValue
    from pico_analyze.stores.base import Store

Runs = str | Path | Sequence[str | Path]
"""One run or several, by name (``m1``, ``m1@last``), path, or ``hf://`` address."""


def compute(
    metrics: str | Sequence[str],
    runs: Runs | None = None,
    *,
    component: Words = "simple",
    data: Words | None = None,
    split: Words = "val",
    sites: Words | None = None,
    tensors: Words | None = None,
    layers: Chosen | None = None,
    heads: bool = True,
    steps: Chosen = "all",
    target: str | int | None = None,
    pairs: Pairs = "target",
    between_runs: bool = False,
    metric_params: Mapping[str, ParamValue] | None = None,
    component_params: Mapping[str, ParamValue] | None = None,
    bootstrap: int = 0,
    null: Null | None = None,
    draws: int = 100,
    seed: int = 0,
    out: str | Path | None = None,
    jobs: int = 1,
    threads: int = 0,
    scheduler: str | None = None,
    shard: str | None = None,
    memory: float = 1.0,
    fresh: bool = False,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> pandas.DataFrame:
    """Compute metrics over the checkpoints of one or more runs.

    Args:
        metrics: One or several metrics.
        runs: One or several runs: names under ./runs, paths, ``hf://org/name@branch``, each also with ``@STEP``; the
            run under ./runs that changed last without.
        component: What is measured; several as a list, or with commas between them, here and below.
        data: weights, activations or gradients; by default what suits each metric.
        split: val or train (weights belong to none).
        sites: Site kinds (attn.v) or names (layers.3.attn.v); each captured site without.
        tensors: Whole matrices by their own names, as globs: ``model.layers.*.mlp.up_proj.weight``.
        layers: Layers, as numbers or as a selection such as ``0,3-5``; all without.
        heads: Whether circuits are also computed head by head.
        steps: Steps, as numbers or as a selection such as ``0,8,16-64`` or ``0-1000:100``.
        target: Comparisons: last, first, prev, same, a step, a run (its same step), or ``RUN@STEP``.
        pairs: Comparisons: target, steps or layers.
        between_runs: Compare each pair of the runs instead.
        metric_params: Parameters; each goes to the metrics that have it, ``METRIC.name`` to one of several.
        component_params: Parameters of the component.
        bootstrap: Resamples for a 95 % interval of what is measured of activations; 0 for none.
        null: permutation or random_init: also the value by chance.
        draws: Draws for `null`.
        seed: Seed of both.
        out: Directory in which each run gets its own table; what is there already is not computed again. Without it
            everything is computed, and nothing is written.
        jobs: Processes; with more than one, the calling script needs the usual ``if __name__ == "__main__":``.
        threads: Threads, where there is one process; 0 for one per core.
        scheduler: Address of a Dask scheduler, ``tcp://HOST:PORT``, whose workers compute.
        shard: Only the I-th of N shares, written ``I/N``, for which `out` is needed; the same call without it brings
            all together.
        memory: Bound of tensors held at a time, in GiB.
        fresh: Compute again what is already in the table under `out`.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached; by default under the user's cache directory.
        prefix: What the names of the wanted tensors begin with, in a model that holds several towers.
        architecture: Whose names and layout a model of other makers has, in place of what its configuration says.
        step_pattern: Regular expression by which the names of other makers' checkpoints tell their steps: its group
            ``step``, or its first.
        allow_pickle: Whether pickled weights (``pytorch_model.bin``, ``.pt``, ``.pth``, ``.ckpt``) are opened, in a
            process with limits that takes tensors alone.
        base_model: What adapters of PEFT are merged with: path or address, in place of what they name.

    Returns:
        The rows, one per value: the columns of `pico_analyze.table.columns.COLUMNS`. A value that does not exist is
        NaN, with the reason beside it.

    Raises:
        UsageError: something asked for does not exist or does not fit.
        DataError: a run, checkpoint or tensor is missing or damaged, or does not hold what is needed.
        StorageError: disk or network.
        WorkerError: a scheduler or worker cannot be reached, does not fit, or was lost.

    Example:
        >>> import pico_analyze
        >>> frame = pico_analyze.compute("cka", "runs/demo", sites="attn.v", layers=0)
        >>> print(frame.set_index("step")["value"].round(2).to_string())
        step
        0    0.13
        1    0.14
        2    0.20
        4    0.53
        8    1.00
    """
    wanted = measurement(
        metrics,
        component=component,
        data=data,
        split=split,
        sites=sites,
        tensors=tensors,
        layers=layers,
        heads=heads,
        steps=steps,
        target=target,
        pairs=pairs,
        between_runs=between_runs,
        metric_params=metric_params or {},
        component_params=component_params or {},
        bootstrap=bootstrap,
        null=null,
        draws=draws,
    )
    questions = asked(wanted, _listed(runs), seed=seed)
    how = Settings.of(
        out,
        jobs,
        threads,
        scheduler,
        shard,
        memory,
        fresh,
        ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model),
    )
    return analyze(questions, how).frame


def study(
    file: str | Path,
    runs: Runs | None = None,
    *,
    out: str | Path | None = None,
    jobs: int = 1,
    threads: int = 0,
    scheduler: str | None = None,
    shard: str | None = None,
    memory: float = 1.0,
    fresh: bool = False,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> pandas.DataFrame:
    """Carry out the study in a YAML file.

    Args:
        file: The study; one of pico-analyze 1.0 is accepted too. Or the name of one that comes with this package:
            ``induction``, or ``overview``, which each run's size chooses.
        runs: Runs in place of those in the file, as for `compute`.
        out: Directory in which each run gets its own table; without it nothing is written, whatever `out` the file
            names for the command line.
        jobs: Processes.
        threads: Threads, where there is one process; 0 for one per core.
        scheduler: Address of a Dask scheduler, ``tcp://HOST:PORT``, whose workers compute.
        shard: Only the I-th of N shares, written ``I/N``, for which `out` is needed; the same call without it brings
            all together.
        memory: Bound of tensors held at a time, in GiB.
        fresh: Compute again what is already in the table under `out`.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached.
        prefix: What the names of the wanted tensors begin with, in a model that holds several towers.
        architecture: Whose names and layout a model of other makers has, in place of what its configuration says.
        step_pattern: Regular expression by which the names of other makers' checkpoints tell their steps: its group
            ``step``, or its first.
        allow_pickle: Whether pickled weights (``pytorch_model.bin``, ``.pt``, ``.pth``, ``.ckpt``) are opened, in a
            process with limits that takes tensors alone.
        base_model: What adapters of PEFT are merged with: path or address, in place of what they name.

    Returns:
        The rows of all its measurements, as `compute` gives them, and of its probes, as `behave` does.

    Raises:
        UsageError: the file cannot be read, or names something that does not exist or does not fit.
        DataError: a run, checkpoint or tensor is missing or damaged, or does not hold what is needed.
        StorageError: disk or network.
        WorkerError: a scheduler or worker cannot be reached, does not fit, or was lost.

    Example:
        >>> import pathlib, pico_analyze
        >>> _ = pathlib.Path("ov.yaml").write_text("measurements: [{metrics: [per], components: [ov_circuit]}]")
        >>> frame = pico_analyze.study("ov.yaml", "runs/demo@last")
        >>> print(frame["site"].unique().tolist(), frame["step"].unique().tolist())
        ['attn.ov'] [8]
    """
    from pico_analyze.questions.study import load_studies

    read = ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model)
    found, _ = load_studies(Path(file), _listed(runs), read)
    questions = [pair for one, of in found for pair in one.asked(of)]
    how = Settings.of(
        out,
        jobs,
        threads,
        scheduler,
        shard,
        memory,
        fresh,
        ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model),
    )
    from tempfile import TemporaryDirectory

    import pandas

    from pico_analyze.models.behave import behave_models
    from pico_analyze.models.study_probes import probe_settings

    with TemporaryDirectory(prefix="pico-study-") as nowhere:
        probed = [pair for one, of in found for pair in probe_settings(one, of, how, nowhere if out is None else out)]
        behaved = [behave_models(location, one) for location, one in probed]
        outcome = analyze(questions, how)
    return pandas.concat([outcome.frame, *(one.frame for one in behaved)], ignore_index=True)


def dynamics(
    metrics: str | Sequence[str],
    runs: Runs | None = None,
    *,
    tau: float = 0.9,
    evaluation: str | None = None,
    component: Words = "simple",
    data: Words | None = None,
    split: Words = "val",
    sites: Words | None = None,
    tensors: Words | None = None,
    layers: Chosen | None = None,
    heads: bool = False,
    steps: Chosen = "all",
    target: str | int | None = None,
    metric_params: Mapping[str, ParamValue] | None = None,
    component_params: Mapping[str, ParamValue] | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    threads: int = 0,
    scheduler: str | None = None,
    memory: float = 1.0,
    fresh: bool = False,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> pandas.DataFrame:
    """Compute metrics and summarise how they move: convergence step, fastest change, correlation with evaluation.

    Args:
        metrics: One or several metrics.
        runs: One or several runs, as for `compute`.
        tau: Threshold of the convergence step.
        evaluation: Correlate with this result, such as ``val_loss`` or ``paloma.perplexity``.
        component: What is measured.
        data: weights, activations or gradients; by default what suits each metric.
        split: val or train.
        sites: Site kinds or names; each captured site without.
        tensors: Whole matrices by their own names, as globs: ``model.layers.*.mlp.up_proj.weight``.
        layers: Layers; all without.
        heads: Whether circuits are also computed head by head.
        steps: Steps.
        target: Comparisons: last, first, prev, same, a step, a run (its same step), or ``RUN@STEP``.
        metric_params: Parameters of the metrics.
        component_params: Parameters of the component.
        out: Directory for the tables, and `dynamics.csv` beside each; without it nothing is written.
        jobs: Processes.
        threads: Threads, where there is one process; 0 for one per core.
        scheduler: Address of a Dask scheduler, ``tcp://HOST:PORT``, whose workers compute.
        memory: Bound of tensors held at a time, in GiB.
        fresh: Compute again what is already in the table under `out`.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached.
        prefix: What the names of the wanted tensors begin with, in a model that holds several towers.
        architecture: Whose names and layout a model of other makers has, in place of what its configuration says.
        step_pattern: Regular expression by which the names of other makers' checkpoints tell their steps: its group
            ``step``, or its first.
        allow_pickle: Whether pickled weights (``pytorch_model.bin``, ``.pt``, ``.pth``, ``.ckpt``) are opened, in a
            process with limits that takes tensors alone.
        base_model: What adapters of PEFT are merged with: path or address, in place of what they name.

    Returns:
        One row per series, with the columns that `summarise` gives.

    Raises:
        UsageError: something asked for does not exist or does not fit.
        DataError: a run does not hold what is needed, or has no evaluation of this name.
        StorageError: disk or network.
        WorkerError: a scheduler or worker cannot be reached, does not fit, or was lost.

    Example:
        >>> import pico_analyze
        >>> summary = pico_analyze.dynamics("cka", "runs/demo", sites="attn.v", tau=0.5, evaluation="val_loss")
        >>> print(summary[["layer", "convergence_step", "r2"]].round(2).to_string(index=False))
         layer  convergence_step   r2
             0                 4 0.98
             1                 4 0.98
    """
    wanted = measurement(
        metrics,
        component=component,
        data=data,
        split=split,
        sites=sites,
        tensors=tensors,
        layers=layers,
        heads=heads,
        steps=steps,
        target=target,
        metric_params=metric_params or {},
        component_params=component_params or {},
    )
    questions = asked(wanted, _listed(runs))
    how = Settings.of(
        out,
        jobs,
        threads,
        scheduler,
        None,
        memory,
        fresh,
        ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model),
    )
    return analyze_dynamics(questions, how, tau, evaluation)[0]


def audit(
    run: str | Path,
    *,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> pandas.DataFrame:
    """Find what is wrong with a run's checkpoints.

    Args:
        run: A run, as for `open_run`.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached.
        prefix: What the names of the wanted tensors begin with, in a model that holds several towers.
        architecture: Whose names and layout a model of other makers has, in place of what its configuration says.
        step_pattern: Regular expression by which the names of other makers' checkpoints tell their steps: its group
            ``step``, or its first.
        allow_pickle: Whether pickled weights (``pytorch_model.bin``, ``.pt``, ``.pth``, ``.ckpt``) are opened, in a
            process with limits that takes tensors out of them and nothing else.
        base_model: What adapters of PEFT are merged with: path or address, in place of what they name.

    Returns:
        One row per finding: run, step (missing where it is the run's), name, check, severity (error, warning or note),
        finding (one sentence), figures. None for a run of which nothing is known to be wrong.

    Raises:
        NotARunError: there is nothing of this name, or nothing of a known kind.
        DataError: it is a run, and damaged so that it cannot be opened.
        StorageError: disk or network.

    Example:
        >>> import pico_analyze
        >>> found = pico_analyze.audit("demo")
        >>> found[found["severity"] == "error"]["finding"].tolist()
        []
    """
    from pico_analyze.auditing.audit import audit_store

    options = ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model)
    return audit_store(open_named(run, options), options=options).frame()


def open_run(
    run: str | Path,
    *,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> Store:
    """The run of a name: which steps are there, what each holds, and its tensors.

    Args:
        run: A name under ./runs, a path, or an ``hf://`` address; with ``@STEP``, that checkpoint alone.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached.
        prefix: What the names of the wanted tensors begin with, in a model that holds several towers.
        architecture: Whose names and layout a model of other makers has, in place of what its configuration says.
        step_pattern: Regular expression by which the names of other makers' checkpoints tell their steps: its group
            ``step``, or its first.
        allow_pickle: Whether pickled weights (``pytorch_model.bin``, ``.pt``, ``.pth``, ``.ckpt``) are opened, in a
            process with limits that takes tensors alone.
        base_model: What adapters of PEFT are merged with: path or address, in place of what they name.

    Returns:
        A store: see `pico_analyze.stores.base.Store`.

    Raises:
        NotARunError: there is nothing of this name, or nothing of a known kind.
        UsageError: the run has no such step.
        DataError: it is a run, and damaged.
        StorageError: disk or network.
        WorkerError: a scheduler or worker cannot be reached, does not fit, or was lost.

    Example:
        >>> import pico_analyze
        >>> run = pico_analyze.open_run("demo")
        >>> [info.step for info in run.steps()]
        [0, 1, 2, 4, 8]
        >>> run.read(8, "val", "activations", "layers.0.attn.v").shape
        (96, 8)
    """
    return open_named(
        run, ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model)
    )


def read_rows(directory: str | Path) -> pandas.DataFrame:
    """All rows ever computed into ``analysis/<run>``.

    Args:
        directory: Where a run's table lies: the `out` of an analysis, and the run's name. Or the table, `rows.parquet`.

    Returns:
        The rows, as `compute` gives them.

    Raises:
        DataError: there is no table there, or a damaged one.

    Example:
        >>> import pico_analyze
        >>> computed = pico_analyze.compute("gini", "demo", out="analysis")
        >>> pico_analyze.read_rows("analysis/demo").equals(computed)
        True
    """
    from pico_analyze.errors import DataError
    from pico_analyze.table.store import PARTS, ROWS, read_frame

    if Path(directory).name == ROWS:
        directory = Path(directory).parent
    if not (Path(directory) / ROWS).is_file():
        if any((Path(directory) / PARTS).glob("*.parquet")):
            raise DataError(
                f"{directory}: it has parts of shards only: the same call without a shard brings them together"
            )
        raise DataError(f"{directory}: it has no {ROWS}: compute something first")
    return read_frame(Path(directory))


def summarise(
    table: pandas.DataFrame, tau: float = 0.9, evaluation: Mapping[int, float] | None = None
) -> pandas.DataFrame:
    """Convergence step, fastest change and correlation with evaluation, per series of a table.

    Args:
        table: Rows as `compute` gives them.
        tau: Threshold of the convergence step.
        evaluation: Results by step, such as perplexities; without it the correlation is left out.

    Returns:
        One row per series: what identifies it, then n_steps, first, last, convergence_step (NaN where tau is not
        reached), fastest_rate (per doubling of the step), fastest_from, fastest_to, and r, r2, rho, slope, n_shared,
        r_detrended (of changes from step to step), trending (whether both move with the step).

    Raises:
        UsageError: no column `step` or `value`, or a series with two values at one step.

    Example:
        >>> import pico_analyze
        >>> frame = pico_analyze.compute("cka", "demo", sites="attn.v", layers=0)
        >>> float(pico_analyze.summarise(frame, tau=0.5)["convergence_step"][0])
        4.0
    """
    from pico_analyze.statistics.dynamics import summarise as of_table

    return of_table(table, tau, evaluation)


def analyze_dynamics(
    questions: Sequence[tuple[str | Path, Question]],
    settings: Settings,
    tau: float,
    evaluation: str | None,
    listener: Listener | None = None,
) -> tuple[pandas.DataFrame, Outcome]:
    """Answer questions and summarise the rows; `dynamics.csv` is written beside each run's, where there is a table.

    Args:
        questions: Pairs of a run and a question.
        settings: How the analysis is carried out.
        tau: Threshold of the convergence step.
        evaluation: Name of the result to correlate with, or None.
        listener: Is told what happens.

    Returns:
        One row per series, and what the analysis gave.

    Raises:
        DataError: a run has no evaluation of this name; found before anything is computed.
    """
    from pico_analyze.output.dynamics_text import write_summary
    from pico_analyze.statistics.dynamics import evaluation_results, summarise
    from pico_analyze.stores.opening import open_store

    results: dict[str, Mapping[int, float]] = {}
    if evaluation is not None:
        for location in dict.fromkeys(location for location, _ in questions):
            store = open_store(location, settings.read)
            results[store.location] = evaluation_results(store, evaluation)
    outcome = analyze(questions, settings, listener)
    import pandas

    summaries = [summarise(rows, tau, results.get(location)) for location, rows in outcome.frames()]
    table = pandas.concat(summaries, ignore_index=True) if summaries else pandas.DataFrame()
    write_summary(table, outcome.directories.values())
    return table, outcome


def _listed(runs: Runs | None) -> list[str | Path]:
    if runs is None:
        return []
    return [runs] if isinstance(runs, str | Path) else list(runs)
