from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from published import REPO

from pico_analyze.stores.opening import ReadOptions, open_store
from pico_conformance import Hub
from pico_conformance.published import put_run
from pico_conformance.runs import write_run


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A run, a Hub's folder with the run in it, and the commits: made once, copied for each test."""
    root = tmp_path_factory.mktemp("made")
    run = write_run(root / "runs", steps=(0, 1, 2, 4))
    with Hub(root / "hub") as hub:
        return run, root / "hub", put_run(hub, run, REPO)


@pytest.fixture
def run(made: tuple[Path, Path, list[str]], tmp_path: Path) -> Path:
    """A run with checkpoints at 0, 1, 2, 4."""
    return Path(shutil.copytree(made[0], tmp_path / "runs" / "demo"))


@pytest.fixture
def commits(made: tuple[Path, Path, list[str]], hub: Hub) -> list[str]:
    """The run, published; its commits by step."""
    shutil.copytree(made[1], hub.root, dirs_exist_ok=True)
    return made[2]


@pytest.fixture
def options(tmp_path: Path) -> ReadOptions:
    return ReadOptions(cache_dir=tmp_path / "cache")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small time limits and waits, so that faults are short."""
    monkeypatch.setenv("PICO_HUB_TIMEOUT", "0.5")
    monkeypatch.setattr("pico_analyze.stores.hub.client.FIRST_WAIT", 0.01)


@pytest.fixture
def open_run(options: ReadOptions) -> Callable[..., object]:
    return lambda address=f"hf://{REPO}@demo", offline=False: open_store(
        address, ReadOptions(offline=offline, cache_dir=options.cache_dir)
    )
