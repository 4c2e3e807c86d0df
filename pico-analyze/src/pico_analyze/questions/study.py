"""A study from its file: read and checked. Files of pico-analyze 1.0 are translated first; `builder.py` asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pico_analyze.errors import UsageError
from pico_analyze.questions.builder import asked
from pico_analyze.questions.question import Question
from pico_analyze.questions.study_schema import StudyConfig, validated
from pico_analyze.questions.study_v1 import is_v1, translate

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

    def asked(self, runs: Sequence[str | Path] = ()) -> list[tuple[str, Question]]:
        """Each run with each question; `runs` stand in place of those in the file.

        Raises:
            UsageError: a name, number or combination that does not exist.
            NotARunError: a run that does not exist; or none is named anywhere, and there is none under ./runs.
        """
        config = self.config
        return [
            pair
            for measurement in config.measurements
            for pair in asked(measurement, list(runs) or config.runs, steps=config.steps, seed=config.seed)
        ]


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
    return validated(StudyConfig, raw, where=where)
