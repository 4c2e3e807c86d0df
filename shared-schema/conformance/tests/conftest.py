from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file


def pytest_configure() -> None:
    """A runner in the background (`nohup`, a script's `&`) ignores Ctrl-C, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups that are none cost minutes and are noticed by no one: each of their tests makes anew what they share."""
    if getattr(session.config.option, "loadgroup", False):
        lost = [
            item.nodeid for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid
        ]
        if lost:
            raise pytest.UsageError(
                f"--dist loadgroup has no effect with these versions of pytest and xdist: {lost[0]}"
            )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small checkpoint-like folder: 3.6 MB of float32 (several LFS parts), a second tensor file, two text files."""
    root, rng = tmp_path / "checkpoint", np.random.default_rng(0)
    (root / "sub").mkdir(parents=True)
    save_file(
        {"w": rng.standard_normal((900, 1000), dtype=np.float32), "b": rng.standard_normal(10)},
        root / "model.safetensors",
    )
    save_file({"s": rng.standard_normal(100)}, root / "sub" / "state.safetensors")
    (root / "config.json").write_text('{"d_model": 96}')
    (root / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return root


@pytest.fixture
def new_weights(folder: Path) -> Callable[[int], Path]:
    """Write other weights into the folder, as a training step would."""

    def write(seed: int) -> Path:
        values = np.random.default_rng(seed).standard_normal((300, 1000), dtype=np.float32)
        save_file({"w": values}, folder / "model.safetensors")
        return folder / "model.safetensors"

    return write
