"""Rows and listings as text: tables for people, JSON and CSV for programs. Returns text; printing is the CLI's."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pico_analyze.counting import counted
from pico_analyze.errors import PicoAnalyzeError
from pico_analyze.table.columns import CORE, plain
from pico_analyze.table.columns import as_json as as_json_text

if TYPE_CHECKING:
    import pandas

Format = Literal["table", "json", "csv"]
_INFINITE = "1e999"
"""Larger than any double: JSON has no word for infinity, and every parser reads this as one."""
_MAX_COLUMNS = 16


def as_json(records: Iterable[Mapping[Any, Any]]) -> str:
    """A list of objects, one per line. NaN is null; infinity is a number too large for a double."""
    return "[\n" + ",\n".join("  " + _object(record) for record in records) + "\n]"


def _object(record: Mapping[Any, Any]) -> str:
    return "{" + ", ".join(f"{json.dumps(key)}: {_json(plain(value))}" for key, value in record.items()) + "}"


def _json(value: object) -> str:
    if isinstance(value, float) and math.isinf(value):
        return _INFINITE if value > 0 else f"-{_INFINITE}"
    return json.dumps(value, ensure_ascii=False)


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records of the same keys as CSV with a header; nested values as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(records[0] if records else [])
    for record in records:
        cells = (plain(value) for value in record.values())
        writer.writerow([json.dumps(cell) if isinstance(cell, dict | list) else cell for cell in cells])
    return text.getvalue().rstrip("\n")


def frame_as(frame: pandas.DataFrame, form: Format, width: int | None = None) -> str:
    """A table of rows as text, all columns for programs."""
    if form == "table":
        return table_text(frame, width)
    columns = visible_columns(frame)
    if form == "json":
        return as_json(frame[columns].to_dict("records"))
    return frame[columns].to_csv(index=False).rstrip("\n")


def visible_columns(frame: pandas.DataFrame) -> list[str]:
    """The tidy columns, and those further ones that hold something."""
    return [name for name in frame.columns if name in CORE or (name != "digest" and frame[name].notna().any())]


def table_text(frame: pandas.DataFrame, width: int | None = None) -> str:
    """Rows for people: per metric and site, steps down and layers across.

    Of circuits with heads only the whole is shown; where there is no whole, each layer's heads across.

    Args:
        frame: Tidy rows.
        width: Characters of a line. What is wider is cut into pieces, one below the other, with two decimals in
            place of four where that makes fewer; None for a file or a program, where up to sixteen columns stand side
            by side.
    """
    if frame.empty:
        return "no rows"
    frame = frame.assign(params=frame["params"].map(without_target_layer), between=frame["target_layer"].notna())
    blocks = []
    grouping = ["run", "metric", "params", "component", "data", "split", "site", "target_run", "between"]
    for _, group in frame.groupby(grouping, dropna=False, sort=False):
        blocks.append(_block(group, width))
    return "\n\n".join(blocks)


def wholes_or_heads(rows: pandas.DataFrame) -> pandas.DataFrame:
    """What is shown of each layer: the whole; of one that has no whole, its heads, each by itself."""
    whole = rows["head"].isna()
    return rows[whole | ~whole.groupby([rows["site"], rows["layer"]], dropna=False).transform("any")]


def _block(group: pandas.DataFrame, width: int | None) -> str:
    shown = wholes_or_heads(group)
    wholes = shown[shown["head"].isna()]
    title = title_of(shown)
    if n_heads := group["head"].nunique():
        title += (
            "   (head by head)" if wholes.empty else f"   (whole; {counted(n_heads, 'head')} per layer in the files)"
        )
    if shown["target_layer"].notna().any():
        pairs = shown.groupby(["step", "target_step", "head"], sort=True, dropna=False)
        body = [_layers_grid(part, *place) for place, part in pairs]
    elif shown.groupby(["layer", "head", "step"], dropna=False)["target_step"].nunique().max() > 1:
        places = shown.groupby(["layer", "head"], sort=True, dropna=False)
        body = [_steps_grid(part, *place) for place, part in places]
    else:
        by_layer = shown[shown["head"].notna()].groupby("layer", sort=True, dropna=False)
        body = [] if wholes.empty else [_steps_by_layers(wholes)]
        body += [_steps_by_heads(part, layer) for layer, part in by_layer]
    companion = _companion(str(shown["metric"].iloc[0]))
    if companion and shown["extra"].str.contains(json.dumps(companion), regex=False, na=False).any():
        title += f"   (in brackets: {companion})"
    reasons = sorted({str(reason) for reason in shown["reason"].dropna()})
    grids = [grid.text(width) for grid in body]
    return "\n".join([title, *grids, *(f"  nan: {reason}" for reason in reasons[:3])])


def _companion(metric: str) -> str | None:
    """What a metric calls the value that it gives beside one that it warns of, if it gives one."""
    from pico_analyze.metrics.spec import METRICS

    with suppress(PicoAnalyzeError):  # a plug-in that is gone
        return METRICS.get(metric).companion
    return None


def title_of(rows: pandas.DataFrame) -> str:
    """``cka · simple attn.v · val activations · run demo against step 320``, from rows that differ in place only."""
    first = rows.iloc[0]
    what = first["component"] if first["component"] == first["site"] else f"{first['component']} {first['site']}"
    data = plain(first["split"])
    parts = [first["metric"] + params_text(first), what, f"{data} {first['data']}" if data else first["data"]]
    where = f"run {first['run']}"
    if plain(first["target_run"]) is not None:
        targets = rows["target_step"].dropna().unique()
        other = "" if first["target_run"] == first["run"] else f" run {first['target_run']}"
        where += f" against{other}"
        if len(targets) == 1:
            where += f" step {targets[0]}"
        elif other and (rows["step"] == rows["target_step"]).all():
            where += " at the same step"
        else:
            where += f"{'' if other else ' itself,'} {len(targets)} steps"
    return " · ".join([*parts, where])


def question_name(rows: pandas.DataFrame) -> str:
    """``cka simple val activations [kernel=rbf]``: the question that rows answer, from rows of one question."""
    first = rows.iloc[0]
    words = [first["metric"], first["component"], plain(first["split"]), first["data"]]
    return " ".join(str(word) for word in words if word) + params_text(first)


def params_text(row: Any) -> str:
    """The parameters of a row that are not defaults, in brackets: `` [kind=nuclear]``."""
    from pico_analyze.components.spec import COMPONENTS
    from pico_analyze.metrics.spec import METRICS

    defaults: dict[str, object] = {}
    with suppress(PicoAnalyzeError):  # a plug-in that is gone: everything is shown
        defaults |= {name: param.default for name, param in COMPONENTS.get(row["component"]).params.items()}
        defaults |= {name: param.default for name, param in METRICS.get(row["metric"]).params.items()}
    values = {name: value for name, value in json.loads(row["params"]).items() if name != "target_layer"}
    shown = [f"{name}={_bare(value)}" for name, value in values.items() if defaults.get(name) != value]
    return f" [{', '.join(shown)}]" if shown else ""


def takes_sites(component: str) -> bool:
    """Whether a component is of any site that is chosen, so that a site by itself says what was measured."""
    from pico_analyze.components.spec import COMPONENTS

    with suppress(PicoAnalyzeError):  # a plug-in that is gone
        return COMPONENTS.get(component).takes_sites
    return True


def without_target_layer(params: str) -> str:
    """Parameters of a row without the layer it is compared with: equal for all cells of one heatmap."""
    values = json.loads(params)
    values.pop("target_layer", None)
    return as_json_text(values)


def _bare(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _steps_by_layers(rows: pandas.DataFrame) -> _Grid:
    return _grid(rows.assign(place=_layer_labels(rows)), "step", "step", "place")


def _layer_labels(rows: pandas.DataFrame) -> pandas.Series:
    return rows["layer"].map(lambda layer: "value" if plain(layer) is None else f"layer {layer}")


def _steps_by_heads(rows: pandas.DataFrame, layer: object) -> _Grid:
    corner = "step" if plain(layer) is None else f"layer {layer}: step"
    return _grid(rows.assign(place=rows["head"].map(lambda head: f"head {head}")), corner, "step", "place")


def _steps_grid(rows: pandas.DataFrame, layer: object, head: object) -> _Grid:
    place = _place(layer=layer, head=head)
    return _grid(rows, f"{place}: step \\ step" if place else "step \\ step", "step", "target_step")


def _layers_grid(rows: pandas.DataFrame, step: object, target_step: object, head: object) -> _Grid:
    corner = _place(head=head, step=step) + (f" \\ {target_step}" if step != target_step else "")
    names = {name: rows[name].map(lambda layer: f"layer {layer}") for name in ("layer", "target_layer")}
    return _grid(rows.assign(**names), corner, "layer", "target_layer")


def _place(**parts: object) -> str:
    """``layer 3, head 1``, of those that there are."""
    return ", ".join(f"{name} {value}" for name, value in parts.items() if plain(value) is not None)


@dataclass(frozen=True)
class _Grid:
    """Values by two columns; of a metric that gives another value beside one, both."""

    corner: str
    down: Sequence[object]
    across: Sequence[object]
    cells: Mapping[tuple[object, object], tuple[float, float | None]]

    def text(self, width: int | None) -> str:
        """Aligned, in as many pieces as lines of this width take."""
        lines = self._lines(4)
        if width is None:
            return self._pieces(lines, [_MAX_COLUMNS] * math.ceil(len(self.across) / _MAX_COLUMNS))
        pieces, shorter = self._fitting(lines, width), self._lines(2)
        if len(fewer := self._fitting(shorter, width)) < len(pieces):
            lines, pieces = shorter, fewer
        return self._pieces(lines, pieces)

    def _lines(self, decimals: Literal[2, 4]) -> list[list[str]]:
        return [[str(name), *(self._cell(name, other, decimals) for other in self.across)] for name in self.down]

    def _cell(self, name: object, other: object, decimals: Literal[2, 4]) -> str:
        if (found := self.cells.get((name, other))) is None:
            return ""
        value, beside = found
        return number(value, decimals) if beside is None else f"{number(value, decimals)} ({number(beside, decimals)})"

    def _fitting(self, lines: Sequence[Sequence[str]], width: int) -> list[int]:
        """Columns of each piece: as many as fit beside the first, and one in any case."""
        header = [self.corner, *map(str, self.across)]
        widths = [2 + max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
        counts, used = [0], widths[0]
        for wide in widths[1:]:
            if counts[-1] and used + wide > width:
                counts.append(0)
                used = widths[0]
            counts[-1] += 1
            used += wide
        return counts

    def _pieces(self, lines: Sequence[Sequence[str]], counts: Iterable[int]) -> str:
        labels, parts, start = list(map(str, self.across)), [], 0
        for count in counts:
            window = slice(start, start + count)
            parts.append(aligned([self.corner, *labels[window]], [[line[0], *line[1:][window]] for line in lines]))
            start += count
        return "\n".join(parts)


def _grid(rows: pandas.DataFrame, corner: str, down: str, across: str) -> _Grid:
    """Values by two columns, in the order of the rows; in brackets the value that its metric gives beside one."""
    companion = _companion(str(rows["metric"].iloc[0]))
    cells: dict[tuple[object, object], tuple[float, float | None]] = {}
    for row in rows[[down, across, "value", "extra"]].itertuples(index=False):
        beside = json.loads(row[3]).get(companion) if companion and isinstance(row[3], str) else None
        cells[row[0], row[1]] = float(row[2]), beside if isinstance(beside, float) else None
    return _Grid(corner, list(dict.fromkeys(rows[down])), list(dict.fromkeys(rows[across])), cells)


def number(value: float, decimals: Literal[2, 4] = 4) -> str:
    """A value in six characters or so: 0.9312, 12.4, 3.1e+06, nan; with two decimals 0.93."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if size != 0 and not (1e-3 if decimals == 4 else 1e-2) <= size < 1e4:
        return f"{value:.{decimals // 2}e}"
    if size < 10:
        return f"{value:.{decimals}f}"
    return f"{value:.4g}" if decimals == 4 else f"{value:.{1 if size < 100 else 0}f}"


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = ()) -> str:
    """Columns of text, right-aligned but those in `left`, two spaces between them and before the first."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    lines = []
    for line in (header, *rows):
        places = enumerate(zip(line, widths, strict=True))
        cells = (cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in places)
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def size_text(size: int | None) -> str:
    """Bytes for people: 34.1 MB."""
    if size is None:
        return "-"
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
