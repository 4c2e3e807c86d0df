import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from support.state_cases import fabric_loads_the_sharded_state, train_with_a_full_disk_on_the_second, trap
from support.tiny import config
from support.training_runs import sealed, train_until
from support.worlds import launch

from pico_schema import ModelSpec, layout
from pico_train.checkpoint import resume, state
from pico_train.checkpoint.sharded import load_sharded
from pico_train.checkpoint.verify import verify_run
from pico_train.errors import CheckpointError
from pico_train.model.decoder import Decoder
from pico_train.training.optimizer import build_optimizer

SPEC = ModelSpec(vocab_size=40, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=12, max_seq_len=4)


def trained(spec=SPEC, steps=2):
    decoder = Decoder(spec)
    decoder.init_weights(1)
    optimizer = build_optimizer(decoder, lr=1e-2)
    for step in range(steps):
        decoder(torch.arange(4)[None] + step).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return decoder, optimizer


def test_random_numbers_go_on_where_they_were(tmp_path):
    state.seed_rng(3, rank=0)
    random.gauss(0, 1), np.random.randn(), torch.rand(3)
    torch.save(state.rng_state(), tmp_path / "rng")
    expected = [random.gauss(0, 1), random.random(), np.random.randn(3).tolist(), torch.randn(3).tolist()]
    state.set_rng_state(torch.load(tmp_path / "rng", weights_only=True))
    assert [random.gauss(0, 1), random.random(), np.random.randn(3).tolist(), torch.randn(3).tolist()] == expected


def test_processes_have_different_random_numbers():
    draws = []
    for rank in (0, 1, 0):
        state.seed_rng(3, rank)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[2] and all(a != b for a, b in zip(draws[0], draws[1], strict=True))


def test_a_snapshot_is_not_touched_by_what_follows():
    decoder, optimizer = trained()
    weights = state.snapshot_weights(decoder)
    held = state.snapshot_training_state(decoder, optimizer, {"step": 2})
    before = {name: tensor.clone() for name, tensor in weights.items()}
    moments = {key: value["exp_avg"].clone() for key, value in held["optimizer"]["state"].items()}
    decoder(torch.arange(4)[None]).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(weights[name], tensor) for name, tensor in before.items())
    assert all(torch.equal(held["optimizer"]["state"][key]["exp_avg"], moment) for key, moment in moments.items())
    assert not any(torch.equal(weights[name], tensor) for name, tensor in decoder.state_dict().items())


def test_a_tied_head_is_stored_once(tmp_path):
    spec = SPEC.model_copy(update={"tie_embeddings": True})
    decoder, _ = trained(spec)
    weights = state.snapshot_weights(decoder)
    assert "lm_head.weight" not in weights
    safetensors.torch.save_file(weights, tmp_path / layout.WEIGHTS)
    other = Decoder(spec)
    state.load_weights(other, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(decoder.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda w: w | {"model.norm.weight": torch.zeros(9)},
            r"model.norm.weight has shape \(9,\), this model has \(8,\)",
        ),
        (lambda w: w | {"extra": torch.zeros(1)}, "extra has shape .* no such tensor"),
        (lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"}, "lm_head.weight is missing"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, change, message):
    decoder, _ = trained()
    safetensors.torch.save_file(change(state.snapshot_weights(decoder)), tmp_path / layout.WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        state.load_weights(Decoder(SPEC), tmp_path)


def saved_state(tmp_path, steps=2):
    decoder, optimizer = trained(steps=steps)
    common = {"version": 1, "step": steps, "scheduler": {"step": steps, "lr": 0.5}, "rng": [state.rng_state()]}
    held = state.snapshot_training_state(decoder, optimizer, common)
    (tmp_path / layout.TRAINING_STATE).mkdir(parents=True)
    torch.save(held, tmp_path / layout.TRAINING_STATE / "state.ckpt")
    return decoder, optimizer


def test_the_optimizer_comes_back(tmp_path):
    _, optimizer = saved_state(tmp_path)
    decoder = Decoder(SPEC)
    fresh = build_optimizer(decoder, lr=1.0)
    assert state.load_training_state(tmp_path, decoder, fresh)["scheduler"] == {"step": 2, "lr": 0.5}
    ours, theirs = fresh.state_dict(), optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for key, values in theirs["state"].items():
        assert all(torch.equal(values[name], ours["state"][key][name]) for name in values)


def moments_by_the_documents(run_dir, tmp_path, monkeypatch):
    """What the documented snippet finds for a checkpoint put where it looks, in a directory of its own."""
    page = (Path(__file__).parents[2] / "docs/checkpoints.md").read_text(encoding="utf-8")
    [snippet] = [code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "exp_avg" in code]
    place = tmp_path / "elsewhere" / "runs/demo/checkpoints/step-00000128"
    shutil.copytree(run_dir, place)
    monkeypatch.chdir(tmp_path / "elsewhere")
    names = {}
    exec(compile(snippet, "checkpoints.md", "exec"), names)
    return names["moments"]


def same_moments(found, decoder, optimizer):
    """Whether moments by name are those that the optimizer keeps for the model's parameters."""
    kept = {name: optimizer.state[parameter] for name, parameter in decoder.named_parameters()}
    return found.keys() == kept.keys() and all(
        torch.equal(first, kept[name]["exp_avg"]) and torch.equal(second, kept[name]["exp_avg_sq"])
        for name, (first, second) in found.items()
    )


def test_moments_find_their_parameters_with_plain_torch(tmp_path, monkeypatch):
    decoder, optimizer = saved_state(tmp_path / "saved")
    found = moments_by_the_documents(tmp_path / "saved", tmp_path, monkeypatch)
    assert same_moments(found, decoder, optimizer)
    assert set(found) == set(state.snapshot_weights(decoder)), "the names of model.safetensors"


def without_names(directory):
    """Make the state one of pico-train 2.0.0."""
    path = directory / layout.TRAINING_STATE / "state.ckpt"
    held = torch.load(path, weights_only=True)
    for group in held["optimizer"]["param_groups"]:
        del group["param_names"]
    torch.save(held, path)


def test_a_state_without_names_goes_on_bit_for_bit(tmp_path):
    resumed = []
    for folder in (tmp_path / "named", tmp_path / "unnamed"):
        saved_state(folder)
        if folder.name == "unnamed":
            without_names(folder)
        decoder, _ = trained()
        optimizer = build_optimizer(decoder, lr=1.0)
        state.load_training_state(folder, decoder, optimizer)
        assert all("param_names" not in group for group in optimizer.param_groups), "as one that was never loaded"
        for step in range(3):
            decoder(torch.arange(4)[None] + step).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        resumed.append([parameter.detach().clone() for parameter in decoder.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*resumed, strict=True))


def test_moments_in_another_order_are_refused(tmp_path):
    """q and k of one head have the same shape: only names can tell that they changed places."""
    saved_state(tmp_path)
    path = tmp_path / layout.TRAINING_STATE / "state.ckpt"
    held = torch.load(path, weights_only=True)
    names = held["optimizer"]["param_groups"][0]["param_names"]
    names[1], names[2] = names[2], names[1]
    torch.save(held, path)
    decoder = Decoder(SPEC)
    with pytest.raises(CheckpointError, match=r"has model\.layers\.0\.\S+ where the checkpoint has model\.layers\.0"):
        state.load_training_state(tmp_path, decoder, build_optimizer(decoder, lr=1.0))


def test_fabric_loads_the_state_into_an_optimizer(tmp_path):
    from lightning_fabric import Fabric

    _, optimizer = saved_state(tmp_path)
    fresh = build_optimizer(Decoder(SPEC), lr=1.0)
    wanted = {"optimizer": fresh, "step": 0}
    Fabric(accelerator="cpu", devices=1).load(
        tmp_path / layout.TRAINING_STATE / "state.ckpt", wanted, strict=False, weights_only=True
    )
    assert wanted["step"] == 2
    assert torch.equal(fresh.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_the_state_of_another_model_is_refused(tmp_path):
    saved_state(tmp_path)
    for spec, message in (
        (SPEC.model_copy(update={"d_ff": 16}), "has shape"),
        (SPEC.model_copy(update={"n_layers": 2}), "groups of"),
    ):
        decoder = Decoder(spec)
        with pytest.raises(CheckpointError, match=message):
            state.load_training_state(tmp_path, decoder, build_optimizer(decoder, lr=1.0))


def test_a_state_that_would_run_code_is_refused(tmp_path):
    saved_state(tmp_path)
    decoder = Decoder(SPEC)
    torch.save({"optimizer": TrapHolder(tmp_path / "sprung")}, tmp_path / layout.TRAINING_STATE / "state.ckpt")
    with pytest.raises(CheckpointError, match="does not fit"):
        state.load_training_state(tmp_path, decoder, build_optimizer(decoder, lr=1.0))
    assert not (tmp_path / "sprung").exists()


class TrapHolder:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        import os

        return (os.mkdir, (self.path,))


def test_the_index_of_a_sharded_state_cannot_run_code(tmp_path):
    (tmp_path / ".metadata").write_bytes(trap(tmp_path / "sprung"))
    decoder, optimizer = trained()
    with pytest.raises(CheckpointError, match=r"mkdir.*refusing"):
        load_sharded(tmp_path, decoder, optimizer)
    assert not (tmp_path / "sprung").exists()


@pytest.fixture(scope="module")
def sharded(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("sharded")
    settings = config(out, text, distributed__strategy="fsdp", training__max_steps=6)
    launch(train_until, settings, world=2)
    return settings, out / "tiny"


def test_fabric_loads_the_sharded_state(sharded):
    settings, run_dir = sharded
    for answers in launch(fabric_loads_the_sharded_state, settings, run_dir / layout.checkpoint_dir(6), world=2):
        assert len(answers) > 30 and all(answers)


def test_moments_of_a_sharded_state_find_their_parameters(sharded, tmp_path, monkeypatch):
    settings, run_dir = sharded
    checkpoint = run_dir / layout.checkpoint_dir(6)
    decoder = Decoder(settings.spec)
    optimizer = build_optimizer(decoder, lr=1.0)
    state.load_training_state(checkpoint, decoder, optimizer)
    assert same_moments(moments_by_the_documents(checkpoint, tmp_path, monkeypatch), decoder, optimizer)


def test_a_sharded_checkpoint_is_sealed_and_checked_like_any_other(sharded, tmp_path):
    _, run_dir = sharded
    assert verify_run(run_dir).sound
    shutil.copytree(run_dir, tmp_path / "tiny")
    shard = next((tmp_path / "tiny" / layout.checkpoint_dir(6) / layout.TRAINING_STATE).glob("__1*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match=shard.name):
        newest = resume.newest_complete(tmp_path / "tiny")
    assert newest is not None and newest.step == 3


def test_a_process_that_cannot_write_its_shards_fails_all_of_them(text, tmp_path):
    settings = config(tmp_path, text, distributed__strategy="fsdp")
    for answer in launch(train_with_a_full_disk_on_the_second, settings, world=2):
        assert answer.startswith("StorageError") and "process 1" in answer and "No space left" in answer
    assert sealed(tmp_path / "tiny") == [0]
    assert verify_run(tmp_path / "tiny").sound
    assert not list((tmp_path / "tiny" / layout.CHECKPOINTS).glob(".*"))
