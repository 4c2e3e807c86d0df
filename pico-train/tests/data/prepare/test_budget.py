"""Memory and processes of a preparation."""

from __future__ import annotations

import pytest

from pico_train.data.prepare.budget import parse_size, plan_memory
from pico_train.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"), [("512MB", 512 * 10**6), ("2GiB", 2 * 2**30), ("1.5g", 15 * 10**8), ("1000", 1000)]
)
def test_sizes_are_understood(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("memory", "workers", "message"),
    [
        ("lots", None, "--memory lots: not a size: write it as 512MB or 2GB"),
        ("100MB", None, "--memory 100MB: too little: at least 284MB"),
        ("400MB", 8, "--memory 400MB: too little for 8 workers, 1091MB are needed: 2 would fit"),
    ],
)
def test_impossible_budgets_are_refused(memory: str, workers: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_memory(memory, workers)
