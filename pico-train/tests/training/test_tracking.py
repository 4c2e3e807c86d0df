"""Metrics in wandb, read back from the offline run's file with wandb's own reader (`wandb leet inspect`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pico_train.training.tracking import Tracker

RUN_ID = "0123456789abcdef" * 2


def records(directory: Path) -> list[list[dict[str, Any]]]:
    """The records of each offline run under a directory, oldest first."""
    found = []
    for path in sorted(directory.glob("wandb/offline-run-*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if "No such command 'leet'" in done.stderr:
            pytest.skip("this wandb does not show what it wrote")
        assert done.returncode == 0, done.stderr
        found.append([json.loads(line) for line in done.stdout.splitlines()])
    return found


def history(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The logged values of each step."""
    return [row["history"]["item"] for row in rows if row["type"] == "history"]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account, no settings, no network of the developer's."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


def start(directory: Path, mode: Any = "offline") -> Tracker:
    return Tracker.start(mode=mode, run_id=RUN_ID, name="demo", directory=directory, config={"model": {"d_model": 32}})


@pytest.mark.usefixtures("alone")
def test_what_was_logged_is_in_the_file_and_a_resumed_run_goes_on_with_the_same_id(tmp_path: Path) -> None:
    tracker = start(tmp_path)
    for step in (0, 1, 2):
        tracker.log(step, {"step": step, "loss": 4.0 - step, "lr": 1e-3, "val_loss": None, "seconds": {"data": 0.25}})
    tracker.finish()
    resumed = start(tmp_path)
    resumed.log(2, {"step": 2, "loss": 2.0})
    resumed.log(3, {"step": 3, "loss": float("nan")})
    resumed.finish()

    first, second = records(tmp_path)
    for rows in (first, second):
        (run,) = [row["run"] for row in rows if row["type"] == "run"]
        assert (run["run_id"], run["display_name"], run["project"]) == (RUN_ID, "demo", "pico")
        assert run["config"]["update"]["model"] == {"d_model": 32}
    lines = history(first)
    assert [(line["step"], line["loss"], line["seconds.data"]) for line in lines] == [
        (0, 4.0, 0.25),
        (1, 3.0, 0.25),
        (2, 2.0, 0.25),
    ]
    assert "val_loss" not in lines[0], "what is not known is not tracked"
    assert [line["step"] for line in history(second)] == [2, 3]


def test_disabled_does_nothing_and_imports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pico_train.training.tracking import Tracker\n"
        "t = Tracker.start(mode='disabled', run_id='x', name='x', directory=Path(sys.argv[1]))\n"
        "t.log(0, {'loss': 1.0}); t.finish(); assert not t.active and 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("alone")
def test_wandb_that_fails_does_not_stop_training(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with pytest.warns(UserWarning, match="training goes on without it"):
        tracker = Tracker.start(mode="offline", run_id="not/an id", name="x", directory=blocked)
    tracker.log(0, {"loss": 1.0})
    tracker.finish()
    assert not tracker.active


def test_what_is_kept_offline_is_named_with_its_group_and_tags(tmp_path: Path) -> None:
    tracker = Tracker.start(
        mode="offline", run_id=RUN_ID, name="demo", directory=tmp_path, group="family", tags=("small", "first")
    )
    tracker.log(1, {"eval/pairs/accuracy": 0.5})
    kept = tracker.to_be_sent
    tracker.finish()
    assert kept is not None and kept.is_dir() and kept.parent == tmp_path / "wandb"
    [found] = records(tmp_path)
    text = str(found)
    assert "family" in text and "small" in text and "eval/pairs/accuracy" in text
    assert Tracker(None).to_be_sent is None
