"""The configuration of a run: what may be set, and where the values come from.

A module here decides what a valid value is and how layers of values combine; nothing reads a disk but for the files
that are layers, and nothing is trained or written. Every other room may import this one.

`schema` (the whole tree) with its sections `data`, `training`, `optimizer`, `checkpoints` · `base` (what every section
is made of) · `layers` (a preset, over it a file, over that ``--set``) · `mistakes` (how one is told) · `recorded` (what
a begun run fixes) · `describe` (every setting with its help) · `presets/` (one YAML file each).
"""

from pico_train.config.checkpoints import (
    Cadence,
    CapturesConfig,
    CaptureSplit,
    CheckpointConfig,
    EvaluationConfig,
    KeepPolicy,
)
from pico_train.config.data import DataConfig
from pico_train.config.optimizer import OptimizerConfig, ScalingConfig
from pico_train.config.schema import MonitoringConfig, PublishConfig, RunConfig, WandbConfig
from pico_train.config.training import DistributedConfig, ModelConfig, ScheduleConfig, TrainingConfig

__all__ = [
    "Cadence",
    "CaptureSplit",
    "CapturesConfig",
    "CheckpointConfig",
    "DataConfig",
    "DistributedConfig",
    "EvaluationConfig",
    "KeepPolicy",
    "ModelConfig",
    "MonitoringConfig",
    "OptimizerConfig",
    "PublishConfig",
    "RunConfig",
    "ScalingConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "WandbConfig",
]
