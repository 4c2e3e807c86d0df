"""A study from its file, or one that comes with this package: read and checked. Files of pico-analyze 1.0 are
translated first; `builder.py` asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pico_analyze.errors import UsageError, nearest
from pico_analyze.questions.builder import Chosen, asked
from pico_analyze.questions.question import Question
from pico_analyze.questions.study_schema import Lines, StudyConfig, validated
from pico_analyze.questions.study_v1 import is_v1, translate
from pico_analyze.stores.run_names import resolve_all
from pico_schema import YamlError, yaml_text


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

    def probed(self, runs: Sequence[str | Path] = ()) -> list[tuple[str, Chosen]]:
        """Each run whose models are probed, and its steps.

        Raises:
            UsageError: a run's name gives one step, and the study others.
            NotARunError: as `asked`.
        """
        if self.config.probes is None:
            return []
        found: list[tuple[str, Chosen]] = []
        for run in resolve_all(list(runs) or list(self.config.runs)):
            if run.step is not None and self.config.steps != "all":
                raise UsageError(f"{run.text} names a step, and so does the study: give one of the two")
            found.append((run.location, self.config.steps if run.step is None else str(run.step)))
        return found


def studies() -> list[str]:
    """Names of the studies that come with this package."""
    entries = (entry.name for entry in files("pico_analyze.questions").joinpath("studies").iterdir())
    return sorted(name.removesuffix(".yaml") for name in entries if name.endswith(".yaml"))


def load_study(path: Path) -> tuple[Study, list[str]]:
    """The study in a YAML file, and what was translated in it, one line each.

    Args:
        path: The file; where there is none, the name of a study that comes with this package.

    Raises:
        UsageError: not there, not YAML, or an unknown key or wrong value; the message names it, and its line.
    """
    name = str(path)
    own = studies() if not path.exists() and path.name == name and "." not in name else []
    if own and name not in own:
        raise UsageError(
            f"{name}: there is no such file, and no study of this name{nearest(name, own)} comes with pico-analyze "
            f"(there are: {', '.join(own)})"
        )
    try:
        if own:
            content = files("pico_analyze.questions").joinpath("studies", f"{name}.yaml").read_bytes()
            document = yaml_text.parse(content, where=f"study {name}")
        else:
            document = yaml_text.read(path)
    except YamlError as error:
        raise UsageError(str(error)) from None
    raw = document.value
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise UsageError(f"{path}: a study is a mapping with the key measurements, found {found}")
    if is_v1(raw):
        translated, notes = translate(raw, where=str(path))
        return Study(parse(translated, where=str(path))), notes
    return Study(parse(raw, where=str(path), line=document.line)), []


def parse(raw: dict[str, Any], *, where: str, line: Lines | None = None) -> StudyConfig:
    """A study from a mapping.

    Args:
        raw: its keys and values.
        where: what messages begin with, such as the file's name.
        line: gives the line of a value by the keys and positions that lead to it.

    Raises:
        UsageError: an unknown key (with the nearest), or a wrong value.
    """
    return validated(StudyConfig, raw, where=where, line=line)
