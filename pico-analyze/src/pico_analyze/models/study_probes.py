"""The probes of a study: what `behave` is to do with each of its runs, in the table that its measurements go to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.models.behave_settings import BehaveSettings, behave_settings

if TYPE_CHECKING:
    from pico_analyze.engine.settings import Settings
    from pico_analyze.questions.study import Study


def probe_settings(
    study: Study, runs: Sequence[str | Path], settings: Settings, out: str | Path
) -> list[tuple[str, BehaveSettings]]:
    """Each run whose models a study probes, and how; nothing where it names no probe.

    Args:
        study: The study.
        runs: Runs in place of those in the file.
        settings: How its measurements are carried out: processes, shard, and how runs are read.
        out: Directory in which each run gets its own.

    Raises:
        UsageError: a run's name gives one step, and the study others.
        NotARunError: a run that does not exist.
    """
    probing = study.config.probes
    if probing is None:
        return []
    return [
        (
            location,
            behave_settings(
                out=out,
                probes=probing.names,
                probe_params=probing.params,
                data=probing.data,
                steps=steps,
                target=None,
                dtype="float32",
                rows=probing.rows,
                seq_len=probing.seq_len,
                seed=study.config.seed,
                jobs=settings.jobs,
                fresh=settings.fresh,
                shard=settings.shard,
                read=settings.read,
            ),
        )
        for location, steps in study.probed(runs)
    ]
