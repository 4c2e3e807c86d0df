"""However many processes and micro-batches, the same training; and no process outlives another's failure."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from support.closeness import assert_close, largest_difference
from support.failing_runs import QUIET, column, fail_on_rank_one, losses, weights
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch, start

from pico_train.config import layers
from pico_train.errors import ConfigError
from pico_train.model.decoder import Decoder
from pico_train.training.engine import build_fabric

STEPS = 20
ROUNDING = 64
"""Epsilons of the largest loss that sums in another order may make in twenty steps."""
FLAT = QUIET | {"training__max_steps": STEPS, "training__grad_clip": 0.5}
WORLDS = {
    "accumulation": (1, {"training__micro_batch_size": 1}),
    "two DDP": (2, {"distributed__strategy": "ddp"}),
    "two DDP, accumulation": (2, {"distributed__strategy": "ddp", "training__micro_batch_size": 1}),
    "two FSDP2": (2, {"distributed__strategy": "fsdp"}),
    "two FSDP2, accumulation": (2, {"distributed__strategy": "fsdp", "training__micro_batch_size": 1}),
}


@pytest.fixture(scope="module")
def alone(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    assert launch(train_until, config(out, text, **FLAT)) == [0]
    return out / "tiny"


@pytest.mark.parametrize("name", WORLDS)
def test_losses_and_weights_are_those_of_one_process(text, tmp_path, alone, name):
    world, changes = WORLDS[name]
    assert launch(train_until, config(tmp_path, text, **FLAT, **changes), world=world) == [0] * world
    run_dir = tmp_path / "tiny"
    expected = losses(alone)
    assert len(expected) == STEPS + 1 and expected[-1] < expected[0] - 0.3  # it did learn
    assert_close(losses(run_dir), expected, factor=ROUNDING, dtype=torch.float32)
    norms = column(alone, "grad_norm")
    assert_close(column(run_dir, "grad_norm"), norms, factor=16 * ROUNDING, dtype=torch.float32)
    assert max(norms) > 0.5 > 0  # clipping was at work, and what is logged is the norm before it
    assert column(run_dir, "lr") == column(alone, "lr")
    # AdamW turns rounding in tiny gradients into steps of the learning rate's size: a part of them is allowed.
    moved = sum(rate for rate in column(alone, "lr") if rate)
    assert largest_difference(weights(run_dir, STEPS), weights(alone, STEPS)) <= moved / 256


@pytest.mark.parametrize(("world", "strategy"), [(1, "auto"), (2, "fsdp")])
def test_training_begins_with_the_weights_that_were_asked_for(text, tmp_path, world, strategy):
    chosen = {"training__max_steps": 4, "distributed__strategy": strategy, "model__init": "scaled"}
    run = config(tmp_path, text, **chosen)
    assert launch(train_until, run, world=world) == [0] * world
    expected = Decoder(run.spec)
    expected.init_weights(run.sub_seed("weights"), scaled=True)
    assert largest_difference(weights(tmp_path / "tiny", 0), expected.state_dict()) == 0


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_lower_precision_trains_sharded_as_it_does_alone(text, tmp_path, alone, precision):
    sharded = {"training__precision": precision, "distributed__strategy": "fsdp"}
    assert launch(train_until, config(tmp_path, text, **FLAT, **sharded), world=2) == [0, 0]
    # Products are rounded to bfloat16's eight bits, their mean over 48 tokens less: half an epsilon of the loss.
    assert_close(losses(tmp_path / "tiny"), losses(alone), factor=0.5, dtype=torch.bfloat16)
    dtype = {array.dtype.name for array in weights(tmp_path / "tiny", STEPS).values()} if "mixed" in precision else None
    assert dtype in (None, {"float32"})


def test_the_same_configuration_gives_the_same_curve_bit_for_bit(text, tmp_path, alone):
    assert launch(train_until, config(tmp_path, text, **FLAT)) == [0]
    assert losses(tmp_path / "tiny") == losses(alone)
    other = config(tmp_path / "other", text, **FLAT).model_copy(update={"seed": 6})
    assert launch(train_until, other) == [0]
    assert losses(tmp_path / "other" / "tiny") != losses(alone)


def test_an_error_in_one_process_ends_all_with_its_message(text, tmp_path):
    settings = config(tmp_path, text, **FLAT, distributed__strategy="ddp")
    started = [start(fail_on_rank_one, settings, rank=rank, world=2) for rank in range(2)]
    answers = {}
    for rank in (1, 0):
        process, pipe = started[rank]
        assert pipe.poll(60), f"rank {rank} hangs"
        answers[rank] = pipe.recv()
        process.join(60)
    assert answers[1][0] is False and "the second process has no more memory" in answers[1][1]
    assert answers[0][0] is False


def test_torchrun_gives_the_losses_of_one_process(text, tmp_path, alone):
    """The documented form."""
    file = tmp_path / "run.yaml"
    file.write_text(layers.to_yaml(config(tmp_path, text, **FLAT)))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", "127.0.0.1:0", "-m", "pico_train", "run", str(file),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert_close(losses(tmp_path / "tiny"), losses(alone), factor=ROUNDING, dtype=torch.float32)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"distributed__devices": 3}, "contradicts the launcher, which started 2 processes here"),
        ({"training__batch_size": 5}, "training.batch_size=5 does not divide over 2 devices"),
        ({"training__micro_batch_size": 4}, "training.micro_batch_size=4 does not divide the share of 2 rows"),
        ({"training__precision": "16-mixed"}, "training.precision=16-mixed: a CPU has no loss scaling"),
    ],
)
def test_what_cannot_be_distributed_is_refused_in_one_sentence(text, tmp_path, monkeypatch, changes, says):
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        build_fabric(config(tmp_path, text, **changes))
    assert says in str(refused.value)
    assert refused.value.exit_code == 2


def test_more_devices_than_there_are_is_refused(text, tmp_path):
    with pytest.raises(ConfigError, match=r"distributed\.accelerator=cuda: this machine has none|this machine has"):
        build_fabric(config(tmp_path, text, distributed__accelerator="cuda", distributed__devices=4096))
