"""Norms of the gradients of parts of a batch: those of the parts taken by themselves, and training is none the wiser.

The independent implementation is transformers' Llama, loaded from the sealed checkpoint, with a plain cross-entropy.
"""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from support.closeness import assert_close
from support.tiny import config
from support.training_runs import train_in_float16, train_until
from support.worlds import launch

from pico_schema import ModelSpec, documents, layout
from pico_train.config import RunConfig, layers
from pico_train.errors import ConfigError
from pico_train.model.decoder import Decoder
from pico_train.training.noise import groups

STEP = 6
ROUNDING = 1024
"""Epsilons of the largest number: squares of norms of gradients that were taken in another order."""
SHORT = {"training__max_steps": STEP, "captures__sites": ["attn.v"]}


def kept(run_dir, step=STEP):
    directory = run_dir / layout.checkpoint_dir(step)
    entry = documents.read_checkpoint(directory).capture("train")
    tensors = safetensors.torch.load_file(directory / entry.file)
    return entry, {name: tensor for name, tensor in tensors.items() if name.startswith("noise/")}


def by_hand(run_dir, n_parts, step=STEP):
    """By group of parameters: a line of rows, ‖g‖², ‖g − G‖² for each part, which is every n-th row, and the batch."""
    from transformers import AutoModelForCausalLM

    directory = run_dir / layout.checkpoint_dir(step)
    rows = torch.tensor(pq.read_table(directory / layout.TRAIN_BATCH)["input_ids"].to_pylist())
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).double()

    def gradient(part):
        model.zero_grad()
        logits = model(part[:, :-1]).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten()).backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    whole = gradient(rows)
    parts = [rows[first::n_parts] for first in range(n_parts)]
    lines = [(len(part), gradient(part)) for part in parts] + [(len(rows), whole)]
    return {
        group: torch.tensor(
            [
                [n, *(sum(float(each.square().sum()) for each in those) for those in (
                    [found[name] for name in names], [found[name] - whole[name] for name in names]))]
                for n, found in lines
            ],
            dtype=torch.float64,
        )
        for group, names in groups(model, model.config.num_hidden_layers).items()
    }  # fmt: skip


@pytest.mark.parametrize(
    "world, n_parts, changes",
    [
        pytest.param(1, 2, {}, id="halves"),
        pytest.param(1, 4, {"training__micro_batch_size": 2}, id="parts smaller than micro-batches"),
        pytest.param(1, 2, {"training__micro_batch_size": 1}, id="accumulation"),
        pytest.param(2, 2, {}, id="ddp"),
        pytest.param(2, 4, {"training__micro_batch_size": 1}, id="ddp, where a process has nothing of a part"),
        pytest.param(2, 2, {"distributed__strategy": "fsdp"}, id="fsdp2"),
    ],
)
def test_the_norms_are_those_of_the_parts_taken_by_themselves(text, tmp_path, world, n_parts, changes):
    launch(train_until, config(tmp_path, text, **SHORT, captures__noise=n_parts, **changes), world=world)
    entry, found = kept(tmp_path / "tiny")
    expected = by_hand(tmp_path / "tiny", n_parts)
    assert set(map(layout.noise_tensor, entry.noise)) == found.keys()
    assert set(entry.noise) == expected.keys() and not [name for name in entry.extras if name.startswith("noise/")]
    for group, lines in expected.items():
        tensor = found[layout.noise_tensor(group)]
        assert tensor.dtype == torch.float64
        assert tensor[:, 0].tolist() == lines[:, 0].tolist()
        assert_close(tensor[:, 1:], lines[:, 1:], factor=ROUNDING, dtype=torch.float32, name=group)
        assert tensor[-1, 2] == 0.0


@pytest.mark.parametrize(
    "world, train, changes",
    [
        pytest.param(1, train_until, {}, id="one process"),
        pytest.param(
            1, train_until, {"training__micro_batch_size": 1, "training__grad_clip": 0.1}, id="accumulation, clipped"
        ),
        pytest.param(2, train_until, {"training__micro_batch_size": 1}, id="ddp"),
        pytest.param(2, train_until, {"distributed__strategy": "fsdp"}, id="fsdp2"),
        pytest.param(1, train_until, {"training__precision": "bf16-mixed"}, id="bf16-mixed"),
        pytest.param(1, train_in_float16, {}, id="16-mixed, whose scale overflows at first"),
    ],
)
def test_training_is_the_same_bit_for_bit(text, tmp_path, world, train, changes):
    names = ("plain", "noise")
    for name, noise in zip(names, (None, 4), strict=True):
        launch(train, config(tmp_path / name, text, **SHORT, captures__noise=noise, **changes), world=world)
    weights = [(tmp_path / name / "tiny" / layout.checkpoint_dir(STEP) / layout.WEIGHTS).read_bytes() for name in names]
    assert weights[0] == weights[1]
    tensors = []
    for name in names:
        directory = tmp_path / name / "tiny" / layout.checkpoint_dir(STEP)
        loaded = safetensors.torch.load_file(directory / layout.captures_file("train"))
        tensors.append({key: value for key, value in loaded.items() if not key.startswith("noise/")})
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    _, found = kept(tmp_path / "noise" / "tiny")
    assert found and all(torch.isfinite(tensor).all() and tensor[-1, 1] > 0 for tensor in found.values())


def test_without_the_setting_there_is_no_noise_and_no_second_pass(text, tmp_path):
    launch(train_until, config(tmp_path, text, **SHORT))
    entry, found = kept(tmp_path / "tiny")
    assert entry.noise == () and found == {}


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_is_in_one_site_or_a_norm_in_its_block_and_in_the_model(tied):
    spec = ModelSpec(
        vocab_size=16, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=16, max_seq_len=8, tie_embeddings=tied
    )
    decoder = Decoder(spec)
    found = groups(decoder, 2)
    own = {name for name, _ in decoder.named_parameters()}
    assert set(found["model"]) == own
    assert all(name in own for names in found.values() for name in names)
    in_blocks = {name for layer in range(2) for name in found[f"layers.{layer}.block"]}
    assert own - in_blocks == {"model.embed_tokens.weight", "model.norm.weight"} | (
        set() if tied else {"lm_head.weight"}
    )
    assert ("head" in found) != tied


@pytest.mark.parametrize(
    "noise, batch_size, said",
    [
        (3, 4, "captures.noise=3 does not divide training.batch_size=4 into equal parts: 2 would"),
        (8, 4, "captures.noise=8 does not divide training.batch_size=4 into equal parts: 4 would"),
        (2, 1, "captures.noise=2 does not divide training.batch_size=1 into equal parts: one row has no parts"),
        (1, 4, "captures.noise"),
    ],
)
def test_parts_that_cannot_be_are_refused_in_one_sentence(noise, batch_size, said):
    with pytest.raises(ConfigError) as refused:
        layers.load_config(set=[f"captures.noise={noise}", f"training.batch_size={batch_size}"])
    assert refused.value.exit_code == 2
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_noise_without_train_captures_is_refused(tmp_path, text):
    with pytest.raises(
        ValueError, match=r"captures\.noise=2 is of the training batch, and captures\.train\.enabled is"
    ):
        config(tmp_path, text, captures__noise=2, captures__train={"enabled": False})
    assert isinstance(config(tmp_path, text, captures__noise=2), RunConfig)
