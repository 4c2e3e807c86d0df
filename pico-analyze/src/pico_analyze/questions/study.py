"""A study from its file: read, checked, and turned into questions. Files of pico-analyze 1.0 are translated first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pico_analyze.cli.options import default_data
from pico_analyze.components.spec import COMPONENTS
from pico_analyze.engine.pipeline import between_runs
from pico_analyze.errors import UsageError, nearest
from pico_analyze.metrics.spec import METRICS
from pico_analyze.questions.question import Question, Selection, Target, Use
from pico_analyze.questions.study_schema import Measurement, Named, StudyConfig
from pico_analyze.questions.study_v1 import is_v1, translate
from pico_analyze.stores.opening import newest_run

_MAX_FILE = 2**20


@dataclass(frozen=True)
class Study:
    """A checked study."""

    config: StudyConfig

    @property
    def name(self) -> str:
        """What it is called."""
        return self.config.name

    @property
    def out(self) -> str:
        """Where its results go."""
        return self.config.out

    def asked(self, runs: Sequence[str | Path] = ()) -> list[tuple[str | Path, Question]]:
        """Each run with each question; `runs` stand in place of those in the file.

        Raises:
            UsageError: a name, number or combination that does not exist.
            NotARunError: no run is named anywhere, and there is none under ./runs.
        """
        chosen = list(runs) or list(self.config.runs) or [newest_run()]
        pairs: list[tuple[str | Path, Question]] = []
        for measurement in self.config.measurements:
            for question in questions(self.config, measurement):
                if measurement.between_runs:
                    pairs += between_runs(chosen, question)
                else:
                    pairs += [(run, question) for run in chosen]
        return pairs


def load_study(path: Path) -> tuple[Study, list[str]]:
    """The study in a YAML file, and what was translated in it, one line each.

    Raises:
        UsageError: not there, not YAML, or an unknown key or wrong value; the message names it.
    """
    try:
        with path.open("rb") as file:
            raw = yaml.safe_load(file.read(_MAX_FILE))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: not valid YAML ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: a study is a mapping with the key measurements, found {type(raw).__name__}")
    notes: list[str] = []
    if is_v1(raw):
        raw, notes = translate(raw, where=str(path))
    return Study(parse(raw, where=str(path))), notes


def parse(raw: dict[str, Any], *, where: str) -> StudyConfig:
    """A study from a mapping.

    Raises:
        UsageError: an unknown key (with the nearest), or a wrong value.
    """
    try:
        return StudyConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            model: dict[str, type[BaseModel]] = {"measurements": Measurement, "metrics": Named, "components": Named}
            owners = [part for part in first["loc"][:-1] if isinstance(part, str)]
            owner: type[BaseModel] = model[owners[-1]] if owners else StudyConfig
            fields = owner.model_fields
            hint = nearest(str(first["loc"][-1]), fields)
            raise UsageError(f"{where}: unknown key {place}{hint} (there are: {', '.join(fields)})") from None
        if first["type"] == "missing":
            raise UsageError(f"{where}: the key {place} is missing") from None
        found = repr(first["input"])[:80]
        raise UsageError(f"{where}: {place}={found}: {first['msg'].removeprefix('Value error, ')}") from None


def questions(study: StudyConfig, measurement: Measurement) -> list[Question]:
    """The questions of one measurement: one per component, kind of data and split.

    Raises:
        UsageError: a metric or component that does not exist, or is not defined for what is asked.
    """
    asked = []
    specs = [(METRICS.get(use.name), use) for use in measurement.metrics]
    paired = any(spec.kind == "pair" for spec, _ in specs)
    target = None if measurement.target is None else Target.parse(str(measurement.target))
    for part in measurement.components:
        component = COMPONENTS.get(part.name)
        by_data: dict[Any, list[Use]] = {}
        for spec, use in specs:
            for data in measurement.data or [default_data(spec, component)]:
                by_data.setdefault(data, []).append(Use.of(use.name, use.params))
        for data, uses in by_data.items():
            compares = not paired or any(METRICS.get(use.name).kind == "pair" for use in uses)
            for split in [None] if data == "weights" else measurement.splits:
                asked.append(
                    Question(
                        metrics=tuple(uses),
                        component=Use.of(part.name, part.params),
                        data=data,
                        split=split,
                        sites=None if measurement.sites is None else tuple(measurement.sites),
                        layers=None if measurement.layers is None else _selection(measurement.layers),
                        heads=measurement.heads,
                        steps=_selection(study.steps if measurement.steps is None else measurement.steps),
                        target=target if compares else None,
                        pairs=measurement.pairs if compares else "target",
                        bootstrap=measurement.bootstrap,
                        null=measurement.null,
                        draws=measurement.draws,
                        seed=study.seed,
                    )
                )
    return asked


def _selection(numbers: str | list[int]) -> Selection:
    return Selection(numbers if isinstance(numbers, str) else ",".join(map(str, numbers)))
