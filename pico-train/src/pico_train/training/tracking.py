"""Metrics to Weights & Biases, if asked for: the only file of this package that knows it.

`disabled` (the default) imports nothing; `offline` writes files under the run's directory and opens no connection;
`online` sends. The wandb run has the run's own id, so that a resumed run goes on with the same one without asking.
Tracking is beside training: when it fails, it says so once and stops.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

Mode = Literal["disabled", "offline", "online"]


class Tracker:
    """A wandb run, or nothing."""

    def __init__(self, run: Any | None) -> None:
        self._run = run

    @classmethod
    def start(
        cls,
        *,
        mode: Mode,
        run_id: str,
        name: str,
        directory: Path,
        project: str = "pico",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> Tracker:
        """Begin, or go on with, the wandb run of this id.

        Args:
            mode: `disabled` gives a tracker that does nothing.
            run_id: The run's id; it is the wandb run's id as well.
            name: What people see.
            directory: Where wandb keeps its files (in a folder `wandb`).
            project: wandb's project.
            entity: wandb's user or team; by default the account's.
            group: Runs that wandb shows together.
            tags: By which wandb finds runs.
            config: The resolved configuration.
        """
        if mode == "disabled":
            return cls(None)
        try:
            import wandb

            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no reports to wandb's makers
            run = wandb.init(
                project=project,
                entity=entity,
                group=group,
                tags=list(tags) or None,
                id=run_id,
                name=name,
                mode=mode,
                resume="allow" if mode == "online" else None,
                dir=str(directory),
                config=dict(config or {}),
                settings=wandb.Settings(
                    silent=True, console="off", disable_git=True, disable_code=True, x_disable_machine_info=True
                ),
            )
            # An axis of our own: wandb drops lines whose internal step goes back, as it does when a run resumes.
            run.define_metric("step")
            run.define_metric("*", step_metric="step")
        except Exception as error:
            _give_up(error)
            return cls(None)
        return cls(run)

    @property
    def active(self) -> bool:
        """Whether anything is tracked."""
        return self._run is not None

    @property
    def to_be_sent(self) -> Path | None:
        """Directory of what was tracked offline, which `wandb sync` sends; None where nothing was."""
        if self._run is None or not getattr(self._run, "offline", False):
            return None
        files = Path(str(self._run.dir))  # wandb keeps its files in a folder of the run's directory
        return files.parent if files.name == "files" else files

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Track the numbers among `values`; nested mappings are flattened with dots."""
        if self._run is None:
            return
        try:
            self._run.log({"step": step, **_numbers(values)})
        except Exception as error:
            self._run = None
            _give_up(error)

    def finish(self) -> None:
        """Write or send what is left."""
        run, self._run = self._run, None
        if run is not None:
            try:
                run.finish()
            except Exception as error:
                _give_up(error)


def _numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float | int]:
    found: dict[str, float | int] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float) and (prefix or key != "step"):
            found[prefix + key] = value
    return found


def _give_up(error: Exception) -> None:
    first = (str(error) or type(error).__name__).splitlines()[0][:200]
    warnings.warn(f"wandb stopped ({first}); training goes on without it", stacklevel=2)
