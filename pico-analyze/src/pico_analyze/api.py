"""What Python programs call: the commands as functions that give DataFrames, and print nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.engine.pipeline import analyze, between_runs
from pico_analyze.engine.settings import OUT, Settings
from pico_analyze.questions.question import Null, Pairs, Question, Selection, Target, Use
from pico_analyze.stores.opening import ReadOptions, newest_run, open_store

if TYPE_CHECKING:
    import pandas

    from pico_analyze.stores.base import Data, Store

Params = Mapping[str, bool | int | float | str]


def compute(
    metrics: str | Sequence[str],
    run: str | Path | Sequence[str | Path] | None = None,
    *,
    component: str = "simple",
    data: Data | None = None,
    split: str = "val",
    sites: Sequence[str] | None = None,
    layers: str | Sequence[int] | None = None,
    heads: bool = True,
    steps: str | Sequence[int] = "all",
    target: str | int | None = None,
    pairs: Pairs = "target",
    among_runs: bool = False,
    metric_params: Params | None = None,
    component_params: Params | None = None,
    bootstrap: int = 0,
    null: Null | None = None,
    draws: int = 100,
    seed: int = 0,
    out: str | Path = OUT,
    processes: int = 1,
    memory_gb: float = 1.0,
    fresh: bool = False,
    offline: bool = False,
) -> pandas.DataFrame:
    """Compute metrics over the checkpoints of one or more runs.

    Args:
        metrics: One or several metrics; all of one kind of data.
        run: Paths or ``hf://`` addresses; the newest run under ./runs without.
        component: What is measured.
        data: weights, activations or gradients; by default what suits the first metric.
        split: val or train (weights belong to none).
        sites: Site kinds or names; each captured site without.
        layers: Layers, as numbers or as a selection such as ``0,3-5``.
        heads: Whether circuits are also computed head by head.
        steps: Steps, as numbers or as a selection.
        target: last, first, prev, same, a step, a run (its same step), or ``RUN@STEP``.
        pairs: target, steps or layers.
        among_runs: Compare each pair of the runs instead.
        metric_params: Parameters; each goes to the metrics that have it.
        component_params: Parameters of the component.
        bootstrap: Resamples for a 95 % interval.
        null: permutation or random_init: also the value by chance.
        draws: Draws for `null`.
        seed: Seed of both.
        out: Directory in which each run gets its own table; what is there is not computed again.
        processes: Processes on this machine; with more than one, the calling script needs the usual
            ``if __name__ == "__main__":``.
        memory_gb: Bound of tensors held at a time.
        fresh: Compute again what is there.
        offline: Read runs on the Hub from the local cache only.

    Returns:
        The rows, one per value: the columns of `pico_analyze.table.columns.COLUMNS`.

    Raises:
        PicoAnalyzeError: see `pico_analyze.errors`.
    """
    from pico_analyze.cli.options import default_data, params_of
    from pico_analyze.components.spec import COMPONENTS
    from pico_analyze.metrics.spec import METRICS

    names = [metrics] if isinstance(metrics, str) else list(metrics)
    specs = [METRICS.get(name) for name in names]
    given = [f"{key}={value}" for key, value in (metric_params or {}).items()]
    params = params_of(given, {spec.name: spec.params for spec in specs}, "metric")
    part = COMPONENTS.get(component)
    kind = data or default_data(specs[0], part)
    question = Question(
        metrics=tuple(Use.of(name, params[name]) for name in names),
        component=Use.of(component, component_params),
        data=kind,
        split=None if kind == "weights" else split,
        sites=tuple(sites) if sites is not None else None,
        layers=None if layers is None else _selection(layers),
        heads=heads,
        steps=_selection(steps),
        target=None if target is None else Target.parse(str(target)),
        pairs=pairs,
        bootstrap=bootstrap,
        null=null,
        draws=draws,
        seed=seed,
    )
    if run is None:
        runs: list[str | Path] = [newest_run()]
    else:
        runs = [run] if isinstance(run, str | Path) else list(run)
    asked = between_runs(runs, question) if among_runs else [(each, question) for each in runs]
    settings = Settings(Path(out), jobs=processes, memory=memory_gb, fresh=fresh, read=ReadOptions(offline))
    return analyze(asked, settings).frame


def _selection(numbers: str | Sequence[int]) -> Selection:
    return Selection(numbers if isinstance(numbers, str) else ",".join(map(str, numbers)))


def run_study(file: str | Path, runs: Sequence[str | Path] = (), *, out: str | Path | None = None) -> pandas.DataFrame:
    """Carry out the study in a YAML file; the rows of all its measurements."""
    from pico_analyze.questions.study import load_study

    study, _ = load_study(Path(file))
    return analyze(study.asked(runs), Settings(Path(out or study.out))).frame


def open_run(location: str | Path, *, offline: bool = False) -> Store:
    """The run at a path or address: which steps are there, what each holds, and its tensors."""
    return open_store(location, ReadOptions(offline))


def read_rows(directory: str | Path) -> pandas.DataFrame:
    """All rows ever computed into ``analysis/<run>``.

    Raises:
        DataError: there is no table there.
    """
    from pico_analyze.errors import DataError
    from pico_analyze.table.store import ROWS, read_frame

    if not (Path(directory) / ROWS).is_file():
        raise DataError(f"{directory}: it has no {ROWS}: compute something first")
    return read_frame(Path(directory))


def summarise(
    table: pandas.DataFrame, tau: float = 0.9, evaluation: Mapping[int, float] | None = None
) -> pandas.DataFrame:
    """Convergence step, fastest change and correlation with evaluation, per series of a table."""
    from pico_analyze.statistics.dynamics import summarise as of_table

    return of_table(table, tau, evaluation)
