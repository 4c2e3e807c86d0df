"""Captures: what the modules put out and the gradient of the mean loss, whatever the processes and micro-batches.

The independent implementation is transformers' Llama, loaded from the sealed checkpoint, with a plain cross-entropy.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from support.closeness import assert_close, relative_distance
from support.tiny import config
from support.training_runs import count_forward_passes, train_until
from support.worlds import launch

from pico_schema import ModelSpec, documents, layout
from pico_schema.sites import KINDS, Site, llama_module, llama_parameter
from pico_train.config import CaptureSplit
from pico_train.model.decoder import Decoder
from pico_train.training import capture
from pico_train.training.capture import sample_index
from pico_train.training.loss import next_token_loss

STEP = 6
TRACED = {"PICO_TEST_COMPILER": "eager"}
"""A compiled model is traced, and loses its hooks, as ever; only compiling kernels, half a minute, is left out."""
ROUNDING = 256
"""Epsilons of the largest number that two ways of computing the same tensor may be apart."""
FULL = {
    "training__max_steps": STEP,
    "captures__sites": list(KINDS),
    "captures__train": {"positions": "all"},
    "captures__val": {"positions": 5, "rows": 3},
    "captures__moments": True,
    "captures__per_row_loss": True,
    "captures__noise": 2,
}


def captured(run_dir, split, step=STEP):
    directory = run_dir / layout.checkpoint_dir(step)
    entry = documents.read_checkpoint(directory).capture(split)
    assert entry is not None
    return entry, safetensors.torch.load_file(directory / entry.file)


@pytest.fixture(scope="module")
def single(text, tmp_path_factory):
    """The run on one process, each batch at once."""
    out = tmp_path_factory.mktemp("single")
    launch(train_until, config(out, text, **FULL))
    return out / "tiny"


def batch(run_dir, split, text, step=STEP):
    """(B, T + 1) token ids that the split was captured on."""
    if split == "train":
        table = pq.read_table(run_dir / layout.checkpoint_dir(step) / layout.TRAIN_BATCH)
        return torch.tensor(table["input_ids"].to_pylist())
    from pico_train.data.corpus import open_corpus

    data = config(run_dir.parent, text, **FULL).data
    return torch.from_numpy(open_corpus(data).validation(data.val_rows)).long()


@pytest.mark.parametrize("split", ["train", "val"])
def test_transformers_computes_the_same_activations_gradients_and_losses(single, text, split):
    from transformers import AutoModelForCausalLM

    entry, tensors = captured(single, split)
    rows = batch(single, split, text)
    model = AutoModelForCausalLM.from_pretrained(single / layout.checkpoint_dir(STEP), dtype=torch.float32)
    outputs: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())
    for name in entry.activations:

        def keep(_module, _args, output, name=name):
            outputs[name] = (output[0] if isinstance(output, tuple) else output).detach()

        module = modules[llama_module(Site.parse(name))]
        if name.endswith(("attn.z", "mlp.act")):  # what a projection takes in
            module.register_forward_pre_hook(lambda module, args, keep=keep: keep(module, (), args[0]))
        else:
            module.register_forward_hook(keep)
    logits = model(rows[:, :-1]).logits
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
    each.mean().backward()

    kept = json.loads(safetensors_metadata(single, split)["rows"])
    assert len(entry.activations) == 2 * 10 + 3
    for name in entry.activations:
        expected = outputs[name][kept][:, list(entry.positions)].flatten(0, 1)
        assert_close(tensors[f"activations/{name}"], expected, factor=ROUNDING, name=name)
    assert len(entry.gradients) == 2 * 7 + 3
    parameters = dict(model.named_parameters())
    for name in entry.gradients:
        expected = parameters[llama_parameter(Site.parse(name))].grad
        assert_close(tensors[f"gradients/{name}"], expected, factor=ROUNDING, name=name)
    assert_close(tensors["row_loss"], each.mean(1), factor=ROUNDING)
    assert_close(entry.loss, each.mean().item(), factor=ROUNDING, dtype=torch.float32)


def safetensors_metadata(run_dir, split, step=STEP):
    with safetensors.safe_open(run_dir / layout.checkpoint_dir(step) / layout.captures_file(split), "pt") as file:
        return file.metadata()


@pytest.mark.parametrize(
    "world, changes",
    [
        pytest.param(1, {"training__micro_batch_size": 1}, id="accumulation"),
        pytest.param(2, {}, id="ddp"),
        pytest.param(2, {"training__micro_batch_size": 1}, id="ddp-accumulation"),
        pytest.param(2, {"distributed__strategy": "fsdp", "training__micro_batch_size": 1}, id="fsdp2-accumulation"),
        pytest.param(1, {"training__compile": "on"}, id="compiled"),
    ],
)
def test_processes_and_micro_batches_change_nothing_but_rounding(single, text, tmp_path, world, changes):
    launch(train_until, config(tmp_path, text, **FULL, **changes), world=world, environment=TRACED)
    for step in (0, STEP):
        for split in ("train", "val"):
            entry, tensors = captured(tmp_path / "tiny", split, step)
            expected_entry, expected = captured(single, split, step)
            assert entry.model_copy(update={"loss": expected_entry.loss}) == expected_entry
            assert_close(entry.loss, expected_entry.loss, factor=ROUNDING, dtype=torch.float32)
            assert tensors.keys() == expected.keys()
            for name, tensor in tensors.items():
                if step == 0:  # noise is kept in float64, of gradients in float32
                    assert_close(tensor, expected[name], factor=ROUNDING, dtype=torch.float32, name=f"{split} {name}")
                else:
                    # After six updates: AdamW turns rounding in tiny gradients into steps of the learning rate's size.
                    assert relative_distance(tensor, expected[name]) < 1e-3, f"{split} {name}"


def test_moments_are_the_optimizers(single):
    _, tensors = captured(single, "train")
    directory = single / layout.checkpoint_dir(STEP)
    state = torch.load(directory / "training_state/state.ckpt", weights_only=True)["optimizer"]["state"]
    known = [values["exp_avg_sq"] for values in state.values()]
    for name in ("layers.0.attn.v", "embed", "norm.final"):
        assert any(torch.equal(tensors[f"exp_avg_sq/{name}"], moment) for moment in known)
        assert any(torch.equal(tensors[f"exp_avg/{name}"], values["exp_avg"]) for values in state.values())
    entry, first = captured(single, "train", 0)
    assert not any(name.startswith("exp_avg") for name in first), "there are no moments before the first update"
    assert entry.extras == ("row_loss",)


def test_the_manifest_says_what_is_in_the_file(single):
    for split in ("train", "val"):
        entry, tensors = captured(single, split)
        expected = [f"activations/{name}" for name in entry.activations]
        expected += [f"gradients/{name}" for name in entry.gradients] + list(entry.extras)
        expected += [f"noise/{name}" for name in entry.noise]
        assert bool(entry.noise) == (split == "train")
        assert sorted(expected) == sorted(tensors)
        for name in entry.activations:
            assert tensors[f"activations/{name}"].shape[0] == entry.n_samples
    train, val = captured(single, "train")[0], captured(single, "val")[0]
    assert (train.n_rows, train.positions) == (4, tuple(range(12)))
    assert (val.n_rows, val.positions) == (3, (1, 3, 6, 8, 11))
    assert train.samples_sha256 != captured(single, "train", 0)[0].samples_sha256
    assert val.samples_sha256 == captured(single, "val", 0)[0].samples_sha256


def test_train_captures_take_no_second_pass(text, tmp_path):
    """Forward passes of a run with train captures at every step, and of one without: as many."""
    common = {"training__max_steps": STEP, "evaluation__cadence": {"early": None, "every": None, "last": False}}
    never = {"early": None, "every": None, "last": False}
    plain = config(tmp_path / "plain", text, **common, checkpoint__captures=never)
    captures = {"early": None, "every": 1}
    every = config(tmp_path / "every", text, **common, checkpoint__captures=captures, captures__val={"enabled": False})
    assert launch(count_forward_passes, plain) == launch(count_forward_passes, every) == [STEP + 1]
    assert documents.read_checkpoint(tmp_path / "every/tiny" / layout.checkpoint_dir(5)).capture("train") is not None


def test_storage_in_bfloat16_is_the_rounded_float32(single, text, tmp_path):
    launch(train_until, config(tmp_path, text, **FULL, captures__dtype="bfloat16"))
    for split in ("train", "val"):
        entry, tensors = captured(tmp_path / "tiny", split)
        assert entry.dtype == "bfloat16"
        _, expected = captured(single, split)
        for name, tensor in tensors.items():
            exact = name.startswith(("exp_avg", "row_loss", "noise/"))
            assert tensor.dtype == (expected[name].dtype if exact else torch.bfloat16)
            assert torch.equal(tensor, expected[name].to(tensor.dtype)), name


@pytest.mark.parametrize(
    "split, expected",
    [
        (CaptureSplit(), ((0, 1, 2, 3, 4, 5, 6, 7), (11,))),
        (CaptureSplit(rows=1), ((7,), (11,))),
        (CaptureSplit(rows=2, positions=3), ((3, 7), (3, 7, 11))),
        (CaptureSplit(rows=99, positions=99), (tuple(range(8)), tuple(range(12)))),
        (CaptureSplit(positions="all"), (tuple(range(8)), tuple(range(12)))),
        (CaptureSplit(positions=5), (tuple(range(8)), (1, 3, 6, 8, 11))),
    ],
)
def test_which_rows_and_positions_are_kept(split, expected):
    chosen = sample_index(split, 8, 12)
    assert (chosen.rows, chosen.positions) == expected


@pytest.mark.parametrize("k", range(1, 13))
def test_k_positions_are_evenly_spaced_and_end_at_the_last(k):
    positions = np.array(sample_index(CaptureSplit(positions=k), 1, 12).positions)
    assert len(positions) == k and positions[-1] == 11
    assert np.ptp(np.diff(positions)) <= 1 if k > 1 else True


TIED = ModelSpec(
    vocab_size=40, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=12, max_seq_len=8, tie_embeddings=True
)
ALONE = SimpleNamespace(world_size=1, is_rank_zero=True)


def tapped(sites, samples, ids, parts, **settings):
    """What a tap keeps of a decoder's passes over `ids` in micro-batches of `parts` rows; and the decoder."""
    decoder = Decoder(TIED)
    decoder.init_weights(0)
    with capture.ActivationTap(decoder, [Site.parse(name) for name in sites], samples, **settings) as tap:
        first = 0
        for part in ids.split(parts):
            tap.expect(first, len(part), ids.device)
            each = torch.empty(len(part), ids.shape[1] - 1)
            next_token_loss(decoder, part, chunk=3, each_BT=each).backward()
            if tap.per_row_loss:
                tap.note_losses(each)
            first += len(part)
    return decoder, tap.gathered(ALONE, torch.float32)


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_of_each_micro_batch_the_rows_that_were_chosen_are_kept_in_order(parts):
    ids = torch.randint(0, 40, (5, 7), generator=torch.Generator().manual_seed(1))
    every = capture.SampleIndex(tuple(range(5)), tuple(range(6)))
    some = capture.SampleIndex((0, 3, 4), (1, 5))
    sites = ["embed", "layers.0.resid", "head"]
    _, whole = tapped(sites, every, ids, 5, per_row_loss=True)
    _, found = tapped(sites, some, ids, parts, per_row_loss=True)
    assert found.keys() == whole.keys() == {*(f"activations/{name}" for name in sites), "row_loss"}
    for name in sites:
        expected = whole[f"activations/{name}"].view(5, 6, -1)[[0, 3, 4]][:, [1, 5]].flatten(0, 1)
        assert_close(found[f"activations/{name}"], expected, factor=ROUNDING, name=name)
    assert_close(found["row_loss"], whole["row_loss"], factor=ROUNDING)


def test_the_embedding_is_that_of_each_token_and_the_head_gives_its_logits():
    ids = torch.randint(0, 40, (2, 7), generator=torch.Generator().manual_seed(1))
    decoder, found = tapped(["embed", "head"], capture.SampleIndex((0, 1), tuple(range(6))), ids, 1)
    assert torch.equal(found["activations/embed"], decoder.model.embed_tokens.weight[ids[:, :-1].flatten()])
    assert_close(found["activations/head"], decoder(ids[:, :-1]).flatten(0, 1), factor=ROUNDING)


def test_where_no_row_of_a_site_is_kept_there_is_no_tensor():
    ids = torch.zeros(2, 4, dtype=torch.long)
    _, found = tapped(["embed"], capture.SampleIndex((7,), (0,)), ids, 2)
    assert found == {}


def test_nothing_of_a_tap_stays_on_the_model():
    ids = torch.zeros(2, 4, dtype=torch.long)
    decoder, _ = tapped(["embed", "head"], capture.SampleIndex((0,), (0,)), ids, 2)
    assert not any(module._forward_hooks for module in decoder.modules())


def test_a_pass_that_was_not_announced_is_refused():
    decoder = Decoder(TIED)
    tap = capture.ActivationTap(decoder, [Site.parse("embed")], capture.SampleIndex((0,), (0,)))
    with tap, pytest.raises(AssertionError, match="a pass that was not announced"):
        decoder(torch.zeros(1, 3, dtype=torch.long))


def test_a_tied_heads_gradient_is_the_embeddings_and_sites_without_weights_have_none():
    ids = torch.randint(0, 40, (2, 7), generator=torch.Generator().manual_seed(1))
    sites = ["embed", "head", "layers.0.resid"]
    decoder, _ = tapped(sites, capture.SampleIndex((0,), (0,)), ids, 2)
    engine = SimpleNamespace(decoder=decoder, **vars(ALONE))
    found = capture.gradients(engine, [Site.parse(name) for name in sites], torch.float32)
    assert found.keys() == {"gradients/embed", "gradients/head"}
    gradient = decoder.model.embed_tokens.weight.grad
    assert torch.equal(found["gradients/embed"], gradient) and torch.equal(found["gradients/head"], gradient)
    gradient.zero_()
    assert found["gradients/embed"].abs().max() > 0, "it is a copy"


def test_only_rank_zero_gets_tensors():
    ids = torch.zeros(2, 4, dtype=torch.long)
    decoder, _ = tapped(["embed"], capture.SampleIndex((0,), (0,)), ids, 2)
    engine = SimpleNamespace(decoder=decoder, world_size=1, is_rank_zero=False)
    assert capture.gradients(engine, [Site.parse("embed")], torch.float32) == {}
