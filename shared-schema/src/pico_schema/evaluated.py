"""Results of models that belong to no run of Pico: where they lie, whose they are, and of which files.

    evaluated/NAME/evaluations/step-00000512.json

Each is an `Evaluation`, as beside a run. Its `run_id` stands for the place of the series, its `manifest_sha256` for the
files of the model that was evaluated: such a model has no manifest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePath

ROOT = "evaluated"
"""Folder under which each series has one of its own, unless another was named."""


def folder_name(place: str) -> str:
    """What the folder of a series is called: ``EleutherAI--pythia-70m`` of ``hf://EleutherAI/pythia-70m``, and of a
    path its last part; characters that a name cannot have become ``-``."""
    last = place.removeprefix("hf://").replace("/", "--") if place.startswith("hf://") else PurePath(place).name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "model"


def series_id(place: str) -> str:
    """What stands for a series in its results, 32 hexadecimal digits.

    Args:
        place: ``hf://org/name``, ``hf://org/name@revision`` of one revision that is no step of a series, or the
            absolute path of a folder.
    """
    return hashlib.sha256(place.encode()).hexdigest()[:32]


def is_of_model(name: str) -> bool:
    """Whether a file in a model's folder makes it what it is: its configuration, weights or tokenizer."""
    if "/" in name:
        return False
    tokenizer = name.startswith("tokenizer") and name.endswith(".json")
    return name == "config.json" or tokenizer or name.endswith((".safetensors", ".safetensors.index.json"))


def model_digest(files: Mapping[str, str]) -> str:
    """What stands for a model in its results: a sha256 over the names and digests of the files that make it.

    Args:
        files: Name → sha256, or git's digest of files that the Hub keeps in git; others than those of `is_of_model`
            are passed over.
    """
    lines = [f"{name} {digest}" for name, digest in sorted(files.items()) if is_of_model(name)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
