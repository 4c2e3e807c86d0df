import threading
import time
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from support.small_run import RUN_ID, begin, contents, digest_tree

from pico_schema import DataCursor, digests, documents, layout
from pico_train.checkpoint import set_aside
from pico_train.checkpoint.storage import Disk
from pico_train.checkpoint.verify import verify_run
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.errors import StorageError


@pytest.fixture
def run_dir(tmp_path):
    return begin(tmp_path / "run")


class SlowDisk(Disk):
    """Holds each directory's creation until it is told to go on."""

    def __init__(self):
        self.go = threading.Event()

    def make_directory(self, path):
        assert self.go.wait(20)
        super().make_directory(path)


def test_what_is_sealed_is_what_was_submitted(run_dir):
    given = contents(3)
    with CheckpointWriter(run_dir) as writer:
        writer.submit(given)
    directory = run_dir / layout.checkpoint_dir(3)
    manifest = documents.read_checkpoint(directory)
    assert documents.verify_checkpoint(directory) == []
    assert (manifest.run_id, manifest.step, manifest.tokens_seen) == (RUN_ID, 3, 24)
    assert manifest.weights_sha256 == manifest.files[layout.WEIGHTS].sha256

    weights = safetensors.torch.load_file(directory / layout.WEIGHTS)
    assert weights.keys() == given.weights.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in given.weights.items())
    for item in given.captures:
        stored = safetensors.torch.load_file(directory / item.capture.file)
        assert all(torch.equal(stored[name], tensor) for name, tensor in item.tensors.items())
        assert manifest.capture(item.capture.split) == item.capture
    table = pq.read_table(directory / layout.TRAIN_BATCH)
    assert np.array_equal(np.array(table["input_ids"].to_pylist()), given.batch.input_ids)
    assert table["text"].to_pylist() == ["ä", ""] and table["row_id"].to_pylist() == [7, 12]
    assert table["source"].to_pylist() == ["one.txt", "two.txt"]
    state = torch.load(directory / "training_state/state.ckpt", weights_only=True)
    assert torch.equal(
        state["optimizer"]["state"][0]["exp_avg"], given.training_state["optimizer"]["state"][0]["exp_avg"]
    )

    run = documents.read_run(run_dir)
    assert [(entry.step, entry.tokens_seen) for entry in run.checkpoints] == [(3, 24)]
    assert run.checkpoints[0].manifest_sha256 == digests.sha256_file(directory / layout.MANIFEST)


def test_the_training_state_is_in_fabrics_form(run_dir):
    from lightning_fabric import Fabric

    with CheckpointWriter(run_dir) as writer:
        writer.submit(contents(3))
    fabric = Fabric(accelerator="cpu", devices=1)
    state = fabric.load(run_dir / layout.checkpoint_dir(3) / "training_state/state.ckpt")
    assert state["step"] == 3 and "optimizer" in state


def test_weights_are_stored_once(run_dir):
    with CheckpointWriter(run_dir) as writer:
        writer.submit(contents(3))
    directory = run_dir / layout.checkpoint_dir(3)
    pattern = contents(3).weights["model.embed_tokens.weight"].numpy().tobytes()[:64]
    holders = [path.name for path in directory.rglob("*") if path.is_file() and pattern in path.read_bytes()]
    assert holders == [layout.WEIGHTS]


def test_submit_returns_at_once_and_the_next_waits(run_dir):
    disk = SlowDisk()
    with CheckpointWriter(run_dir, disk=disk) as writer:
        started = time.perf_counter()
        writer.submit(contents(0))
        assert time.perf_counter() - started < 5 and writer.busy and writer.sealed == []
        second = threading.Thread(target=writer.submit, args=(contents(1),))
        second.start()
        second.join(0.2)
        assert second.is_alive(), "two checkpoints were in flight"
        disk.go.set()
        second.join()
        writer.wait()
        assert writer.sealed == [0, 1] and writer.waited > 0.1


def test_an_error_is_raised_at_the_next_submit_once(run_dir):
    class Broken(Disk):
        broken = True

        def fsync(self, _handle):
            if self.broken:
                raise OSError(28, "No space left on device")

    disk = Broken()
    writer = CheckpointWriter(run_dir, disk=disk)
    writer.submit(contents(0))
    with pytest.raises(StorageError, match=r"step 0 could not be saved .*No space left on device") as caught:
        writer.submit(contents(1))
    assert caught.value.exit_code == 4
    disk.broken = False
    writer.save(contents(1))
    assert [entry.step for entry in documents.read_run(run_dir).checkpoints] == [1]


def test_leaving_the_context_waits_and_raises(run_dir):
    class Broken(Disk):
        def rename(self, _source, _target):
            raise OSError(5, "Input/output error")

    with pytest.raises(StorageError, match="Input/output error"), CheckpointWriter(run_dir, disk=Broken()) as writer:
        writer.submit(contents(0))
    with (
        pytest.warns(RuntimeWarning, match="besides.*Input/output"),
        pytest.raises(ZeroDivisionError),
        CheckpointWriter(run_dir, disk=Broken()) as writer,
    ):
        writer.submit(contents(0))
        raise ZeroDivisionError


def test_a_sealed_step_is_never_written_again(run_dir):
    with CheckpointWriter(run_dir) as writer:
        writer.save(contents(0))
        before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
        content = digest_tree(run_dir)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            writer.save(contents(0))
    assert digest_tree(run_dir) == content
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


def test_other_weights_at_a_sealed_step_take_its_place_and_it_is_set_aside(run_dir):
    from dataclasses import replace

    other = replace(contents(0), weights={name: tensor + 1 for name, tensor in contents(0).weights.items()})
    with CheckpointWriter(run_dir) as writer:
        writer.save(contents(0))
        before = digest_tree(run_dir / layout.checkpoint_dir(0))
        with pytest.warns(RuntimeWarning, match="other weights"):
            writer.save(other)
    (moved,) = set_aside.listed(run_dir)
    assert digest_tree(moved.checkpoints[0]) == before and "other weights" in moved.sentence
    sealed = documents.read_checkpoint(run_dir / layout.checkpoint_dir(0))
    assert sealed.weights_sha256 != documents.read_checkpoint(moved.checkpoints[0]).weights_sha256
    (entry,) = documents.read_run(run_dir).checkpoints
    assert entry.manifest_sha256 == digests.sha256_file(run_dir / layout.checkpoint_dir(0) / layout.MANIFEST)


def test_a_step_that_was_set_aside_is_taken_back_only_where_the_run_arrives_at_the_same(run_dir):
    from dataclasses import replace

    with CheckpointWriter(run_dir) as writer:
        for step in (0, 2, 4):
            writer.save(contents(step))
    sealed = {step: digest_tree(run_dir / layout.checkpoint_dir(step)) for step in (0, 2, 4)}
    moved = set_aside.put_aside_after(run_dir, 0, reason="the test says so")
    assert sorted(moved.checkpoints) == [2, 4]
    assert [entry.step for entry in documents.read_run(run_dir).checkpoints] == [0]
    other = replace(contents(4), weights=contents(5).weights)
    with CheckpointWriter(run_dir) as writer:
        writer.save(contents(2))
        writer.save(other)
        assert writer.sealed == [4], "the other one was written already"
    assert digest_tree(run_dir / layout.checkpoint_dir(2)) == sealed[2]
    (moved,) = set_aside.listed(run_dir)
    assert digest_tree(moved.checkpoints[4]) == sealed[4] and sorted(moved.checkpoints) == [4]
    assert [entry.step for entry in documents.read_run(run_dir).checkpoints] == [0, 2, 4]
    assert verify_run(run_dir).sound


@pytest.mark.parametrize("what", ["tokens_seen", "batch_sha256", "cursor", "metrics"])
def test_a_step_with_the_same_weights_and_another_history_is_not_taken_back(run_dir, what):
    from dataclasses import replace

    with CheckpointWriter(run_dir) as writer:
        writer.save(contents(2))
    set_aside.put_aside_after(run_dir, None, reason="the test says so")
    other = {
        "tokens_seen": 99,
        "batch_sha256": "c" * 64,
        "cursor": DataCursor(epoch=1, row=2, batch_size=2),
        "metrics": {"train_loss": 1.25},
    }
    changed = replace(contents(2), manifest={**contents(2).manifest, what: other[what]})
    with CheckpointWriter(run_dir) as writer:
        writer.save(changed)
        assert writer.sealed == [2]
    assert [sorted(item.checkpoints) for item in set_aside.listed(run_dir)] == [[2]]


def test_sealed_checkpoints_are_announced_after_they_are_in_the_index(run_dir):
    seen = []

    def announce(step, directory):
        seen.append((step, directory.name, [entry.step for entry in documents.read_run(run_dir).checkpoints]))

    with CheckpointWriter(run_dir, on_sealed=announce) as writer:
        writer.submit(contents(0))
        writer.submit(contents(2))
    assert seen == [(0, "step-00000000", [0]), (2, "step-00000002", [0, 2])]


def test_other_processes_write_nothing(run_dir):
    before = digest_tree(run_dir)
    with CheckpointWriter(run_dir, primary=False) as writer:
        writer.submit(contents(0))
    assert digest_tree(run_dir) == before
