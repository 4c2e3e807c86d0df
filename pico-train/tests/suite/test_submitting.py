"""A suite through submitit's local executor: a job a member, trained in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.tiny import SECTIONS
from support.training_runs import sealed

from pico_train.config.suites import load_suite
from pico_train.suite import record, state, submitting
from pico_train.suite.scripts import Wishes


def test_a_job_trains_its_member(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sections = {name: dict(section) for name, section in SECTIONS.items()}
    sections["data"] |= {"paths": [str(text)], "val_paths": [str(text.with_name("held_out.txt"))]}
    sections["training"] |= {"max_steps": 2, "schedule": {}}
    file = tmp_path / "family.yaml"
    content = {"base": sections, "axes": {"seed": [5]}}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    suite, _ = record.begin(load_suite(file, out=tmp_path / "runs"))
    tasks, jobs = submitting.submit(suite, suite.members, Wishes(minutes=5, cpus=1), cluster="local")
    assert [task.member for task in tasks] == ["seed5"]
    assert jobs[0].result() == "1 of 1 member finished"
    assert sealed(suite.run_dir(suite.members[0]))[-1] == 2
    assert state.states(suite)[0].state == "finished"
    assert "seed5 finished: 2 steps" in tasks[0].log.read_text()
