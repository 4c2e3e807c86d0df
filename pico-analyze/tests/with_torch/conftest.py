from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are run with a thread for each core that a process may use, and test processes share the cores.

    Two of them with two threads each wait for each other on two cores, most of their time in vain.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
