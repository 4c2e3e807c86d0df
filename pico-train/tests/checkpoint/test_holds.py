"""Whether a sealed checkpoint is the one that a run arrives at again."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from support.small_run import begin, contents

from pico_schema import DataCursor, ModelSpec, layout
from pico_train.checkpoint.resume import holds, holds_weights
from pico_train.checkpoint.writer import CheckpointWriter

MORE = {"batch_sha256": "c" * 64, "weights_dtype": "float32"}


def arrived(**manifest):
    """The contents of step 2, with other values in its manifest."""
    given = contents(2)
    return replace(given, manifest={**given.manifest, **MORE, **manifest})


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    run_dir = begin(tmp_path_factory.mktemp("made") / "run")
    with CheckpointWriter(run_dir) as writer:
        writer.save(arrived())
    return run_dir / layout.checkpoint_dir(2)


def test_it_is_where_all_that_both_know_is_the_same(directory):
    assert holds(directory, arrived()) and holds(directory, contents(2)) and holds_weights(directory, contents(2))
    given = arrived()
    assert holds(directory, replace(given, captures=(), batch=None, training_state=None)), "less is asked for"
    assert holds(directory, arrived(created=given.manifest["created"].replace(year=2030), run_name="other"))
    for metrics in ({}, {"val_loss": 9.0}, {"train_loss": 1.5, "val_loss": 9.0}):
        assert holds(directory, arrived(metrics=metrics))


DATA = contents(2).manifest["data"]
OTHER = {
    "run_id": "f" * 32,
    "tokens_seen": 17,
    "seed": 2,
    "model": ModelSpec(vocab_size=40, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=12, max_seq_len=4),
    "cursor": DataCursor(epoch=0, row=5, batch_size=2),
    "batch_sha256": "d" * 64,
    "weights_dtype": "bfloat16",
    "data": DATA.model_copy(update={"sha256": "9" * 64}),
    "metrics": {"train_loss": 1.5000001},
}


@pytest.mark.parametrize("name", OTHER)
def test_it_is_not_where_one_thing_of_its_history_differs(directory, name):
    assert not holds(directory, arrived(**{name: OTHER[name]}))


def test_the_name_of_the_data_may_have_changed(directory):
    assert holds(directory, arrived(data=DATA.model_copy(update={"source": "elsewhere"})))


def test_it_is_not_where_weights_or_a_capture_differ(directory):
    given = arrived()
    other = {**given.weights, "model.norm.weight": given.weights["model.norm.weight"] + 1}
    assert not holds(directory, replace(given, weights=other)) and not holds_weights(
        directory, replace(given, weights=other)
    )
    for number in (0, 1):
        captures = list(given.captures)
        entry = captures[number].capture.model_copy(update={"loss": 1.25})
        captures[number] = replace(captures[number], capture=entry)
        assert not holds(directory, replace(given, captures=captures))


@pytest.mark.parametrize("what", ["captures", "batch", "training_state"])
def test_it_is_not_where_it_was_sealed_with_less_than_is_due_by_now(tmp_path, what):
    run_dir = begin(tmp_path / "run")
    with CheckpointWriter(run_dir) as writer:
        writer.save(replace(arrived(), **{what: () if what == "captures" else None}))
    assert not holds(run_dir / layout.checkpoint_dir(2), arrived())
    assert holds(run_dir / layout.checkpoint_dir(2), replace(arrived(), captures=(), batch=None, training_state=None))


def test_it_is_not_where_the_training_state_has_been_removed(directory, tmp_path):
    pruned = shutil.copytree(directory, tmp_path / directory.name)
    shutil.rmtree(pruned / layout.TRAINING_STATE)
    assert not holds(pruned, arrived()) and holds(pruned, replace(arrived(), training_state=None))
