from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pico_conformance import Hub
from pico_conformance.gitstore import Repository
from pico_conformance.runs import write_run
from pico_train.config import PublishConfig

REPO = "tester/model"
QUICK = PublishConfig(
    repo=REPO, timeout=2.0, retry_wait=0.05, retry_wait_max=0.2, slowest_upload=1.0, commits_per_hour=100_000
)


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with checkpoints at 0, 1, 2."""
    return write_run(tmp_path / "runs")


@pytest.fixture
def repository(hub: Hub) -> Callable[[], Repository]:
    return lambda: hub.repository("models", REPO)
