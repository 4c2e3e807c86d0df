"""The parts of publishing that need no Hub: what is secret, what is finite, the card, the queue, the waits."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quick import QUICK, REPO
from safetensors.numpy import save_file

from pico_conformance.runs import write_run
from pico_schema import RevisionIndex, layout, read_checkpoint, read_run
from pico_train.config import PublishConfig
from pico_train.errors import CheckpointError, ConfigError, UsageError
from pico_train.publish import redact
from pico_train.publish.card import card, plot
from pico_train.publish.command import choose_settings, choose_steps
from pico_train.publish.nonfinite import first_nonfinite
from pico_train.publish.queue import Queue, git_blob_id, halt, halted, sealed
from pico_train.publish.remote import backoff
from pico_train.publish.revision import lines_before, package


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("PUT http://h/_lfs/put/x?sig=0123456789abcdef", "0123456789abcdef"),
        ("https://s3/x?X-Amz-Signature=abcdef&X-Amz-Credential=AKIA123", "AKIA123"),
        ("Authorization: Bearer hf_abcdefghijklmnop", "hf_abcdefghijklmnop"),
        ("{'X-Xet-Access-Token': 'eyJhbGciOi'}", "eyJhbGciOi"),
        ("accessToken='xet_0123456789'", "xet_0123456789"),
        ("token hf_abcdefghijklmnop failed", "abcdefghijklmnop"),
    ],
)
def test_secrets_are_cut_out(text: str, secret: str) -> None:
    assert secret not in redact.clean(text)


def test_what_is_no_secret_stays() -> None:
    for text in ("step 128: model.safetensors is missing", "http://127.0.0.1:80/api/models/a/b/refs answers 503"):
        assert redact.clean(text) == text


def test_a_remembered_secret_is_cut_out_whatever_it_looks_like() -> None:
    code = (
        "import logging, sys; from pico_train.publish import redact\n"
        "redact.remember('plain words'); redact.install(); logging.basicConfig(stream=sys.stderr)\n"
        "logging.getLogger('other').error('saw %s', 'plain words')\n"
        "try: raise ValueError('plain words')\n"
        "except ValueError: logging.exception('failed')\n"
        "raise RuntimeError('plain words')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RuntimeError" in done.stderr and "ValueError" in done.stderr and "saw …" in done.stderr
    assert "plain words" not in done.stderr.replace("raise ", "").replace("code", "")
    assert logging.getLogRecordFactory() is logging.LogRecord, "only the process that asks for it"


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_single_bad_weight_is_found(tmp_path: Path, dtype: type[np.floating], bad: float) -> None:
    good = np.array([[0.0, -1.0, np.finfo(dtype).max, np.finfo(dtype).tiny]], dtype)
    path = tmp_path / "w.safetensors"
    save_file({"a": good, "ids": np.arange(3), "b": good.copy()}, path)
    assert first_nonfinite(path) is None
    wrong = good.copy()
    wrong[0, 1] = bad
    save_file({"a": good, "b": wrong}, path)
    assert first_nonfinite(path) == "b"


def test_bfloat16_is_read_from_its_bits(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    values = torch.tensor([1.0, float("inf")], dtype=torch.bfloat16)
    save_torch({"w": values[:1].clone()}, tmp_path / "good.safetensors")
    save_torch({"w": values}, tmp_path / "bad.safetensors")
    assert first_nonfinite(tmp_path / "good.safetensors") is None
    assert first_nonfinite(tmp_path / "bad.safetensors") == "w"


@given(st.integers(1, 10_000), st.floats(0.01, 10), st.floats(10, 1000))
def test_waits_double_and_stay_within_their_bound(tries: int, first: float, longest: float) -> None:
    full = min(longest, first * 2 ** min(tries - 1, 40))
    assert full / 2 <= backoff(tries, first, longest) <= full


def test_git_names_a_file_as_git_does() -> None:
    """`printf 'hello' | git hash-object --stdin`"""
    assert git_blob_id(b"hello") == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"


def test_metrics_end_before_the_checkpoint_and_torn_lines_are_dropped() -> None:
    log = b'{"step": 0}\n{"step": 1}\nbroken\n{"step": 2}\n{"step": 3'
    assert lines_before(log, 2) == b'{"step": 0}\n{"step": 1}\n'


class TestCard:
    def make(self, tmp_path: Path, **changes: object) -> str:
        run_dir = write_run(tmp_path, steps=range(3))
        run = read_run(run_dir)
        index = RevisionIndex(run_id=run.id, run_name=run.name)
        for entry in run.checkpoints:
            manifest = read_checkpoint(run_dir / layout.checkpoint_dir(entry.step))
            index = index.with_checkpoint(manifest, entry.manifest_sha256, results={"paloma.loss": 3.5 - entry.step})
        return card(run.model_copy(update=changes), index, {}, repo=REPO, license="mit")

    def test_its_front_matter_is_yaml_that_the_hub_accepts(self, tmp_path: Path) -> None:
        import yaml

        front = yaml.safe_load(self.make(tmp_path).split("---")[1])
        assert front["license"] == "mit" and front["library_name"] == "transformers" and "pico" in front["tags"]

    def test_it_is_a_pure_function(self, tmp_path: Path) -> None:
        assert self.make(tmp_path / "a") == self.make(tmp_path / "b")

    def test_evaluations_have_a_table(self, tmp_path: Path) -> None:
        assert "| step | paloma.loss |\n| --- | --- |\n| 0 | 3.5 |\n| 1 | 2.5 |" in self.make(tmp_path)

    def test_no_text_of_a_document_becomes_markup(self, tmp_path: Path) -> None:
        data = read_run(write_run(tmp_path / "x", steps=(0,))).data
        hostile = data.model_copy(update={"source": "x | y\n# head <script>alert(1)</script> [a](javascript:b)"})
        text = self.make(tmp_path / "y", data=hostile)
        assert "<script>" not in text and "\n# head" not in text and "[a](" not in text

    def test_a_curve_has_a_point_for_each_value_at_its_place(self) -> None:
        lines = plot([(0, 4.0), (9, 3.0), (99, 2.0)], width=21, height=5).splitlines()
        assert [line.index("●") for line in lines if "●" in line] == [10, 20, 30]
        assert lines[0].startswith("   4.000") and lines[4].startswith("   2.000")
        assert lines[-1].split() == ["0", "99"]


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


class TestChoices:
    def test_settings_come_from_the_run_under_the_command_line(self, run: Path) -> None:
        document = json.loads((run / layout.RUN_MANIFEST).read_bytes())
        document["config"]["publish"] = {"repo": "org/stored", "private": True, "unknown_by_now": 1}
        (run / layout.RUN_MANIFEST).write_text(json.dumps(document))
        assert choose_settings(run, {}) == PublishConfig(repo="org/stored", private=True)
        assert choose_settings(run, {"repo": "org/other"}).repo == "org/other"
        with pytest.raises(ConfigError, match="is not the name of a repository"):
            choose_settings(run, {"repo": "no"})

    def test_a_run_that_names_no_repository(self, run: Path) -> None:
        with pytest.raises(ConfigError, match="names no repository to publish to: add --repo org/name"):
            choose_settings(run, {})

    def test_steps_are_checked(self, run: Path) -> None:
        assert choose_steps(run, "0,2") == [0, 2] and choose_steps(run, None) is None
        for text in ("0,x", "5", ","):
            with pytest.raises(UsageError, match=r"write it as 0,1,128|has sealed steps 0, 1, 2"):
                choose_steps(run, text)


def test_a_symbolic_link_is_not_published(run: Path, tmp_path: Path) -> None:
    weights = run / layout.checkpoint_dir(1) / layout.WEIGHTS
    elsewhere = tmp_path / "elsewhere"
    weights.rename(elsewhere)
    weights.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match="symbolic link"):
        package(run, 1)
    assert QUICK.repo == REPO
