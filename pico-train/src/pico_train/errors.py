"""What can go wrong, and the exit code each failure ends with.

    PicoTrainError            1   the run failed
    ├── NonFiniteError        1   loss or gradient is NaN or infinite
    ├── ConfigError           2   a setting is unknown, impossible, or does not fit this machine
    │   └── UsageError        2   a command was called with something that does not exist
    ├── DataError             3   the corpus, or rows of it, cannot be used
    ├── CheckpointError       3   there is no such run, or a checkpoint is missing, damaged, or of another model
    ├── DistributedError      4   another process of the run ended or cannot be reached
    ├── StorageError          4   disk or network
    │   └── PublishError      4   the Hub refuses, or holds something else than it should
    └── InterruptedRun      130   stopped by a signal, after a clean save (SIGTERM: 143)

Libraries raise these; only the command line prints them, as one sentence on stderr.
"""

from __future__ import annotations

from typing import Self


class PicoTrainError(Exception):
    """Base of all errors of this package."""

    exit_code = 1
    everywhere = False
    """Whether every process of the run raises it, so that only the first need say it."""


class NonFiniteError(PicoTrainError):
    """Loss or gradient is NaN or infinite: training on would destroy the run."""


class ConfigError(PicoTrainError):
    """A setting is unknown, impossible, or does not fit this machine."""

    exit_code = 2


class UsageError(ConfigError):
    """A command was called with something that does not exist."""


class DataError(PicoTrainError):
    """The corpus cannot be used: empty, damaged, or not what the run was begun with."""

    exit_code = 3


class CheckpointError(PicoTrainError):
    """There is no such run, or a checkpoint is missing, damaged, or of another model."""

    exit_code = 3


class DistributedError(PicoTrainError):
    """Another process of the run ended or cannot be reached; what was saved before is intact."""

    exit_code = 4


class StorageError(PicoTrainError):
    """Disk or network failed; what was saved before is intact."""

    exit_code = 4

    @classmethod
    def unreadable(cls, place: object, error: OSError) -> Self:
        """The error for a file that the disk, or the network below it, does not give."""
        return cls(
            f"{place}: cannot be read ({error.strerror or error}): see to its disk and run the same command again"
        )


class PublishError(StorageError):
    """Publishing failed; the run on disk is intact, and publishing can be taken up again."""


class InterruptedRun(PicoTrainError):
    """Stopped by a signal after finishing the step and saving."""

    exit_code = 130

    def __init__(self, message: str, *, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
