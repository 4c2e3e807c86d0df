"""Figures, findings and the report as functions: of rows at hand, or of tables and runs into files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.stores.base import ReadOptions

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from pico_analyze.engine.settings import Settings
    from pico_analyze.output.figures.request import Axis, Kind, Selected, Width
    from pico_analyze.output.findings import Findings
    from pico_analyze.questions.study import Study

Words = str | Sequence[str] | None


def figure(
    rows: pandas.DataFrame,
    kind: Kind = "lines",
    *,
    hue: str | None = None,
    facet: str | None = None,
    over: str | None = None,
    x: Axis = "step",
    width: Width = "screen",
    order: bool = False,
    metric: Words = None,
    component: Words = None,
    data: Words = None,
    split: Words = None,
    site: Words = None,
    layers: str | None = None,
    heads: str | None = None,
    steps: str | None = None,
    target: str | None = None,
    params: Mapping[str, str] | None = None,
) -> Figure:
    """Draw rows that are at hand.

    Args:
        rows: Tidy rows, as `compute`, `behave` and `read_rows` give them; of several runs too.
        kind: lines, heads (layer × head heatmaps over steps), small (a panel each head), layers or steps (heatmaps of
            comparisons). The other kinds are drawn of runs: see `plot`.
        hue: What colours tell apart: layer, head, run, site, split, metric, or an axis of the runs' suite.
        facet: What panels tell apart.
        over: What is averaged over, such as runs of several seeds: mean, and one standard deviation as a band.
        x: step or tokens.
        width: screen, or the width of a journal's column (85 mm) or page (175 mm).
        order: Heatmaps of steps in the order of a hierarchical clustering.
        metric: Rows of these metrics only.
        component: Of these components.
        data: Of weights, activations, gradients or behaviour.
        split: Of train or val.
        site: Of these sites.
        layers: Of these layers, as ``0,3,5-7``.
        heads: Of these heads.
        steps: Of these steps, as ``0,8,16-64,last``.
        target: Compared with this step, RUN or RUN@STEP.
        params: With these parameters of metric or component.

    Returns:
        A figure of matplotlib; a notebook shows it.

    Raises:
        UsageError: the rows are of several questions, nothing is selected, or no value is a number.
        DataError: there are no rows.

    Example:
        >>> import pico_analyze
        >>> rows = pico_analyze.compute("norm", "demo", data="weights")
        >>> drawn = pico_analyze.figure(rows, site="attn.v", width="column")
        >>> drawn.axes[0].get_xlabel()
        'step'
    """
    from pico_analyze.output.figures.drawing import of_rows
    from pico_analyze.output.figures.request import Request

    request = Request(kind, hue, facet, over, x, width, order)
    chosen = selection(metric, component, data, split, site, layers, heads, steps, target, params)
    return of_rows(rows, chosen, request)[0]


def plot(
    sources: str | Path | Sequence[str | Path] | None = None,
    kind: Kind = "lines",
    *,
    out: str | Path | None = None,
    analyses: str | Path = "analysis",
    hue: str | None = None,
    facet: str | None = None,
    over: str | None = None,
    x: Axis = "step",
    width: Width = "screen",
    order: bool = False,
    evaluation: Words = None,
    metric: Words = None,
    component: Words = None,
    data: Words = None,
    split: Words = None,
    site: Words = None,
    layers: str | None = None,
    heads: str | None = None,
    steps: str | None = None,
    target: str | None = None,
    params: Mapping[str, str] | None = None,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> list[Path]:
    """Draw tables and runs into a file, with a CSV of exactly the values that are drawn.

    Args:
        sources: Tables (folders of analyses) and runs; None for the run under ./runs that changed last.
        kind: As for `figure`; and beside (a measure above results of evaluation), losses, spectra (singular values of
            weights at each step).
        out: The file, ``.png``, ``.svg`` or ``.pdf``; None for a name that carries the whole selection, in
            `analyses`/figures.
        analyses: Where tables of runs lie.
        hue: See `figure`, as all up to `params`.
        facet: See `figure`.
        over: See `figure`.
        x: See `figure`.
        width: See `figure`.
        order: See `figure`.
        evaluation: Results of evaluation that are drawn (beside); None for the validation loss.
        metric: See `figure`.
        component: See `figure`.
        data: See `figure`.
        split: See `figure`.
        site: See `figure`.
        layers: See `figure`.
        heads: See `figure`.
        steps: See `figure`.
        target: See `figure`.
        params: See `figure`.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached.
        prefix: As for `open_run`.
        architecture: As for `open_run`.
        step_pattern: As for `open_run`.
        allow_pickle: As for `open_run`.
        base_model: As for `open_run`.

    Returns:
        The figure's file and its CSV.

    Raises:
        UsageError: as `figure`; nothing was computed of a run; the file's name has no known ending.
        NotARunError: a source is neither a table nor a run.
        DataError: a table or run is damaged.
        StorageError: disk or network.

    Example:
        >>> import pico_analyze
        >>> [picture, table] = pico_analyze.plot("demo", "losses", out="losses.png")
        >>> picture.name, table.name
        ('losses.png', 'losses.csv')
    """
    from pico_analyze.output.figures.drawing import write
    from pico_analyze.output.figures.request import Request
    from pico_analyze.output.figures.sources import sources as found

    words = [sources] if isinstance(sources, str | Path) else list(sources or [])
    request = Request(kind, hue, facet, over, x, width, order, _words(evaluation))
    chosen = selection(metric, component, data, split, site, layers, heads, steps, target, params)
    options = ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model)
    where = Path(analyses)
    return write(found(words, where, options), chosen, request, None if out is None else Path(out), where / "figures")


def report(
    sources: str | Path | Sequence[str | Path] | None = None,
    *,
    out: str | Path = "report.html",
    study: str | Path | None = None,
    tables: str | Path | Sequence[str | Path] = (),
    analyses: str | Path = "analysis",
    compute: bool = True,
    jobs: int = 1,
    threads: int = 0,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> Path:
    """Write a page that shows runs and what was computed of them: one file, which needs no network.

    Args:
        sources: Runs, as for `open_run`, and folders of tables; None for the run under ./runs that changed last.
        out: The file.
        study: A study's file or name, whose measurements and probes are made first; None for the overview.
        tables: Files of rows (``rows.parquet`` or ``rows.csv``), shown as they are.
        analyses: Where tables of runs lie, and go.
        compute: Whether what is missing is computed; False shows what there is.
        jobs: Processes.
        threads: Threads, where there is one process; 0 for one per core.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached.
        prefix: As for `open_run`.
        architecture: As for `open_run`.
        step_pattern: As for `open_run`.
        allow_pickle: As for `open_run`.
        base_model: As for `open_run`.

    Returns:
        The file.

    Raises:
        UsageError: a study or setting that does not exist or does not fit.
        NotARunError: a source is neither a table nor a run.
        DataError: a table or run is damaged.
        StorageError: disk or network.

    Example:
        >>> import pico_analyze
        >>> written = pico_analyze.report("demo", compute=False)
        >>> written.read_text().startswith("<!doctype html>")
        True
    """
    from pico_analyze.engine.pipeline import analyze
    from pico_analyze.models.behave import behave_models
    from pico_analyze.models.study_probes import probe_settings
    from pico_analyze.questions.study import load_study
    from pico_analyze.reports import Asked, Means, write

    def probe(found: Study, run: str, how: Settings) -> None:
        for location, one in probe_settings(found, [run], how, analyses):
            behave_models(location, one)

    options = ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model)
    asked = Asked(
        [sources] if isinstance(sources, str | Path) else list(sources or []),
        [tables] if isinstance(tables, str | Path) else list(tables),
        None if study is None else load_study(Path(study))[0],
        None if study is None else Path(study),
        Path(analyses),
        jobs,
        threads,
        options,
        Means(analyze, probe) if compute else None,
    )
    return write(asked, Path(out))


def selection(
    metric: Words,
    component: Words,
    data: Words,
    split: Words,
    site: Words,
    layers: str | None,
    heads: str | None,
    steps: str | None,
    target: str | None,
    params: Mapping[str, str] | None,
) -> Selected:
    """The rows that words name."""
    from pico_analyze.output.figures.request import Selected

    return Selected(
        _words(metric),
        _words(component),
        _words(data),
        _words(split),
        _words(site),
        layers,
        heads,
        steps,
        target,
        dict(params or {}),
    )


def _words(words: Words) -> tuple[str, ...]:
    return () if words is None else (words,) if isinstance(words, str) else tuple(words)


def findings(
    rows: pandas.DataFrame, losses: Mapping[str, Mapping[int, float]] | None = None, tau: float = 0.9
) -> Findings:
    """What stands out in rows, in sentences, each with what it does not say.

    Args:
        rows: Tidy rows over steps, of one run or several, as `compute`, `study` and `read_rows` give them.
        losses: Validation loss by step, of each run by its name: then it is also told what changes before it and after.
        tau: Similarity to the step compared with (CKA and the like) from which on a site counts as settled.

    Returns:
        Findings, each with `text`, `caveat` and `selection`: columns and values that select the rows it is of. One that
        says why, for a run of which the rows tell nothing over steps.

    Raises:
        UsageError: `tau` is not finite, or a column of such rows is missing.

    Example:
        >>> import pico_analyze
        >>> rows = pico_analyze.compute("cka", "runs/demo", sites="attn.v")
        >>> print(pico_analyze.findings(rows))
    """
    from pico_analyze.output.findings import findings as found

    return found(rows, losses, tau)
