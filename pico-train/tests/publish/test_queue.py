"""What is pending, on disk."""

from __future__ import annotations

import json
import time
from pathlib import Path

from support.publishing import REPO

from pico_conformance.runs import write_run
from pico_schema import layout
from pico_train.publish.queue import Queue, halt, halted, sealed


class TestQueue:
    def test_what_is_sealed_and_not_done_is_pending(self, run: Path) -> None:
        queue = Queue(run, REPO)
        (run / layout.checkpoint_dir(7)).mkdir()  # no manifest: not sealed
        assert sealed(run) == [0, 1, 2]
        assert [record.state for record in queue.records()] == ["pending"] * 3
        queue.save(queue.record(1).model_copy(update={"state": "done", "commit": "c"}))
        assert [record.step for record in Queue(run, REPO).records() if record.state == "pending"] == [0, 2]

    def test_a_damaged_record_is_a_missing_one(self, run: Path) -> None:
        queue = Queue(run, REPO)
        queue.save(queue.record(1).model_copy(update={"state": "done"}))
        (queue.root / "step-00000001.json").write_text("{half a rec")
        assert queue.record(1).state == "pending"

    def test_the_commit_limit_looks_at_the_last_hour(self, run: Path) -> None:
        queue = Queue(run, REPO)
        assert queue.seconds_until_commit(1) == 0
        queue.count_commit()
        assert 3590 < queue.seconds_until_commit(1) <= 3600
        assert queue.seconds_until_commit(2) == 0
        (queue.root / "commits.json").write_text(json.dumps([time.time() - 3601, time.time() - 3000]))
        assert 590 < queue.seconds_until_commit(1) <= 600

    def test_a_halt_ends_when_the_run_got_past_it(self, tmp_path: Path) -> None:
        from pico_conformance.runs import add_checkpoint

        run = write_run(tmp_path, steps=(0, 1), max_steps=9)
        halt(run, 1, "loss is nan")
        found = halted(run)
        assert found is not None and found.reason == "loss is nan"
        add_checkpoint(run, 2)
        assert halted(run) is None
