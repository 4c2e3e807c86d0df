"""How a checkpoint is sealed: which files, what is told to whom, and what a failure leaves."""

from __future__ import annotations

import errno
import itertools
import json
import threading
from dataclasses import replace

import pytest
import torch
from support.small_run import begin, contents, digest_tree

from pico_schema import documents, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint import writer
from pico_train.checkpoint.storage import Disk
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.config import KeepPolicy
from pico_train.errors import NonFiniteError, StorageError


@pytest.fixture
def run_dir(tmp_path):
    return begin(tmp_path / "run")


def place(run_dir, step):
    return run_dir / layout.checkpoint_dir(step)


def indexed(run_dir):
    return [entry.step for entry in documents.read_run(run_dir).checkpoints]


class Shards:
    """A sharded training state: what it was given, and two files where it was given a directory."""

    def __init__(self):
        self.given = []

    def __call__(self, path):
        self.given.append(path)
        if path is not None:
            (path / "part").mkdir()
            (path / "part" / "0.bin").write_bytes(b"first")
            (path / ".metadata").write_bytes(b"second")


@pytest.mark.parametrize(
    ("without", "folders"),
    [
        ((), {"captures", "training_state"}),
        (("captures",), {"captures", "training_state"}),
        (("batch",), {"captures", "training_state"}),
        (("captures", "batch"), {"training_state"}),
        (("training_state",), {"captures"}),
        (("captures", "batch", "training_state"), set()),
    ],
)
def test_a_checkpoint_has_the_folders_of_what_it_holds_and_its_manifest_lists_every_file(run_dir, without, folders):
    given = replace(contents(3), **{name: () if name == "captures" else None for name in without})
    CheckpointWriter(run_dir).save(given)
    directory = place(run_dir, 3)
    assert {path.name for path in directory.iterdir() if path.is_dir()} == folders
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    listed = json.loads(files.pop(layout.MANIFEST).read_bytes())["files"]
    assert list(listed) == sorted(files)
    for name, path in files.items():
        assert listed[name] == {"size": path.stat().st_size, "sha256": sha256_file(path)}
    assert {layout.WEIGHTS, *given.hf_files} <= files.keys()
    for name, content in given.hf_files.items():
        assert files[name].read_bytes() == content


def test_the_header_of_a_tensor_file_says_its_format_and_what_was_given(run_dir):
    from safetensors import safe_open

    CheckpointWriter(run_dir).save(contents(3))
    for name, expected in (
        (layout.captures_file("val"), {"format": "pt", "step": "3"}),
        (layout.WEIGHTS, {"format": "pt"}),
    ):
        with safe_open(place(run_dir, 3) / name, "pt") as file:
            assert file.metadata() == expected


def test_no_write_is_larger_than_the_buffer(run_dir):
    sizes = []

    class Watched(Disk):
        def write(self, handle, content):
            sizes.append(len(content))
            super().write(handle, content)

    CheckpointWriter(run_dir, disk=Watched(), buffer=100).save(replace(contents(3), training_state=None))
    in_files = [entry.size for entry in documents.read_checkpoint(place(run_dir, 3)).files.values()]
    assert sizes.count(100) >= sum(size // 100 for size in in_files)


class TestShards:
    """The training state of several processes, which write their parts together."""

    def test_each_part_is_in_the_manifest(self, run_dir):
        shards = Shards()
        CheckpointWriter(run_dir).save(replace(contents(3), training_state=shards))
        assert shards.given == [run_dir / layout.CHECKPOINTS / ".tmp-step-00000003" / layout.TRAINING_STATE]
        files = documents.read_checkpoint(place(run_dir, 3)).files
        parts = {name: entry.size for name, entry in files.items() if name.startswith("training_state/")}
        assert parts == {"training_state/part/0.bin": 5, "training_state/.metadata": 6}
        assert documents.verify_checkpoint(place(run_dir, 3)) == []

    def test_other_processes_write_theirs_where_the_first_says(self, run_dir):
        shards, before = Shards(), digest_tree(run_dir)
        with CheckpointWriter(run_dir, primary=False) as other:
            other.save(replace(contents(3), training_state=shards))
            other.submit(contents(4))
            assert not other.busy and other.sealed == []
        assert shards.given == [None] and digest_tree(run_dir) == before

    def test_where_the_step_is_sealed_already_nothing_is_asked_of_them(self, run_dir):
        shards, told = Shards(), []
        CheckpointWriter(run_dir).save(replace(contents(3), training_state=shards))
        writer = CheckpointWriter(run_dir, on_sealed=lambda step, path: told.append((step, path)))
        writer.save(replace(contents(3), training_state=shards))
        assert shards.given[1:] == [None] and told == [(3, place(run_dir, 3))] and writer.sealed == []

    @pytest.mark.parametrize("name", [".tmp-step-00000003", layout.TRAINING_STATE])
    def test_where_a_directory_cannot_be_made_they_are_told(self, run_dir, name):
        class Full(Disk):
            def make_directory(self, path):
                if path.name == name:
                    raise OSError(errno.ENOSPC, "No space left on device", str(path))
                super().make_directory(path)

        shards = Shards()
        with pytest.raises(StorageError, match="No space left on device"):
            CheckpointWriter(run_dir, disk=Full()).save(replace(contents(3), training_state=shards))
        assert shards.given == [None] and not list((run_dir / layout.CHECKPOINTS).iterdir())


def broken(step):
    given = contents(step)
    return replace(given, weights={**given.weights, "model.norm.weight": torch.full((8,), float("nan"))})


@pytest.mark.parametrize("sharded", [False, True])
def test_what_is_not_finite_is_not_sealed_and_every_process_is_told(run_dir, sharded):
    shards, before = Shards(), digest_tree(run_dir)
    given = replace(broken(3), training_state=shards) if sharded else broken(3)
    writer = CheckpointWriter(run_dir)
    writer.submit(given)
    with pytest.raises(NonFiniteError) as caught:
        writer.wait()
    assert str(caught.value) == "model.norm.weight is not finite at step 3: nothing was saved"
    assert digest_tree(run_dir) == before and shards.given == ([None] if sharded else [])
    writer.wait()  # it is raised once


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(5, "Input/output error", "/a/b"), "Input/output error (/a/b)"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError("strange"), "strange"),
    ],
)
def test_a_refused_save_names_step_run_reason_and_file(run_dir, error, says):
    class Refusing(Disk):
        def rename(self, _source, _target):
            raise error

    before = digest_tree(run_dir)
    with pytest.raises(StorageError) as caught:
        CheckpointWriter(run_dir, disk=Refusing()).save(contents(3))
    assert str(caught.value) == (
        f"the checkpoint of step 3 could not be saved in {run_dir}: {says}; earlier checkpoints are intact: "
        "mend the storage, then resume"
    )
    assert caught.value.__cause__ is error and digest_tree(run_dir) == before


def test_what_was_begun_and_cannot_be_removed_is_named(run_dir):
    class Stuck(Disk):
        def rename(self, _source, _target):
            raise OSError(5, "Input/output error")

        def remove(self, path):
            if path.exists():
                raise OSError(16, "Device or resource busy")

    with (
        pytest.warns(RuntimeWarning, match=r"\.tmp-step-00000003 could not be removed: .*busy"),
        pytest.raises(StorageError, match="Input/output error"),
    ):
        CheckpointWriter(run_dir, disk=Stuck()).save(contents(3))


@pytest.mark.parametrize("error", [RuntimeError("no such type"), OSError(28, "No space left on device")])
def test_an_error_of_writing_the_training_state_is_told_as_what_it_was(run_dir, monkeypatch, error):
    """torch tells of a refused write as of an error of its own: the refusal is what a person can act on."""
    opened = []

    class Watched(Disk):
        def open(self, path):
            opened.append(super().open(path))
            return opened[-1]

        def close(self, handle):
            super().close(handle)
            opened.remove(handle)

    def save(*_):
        if isinstance(error, OSError):
            try:
                raise error
            except OSError:
                raise RuntimeError("unexpected position") from None
        raise error

    monkeypatch.setattr(torch, "save", save)
    expected = StorageError if isinstance(error, OSError) else RuntimeError
    with pytest.raises(expected, match=r"No space left on device|no such type"):
        CheckpointWriter(run_dir, disk=Watched()).save(contents(3))
    assert opened == [] and not list((run_dir / layout.CHECKPOINTS).iterdir())


def test_an_error_of_what_is_called_after_the_seal_is_raised_as_it_is(run_dir):
    def announce(_step, _directory):
        raise KeyError("queue")

    with pytest.raises(KeyError, match="queue"):
        CheckpointWriter(run_dir, on_sealed=announce).save(contents(3))
    assert indexed(run_dir) == [3]


def test_a_failure_beside_another_exception_is_a_warning_at_the_place_that_left(run_dir):
    with pytest.warns(RuntimeWarning) as caught, pytest.raises(ZeroDivisionError), CheckpointWriter(run_dir) as writer:
        writer.submit(broken(3))
        raise ZeroDivisionError
    assert [(str(item.message), item.filename) for item in caught] == [
        ("besides, model.norm.weight is not finite at step 3: nothing was saved", __file__)
    ]


def test_what_a_killed_save_left_makes_way(run_dir):
    litter = run_dir / layout.CHECKPOINTS / ".tmp-step-00000003"
    (litter / "captures").mkdir(parents=True)
    CheckpointWriter(run_dir).save(contents(3))
    assert not litter.exists() and documents.verify_checkpoint(place(run_dir, 3)) == []


def test_each_wait_is_counted_and_a_thread_has_the_name_of_its_step(run_dir, monkeypatch):
    ticks = itertools.count(10.0)
    monkeypatch.setattr(writer.time, "perf_counter", lambda: next(ticks))
    names = []
    made = CheckpointWriter(run_dir, on_sealed=lambda *_: names.append(threading.current_thread().name))
    assert not made.busy
    made.save(contents(3))  # once for what went before, once for itself
    made.wait()
    assert made.waited == 3.0 and names == ["checkpoint-3"] and not made.busy


def test_the_training_states_that_the_policy_does_not_keep_go_but_for_the_protected(run_dir):
    with CheckpointWriter(run_dir, keep=KeepPolicy(last=1), protected=lambda: {1}) as made:
        for step in range(4):
            made.save(contents(step))
    kept = [step for step in range(4) if (place(run_dir, step) / layout.TRAINING_STATE).exists()]
    assert kept == [1, 3] and made.sealed == [0, 1, 2, 3]
    CheckpointWriter(run_dir).save(contents(4))
    assert (place(run_dir, 3) / layout.TRAINING_STATE).exists(), "without a policy all stay"
