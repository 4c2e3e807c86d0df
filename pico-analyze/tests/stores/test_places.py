"""Folders of checkpoints at places of fsspec: here the memory of this process; `ecosystem` has S3."""

import json

import fsspec
import numpy as np
import pytest
from foreign import put

import pico_analyze
from pico_analyze.errors import DataError, NotARunError, PluginError, StorageError
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.opening import open_store

Q, STORED = "layers.1.attn.q", "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def memory():
    """An empty file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_in_memory_is_a_run(memory, shards):
    weights = put(memory, "/lab/run", {1: "step1", 2: "step2-tokens4B"}, shards=shards)
    store = open_store("memory://lab/run")
    assert (store.kind, store.run, [info.step for info in store.steps()]) == ("fsspec", "run", [1, 2])
    for step, expected in weights.items():
        np.testing.assert_array_equal(store.read(step, None, "weights", Q), expected[STORED])
    assert [info.tokens_seen for info in store.steps()] == [None, 4_000_000_000]
    assert store.provenance(2)["place"] == "memory://lab/run/step2-tokens4B"


def test_one_checkpoint_at_a_place_and_a_pattern_of_ones_own(memory):
    put(memory, "/lab/run", {1: "m-1", 2: "m-2"})
    assert [info.step for info in open_store("memory://lab/run", ReadOptions(step_pattern=r"m-(\d+)")).steps()] == [
        1,
        2,
    ]
    assert [info.step for info in open_store("memory://lab/run/m-2").steps()] == [0]
    with pytest.raises(NotARunError, match="tell no step"):
        open_store("memory://lab/run")


def test_rows_name_the_ranges_that_nothing_could_be_compared_with(memory, tmp_path):
    put(memory, "/lab/run", {1: "step1", 2: "step2"})
    frame = pico_analyze.compute("norm", "memory://lab/run", data="weights", out=tmp_path / "out")
    facts = json.loads(frame["provenance"].iloc[0])
    (ranges,) = facts["unchecked"].values()
    assert all(len(digest) == 64 for digest in ranges.values())
    assert facts["inputs"]["model.safetensors"].startswith("not told; ")
    again = pico_analyze.compute("norm", "memory://lab/run", data="weights", out=tmp_path / "out")
    assert again["value"].equals(frame["value"])


def test_what_is_not_there_or_not_whole_is_told(memory):
    with pytest.raises(NotARunError, match="there is nothing"):
        open_store("memory://lab/none")
    with pytest.raises((PluginError, StorageError), match="nosuch"):
        open_store("nosuch://lab/none")
    put(memory, "/lab/run", {1: "step1", 2: "step2"}, shards=3)
    memory.rm("/lab/run/step2/model-00002-of-00003.safetensors")
    memory.pipe_file("/lab/run/step3/config.json", b"{")
    store = open_store("memory://lab/run")
    assert [info.step for info in store.steps()] == [1]
    assert {lost.step for lost in store.unusable()} == {2, 3}


def test_a_file_that_changes_meanwhile_is_noticed(memory):
    put(memory, "/lab/run", {1: "step1"})
    store = open_store("memory://lab/run/step1")
    memory.pipe_file("/lab/run/step1/model.safetensors", b"short")
    with pytest.raises(DataError, match="it was changed"):
        store.read(1, None, "weights", Q)
