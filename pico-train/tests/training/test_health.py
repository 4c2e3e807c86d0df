"""What is logged about a step."""

from __future__ import annotations

import json

from support.failing_runs import QUIET
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch


def test_a_line_of_the_log_has_what_health_needs(text, tmp_path):
    assert launch(train_until, config(tmp_path, text, **QUIET)) == [0]
    lines = [json.loads(line) for line in (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()]
    for line in lines[:-1]:
        assert {"step", "tokens_seen", "loss", "lr", "grad_norm", "tokens_per_second", "memory_bytes"} <= line.keys()
        assert {"seconds/data", "seconds/compute", "seconds/update"} <= line.keys()
        assert "mfu" not in line  # a CPU's peak is not known, so there is none
    assert "lr" not in lines[-1]  # the last step is measured, not updated
