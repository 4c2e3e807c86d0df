from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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


@pytest.fixture(autouse=True)
def client() -> Iterator[None]:
    """The Hub's client has the time limit of its process: a worker that ran in this one leaves none."""
    yield
    if "huggingface_hub" in sys.modules:
        from huggingface_hub import set_client_factory
        from huggingface_hub.utils._http import default_client_factory

        set_client_factory(default_client_factory)
