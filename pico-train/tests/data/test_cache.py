"""Where caches lie: one rule for both tools."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import platformdirs
import pytest

from pico_train.data.cache import cache_root, locked


def test_the_variable_moves_the_cache_and_the_platform_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICO_CACHE", str(tmp_path))
    assert cache_root() == tmp_path / "data"
    assert cache_root(tmp_path / "chosen") == tmp_path / "chosen"
    for unset in ("", None):
        monkeypatch.setenv("PICO_CACHE", unset) if unset is not None else monkeypatch.delenv("PICO_CACHE")
        assert cache_root() == platformdirs.user_cache_path("pico") / "data"


def _wait_for(file: Path, answers: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    with locked(file):
        answers.put("held")


def test_another_process_waits_for_a_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_wait_for, args=(tmp_path / "folder" / ".lock", answers))
    with locked(tmp_path / "folder" / ".lock"):
        process.start()
        process.join(1.5)
        assert process.is_alive() and answers.empty()
    assert answers.get(timeout=60) == "held"
    process.join(60)
    assert process.exitcode == 0
