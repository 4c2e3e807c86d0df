"""What a study says beyond its measurements: its probes, and the transition that everything is told against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

    from pico_analyze.engine.outcome import Outcome
    from pico_analyze.models.behave import Behaved
    from pico_analyze.questions.study import Study
    from pico_analyze.stores.base import ReadOptions


def probed_frame(outcome: Outcome, behaved: Sequence[Behaved]) -> pandas.DataFrame:
    """The rows of measurements and probes together."""
    import pandas

    return pandas.concat([outcome.frame, *(one.frame for one in behaved)], ignore_index=True)


def tables(outcome: Outcome, behaved: Sequence[Behaved]) -> list[str]:
    """The tables of measurements, and those of probes after them."""
    from pico_analyze.cli.console import table_width
    from pico_analyze.output.behaviour import behaviour_text
    from pico_analyze.output.text import table_text

    width = table_width()
    measured = dict.fromkeys(table_text(rows, width) for _, rows in outcome.frames())
    return [*measured, *(behaviour_text(one.frame, "table", width) for one in behaved)]


def summary(outcome: Outcome, read: ReadOptions) -> str:
    """The findings, and one line for each metric and site; the outcome's frame holds the rows of probes too."""
    from pico_analyze.cli.console import table_width
    from pico_analyze.output.findings import findings
    from pico_analyze.output.study_text import study_text

    losses = validation_losses(outcome.directories, read)
    return study_text(outcome.frame, findings(outcome.frame, losses), table_width())


def validation_losses(locations: Iterable[str], read: ReadOptions) -> dict[str, dict[int, float]]:
    """The validation loss by step of each run, by its name; a run that has none, or cannot be read, is left out."""
    from pico_analyze.errors import PicoAnalyzeError
    from pico_analyze.output.findings import validation_loss
    from pico_analyze.stores.opening import open_store

    found: dict[str, dict[int, float]] = {}
    for location in locations:
        with suppress(PicoAnalyzeError):  # its rows stand without it
            store = open_store(location, read)
            found[store.run] = validation_loss(store)
    return found


def tell(study: Study, outcome: Outcome, behaved: Sequence[Behaved], *, plot: bool) -> tuple[list[str], list[Path]]:
    """The texts of a study's transition, one for each run, and what was written beside the rows.

    Raises:
        StorageError: a file cannot be written.
    """
    import pandas

    from pico_analyze.output.behaviour import behaviour_pictures
    from pico_analyze.output.transition import transition_picture, transition_text, write_text
    from pico_analyze.statistics.transition import transition

    texts: list[str] = []
    written: list[Path] = []
    locations = {directory: location for location, directory in outcome.directories.items()}
    for one in behaved:
        written += behaviour_pictures(one.frame, one.directory) if plot else []
        telling = study.config.transition
        if telling is None:
            continue
        location = locations.get(one.directory)
        measured = [rows for run, rows in outcome.frames() if run == location]
        frame = pandas.concat([*measured, one.frame], ignore_index=True)
        run = str(one.frame["run"].iloc[0])
        found = transition(frame, telling.metric, telling.least)
        texts.append(transition_text(found, run))
        written.append(write_text(texts[-1], one.directory / f"study-{study.name}.txt"))
        if plot and not isinstance(found, str):
            path = one.directory / f"study-{study.name}.png"
            written.append(transition_picture(frame, found, f"study {study.name} · run {run}", path))
    return texts, written
