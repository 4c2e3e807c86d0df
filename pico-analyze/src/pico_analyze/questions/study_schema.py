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

What the names in it mean for a run is found out by `plan.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Value = bool | int | float | str
Steps = str | list[Annotated[int, Field(ge=0)]]


class Section(BaseModel):
    """Base of every part: immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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
    data: Annotated[list[Literal["weights", "activations", "gradients"]], Field(min_length=1)] | None = None
    """Kinds of data; by default what suits each metric."""
    splits: Annotated[list[Literal["train", "val"]], Field(min_length=1)] = ["val"]
    """Splits of activations and gradients."""
    sites: list[str] | None = None
    """Site kinds or names, for the component simple; by default each captured site."""
    layers: Steps | None = None
    """Layers, as numbers or as a selection such as 0,3-5; by default all."""
    heads: bool = True
    """Whether circuits are also computed head by head."""
    steps: Steps | None = None
    """Steps of this measurement, in place of the study's."""
    target: str | int | None = None
    """Comparisons: last, first, prev, same, a step, a run, RUN@STEP."""
    pairs: Literal["target", "steps", "layers"] = "target"
    """Comparisons: with the target, all pairs of steps, or all pairs of layers."""
    between_runs: bool = False
    """Comparisons: each pair of the study's runs."""
    bootstrap: Annotated[int, Field(ge=0)] = 0
    """Resamples for a 95 % interval; 0 for none."""
    null: Literal["permutation", "random_init"] | None = None
    """Also the value by chance."""
    draws: Annotated[int, Field(gt=0)] = 100
    """Draws for null."""

    @field_validator("metrics", "components", mode="before")
    @classmethod
    def _named(cls, values: object) -> object:
        """A single one stands for a list; a plain name for one without parameters."""
        listed = values if isinstance(values, list) else [values]
        return [{"name": value} if isinstance(value, str) else value for value in listed]

    @field_validator("data", "splits", "sites", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class StudyConfig(Section):
    """A whole study."""

    name: str = "study"
    """What it is called, in logs."""
    runs: list[str] = []
    """Paths or hf:// addresses; by default the run under ./runs that changed last."""
    steps: Steps = "all"
    """Steps, as numbers or as a selection such as 0,8,16-64 or 0-1000:100."""
    out: str = "analysis"
    """Directory in which each run gets its own."""
    seed: int = 0
    """Seed of bootstrap and null."""
    measurements: Annotated[list[Measurement], Field(min_length=1)]
    """What is measured."""

    @field_validator("runs", mode="before")
    @classmethod
    def _one_run(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value
