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
from pico_analyze.questions.overview import NAME as OVERVIEW
from pico_analyze.questions.overview import overview
from pico_analyze.questions.question import Question
from pico_analyze.questions.study_schema import Lines, StudyConfig, validated
from pico_analyze.questions.study_v1 import is_v1, translate
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.run_names import open_named, resolve_all
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
    return sorted([OVERVIEW, *(name.removesuffix(".yaml") for name in entries if name.endswith(".yaml"))])


def load_studies(
    path: Path, runs: Sequence[str | Path] = (), read: ReadOptions | None = None
) -> tuple[list[tuple[Study, list[str | Path]]], list[str]]:
    """What is studied: the study in a file of each of the runs, or the overview of each run by its own size.

    Args:
        path: The file, or the name of a study that comes with this package.
        runs: Runs in place of those in the file; the overview is of the run that changed last without.
        read: How runs are read, for the overview, which looks into them.

    Returns:
        Studies, each with the runs to ask it of, and what is to be said about them, one line each.

    Raises:
        UsageError: the file cannot be read, or names what does not exist; a step of a run is named for the overview.
        NotARunError: a run that does not exist.
        DataError: a run that holds nothing to measure.
    """
    if str(path) != OVERVIEW or path.exists():
        study, notes = load_study(path)
        return [(study, list(runs))], notes
    found: list[tuple[Study, list[str | Path]]] = []
    notes = []
    for run in resolve_all(list(runs)):
        if run.step is not None:
            raise UsageError(f"{run.text}: the overview is of a run over its steps: name the run without a step")
        config, left_out = overview(open_named(run.location, read or ReadOptions()))
        found.append((Study(config), [run.location]))
        notes += [f"{run.text or run.location}: {note}" for note in left_out]
    return found, notes


def load_study(path: Path) -> tuple[Study, list[str]]:
    """The study in a YAML file, and what was translated in it, one line each.

    Args:
        path: The file; where there is none, the name of a study that comes with this package.

    Raises:
        UsageError: not there, not YAML, or an unknown key or wrong value; the message names it, and its line.
    """
    name = str(path)
    own = studies() if not path.exists() and path.name == name and "." not in name else []
    if own and name == OVERVIEW:
        raise UsageError(f"{name}: it is made for a run by its size: `pico-analyze run {name} RUN` carries it out")
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
