import json

import pytest

from pico_train.checkpoint import metrics_log
from pico_train.checkpoint.metrics_log import MetricsLog
from pico_train.errors import StorageError


def steps(path):
    return [row["step"] for row in metrics_log.read(path)]


def test_lines_of_the_resumed_step_and_later_are_dropped_and_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(10):
        log.append({"step": step, "loss": 1.0 / (step + 1)})
    log.close()
    assert metrics_log.cut(path, first_dropped=6) == 4
    log = MetricsLog(path)
    for step in range(6, 12):
        log.append({"step": step, "loss": 0.0})
    log.close()
    assert steps(path) == list(range(12))


def test_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0}\n{"step": 1}\n{"step": 2, "lo')
    assert steps(path) == [0, 1]
    assert metrics_log.cut(path, first_dropped=5) == 1
    assert path.read_bytes() == b'{"step": 0}\n{"step": 1}\n'


def test_a_missing_log_is_empty(tmp_path):
    assert metrics_log.cut(tmp_path / "metrics.jsonl", first_dropped=0) == 0
    assert metrics_log.read(tmp_path / "metrics.jsonl") == []


def test_what_needs_no_cut_is_not_touched(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0}\n')
    before = path.stat().st_ino
    assert metrics_log.cut(path, first_dropped=1) == 0
    assert path.stat().st_ino == before


def test_numbers_that_json_lacks_become_null(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 3, "loss": float("nan"), "grad_norm": float("inf")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 3, "loss": None, "grad_norm": None}


def test_a_line_is_on_the_disk_before_the_next_is_begun(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 0})
    assert steps(tmp_path / "metrics.jsonl") == [0]


def test_a_directory_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        MetricsLog(tmp_path / "nowhere" / "metrics.jsonl")
