"""pytest fixtures: a loopback Hub that the process under test, and every process it starts, takes for the real one."""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pico_conformance.hub import Hub
from pico_conformance.tiers import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

if TYPE_CHECKING:
    from _typeshed import HasFileno

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]

DISABLED = {"lfs": False, "xet": True}


def pytest_collection_finish() -> None:
    """What is loaded by now stays: it is not looked through again whenever garbage is collected."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _unhurried_disk(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nobody waits for the machine's disk but with `--slow`, and in the processes that tests start.

    What a power cut leaves is shown by disks of the tests' own, and a real sync shows nothing of it.
    """
    if request.config.getoption("slow", False):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _look_at)
        yield


@pytest.fixture(scope="session", autouse=True)
def _commands_are_built_once() -> Iterator[None]:
    """Typer makes the commands of an application anew for each call: within a process of tests, once is enough."""
    import typer.main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.lru_cache(maxsize=None)(typer.main.get_command))
        yield


def _look_at(handle: int | HasFileno) -> None:
    """What is left of a sync: the handle must be an open one."""
    os.fstat(handle if isinstance(handle, int) else handle.fileno())


@pytest.fixture
def hub_mode() -> str:
    """`xet` (the Hub's own default) or `lfs`; override by parametrizing a test with `hub_mode`."""
    return "xet"


def _point_at(hub: Hub, home: Path, patch: pytest.MonkeyPatch, *, xet: bool) -> None:
    """Set the environment, and the constants that `huggingface_hub` read from it if it was imported already."""
    environment = hub.environment(home, xet=xet)
    for name, value in environment.items():
        patch.setenv(name, value)
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        patch.delenv(proxy, raising=False)
    constants: Any = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        patch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HOME", str(home))
        patch.setattr(constants, "HF_HUB_CACHE", environment["HF_HUB_CACHE"])
        patch.setattr(constants, "HF_XET_CACHE", environment["HF_XET_CACHE"])
        patch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    config: Any = sys.modules.get("datasets.config")
    if config is not None:
        patch.setattr(config, "HF_ENDPOINT", hub.url)


@pytest.fixture
def make_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Hub]]:
    """Start Hubs with settings of one's own: `make_hub(page=5, commits_per_hour=3)`."""
    started: list[Hub] = []

    def make(**settings: Any) -> Hub:
        started.append(Hub(tmp_path_factory.mktemp("hub"), **settings).start())
        return started[-1]

    yield make
    for one in started:
        one.stop()


@pytest.fixture
def hub(make_hub: Callable[..., Hub], hub_mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A fresh Hub, with `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and the rest pointing at it."""
    xet = DISABLED[hub_mode]
    started = make_hub(xet=xet, part_size=1 << 20)
    _point_at(started, tmp_path / "hf-home", monkeypatch, xet=xet)
    return started


@pytest.fixture(scope="session")
def session_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One Hub for many tests; nothing points at it: pass `session_hub.environment(home)` to subprocesses."""
    with Hub(tmp_path_factory.mktemp("session-hub")) as started:
        yield started


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Hugging Face or wandb variable of the developer's reaches the test."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING_FACE_", "WANDB_")):
            monkeypatch.delenv(name)
