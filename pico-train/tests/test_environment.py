"""What a run says it was trained with."""

from __future__ import annotations

import json

from support.failing_runs import QUIET
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch

import pico_schema
import pico_train
from pico_schema import documents


def test_the_manifest_says_what_it_was_trained_with(text, tmp_path):
    assert launch(train_until, config(tmp_path, text, **QUIET)) == [0]
    environment = json.dumps(documents.read_run(tmp_path / "tiny").environment)
    packages = documents.read_run(tmp_path / "tiny").environment["packages"]
    assert (packages["pico-train"], packages["pico-schema"]) == (pico_train.__version__, pico_schema.__version__)
    for word in ("torch", "lightning-fabric", "python", "transformers"):
        assert word in environment
