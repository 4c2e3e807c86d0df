"""One figure of one request: rows are chosen and drawn by the kind's own module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import UsageError
from pico_analyze.output.figures import heads, lines, maps, style
from pico_analyze.output.figures.beside import Results, beside
from pico_analyze.output.figures.losses import losses
from pico_analyze.output.figures.request import Request, Selected, command, stem
from pico_analyze.output.figures.saving import form, save
from pico_analyze.output.figures.selection import choose
from pico_analyze.output.figures.spectra import spectra
from pico_analyze.output.text import question_name

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from pico_analyze.output.figures.sources import Source


def of_rows(
    rows: pandas.DataFrame, selected: Selected, request: Request, results: Results | None = None
) -> tuple[Figure, pandas.DataFrame]:
    """The figure of a table's rows, and exactly its values.

    Raises:
        UsageError: the kind needs a run in place of rows; and what the kind's own module raises.
        DataError: the table is empty.
    """
    return _drawn(choose(rows, selected, request), request, results or {})


def _drawn(chosen: pandas.DataFrame, request: Request, results: Results) -> tuple[Figure, pandas.DataFrame]:
    with _styled(request):
        if request.kind == "beside":
            return beside(chosen, request, results)
        drawn = {"lines": lines.lines, "heads": heads.heads, "small": heads.small}.get(request.kind)
        if drawn is None and request.kind in ("layers", "steps"):
            drawn = maps.maps
        if drawn is None:
            raise UsageError(f"a figure of kind {request.kind} is drawn of a run: name one")
        return drawn(chosen, request)


def of_sources(
    sources: Sequence[Source], selected: Selected, request: Request
) -> tuple[Figure, pandas.DataFrame, list[str], str]:
    """The figure, its values, the runs that it shows, and the question that its rows answer.

    Raises:
        UsageError, DataError, NotARunError, StorageError: of the sources, and as `of_rows`.
    """
    import pandas as pd

    if request.kind == "losses":
        found = [source.losses() for source in sources]
        with _styled(request):
            return (*losses(found, request), [one.run for one in found], "")
    if request.kind == "spectra":
        if len(sources) > 1:
            raise UsageError("spectra are drawn of one run: name one")
        source = sources[0]
        with _styled(request):
            return (*spectra(source.singular_values(selected), source.store.run, request), [source.store.run], "")
    tables = [source.rows() for source in sources]
    rows = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    results: dict[str, Any] = {}
    if request.kind == "beside":
        for source, table in zip(sources, tables, strict=True):
            results |= {str(run): source.results() for run in table["run"].unique()}
    chosen = choose(rows, selected, request)
    figure, values = _drawn(chosen, request, results)
    return figure, values, [str(run) for run in dict.fromkeys(chosen["run"])], question_name(chosen)


def write(
    sources: Sequence[Source], selected: Selected, request: Request, out: Path | None, default: Path
) -> list[Path]:
    """Draw and write one figure; return its files.

    Args:
        sources: Tables and runs.
        selected: Which rows.
        request: The figure.
        out: Its file; None for one under `default` whose name carries the whole selection.
        default: A folder in that of the analyses.

    Raises:
        UsageError: the file's name ends with no known format; and as `of_sources`.
        StorageError: the disk refused.
    """
    if out is not None:
        form(out)
    figure, values, runs, question = of_sources(sources, selected, request)
    path = out or default / f"{stem('+'.join(runs), question, *selected.words(), *request.words())}.png"
    words = [source.word for source in sources]
    again = command(words, default.parent, selected, request, path)
    with _styled(request):  # salts of SVG are taken while it is written
        return save(figure, values, path, again, request.width)


def written(
    rows: pandas.DataFrame, tables: Sequence[str], selected: Selected, request: Request, out: Path, analyses: Path
) -> list[Path]:
    """Draw rows at hand, all of them, and write the figure.

    Args:
        rows: Of one question.
        tables: Where they lie, for the command that draws them again.
        selected: What chooses them there.
        request: The figure.
        out: Its file.
        analyses: The folder of the tables.

    Raises:
        UsageError: the rows are of several questions.
        StorageError: the disk refused.
    """
    figure, values = of_rows(rows, Selected(), request)
    with _styled(request):
        return save(figure, values, out, command(tables, analyses, selected, request, out), request.width)


def _styled(request: Request) -> Any:
    import matplotlib as mpl

    settings: Any = style.settings(request.width)
    return mpl.rc_context(settings)
