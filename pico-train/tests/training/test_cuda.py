"""On a GPU: the runs that other tests make on a CPU, and what there is on a GPU alone. Without one nothing here runs.

    python -m pytest tests/training/test_cuda.py

What a CPU computed in float32 is the oracle; how far float32 on a GPU may be from it follows from the steps in between,
how far bfloat16 and float16 may be from their epsilons.
"""

from __future__ import annotations

import warnings

import pytest
import safetensors.torch
import torch
from support.closeness import largest_difference, relative_distance
from support.tiny import config
from support.training_runs import logged, train_until, weights
from support.worlds import launch
from torch.nn.functional import cross_entropy

from pico_schema import documents, layout
from pico_train.errors import ConfigError
from pico_train.training.engine import build_fabric
from pico_train.training.loss import head_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CUDA = {"distributed__accelerator": "cuda", "distributed__devices": 1}
EXACT = CUDA | {"training__deterministic": True}
"""Products in float32, not TF32, and no kernel whose sums have an order of their own each time."""


def trained(folder, text, stop_at=None, **changes):
    """A run's directory, trained in a process of its own."""
    folder.mkdir(exist_ok=True)
    wanted = 143 if stop_at else 0
    assert launch(train_until, config(folder, text, **changes), stop_at) == [wanted]
    return folder / "tiny"


def losses(run):
    return torch.tensor([row["loss"] for row in logged(run)])


@pytest.fixture(scope="module")
def on_a_cpu(tmp_path_factory):
    """A run on the CPU, and the text that it read."""
    from support.tiny import write_text

    root = tmp_path_factory.mktemp("cpu")
    text = write_text(root)
    return trained(root / "cpu", text), text


@pytest.mark.parametrize("compile", ["off", "on"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd", "adafactor"])
def test_in_float32_it_trains_what_a_cpu_trains(on_a_cpu, tmp_path, compile, optimizer):
    cpu, text = on_a_cpu
    if optimizer != "adamw":
        cpu = trained(tmp_path / "cpu", text, training__optimizer__name=optimizer)
    run = trained(tmp_path / "gpu", text, training__compile=compile, training__optimizer__name=optimizer, **EXACT)
    # Fourteen updates: a difference of rounding is multiplied in each. Muon computes its directions in bfloat16.
    allowed = 2e-2 if optimizer == "muon" else 1e-3
    assert relative_distance(losses(run), losses(cpu)) < allowed / 10
    ours, theirs = weights(run, 14), weights(cpu, 14)
    for name, expected in theirs.items():
        assert relative_distance(ours[name], expected) < allowed, name


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-mixed"])
@pytest.mark.parametrize("compile", ["off", "on"])
def test_in_sixteen_bits_the_loss_takes_the_same_course(on_a_cpu, tmp_path, precision, compile):
    cpu, text = on_a_cpu
    run = trained(tmp_path / "gpu", text, training__precision=precision, training__compile=compile, **CUDA)
    assert relative_distance(losses(run), losses(cpu)) < (2e-2 if precision == "bf16-true" else 3e-3)
    with safetensors.safe_open(run / layout.checkpoint_dir(12) / layout.WEIGHTS, "pt") as file:
        stored = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert stored == {torch.bfloat16 if precision == "bf16-true" else torch.float32}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_stopped_run_goes_on_bit_for_bit(on_a_cpu, tmp_path, precision, compile):
    _, text = on_a_cpu
    how = EXACT | {"training__precision": precision, "training__compile": compile}
    whole = trained(tmp_path / "whole", text, **how)
    trained(tmp_path / "parts", text, stop_at=8, **how)
    parts = trained(tmp_path / "parts", text, **how)
    assert largest_difference(weights(parts, 14), weights(whole, 14)) == 0
    assert [row["loss"] for row in logged(parts) if row["step"] > 8] == [
        row["loss"] for row in logged(whole) if row["step"] > 8
    ]


def test_captures_are_those_of_a_cpu(on_a_cpu, tmp_path):
    cpu, text = on_a_cpu
    run = trained(tmp_path / "gpu", text, training__compile="on", **EXACT)
    for split in ("train", "val"):
        ours, theirs = (
            safetensors.torch.load_file(each / layout.checkpoint_dir(6) / f"captures/{split}.safetensors")
            for each in (run, cpu)
        )
        assert ours.keys() == theirs.keys() and ours
        for name, expected in theirs.items():
            if expected.is_floating_point():
                assert relative_distance(ours[name], expected) < 2e-2, name
            else:
                assert torch.equal(ours[name], expected), name


def test_recomputing_and_documents_and_micro_batches_change_nothing_but_rounding(on_a_cpu, tmp_path):
    _, text = on_a_cpu
    plain = trained(tmp_path / "plain", text, data__document_mask=True, **EXACT)
    changed = {"training__recompute": True, "training__micro_batch_size": 2, "training__loss_chunk": 7}
    again = trained(tmp_path / "again", text, data__document_mask=True, **changed, **EXACT)
    assert relative_distance(losses(again), losses(plain)) < 1e-4


@pytest.mark.parametrize("offload", [False, True])
def test_sharded_and_offloaded_it_is_the_same_run(on_a_cpu, tmp_path, offload):
    cpu, text = on_a_cpu
    how = EXACT | {"distributed__strategy": "fsdp", "distributed__offload": offload}
    trained(tmp_path / "sharded", text, stop_at=8, **how)
    run = trained(tmp_path / "sharded", text, **how)
    assert relative_distance(losses(run), losses(cpu)) < 1e-4
    assert all(relative_distance(value, weights(cpu, 14)[name]) < 1e-3 for name, value in weights(run, 14).items())


def test_memory_and_speed_are_logged(on_a_cpu, tmp_path):
    _, text = on_a_cpu
    run = trained(tmp_path / "gpu", text, training__precision="bf16-mixed", **CUDA)
    from pico_train.checkpoint import metrics_log
    from pico_train.training.peak_flops import peak_of

    last = metrics_log.read(run / layout.METRICS_LOG)[-1]
    assert last["memory_bytes"] > 0
    assert (last["mfu"] is not None) == (peak_of(torch.cuda.get_device_name(), "bf16-mixed") is not None)
    assert len(documents.read_run(run).checkpoints) > 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("chunk", [0, 64, 100])
def test_the_loss_is_the_plain_one(dtype, compiled, chunk):
    g = torch.Generator("cuda").manual_seed(0)
    hidden = torch.randn(2, 128, 64, generator=g, device="cuda").requires_grad_()
    head = (0.3 * torch.randn(5003, 64, generator=g, device="cuda")).requires_grad_()
    targets = torch.randint(0, 5003, (2, 128), generator=g, device="cuda")
    expected = cross_entropy((hidden.double() @ head.double().T).flatten(0, 1), targets.flatten(), reduction="sum")
    wanted = torch.autograd.grad(expected, (hidden, head))
    each = torch.empty(2, 128, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        loss = head_loss(hidden, head, targets_BT=targets, chunk=chunk, each_BT=each, compiled=compiled)
    found = torch.autograd.grad(3 * loss, (hidden, head))
    # Logits are rounded once, their gradient once more, and the sums over them in float32.
    allowed = 8 * torch.finfo(dtype).eps
    assert abs(loss.item() / expected.item() - 1) < allowed and abs(each.sum().item() / expected.item() - 1) < allowed
    for ours, theirs in zip(found, wanted, strict=True):
        assert relative_distance(ours.cpu(), 3 * theirs.cpu()) < allowed


def test_two_devices_that_are_not_there_are_told(on_a_cpu, tmp_path):
    _, text = on_a_cpu
    with pytest.raises(ConfigError, match="this machine has"):
        build_fabric(config(tmp_path, text, distributed__accelerator="cuda", distributed__devices=4096))


def test_a_run_warns_of_nothing(on_a_cpu, tmp_path):
    """What torch finds to warn of would stand in the middle of what a run says."""
    _, text = on_a_cpu
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert train_until(config(tmp_path, text, training__precision="bf16-mixed", **CUDA)) == 0
    own = [f"{w.filename}: {w.message}" for w in seen if issubclass(w.category, UserWarning | FutureWarning)]
    assert own == []
