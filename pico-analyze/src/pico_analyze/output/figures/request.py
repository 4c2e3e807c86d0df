"""What a figure shows: its kind, what tells lines and panels apart, the axis, the size; checked once, here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from pico_analyze.errors import UsageError, nearest
from pico_analyze.table.columns import digest

Kind = Literal["lines", "heads", "small", "layers", "steps", "beside", "losses", "spectra"]
Dimension = Literal["layer", "head", "run", "site", "split", "metric"]
Axis = Literal["step", "tokens"]
Width = Literal["screen", "column", "page"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
FORMATS = ("png", "svg", "pdf")
_LONGEST = 150

PURPOSES: dict[Kind, str] = {
    "lines": "values over steps or tokens, a line each layer (--hue), a panel each site (--facet)",
    "heads": "layer × head heatmaps, one each step",
    "small": "small multiples: a panel each head, layers down and heads across",
    "layers": "layer × layer heatmaps of a comparison (pairs=layers)",
    "steps": "step × step heatmaps of a comparison (pairs=steps)",
    "beside": "values above results of evaluation, on a shared axis",
    "losses": "train and validation loss of runs",
    "spectra": "singular values of weights, a ridge each step",
}
"""The kinds, and what each shows."""


@dataclass(frozen=True)
class Request:
    """One figure, but for its rows.

    Raises:
        UsageError: a word that is none of those allowed, or two that exclude each other; names the nearest.
    """

    kind: Kind = "lines"
    hue: str | None = None
    """What colours tell apart, a dimension or an axis of the runs' suite; None for what the kind takes by itself."""
    facet: str | None = None
    """What panels tell apart; None as for `hue`."""
    over: str | None = None
    """What is averaged over: a line is the mean, its band one standard deviation to each side."""
    x: Axis = "step"
    width: Width = "screen"
    """screen, or the width of a column (85 mm) or a page (175 mm) of a journal."""
    order: bool = False
    """Heatmaps of steps: rows and columns in the order of a hierarchical clustering."""
    evaluation: tuple[str, ...] = ()
    """beside: the results that are drawn below; empty for the validation loss, or else all that there are."""

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("kind", self.kind, KINDS),
            ("x", self.x, get_args(Axis)),
            ("width", self.width, get_args(Width)),
        ):
            words = [str(word) for word in allowed if word is not None]
            if value not in allowed:
                raise UsageError(
                    f"{what} {value!r} does not exist{nearest(str(value), words)} (there are: {', '.join(words)})"
                )
        named = [value for value in (self.hue, self.facet, self.over) if value is not None]
        if twice := {value for value in named if named.count(value) > 1}:
            raise UsageError(
                f"{twice.pop()} is given to two of hue, facet and over: colours, panels and means need one each"
            )
        if self.kind not in ("lines", "beside") and named:
            raise UsageError(
                f"hue, facet and over belong to lines and beside: a figure of kind {self.kind} has its own"
            )
        if self.order and self.kind != "steps":
            raise UsageError("order belongs to heatmaps of steps (kind steps)")
        if self.evaluation and self.kind != "beside":
            raise UsageError("evaluation belongs to figures of kind beside")

    def check_dimensions(self, axes: Sequence[str]) -> None:
        """See to it that what is told apart is there.

        Args:
            axes: of the suites that the rows' runs are of.

        Raises:
            UsageError: a word that is no dimension and no axis; names the nearest.
        """
        for name in ("hue", "facet", "over"):
            value, words = getattr(self, name), [*DIMENSIONS, *axes]
            if value is not None and value not in words:
                raise UsageError(
                    f"{name} {value!r} does not exist{nearest(value, words)} (there are: {', '.join(words)})"
                )

    def words(self) -> list[str]:
        """What differs from the defaults, as parts of a file's name."""
        found: list[str] = [] if self.kind == "lines" else [self.kind]
        found += [f"by-{self.hue}"] if self.hue else []
        found += [f"panels-{self.facet}"] if self.facet else []
        found += [f"mean-over-{self.over}"] if self.over else []
        found += ["tokens"] if self.x == "tokens" else []
        found += [self.width] if self.width != "screen" else []
        found += ["ordered"] if self.order else []
        return [*found, *self.evaluation]

    def options(self) -> list[str]:
        """The same as options of `pico-analyze plot`."""
        found = [] if self.kind == "lines" else ["--kind", self.kind]
        for name in ("hue", "facet", "over"):
            if value := getattr(self, name):
                found += [f"--{name}", value]
        found += ["--x", self.x] if self.x != "step" else []
        found += ["--width", self.width] if self.width != "screen" else []
        found += ["--order"] if self.order else []
        return [*found, *(word for name in self.evaluation for word in ("--evaluation", name))]


@dataclass(frozen=True)
class Selected:
    """Which rows of a table are drawn, as they were asked for: empty for all."""

    metric: tuple[str, ...] = ()
    component: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    layers: str | None = None
    heads: str | None = None
    steps: str | None = None
    target: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    """Parameters of metric and component, ``k=v``, where a table has rows of several."""

    def words(self) -> list[str]:
        """What the question that rows answer does not say, as parts of a file's name: two are never the same file."""
        found = list(self.site)
        for name in ("layers", "heads", "steps", "target"):
            if value := getattr(self, name):
                found.append(f"{name}={value}")
        return [*found, *(f"{key}={value}" for key, value in sorted(self.params.items()))]

    def options(self) -> list[str]:
        """The same as options of `pico-analyze plot`."""
        found = []
        for name in ("metric", "component", "data", "split", "site"):
            for value in getattr(self, name):
                found += [f"--{name}", value]
        for name in ("layers", "heads", "steps", "target"):
            if value := getattr(self, name):
                found += [f"--{name}", value]
        return [*found, *(word for pair in sorted(self.params.items()) for word in ("--param", "=".join(pair)))]


def command(sources: Sequence[str | Path], analyses: Path, selected: Selected, request: Request, out: Path) -> str:
    """The command line that makes a figure again."""
    where = [] if analyses == Path("analysis") else ["--analyses", str(analyses)]
    words = [*map(str, sources), *where, *selected.options(), *request.options(), "--out", str(out)]
    return shlex.join(["pico-analyze", "plot", *words])


def stem(*parts: str) -> str:
    """A file's name of these parts, safe in a file system; what is too long for one ends with a digest of the whole."""
    joined = "-".join(part for part in parts if part).replace(", ", ",")
    name = re.sub(r"[^A-Za-z0-9._=,+]+", "-", joined).strip("-.")
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 17]}-{digest(parts)}"
