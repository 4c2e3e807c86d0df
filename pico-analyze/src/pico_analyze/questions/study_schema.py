"""The configuration of a study: a YAML file, strict; each field's docstring is its help.

    name: ov-study
    runs: [runs/demo]
    measurements:
      - metrics: [cka]
        components: [ov_circuit]
        data: [activations]
      - metrics: [per, {name: norm, params: {kind: nuclear}}]
        components: [ov_circuit, {name: simple}]
        data: [weights, gradients]
    probes: [induction]
    transition: {metric: prefix_matching, least: 0.3}

`builder.py` makes questions of it; what the names in it mean for a run is found out by `engine/plan.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from pico_analyze.errors import UsageError, nearest
from pico_analyze.parameters import resolve_params, shared_out
from pico_analyze.probes.spec import PROBES, chosen, costly
from pico_analyze.stores.base import Data

Value = bool | int | float | str
MAX_COUNT = 2**31 - 1
"""Largest count of anything."""


def _whole(value: Any) -> Any:
    """A whole number that is written as 1e3 or 5.0."""
    exact = isinstance(value, float) and abs(value) <= 2**53 and value.is_integer()
    return int(value) if exact else value


Whole = BeforeValidator(_whole)
Number = Annotated[int, Field(ge=0, le=MAX_COUNT), Whole]
Numbers = str | int | list[int]
Steps = str | Number | list[Number]


def listed(values: str | Iterable[str]) -> list[str]:
    """Names, also those written with commas between them, each once."""
    texts = [values] if isinstance(values, str) else values
    return list(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))


class Section(BaseModel):
    """Base of every part: immutable; unknown keys are errors; text is no number, and true is no 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Named(Section):
    """A metric or component with parameters."""

    name: str
    """Its name; see `pico-analyze metrics` and `components`."""
    params: dict[str, Value] = {}
    """Its parameters; the others keep their defaults."""


class Measurement(Section):
    """Metrics of components, over the study's steps."""

    metrics: Annotated[list[Named], Field(min_length=1)]
    """Names, or names with parameters."""
    components: Annotated[list[Named], Field(min_length=1)] = [Named(name="simple")]
    """Names, or names with parameters."""
    data: Annotated[list[Data], Field(min_length=1)] | None = None
    """Kinds of data; by default what suits each metric."""
    splits: Annotated[list[Literal["train", "val"]], Field(min_length=1)] = ["val"]
    """Splits of activations and gradients; noise is of the training batch whatever is said."""
    sites: list[str] | None = None
    """Site kinds or names, for the component simple, or globs of tensors' own names after tensor:; by default each
    captured site."""
    layers: Steps | None = None
    """Layers, as numbers or as a selection such as 0,3-5; by default all."""
    heads: bool = True
    """Whether circuits are also computed head by head."""
    steps: Steps | None = None
    """Steps of this measurement, in place of the study's."""
    target: str | int | None = None
    """Comparisons: last, first, prev, same, a step, a run (its same step), RUN@STEP."""
    pairs: Literal["target", "steps", "layers"] = "target"
    """Comparisons: with the target, all pairs of steps, or all pairs of layers."""
    between_runs: bool = False
    """Comparisons: each pair of the study's runs."""
    bootstrap: Number = 0
    """Resamples for a 95 % interval of what is measured of activations; 0 for none."""
    null: Literal["permutation", "random_init"] | None = None
    """Also the value by chance."""
    draws: Annotated[int, Field(gt=0, le=MAX_COUNT), Whole] = 100
    """Draws for null."""

    @field_validator("metrics", "components", mode="before")
    @classmethod
    def _named(cls, values: object) -> object:
        """A single one stands for a list; a plain name for one without parameters."""
        several = values if isinstance(values, list) else [values]
        return [{"name": value} if isinstance(value, str) else value for value in several]

    @field_validator("data", "splits", "sites", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """One name, or several with commas between them, stand for a list; each counts once."""
        texts = isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))
        return listed(value) if texts else value  # type: ignore[arg-type]


class Probing(Section):
    """What the models of the study's runs do, over the study's steps; needs the extra [torch]."""

    names: Annotated[list[str], Field(min_length=1)]
    """Names of probes; see `pico-analyze probes`."""
    params: dict[str, Value] = {}
    """Their parameters, by name, or by PROBE.name for one of several."""
    data: list[str] | None = None
    """Rows: text, token ids, or a run of Pico; by default each run's own validation rows, or text of Python's
    library."""
    rows: Annotated[int, Field(gt=0, le=1_000_000), Whole] | None = None
    """Rows, evenly spaced; by default 32 of text, and all that are given as ids."""
    seq_len: Annotated[int, Field(gt=0, le=1_000_000), Whole] | None = None
    """Tokens that are read of a row cut from text; by default 512, or as many as the model reads."""

    @field_validator("names", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return listed(value) if isinstance(value, str) else value

    @field_validator("names")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        try:
            return list(chosen(names))
        except UsageError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _of_these_probes(self) -> Self:
        try:
            given = shared_out(self.params, {name: PROBES[name].params for name in self.names}, "probe")
            for name, params in given.items():
                resolve_params(f"probe {name}", PROBES[name].params, params)
        except UsageError as error:
            raise ValueError(str(error)) from None
        if costly(self.names):
            raise ValueError(f"{costly(self.names)[0]} asks before it begins: measure it with `pico-analyze behave`")
        return self

    @field_validator("data", mode="before")
    @classmethod
    def _one_source(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class Telling(Section):
    """What the study's courses are told against: a text and a figure for each run."""

    metric: str
    """Metric of one of the probes: the change of it, where it changes most."""
    least: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    """How far it has to go at least; where it does not, that is said."""


class StudyConfig(Section):
    """A whole study."""

    name: str = "study"
    """What it is called, in logs."""
    runs: list[str] = []
    """Names under ./runs, paths or hf:// addresses, each also with @STEP; by default the run that changed last."""
    steps: Steps = "all"
    """Steps, as numbers or as a selection such as 0,8,16-64 or 0-1000:100."""
    out: str = "analysis"
    """Directory in which each run gets its own."""
    seed: Annotated[int, Field(ge=0, lt=2**63), Whole] = 0
    """Seed of bootstrap and null."""
    measurements: Annotated[list[Measurement], Field(min_length=1)]
    """What is measured."""
    probes: Probing | None = None
    """Also what models do: names of probes, or names with rows."""
    transition: Telling | None = None
    """What everything else is told against: when it happens, and what the others do meanwhile."""

    @field_validator("probes", mode="before")
    @classmethod
    def _names_alone(cls, value: object) -> object:
        """Names stand for probes of the usual rows."""
        return {"names": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _told_by_a_probe(self) -> Self:
        if self.transition is None:
            return self
        named = () if self.probes is None else self.probes.names
        metrics = [metric.name for name in named for metric in PROBES[name].metrics]
        if self.transition.metric not in metrics:
            hint = nearest(self.transition.metric, metrics)
            raise ValueError(
                f"transition.metric={self.transition.metric} is no metric of the study's probes{hint} "
                f"(there are: {', '.join(metrics) or 'none, for no probe is named'})"
            )
        return self

    @field_validator("runs", mode="before")
    @classmethod
    def _one_run(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


S = TypeVar("S", bound=Section)
Lines = Callable[[tuple[str | int, ...]], int | None]
_PARTS: Mapping[str, type[Section]] = {
    "measurements": Measurement,
    "metrics": Named,
    "components": Named,
    "probes": Probing,
    "transition": Telling,
}


def validated(model: type[S], written: Mapping[str, object], *, where: str = "", line: Lines | None = None) -> S:
    """A part of a study from a mapping.

    Args:
        model: Which part.
        written: Its keys and values.
        where: Place that messages begin with, such as the file's name.
        line: Line in that file of a value, by the keys and positions that lead to it.

    Raises:
        UsageError: an unknown key (with the nearest), a missing one, or a wrong value.
    """
    try:
        return model.model_validate(written)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    number = line(first["loc"]) if line is not None and first["type"] != "missing" else None
    at = f"{where}, line {number}: " if number is not None else f"{where}: " if where else ""
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        owners = [part for part in first["loc"][:-1] if isinstance(part, str)]
        fields = (_PARTS[owners[-1]] if owners else model).model_fields
        hint = nearest(str(first["loc"][-1]), fields)
        raise UsageError(f"{at}unknown key {place}{hint} (there are: {', '.join(fields)})")
    if first["type"] == "missing":
        raise UsageError(f"{at}the key {place} is missing")
    found = repr(first["input"])[:80]
    hint = ": quote it if it is text" if first["type"] == "string_type" else ""
    raise UsageError(f"{at}{place}={found}: {first['msg'].removeprefix('Value error, ')}{hint}")
