from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.publishing import REPO

from pico_conformance import Hub
from pico_conformance.gitstore import Repository
from pico_conformance.runs import write_run


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
