"""The section `data`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pico_train.config import DataConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "tokens"}, "data.source=tokens needs data.paths"),
        ({"source": "tokens", "paths": ("a", "b")}, "data.source=tokens reads one directory, 2 are in data.paths"),
        ({"source": "hub"}, "data.source=hub needs data.repo"),
        ({"source": "hub", "repo": "a/b", "order": "shuffled"}, "data.order=shuffled would fetch every shard"),
        (
            {"source": "tokens", "paths": ("a",), "tokenizer": "train:300"},
            "data.tokenizer=train:300 cannot be trained on data.source=tokens",
        ),
    ],
)
def test_impossible_settings_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(settings)


def test_defaults_follow_the_source() -> None:
    assert DataConfig().tokenizer == "train:4096"
    assert DataConfig().order == "shuffled"
    hub = DataConfig.model_validate({"source": "hub", "repo": "a/b"})
    assert (hub.tokenizer, hub.order) == (None, "sequential")
