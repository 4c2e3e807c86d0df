"""A converted run holds what the models hold: every site through both stores, every tensor as it was, and loadable."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import pico_analyze
from pico_analyze.errors import DataError, UsageError
from pico_analyze.stores.base import Store
from pico_analyze.stores.opening import open_store
from pico_conformance import Hub
from pico_conformance.published import put_files
from pico_schema import documents, verify_checkpoint

V, D, FF, H, LAYERS = 60, 24, 40, 4, 2
USUAL = {"vocab_size": V, "hidden_size": D, "intermediate_size": FF, "num_hidden_layers": LAYERS}
USUAL |= {"num_attention_heads": H, "max_position_embeddings": 32, "pad_token_id": 0}
GROUPED = USUAL | {"num_key_value_heads": 2}
GPT = {"vocab_size": V, "n_embd": D, "n_layer": LAYERS, "n_head": H, "n_positions": 32}
FALCON = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": H}
FAMILIES = {
    "llama": ("llama", GROUPED),
    "qwen3": ("qwen3", GROUPED | {"hidden_size": 26, "head_dim": 8}),
    "phi3": ("phi3", GROUPED),
    "gpt_neox": ("gpt_neox", USUAL),
    "gpt2": ("gpt2", GPT),
    "bloom": ("bloom", {"vocab_size": V, "hidden_size": D, "n_layer": LAYERS, "n_head": H}),
    "falcon_7b": ("falcon", FALCON),
    "falcon_40b": ("falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "codegen": ("codegen", GPT | {"rotary_dim": 4}),
    "gpt_bigcode": ("gpt_bigcode", GPT),
    "mpt": ("mpt", {"vocab_size": V, "d_model": D, "n_layers": LAYERS, "n_heads": H, "max_seq_len": 32}),
}


def make(path: Path, name: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, shards: bool = False) -> None:
    kind, config = FAMILIES[name]
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.to(dtype).save_pretrained(path, **({"max_shard_size": "12KB"} if shards else {}))


def assert_same(one: Store, other: Store) -> None:
    """Every site, bit for bit."""
    assert [info.step for info in one.steps()] == [info.step for info in other.steps()]
    for first, second in zip(one.steps(), other.steps(), strict=True):
        assert first.weights == second.weights and first.weights
        assert one.spec(first.step) == other.spec(first.step)
        for site in first.weights:
            expected = one.read(first.step, None, "weights", site)
            np.testing.assert_array_equal(other.read(first.step, None, "weights", site), expected)


@pytest.mark.parametrize("shards", [False, True], ids=["whole", "sharded"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_site_is_read_through_both_stores(tmp_path: Path, name: str, shards: bool) -> None:
    for step in (0, 3):
        make(tmp_path / "m" / f"step{step}", name, seed=step, shards=shards)
    run = pico_analyze.convert(tmp_path / "m", out=tmp_path / "run")
    assert run.kind == "pico"
    assert_same(open_store(tmp_path / "m"), run)
    sealed = tmp_path / "run" / "checkpoints" / "step-00000003"
    assert not verify_checkpoint(sealed)
    # biases and norms are there as they were, and transformers loads it
    names: dict[str, torch.Tensor] = {}
    for file in (tmp_path / "m" / "step3").glob("*.safetensors"):
        names |= load_file(file)
    held = load_file(sealed / "model.safetensors")
    assert held.keys() == names.keys() and all(torch.equal(held[key], names[key]) for key in names)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        one, other = (
            transformers.AutoModelForCausalLM.from_pretrained(path)(ids).logits
            for path in (tmp_path / "m" / "step3", sealed)
        )
    assert torch.equal(one, other)


def test_bfloat16_stays_so_and_a_file_is_linked_unless_it_is_to_be_copied(tmp_path: Path) -> None:
    make(tmp_path / "m", "gpt_neox", dtype=torch.bfloat16)
    for copy, links in ((False, 2), (True, 1)):
        run = pico_analyze.convert(tmp_path / "m", out=tmp_path / f"run{copy}", copy=copy)
        assert_same(open_store(tmp_path / "m"), run)
        sealed = tmp_path / f"run{copy}" / "checkpoints" / "step-00000000"
        assert (sealed / "model.safetensors").stat().st_nlink == links
        assert documents.read_checkpoint(sealed).weights_dtype == "bfloat16"
        assert not verify_checkpoint(sealed)
        if copy:  # what was linked is one file with the next
            (tmp_path / "runFalse" / "checkpoints" / "step-00000000" / "model.safetensors").unlink()


def test_a_linked_file_that_is_changed_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "m", "llama")
    run = pico_analyze.convert(tmp_path / "m", out=tmp_path / "run")
    with (tmp_path / "m" / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\x00\x00\x80\x3f")
    with pytest.raises(DataError, match="does not have the content that was sealed"):
        run.read(0, None, "weights", "layers.0.attn.v")


def test_what_is_sealed_stays_and_further_steps_are_added(tmp_path: Path, pico) -> None:
    for step in (0, 1):
        make(tmp_path / "m" / f"step{step}", "gpt_neox", seed=step)
    assert pico("convert", tmp_path / "m", "--steps", "0", "--out", tmp_path / "run").code == 0
    before = (tmp_path / "run" / "checkpoints" / "step-00000000" / "manifest.json").read_bytes()
    again = pico("convert", tmp_path / "m", "--out", tmp_path / "run")
    assert "1 step converted, 1 already there" in again.err
    assert (tmp_path / "run" / "checkpoints" / "step-00000000" / "manifest.json").read_bytes() == before
    manifest = documents.read_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000001")
    assert (manifest.tokens_seen, manifest.seed, manifest.cursor) == (None, None, None)
    assert manifest.weights_sha256 == manifest.origin.files["model.safetensors"]
    records = json.loads(pico("list", tmp_path / "run", "--format", "json").out)
    assert [(record["step"], record["tokens_seen"]) for record in records] == [(0, None), (1, None)]
    make(tmp_path / "other", "gpt_neox", seed=9)
    refused = pico("convert", tmp_path / "other", "--out", tmp_path / "run")
    assert refused.code == 2 and "holds another answer: its source is" in refused.error


def test_circuits_are_the_same_and_captures_may_have_their_weights_beside_them(tmp_path: Path) -> None:
    for step in (0, 1):
        make(tmp_path / "m" / f"step{step}", "gpt_neox", seed=step)
    made = pico_analyze.convert(tmp_path / "m", out=tmp_path / "run")
    frames = [
        pico_analyze.compute("norm", path, component=["ov_circuit", "qk_circuit"], data="weights")
        for path in (tmp_path / "m", made.location)
    ]
    assert frames[0]["value"].tolist() == frames[1]["value"].tolist()
    (tmp_path / "rows.jsonl").write_text('{"input_ids": [1, 2, 3, 4, 5, 6]}\n{"input_ids": [7, 8, 9, 1, 2, 3]}')
    # a converted run is a run of models too
    how = {"data": str(tmp_path / "rows.jsonl"), "sites": "attn.v", "weights": True}
    first = pico_analyze.capture(tmp_path / "m", out=tmp_path / "cap", **how)
    second = pico_analyze.capture(tmp_path / "run", out=tmp_path / "cap2", **how)
    assert_same(made, first)
    frames = [
        pico_analyze.compute("cka", one.location, component="ov_circuit", data="activations") for one in (first, second)
    ]
    assert len(frames[0]) == 2 * 2 * (1 + H) and frames[0]["value"].tolist() == frames[1]["value"].tolist()


def test_an_unknown_architecture_is_refused_in_one_sentence(tmp_path: Path, pico) -> None:
    make(tmp_path / "m", "llama")
    config = json.loads((tmp_path / "m" / "config.json").read_text()) | {"model_type": "mamba"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    answer = pico("convert", tmp_path / "m", "--out", tmp_path / "run")
    assert answer.code == 3 and "the sites of model_type 'mamba' are not known" in answer.error
    assert not (tmp_path / "run").exists()


def test_steps_that_are_not_there_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "m", "llama")
    with pytest.raises(UsageError, match="step 7 does not exist"):
        pico_analyze.convert(tmp_path / "m", out=tmp_path / "run", steps=7)


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


def test_a_series_on_the_hub_is_converted(tmp_path: Path, hub: Hub, pico) -> None:
    repo = "tester/neox-series"
    for step in (0, 2):
        make(tmp_path / "m" / f"step{step}", "gpt_neox", seed=step, shards=bool(step))
        put_files(
            hub, repo, f"step{step}", {p.name: p.read_bytes() for p in (tmp_path / "m" / f"step{step}").iterdir()}
        )
    cache = tmp_path / "cache"
    done = pico("convert", f"hf://{repo}", "--cache-dir", cache, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert_same(open_store(tmp_path / "m"), open_store(tmp_path / "run"))
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".tmp")]
