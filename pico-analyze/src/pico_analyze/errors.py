"""What can go wrong, and the exit code each failure ends with.

    PicoAnalyzeError           1   the analysis failed
    ├── UsageError             2   a metric, component, site, step, layer or setting that does not exist or does not fit
    ├── DataError              3   a run, checkpoint or tensor is missing, damaged, or not what the question needs
    │   ├── NotARunError       3   a path or address holds no run of a known kind
    │   └── SamplesError       3   captures of different samples cannot be compared
    ├── StorageError           4   disk or network
    ├── WorkerError            4   a scheduler or worker cannot be reached, does not fit, or was lost
    └── PluginError            1   a plug-in does not load, or is not what its entry point says

Libraries raise these; only the command line prints them, as one sentence on stderr. What a person or a system stops
ends with 130 (Ctrl-C) or 143 (SIGTERM); the rows written so far are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PicoAnalyzeError(Exception):
    """Base of all errors of this package."""

    exit_code = 1


class UsageError(PicoAnalyzeError):
    """A name, number or setting that does not exist or does not fit."""

    exit_code = 2


class DataError(PicoAnalyzeError):
    """A run, checkpoint or tensor is missing, damaged, or not what the question needs."""

    exit_code = 3


class NotARunError(DataError):
    """A path or address holds no run of a known kind."""


class SamplesError(DataError):
    """Captures of different samples cannot be compared."""


class StorageError(PicoAnalyzeError):
    """Disk or network failed."""

    exit_code = 4


class WorkerError(PicoAnalyzeError):
    """A scheduler or a worker cannot be reached, does not fit, or was lost; the rows written so far are kept."""

    exit_code = 4


class PluginError(PicoAnalyzeError):
    """A plug-in does not load, or is not what its entry point says."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'cka'?`` for the known name nearest to `name`, or nothing if none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
