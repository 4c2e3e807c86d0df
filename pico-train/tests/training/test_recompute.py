"""`training.recompute` changes no bit of what is trained, logged or captured; it holds less."""

from __future__ import annotations

import pytest
import torch
from support.closeness import largest_difference
from support.steps import fit, settings
from support.tiny import config
from support.training_runs import logged, train_until, weights
from support.worlds import launch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from pico_schema import ModelSpec, documents, layout
from pico_train.config import layers
from pico_train.model.decoder import Decoder
from pico_train.plan import activation_bytes_per_token, plan

SITES = ["embed", "attn.q", "attn.z", "attn.o", "mlp.act", "mlp.down", "resid", "norm.final", "head"]


@pytest.mark.parametrize(
    ("world", "changes"),
    [
        pytest.param(1, {"data__document_mask": True}, id="documents"),
        pytest.param(2, {"distributed__strategy": "fsdp", "training__micro_batch_size": 1}, id="fsdp2-accumulation"),
    ],
)
def test_a_run_is_the_same_to_the_last_bit(text, tmp_path, world, changes):
    for folder, again in (("kept", False), ("again", True)):
        run = config(tmp_path / folder, text, captures__sites=SITES, training__recompute=again, **changes)
        assert launch(train_until, run, world=world) == [0] * world
    one, two = tmp_path / "kept/tiny", tmp_path / "again/tiny"
    assert logged(one) == logged(two)
    for step in (12, 14):
        ours, theirs = (documents.read_checkpoint(each / layout.checkpoint_dir(step)).files for each in (one, two))
        names = [name for name in ours if layout.TRAINING_STATE not in name]
        assert [ours[name].sha256 for name in names] == [theirs[name].sha256 for name in names]
    assert largest_difference(weights(one, 14), weights(two, 14)) == 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_goes_with_compiled_blocks(precision, monkeypatch):
    """With a backend that compiles nothing, so that bits can be compared; captured steps run uncompiled."""
    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: plain(self, backend="eager"))
    course = ["checkpoint.captures.at=[1]", "training.compile=on", f"training.precision={precision}"]
    kept, again = (fit(settings(3, *course, f"training.recompute={each}")) for each in ("false", "true"))
    assert [one.loss for one in kept.seen] == [one.loss for one in again.seen]
    assert largest_difference(kept.weights[-1], again.weights[-1]) == 0
    ours, theirs = (each.saved[0].captured["train"].tensors for each in (kept, again))
    assert largest_difference(ours, theirs) == 0


def held(recompute: bool, n_layers: int) -> int:
    """Bytes that are kept of 200 tokens while the backward pass has not begun."""
    spec = ModelSpec(vocab_size=8, d_model=32, n_layers=n_layers, n_heads=4, n_kv_heads=1, d_ff=72, max_seq_len=256)
    model = Decoder(spec)
    model.init_weights(0)
    model.model.recompute = recompute
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for each in out if isinstance(out, tuple | list) else (out,):
                if isinstance(each, torch.Tensor) and each.untyped_storage().data_ptr() not in known:
                    living.append(StorageWeakRef(each.untyped_storage()))
                    sizes[living[-1].cdata] = each.untyped_storage().nbytes()
            return out

    living, sizes = [], {}
    with Watch():
        out = model.hidden(torch.zeros(1, 200, dtype=torch.long))
    kept = {ref.cdata: sizes[ref.cdata] for ref in living if not ref.expired()}
    assert out.grad_fn is not None
    return sum(kept.values())


def test_a_block_more_keeps_its_input_alone():
    """One number of 4 bytes for each of 32 features and 200 tokens."""
    assert held(True, 5) - held(True, 4) == 200 * 32 * 4
    assert held(False, 5) - held(False, 4) > 10 * 200 * 32 * 4


@pytest.mark.parametrize(("precision", "number"), [("32-true", 4), ("bf16-mixed", 4), ("bf16-true", 2)])
def test_the_plan_knows(precision, number):
    chosen = [f"training.precision={precision}"]
    kept = plan(layers.load_config(preset="xl", set=chosen))
    again = plan(layers.load_config(preset="xl", set=[*chosen, "training.recompute=true"]))
    run = layers.load_config(preset="xl")
    spec, tokens = run.spec, kept.micro_batch_size * run.data.seq_len
    per_token = activation_bytes_per_token(spec, precision)
    saved = per_token - per_token // spec.n_layers - number * spec.n_layers * spec.d_model
    assert kept.memory_activations - again.memory_activations == tokens * saved > 0
    assert kept.memory_weights == again.memory_weights
