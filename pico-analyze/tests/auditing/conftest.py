from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pico_analyze.auditing.audit import Audit, audit_store
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.opening import open_store


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


@pytest.fixture
def audited(tmp_path: Path) -> Callable[..., Audit]:
    """Audit a run, remote files being cached by the test."""

    def call(location: object, *, offline: bool = False) -> Audit:
        options = ReadOptions(offline=offline, cache_dir=tmp_path / "cache")
        return audit_store(open_store(str(location), options))

    return call
