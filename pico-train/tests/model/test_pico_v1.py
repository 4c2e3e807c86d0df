"""Weights of the first Pico give the same logits here.

The decoder below is an independent, deliberately plain version of Pico 1.0's: complex numbers rotate interleaved pairs,
attention is written out with an explicit mask, key and value heads are repeated.
"""

from __future__ import annotations

import json
import os

import pytest
import safetensors.torch
import torch
from support.closeness import assert_close, distance

from pico_schema import documents, layout
from pico_train.checkpoint.importing import checked_directory, import_checkpoint
from pico_train.checkpoint.verify import verify_run
from pico_train.errors import CheckpointError, UsageError
from pico_train.model.decoder import Decoder
from pico_train.model.huggingface import load_spec, load_weights
from pico_train.model.pico_v1 import half_split_rows, import_pico_v1

CONFIG = {
    "model_type": "pico_decoder",
    "architectures": ["PicoDecoderHF"],
    "vocab_size": 61,
    "d_model": 24,
    "n_layers": 2,
    "attention_n_heads": 4,
    "attention_n_kv_heads": 2,
    "activation_hidden_dim": 40,
    "max_seq_len": 32,
    "norm_eps": 1e-5,
    "position_emb_theta": 500.0,
    "batch_size": 1024,
}


def tensors(seed: int = 0, **changes: int) -> dict[str, torch.Tensor]:
    c, g = CONFIG | changes, torch.Generator().manual_seed(seed)
    d, ff, v = c["d_model"], c["activation_hidden_dim"], c["vocab_size"]
    kv = c["attention_n_kv_heads"] * d // c["attention_n_heads"]
    shapes = {"embedding_proj": (v, d), "output_norm": (d,), "de_embedding_proj": (v, d)}
    for i in range(c["n_layers"]):
        shapes |= {
            f"layers.{i}.attention.q_proj": (d, d),
            f"layers.{i}.attention.k_proj": (kv, d),
            f"layers.{i}.attention.v_proj": (kv, d),
            f"layers.{i}.attention.o_proj": (d, d),
            f"layers.{i}.swiglu.w_0": (ff, d),
            f"layers.{i}.swiglu.w_1": (ff, d),
            f"layers.{i}.swiglu.w_2": (d, ff),
            f"layers.{i}.attention_norm": (d,),
            f"layers.{i}.swiglu_norm": (d,),
        }
    return {
        f"pico_decoder.{name}.weight": torch.randn(shape, generator=g) * 0.3 + (1.0 if len(shape) == 1 else 0.0)
        for name, shape in shapes.items()
    }


def pico_one(w: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    c = CONFIG
    heads, kv_heads = c["attention_n_heads"], c["attention_n_kv_heads"]
    size = c["d_model"] // heads
    w = {name.removeprefix("pico_decoder.").removesuffix(".weight"): tensor.double() for name, tensor in w.items()}
    angle = torch.outer(
        torch.arange(ids.shape[1]).double(), 1.0 / c["position_emb_theta"] ** (torch.arange(0, size, 2).double() / size)
    )
    turn = torch.polar(torch.ones_like(angle), angle)[:, None]  # (T, 1, C/2)

    def norm(x, weight):
        return x / (x.pow(2).mean(-1, keepdim=True) + c["norm_eps"]).sqrt() * weight

    def rope(x):  # (T, heads, C)
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], size // 2, 2).contiguous())
        return torch.view_as_real(pairs * turn).flatten(-2)

    logits = []
    for row in ids:
        x = w["embedding_proj"][row]
        for i in range(c["n_layers"]):
            h = norm(x, w[f"layers.{i}.attention_norm"])
            q, k, v = ((h @ w[f"layers.{i}.attention.{n}_proj"].T).view(len(row), -1, size) for n in "qkv")
            q, k = rope(q), rope(k)
            k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
            score = torch.einsum("thc,shc->hts", q, k) / size**0.5
            score = score.masked_fill(torch.ones(len(row), len(row)).triu(1).bool(), -torch.inf)
            out = torch.einsum("hts,shc->thc", score.softmax(-1), v).flatten(1)
            x = x + out @ w[f"layers.{i}.attention.o_proj"].T
            h = norm(x, w[f"layers.{i}.swiglu_norm"])
            gate = h @ w[f"layers.{i}.swiglu.w_0"].T
            up = h @ w[f"layers.{i}.swiglu.w_1"].T
            x = x + (gate * torch.sigmoid(gate) * up) @ w[f"layers.{i}.swiglu.w_2"].T
        logits.append(norm(x, w["output_norm"]) @ w["de_embedding_proj"].T)
    return torch.stack(logits)


def checkpoint(directory, seed=0, **changes):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG | changes))
    safetensors.torch.save_file(tensors(seed), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def test_the_imported_weights_give_the_logits_of_the_first_pico(tmp_path):
    spec, weights = import_pico_v1(checkpoint(tmp_path / "step_20"))
    model = Decoder(spec)
    model.load_state_dict(weights)
    ids = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(1))
    expected = pico_one(tensors(), ids)
    assert expected.abs().max() > 1
    assert_close(model(ids), expected, factor=128)


def test_without_the_permutation_they_would_not(tmp_path):
    spec, weights = import_pico_v1(checkpoint(tmp_path / "step_20"))
    for layer in range(2):
        for name in ("q", "k"):
            theirs = tensors()[f"pico_decoder.layers.{layer}.attention.{name}_proj.weight"]
            weights[f"model.layers.{layer}.self_attn.{name}_proj.weight"] = theirs
    model = Decoder(spec)
    model.load_state_dict(weights)
    ids = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(1))
    assert distance(model(ids), pico_one(tensors(), ids)) > 1e4


def test_the_permutation_reorders_rows_within_each_head():
    rows = torch.arange(12)[:, None].float()
    assert half_split_rows(rows, 6)[:, 0].tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_an_import_is_a_run_that_verifies_and_loads(tmp_path):
    target = import_checkpoint(checkpoint(tmp_path / "step_20"), tmp_path / "old")
    assert target == tmp_path / "old" / "checkpoints" / "step-00000020"
    import_checkpoint(checkpoint(tmp_path / "step_30", seed=1), tmp_path / "old")
    assert verify_run(tmp_path / "old").sound
    run = documents.read_run(tmp_path / "old")
    assert [entry.step for entry in run.checkpoints] == [20, 30]
    spec, weights = import_pico_v1(tmp_path / "step_20")
    assert load_spec(target) == run.model == spec
    for name, tensor in load_weights(target).items():
        assert torch.equal(tensor, weights[name])
    with pytest.raises(CheckpointError, match="never overwritten"):
        import_checkpoint(tmp_path / "step_20", tmp_path / "old")
    assert not (target / layout.TOKENIZER).exists()  # there was none


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_imported(tmp_path, value):
    source = checkpoint(tmp_path / "step_20")
    spoilt = tensors()
    spoilt["pico_decoder.layers.1.swiglu.w_2.weight"][3, 3] = value
    safetensors.torch.save_file(spoilt, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"swiglu\.w_2\.weight. holds values that are not finite"):
        import_checkpoint(source, tmp_path / "old")
    assert not (tmp_path / "old").exists()


def test_transformers_reads_an_import(tmp_path):
    from transformers import AutoModelForCausalLM

    target = import_checkpoint(checkpoint(tmp_path / "step_20"), tmp_path / "old")
    model = AutoModelForCausalLM.from_pretrained(target)
    ids = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(1))
    assert_close(model(ids).logits, pico_one(tensors(), ids), factor=128)


CONFIG_DAMAGE = {
    "other model": lambda content: json.dumps(content | {"model_type": "llama"}),
    "not json": lambda _: "{",
    "a list": lambda _: "[]",
    "field missing": lambda content: json.dumps({k: v for k, v in content.items() if k != "d_model"}),
    "impossible": lambda content: json.dumps(content | {"attention_n_heads": 5}),
    "other size": lambda content: json.dumps(content | {"activation_hidden_dim": 48}),
    "more layers": lambda content: json.dumps(content | {"n_layers": 3}),
    "fewer layers": lambda content: json.dumps(content | {"n_layers": 1}),
    "huge config": lambda content: " " * (2**20 + 1) + json.dumps(content),
}
FILE_DAMAGE = {
    "no config": lambda directory: (directory / "config.json").unlink(),
    "no weights": lambda directory: (directory / "model.safetensors").unlink(),
    "truncated": lambda directory: os.truncate(
        directory / "model.safetensors", (directory / "model.safetensors").stat().st_size - 100
    ),
    "integers": lambda directory: safetensors.torch.save_file(
        {n: t.long() for n, t in tensors().items()}, directory / "model.safetensors"
    ),
}


def damage(directory, how):
    config = directory / "config.json"
    if how in CONFIG_DAMAGE:
        config.write_text(CONFIG_DAMAGE[how](json.loads(config.read_text())))
    else:
        FILE_DAMAGE[how](directory)
    return directory


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("other model", "model_type is 'llama', not 'pico_decoder'"),
        ("no config", "config.json cannot be read"),
        ("not json", "is not JSON"),
        ("a list", "holds no JSON object"),
        ("field missing", "has no d_model"),
        ("impossible", "d_model=24 is not divisible by n_heads=5"),
        ("other size", "has shape \\(40, 24\\), the model needs \\(48, 24\\)"),
        ("more layers", "has no tensor 'pico_decoder.layers.2"),
        ("fewer layers", "has a tensor 'pico_decoder.layers.1"),
        ("no weights", "model.safetensors cannot be read"),
        ("truncated", "not a whole safetensors file"),
        ("huge config", "larger than 1048576 bytes"),
        ("integers", "is of type I64, not floating-point"),
    ],
)
def test_what_is_not_a_checkpoint_of_the_first_pico_is_refused(tmp_path, how, says):
    directory = damage(checkpoint(tmp_path / "step_20"), how)
    with pytest.raises(CheckpointError, match=says) as refused:
        import_checkpoint(directory, tmp_path / "old")
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "old").exists()


def test_a_path_that_is_no_directory_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="is no directory"):
        checked_directory(tmp_path / "absent")
