"""No checkpoint with a NaN or an infinity is sealed, whoever hands it to the writer."""

import math
from dataclasses import replace

import pytest
import torch
from support.small_run import begin, contents, digest_tree

from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.errors import NonFiniteError
from pico_train.finite import first_nonfinite

BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("place", [0, 5, 1023])
def test_one_number_among_many_is_found_and_its_tensor_named(value, dtype, place):
    tensor = torch.linspace(-3, 3, 1024).to(dtype)
    tree = {"a": torch.zeros(0), "n": torch.tensor([1, 2]), "state": {0: {"exp_avg": [torch.ones(3), tensor]}}}
    assert first_nonfinite(tree, "optimizer") is None
    tensor[place] = value
    assert first_nonfinite(tree, "optimizer") == "optimizer.state.0.exp_avg.1"
    assert first_nonfinite({"weight": torch.nn.Parameter(tensor)}) == "weight"


def test_the_largest_and_the_smallest_numbers_are_finite():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        info = torch.finfo(dtype)
        assert first_nonfinite([torch.tensor([info.max, info.min, info.tiny, -0.0], dtype=dtype)]) is None


def spoilt(where, value):
    """The contents of step 2 with one number that is not finite."""
    made = contents(2)
    if where == "weights":
        made.weights["model.norm.weight"][3] = value
    elif where == "state":
        made.training_state["optimizer"]["state"][0]["exp_avg"][1, 1] = value
    else:
        split, kind = where.split()
        tensors = next(item.tensors for item in made.captures if item.capture.split == split)
        tensors[f"{kind}/layers.0.attn.v"].view(-1)[-1] = value
    return made


PLACES = {
    "weights": "model.norm.weight",
    "state": "training state.optimizer.state.0.exp_avg",
    "train activations": "train capture.activations/layers.0.attn.v",
    "val gradients": "val capture.gradients/layers.0.attn.v",
}


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("where", PLACES)
def test_what_is_not_finite_is_not_sealed_and_what_was_sealed_stays(tmp_path, where, value):
    run_dir = begin(tmp_path / "run")
    with CheckpointWriter(run_dir) as writer:
        writer.save(contents(1))
    before = digest_tree(run_dir)
    writer = CheckpointWriter(run_dir)
    with pytest.raises(NonFiniteError, match=rf"^{PLACES[where]} is not finite at step 2: nothing was saved$"):
        writer.save(spoilt(where, value))
    assert digest_tree(run_dir) == before
    writer.save(contents(2))  # the writer goes on
    assert writer.sealed == [2]


def test_other_processes_are_told_that_there_will_be_no_shards(tmp_path):
    told = []
    made = replace(spoilt("weights", math.nan), training_state=told.append)
    with pytest.raises(NonFiniteError):
        CheckpointWriter(begin(tmp_path / "run")).save(made)
    assert told == [None]
