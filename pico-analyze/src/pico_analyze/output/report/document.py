"""Everything that a page shows, as one document of plain values; `page` puts it into a file.

Numbers along steps are float32 (seven digits), little-endian, in base64; everything else is text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pico_analyze.counting import counted
from pico_analyze.output.report import recipes
from pico_analyze.output.report.batches import batches
from pico_analyze.output.report.cards import card
from pico_analyze.output.report.logs import lines
from pico_analyze.output.report.packing import packed
from pico_analyze.table.columns import plain
from pico_analyze.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    import pandas

    from pico_analyze.stores.base import Store

FORMAT = 1
"""Raised whenever the front end has to read a document in another way."""


@dataclass(frozen=True)
class Shown:
    """One run of a page: the run, its rows, or both."""

    frame: pandas.DataFrame | None = None
    """Its rows; None where nothing was computed."""
    store: Store | None = None
    """The run; None where the rows are all that there is."""
    table: Path | None = None
    """The folder of its table."""
    name: str = ""
    """What it is called on the page, where two runs have one name; empty for its own."""

    @property
    def own_name(self) -> str:
        """The run's name, as its rows have it."""
        if self.store is not None:
            return self.store.run
        return str(self.frame["run"].iloc[0]) if self.frame is not None and len(self.frame) else "no run"


@dataclass(frozen=True)
class Told:
    """What is said of a page beside what its runs hold."""

    command: str = ""
    """What makes it again."""
    study: str = ""
    """What was measured, in words; empty for what the tables had."""
    notes: Sequence[str] = ()
    """What was skipped, what metrics warned of."""
    findings: Sequence[dict[str, Any]] = field(default_factory=tuple)
    """What stands out: each with `text`, `caveat` and `selection`, the parts of the address that show it."""


def document(
    shown: Sequence[Shown], cubes: Sequence[dict[str, Any]], told: Told | None = None, analyses: str = "analysis"
) -> dict[str, Any]:
    """The document of runs and tables.

    Args:
        shown: The runs, in the order in which they are shown.
        cubes: Their rows together, as `cubes.Cube.packed` gives them.
        told: What is said beside.
        analyses: The folder in which their tables lie, for commands.

    Raises:
        DataError, StorageError: of the runs.
    """
    told = told or Told()
    runs = [_run(one, analyses) for one in shown]
    return {
        "format": FORMAT,
        "version": __version__,
        "title": ", ".join(run["name"] for run in runs),
        "command": told.command,
        "study": told.study,
        "notes": list(told.notes),
        "findings": list(told.findings),
        "runs": runs,
        "cubes": list(cubes),
    }


def told_apart(shown: Sequence[Shown]) -> list[Shown]:
    """The same; runs of one name are numbered, in their rows too, so that their lines stay apart."""
    seen: dict[str, int] = {}
    found = []
    for one in shown:
        number = seen[one.own_name] = seen.get(one.own_name, 0) + 1
        if number > 1:
            name = f"{one.own_name} ({number})"
            frame = None if one.frame is None else one.frame.assign(run=name, target_run=_renamed(one, name))
            one = replace(one, name=name, frame=frame)
        found.append(one)
    return found


def _renamed(one: Shown, name: str) -> Any:
    assert one.frame is not None
    return one.frame["target_run"].where(one.frame["target_run"] != one.own_name, name)


def _run(one: Shown, analyses: str) -> dict[str, Any]:
    """A run as the page shows it; what is not known of it is empty."""
    frame, store = one.frame, one.store
    name = one.name or one.own_name
    found: dict[str, Any] = {"name": name, "location": "", "kind": "", "facts": [], "config": [], "warnings": []}
    found |= {"checkpoints": [], "lines": [], "batches": None, "commands": [], "provenance": []}
    tokens: dict[int, int] = {}
    if store is not None:
        found |= card(store) | {"name": name}
        tokens = {info.step: info.tokens_seen for info in store.steps() if info.tokens_seen is not None}
        found["lines"] = [_packed_line(line) for line in lines(store)]
        read = batches(store, frame, one.table)
        found["batches"] = _packed_batches(read)
        found["warnings"] = [*found["warnings"], *read["warnings"]]
    if frame is not None and len(frame):
        pairs = frame[["step", "tokens_seen"]].drop_duplicates()
        tokens |= {int(step): int(seen) for step, seen in pairs.itertuples(index=False) if plain(seen) is not None}
        location = found["location"] or name
        found["commands"] = recipes.commands(frame, location, analyses)
        found["provenance"] = recipes.provenance(frame)
        if count := recipes.unchecked(frame):
            text = f"{counted(count, 'row')} stand on bytes that were not compared with their digest yet"
            found["warnings"] = [*found["warnings"], text]
    found["tokens"] = [sorted(tokens), [tokens[step] for step in sorted(tokens)]]
    return found


def _packed_line(line: Any) -> dict[str, Any]:
    packed = {name: value for name, value in vars(line).items() if name not in ("steps", "values")}
    return packed | {"steps": line.steps, "values": [float(f"{value:.7g}") for value in line.values]}


def _packed_batches(found: dict[str, Any]) -> dict[str, Any] | None:
    if not found["batches"]:
        return None
    return {
        "texts": {str(token): text for token, text in found["texts"].items() if text is not None},
        "batches": [one | {"ids": packed(one["ids"]), "shape": list(one["ids"].shape)} for one in found["batches"]],
        "losses": {str(step): packed(values) for step, values in found["losses"].items()},
    }
