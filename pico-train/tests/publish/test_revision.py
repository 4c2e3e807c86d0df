"""What a revision holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.publishing import QUICK, REPO

from pico_schema import layout
from pico_train.errors import CheckpointError
from pico_train.publish.revision import lines_before, package


def test_metrics_end_before_the_checkpoint_and_torn_lines_are_dropped() -> None:
    log = b'{"step": 0}\n{"step": 1}\nbroken\n{"step": 2}\n{"step": 3'
    assert lines_before(log, 2) == b'{"step": 0}\n{"step": 1}\n'


def test_a_symbolic_link_is_not_published(run: Path, tmp_path: Path) -> None:
    weights = run / layout.checkpoint_dir(1) / layout.WEIGHTS
    elsewhere = tmp_path / "elsewhere"
    weights.rename(elsewhere)
    weights.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match="symbolic link"):
        package(run, 1)
    assert QUICK.repo == REPO
