"""Captured activations and gradients against hooks and autograd of the tests' own, family by family; the same rows for
every step; what was begun goes on; nothing runs that is not trusted."""

from __future__ import annotations

import doctest
import gc
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from closeness import assert_close
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

import pico_analyze
from pico_analyze.errors import DataError, UsageError
from pico_analyze.stores.opening import open_store
from pico_conformance import Hub
from pico_conformance.published import put_files
from pico_schema import documents, verify_checkpoint

V, D, FF, H, LAYERS, T = 60, 24, 40, 4, 2, 11
USUAL = {"vocab_size": V, "hidden_size": D, "intermediate_size": FF, "num_hidden_layers": LAYERS}
USUAL |= {"num_attention_heads": H, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1}
USUAL |= {"pad_token_id": 0}
GROUPED = USUAL | {"num_key_value_heads": 2}
GPT = {"vocab_size": V, "n_embd": D, "n_layer": LAYERS, "n_head": H, "n_positions": 32, "bos_token_id": 0}
GPT |= {"eos_token_id": 1, "pad_token_id": 0}
Split = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
"""The output of a fused projection, (…, features), as its parts."""


def by_head(fused: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """As GPT-NeoX and BLOOM take it apart: q, k, v of a head one after the other."""
    parts = fused.view(*fused.shape[:-1], H, 3, D // H)
    return tuple(parts[..., i, :].flatten(-2) for i in range(3))


def multi_query(fused: torch.Tensor) -> tuple[torch.Tensor, ...]:
    parts = fused.view(*fused.shape[:-1], H + 2, D // H)
    return parts[..., :-2, :].flatten(-2), parts[..., -2, :], parts[..., -1, :]


def new_falcon(fused: torch.Tensor) -> tuple[torch.Tensor, ...]:
    parts = fused.view(*fused.shape[:-1], 2, H // 2 + 2, D // H)
    return parts[..., :-2, :].flatten(-3), parts[..., -2, :].flatten(-2), parts[..., -1, :].flatten(-2)


def side_by_side(*sizes: int) -> Split:
    return lambda fused: fused.split(list(sizes), dim=-1)


@dataclass(frozen=True)
class Family:
    """A tiny configuration; where its blocks are, and what of a block gives which sites."""

    config: dict
    blocks: str = "model.layers"
    modules: dict[str, str] = field(default_factory=dict)
    fused: dict[str, tuple[tuple[str, ...], Split]] = field(default_factory=dict)
    conv: bool = False
    kind: str = ""
    norm: str | None = "model.norm"


LLAMA = {f"attn.{x}": f"self_attn.{x}_proj" for x in "qkvo"} | {
    f"mlp.{x}": f"mlp.{x}_proj" for x in ("gate", "up", "down")
}
DENSE = {"mlp.up": "mlp.dense_h_to_4h", "mlp.down": "mlp.dense_4h_to_h"}
QKV = ("attn.q", "attn.k", "attn.v")
FAMILIES = {
    "llama": Family(GROUPED, modules=LLAMA),
    "mistral": Family(GROUPED, modules=LLAMA),
    "qwen2": Family(GROUPED, modules=LLAMA),
    "qwen3": Family(GROUPED | {"head_dim": 16}, modules=LLAMA),
    "qwen3_indivisible": Family(GROUPED | {"hidden_size": 26, "head_dim": 8}, modules=LLAMA, kind="qwen3"),
    "gemma": Family(GROUPED | {"head_dim": 16}, modules=LLAMA),
    "gemma2": Family(GROUPED | {"head_dim": 16}, modules=LLAMA),
    "gemma3_text": Family(GROUPED | {"head_dim": 16}, modules=LLAMA),
    "olmo2": Family(GROUPED, modules=LLAMA),
    "olmo": Family(GROUPED, modules=LLAMA, norm=None),
    "tied": Family(GROUPED | {"tie_word_embeddings": True}, modules=LLAMA, kind="llama"),
    "phi3": Family(
        GROUPED,
        modules={"attn.o": "self_attn.o_proj", "mlp.down": "mlp.down_proj"},
        fused={
            "self_attn.qkv_proj": (QKV, side_by_side(D, D // 2, D // 2)),
            "mlp.gate_up_proj": (("mlp.gate", "mlp.up"), lambda fused: fused.chunk(2, dim=-1)),
        },
    ),
    "phi": Family(
        GROUPED | {"hidden_size": 32},
        modules={f"attn.{x}": f"self_attn.{x}_proj" for x in "qkv"}
        | {"attn.o": "self_attn.dense", "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"},
        norm="model.final_layernorm",
    ),
    "gpt_neox": Family(
        USUAL,
        "gpt_neox.layers",
        {"attn.o": "attention.dense", **DENSE},
        {"attention.query_key_value": (QKV, by_head)},
        norm="gpt_neox.final_layer_norm",
    ),
    "gpt2": Family(
        GPT,
        "transformer.h",
        {"attn.o": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"},
        {"attn.c_attn": (QKV, side_by_side(D, D, D))},
        conv=True,
        norm="transformer.ln_f",
    ),
    "gpt_neo": Family(
        {"vocab_size": V, "hidden_size": D, "num_layers": LAYERS, "num_heads": H, "max_position_embeddings": 32}
        | {"attention_types": [[["global", "local"], 1]], "bos_token_id": 0, "eos_token_id": 1},
        "transformer.h",
        {f"attn.{x}": f"attn.attention.{x}_proj" for x in "qkv"}
        | {"attn.o": "attn.attention.out_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"},
        norm="transformer.ln_f",
    ),
    "gptj": Family(
        GPT | {"rotary_dim": 4},
        "transformer.h",
        {f"attn.{x}": f"attn.{x}_proj" for x in "qkv"}
        | {"attn.o": "attn.out_proj", "mlp.up": "mlp.fc_in", "mlp.down": "mlp.fc_out"},
        norm="transformer.ln_f",
    ),
    "opt": Family(
        {"vocab_size": V, "hidden_size": D, "ffn_dim": FF, "num_hidden_layers": LAYERS, "num_attention_heads": H}
        | {"max_position_embeddings": 32, "word_embed_proj_dim": 10, "pad_token_id": 0},
        "model.decoder.layers",
        {f"attn.{x}": f"self_attn.{x}_proj" for x in "qkv"}
        | {"attn.o": "self_attn.out_proj", "mlp.up": "fc1", "mlp.down": "fc2"},
        norm="model.decoder.final_layer_norm",
    ),
    "bloom": Family(
        {"vocab_size": V, "hidden_size": D, "n_layer": LAYERS, "n_head": H, "pad_token_id": 0},
        "transformer.h",
        {"attn.o": "self_attention.dense", **DENSE},
        {"self_attention.query_key_value": (QKV, by_head)},
        norm="transformer.ln_f",
    ),
    **{
        f"falcon_{name}": Family(
            {"vocab_size": V, "hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": H}
            | {"bos_token_id": 0, "eos_token_id": 1, **more},
            "transformer.h",
            {"attn.o": "self_attention.dense", **DENSE},
            {"self_attention.query_key_value": (QKV, split)},
            kind="falcon",
            norm="transformer.ln_f",
        )
        for name, more, split in (
            ("7b", {}, multi_query),
            ("40b", {"new_decoder_architecture": True, "num_kv_heads": 2}, new_falcon),
        )
    },
}


def make(path: Path, name: str, seed: int = 0, *, saved: bool = True) -> transformers.PreTrainedModel:
    """A random model, biases and norms included."""
    family = FAMILIES[name]
    config = transformers.AutoConfig.for_model(family.kind or name, **family.config)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    if saved:
        model.save_pretrained(path)
    return model


def write_rows(path: Path, n_rows: int = 5, seed: int = 0) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(2, V, (n_rows, T + 1))
    pq.write_table(pa.table({"input_ids": ids.tolist()}), path)
    return ids


@dataclass
class Oracle:
    """What one pass over all rows gave, by hooks of the tests' own."""

    activations: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    loss: float


def watched(model: transformers.PreTrainedModel, family: Family) -> dict[str, torch.nn.Module]:
    """Site, or fused projection of a layer → the module."""
    found = {"embed": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    for layer in range(LAYERS):
        block = model.get_submodule(f"{family.blocks}.{layer}")
        found[f"layers.{layer}.resid"] = block
        for site, inside in [*family.modules.items(), *((one, one) for one in family.fused)]:
            found[f"layers.{layer}.{site}"] = block.get_submodule(inside)
    return found if family.norm is None else found | {"norm.final": model.get_submodule(family.norm)}


def taken_apart(values: dict[str, torch.Tensor], family: Family) -> dict[str, torch.Tensor]:
    """What fused projections hold, by site."""
    found = {}
    for name, value in values.items():
        layer, _, inside = name.partition(".")[2].partition(".")
        parts, split = family.fused.get(inside, ((), None))
        apart = [value] if split is None else split(value)
        found |= dict(zip([f"layers.{layer}.{part}" for part in parts] or [name], apart, strict=True))
    return found


def observed(model: transformers.PreTrainedModel, family: Family, ids: np.ndarray) -> Oracle:
    """All sites at all positions, and the gradients of the mean loss, from one pass over all rows."""
    modules, outputs = watched(model, family), {}

    def hook(site: str) -> Callable[..., None]:
        def keep(_module: object, _args: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple) else output
            outputs[site] = first.detach().clone().view(len(ids), T, -1)

        return keep

    def input_hook(site: str) -> Callable[..., None]:
        def keep(_module: object, args: tuple[torch.Tensor, ...]) -> None:
            outputs[site] = args[0].detach().clone().view(len(ids), T, -1)

        return keep

    hooks = [module.register_forward_hook(hook(site)) for site, module in modules.items()]
    for site, module in modules.items():
        layer, _, kind = site.partition(".")[2].partition(".")
        if kind in INPUTS:
            hooks.append(module.register_forward_pre_hook(input_hook(f"layers.{layer}.{INPUTS[kind]}")))
    model.zero_grad()
    tokens = torch.tensor(ids)
    logits = model(input_ids=tokens[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), tokens[:, 1:].reshape(-1))
    loss.backward()
    for one in hooks:
        one.remove()
    grads = {site: module.weight.grad for site, module in modules.items() if not site.endswith(WITHOUT_WEIGHT)}
    # as activations are: what goes out last; a Conv1D holds its weight so
    turned = {
        site: grad if grad.ndim < 2 or (family.conv and "layers." in site) else grad.T for site, grad in grads.items()
    }
    apart = {site: grad.mT if grad.ndim > 1 else grad for site, grad in taken_apart(turned, family).items()}
    return Oracle(taken_apart(outputs, family), apart, float(loss.detach()))


ALL = ("embed", "attn.q", "attn.k", "attn.v", "attn.z", "attn.o", "mlp.gate", "mlp.up", "mlp.act", "mlp.down", "resid",
       "norm.final", "head")  # fmt: skip
WITHOUT_WEIGHT = ("resid", "attn.z", "mlp.act")
INPUTS = {"attn.o": "attn.z", "mlp.down": "mlp.act"}


@pytest.mark.parametrize("name", FAMILIES)
def test_activations_and_gradients_are_those_of_hooks_and_autograd(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    model = make(tmp_path / "m", name)
    ids = write_rows(tmp_path / "rows.parquet")
    expected = observed(model, family, ids)
    kinds = {site if not site.startswith("layers.") else site.split(".", 2)[2] for site in expected.activations}
    run = pico_analyze.capture(
        tmp_path / "m",
        out=tmp_path / "cap",
        data=str(tmp_path / "rows.parquet"),
        sites=[kind for kind in ALL if kind in kinds],
        positions="all",
        gradients=True,
        batch_size=2,
    )
    info = run.steps()[0].splits["val"]
    assert set(info.activations) == set(expected.activations)
    assert set(info.gradients) == {site for site in expected.activations if not site.endswith(WITHOUT_WEIGHT)}
    for site, value in expected.activations.items():
        assert_close(run.read(0, "val", "activations", site), value.flatten(0, 1).numpy(), factor=64)
    for site in info.gradients:
        assert_close(run.read(0, "val", "gradients", site), expected.gradients[site].numpy(), factor=1024)
    manifest = documents.read_checkpoint(tmp_path / "cap" / "checkpoints" / "step-00000000")
    assert manifest.captures[0].loss == pytest.approx(expected.loss, rel=1e-5)
    assert not verify_checkpoint(tmp_path / "cap" / "checkpoints" / "step-00000000")
    geometry = open_store(tmp_path / "m").spec(0)
    assert run.spec(0) == geometry and geometry.model_type == (family.kind or name)
    # shapes are compared with the geometry
    frame = pico_analyze.compute("norm", tmp_path / "cap", data=["activations", "gradients"])
    assert frame["value"].notna().all()


def course(path: Path, name: str = "llama", steps: tuple[int, ...] = (0, 1, 4)) -> None:
    for step in steps:
        make(path / f"step{step}", name, seed=step)


def capture(tmp_path: Path, **more: object) -> object:
    settings = {"out": tmp_path / "cap", "data": str(tmp_path / "rows.parquet"), "sites": "attn.v,mlp.down"} | more
    return pico_analyze.capture(tmp_path / "m", **settings)


@pytest.fixture
def series(tmp_path: Path) -> np.ndarray:
    course(tmp_path / "m")
    return write_rows(tmp_path / "rows.parquet")


def values(run: object, data: str = "activations") -> dict[tuple[int, str], np.ndarray]:
    return {
        (info.step, site): run.read(info.step, "val", data, site)
        for info in run.steps()
        for site in info.sites(data, "val")
    }


def test_every_step_reads_the_same_rows_at_the_same_positions(tmp_path: Path, series: np.ndarray) -> None:
    run = capture(tmp_path, positions=3)
    assert len({info.splits["val"].samples_sha256 for info in run.steps()}) == 1
    assert [info.step for info in run.steps()] == [0, 1, 4]
    samples = run.samples(4, "val")
    kept = [2, 6, 10]  # the last of each of three equal stretches of eleven
    assert samples["position"].tolist() == kept * 5
    assert samples["token_id"].tolist() == series[:, kept].ravel().tolist()
    # one model at a time was run on them: each by itself gives the same
    alone = capture(tmp_path, positions=3, steps="1", out=tmp_path / "alone")
    for (step, site), value in values(alone).items():
        np.testing.assert_array_equal(value, run.read(step, "val", "activations", site))


@pytest.mark.usefixtures("series")
def test_the_size_of_a_batch_changes_nothing_but_sums(tmp_path: Path) -> None:
    one = values(capture(tmp_path, batch_size=1, gradients=True), "gradients")
    other = values(capture(tmp_path, batch_size=4, gradients=True, out=tmp_path / "b"), "gradients")
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert_close(value, other[key], factor=256)


@pytest.mark.usefixtures("series")
def test_processes_come_to_the_same(tmp_path: Path) -> None:
    one = values(capture(tmp_path))
    other = values(capture(tmp_path, jobs=2, out=tmp_path / "b"))
    for key, value in one.items():
        assert_close(value, other[key], factor=16)


@pytest.mark.usefixtures("series")
def test_tokens_and_seed_that_no_one_knows_stay_unknown(tmp_path: Path, pico) -> None:
    capture(tmp_path)
    manifest = documents.read_checkpoint(tmp_path / "cap" / "checkpoints" / "step-00000001")
    assert (manifest.tokens_seen, manifest.seed, manifest.cursor) == (None, None, None)
    assert manifest.data.source == "unknown" and not manifest.weights
    digest = documents.sha256_file(tmp_path / "m" / "step1" / "model.safetensors")
    assert manifest.weights_sha256 == digest == manifest.origin.files["model.safetensors"]
    assert manifest.origin.location == str(tmp_path / "m")
    record = json.loads(pico("list", tmp_path / "cap", "--format", "json").out)[1]
    assert record["tokens_seen"] is None and record["step"] == 1


@pytest.mark.usefixtures("series")
def test_what_is_sealed_is_kept_and_more_steps_are_added(tmp_path: Path) -> None:
    capture(tmp_path, steps="0,1")
    first = (tmp_path / "cap" / "checkpoints" / "step-00000000" / "manifest.json").read_bytes()
    run = capture(tmp_path)
    assert [info.step for info in run.steps()] == [0, 1, 4]
    assert (tmp_path / "cap" / "checkpoints" / "step-00000000" / "manifest.json").read_bytes() == first


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"sites": "attn.v"}, "its sites is"),
        ({"positions": "last"}, "its samples is"),
        ({"gradients": True}, "its gradients is false, and this command's true"),
        ({"dtype": "bfloat16"}, "its dtype is float32, and this command's bfloat16"),
    ],
)
@pytest.mark.usefixtures("series")
def test_another_question_is_refused(tmp_path: Path, more: dict, says: str) -> None:
    capture(tmp_path, steps="0")
    with pytest.raises(UsageError, match=says):
        capture(tmp_path, **more)


@pytest.mark.usefixtures("series")
def test_other_weights_under_the_same_step_are_refused(tmp_path: Path) -> None:
    capture(tmp_path)
    make(tmp_path / "m" / "step1", "llama", seed=77)
    with pytest.raises(DataError, match="step 1 has other weights"):
        capture(tmp_path)


@pytest.mark.usefixtures("series")
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, run_dir: Path) -> None:
    before = sorted(path.name for path in run_dir.iterdir())
    with pytest.raises(UsageError, match="which is not of `capture`"):
        capture(tmp_path, out=run_dir)
    assert sorted(path.name for path in run_dir.iterdir()) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="is not empty, and holds no run"):
        capture(tmp_path, out=tmp_path / "full")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"sites": "attn.w"}, "not a site"),
        ({"sites": "layers.7.attn.v"}, "has no site 'layers.7.attn.v'"),
        ({"steps": "3"}, "step 3 does not exist"),
        ({"positions": "0"}, "positions '0'"),
        ({"dtype": "int8"}, "models compute in float32, bfloat16, float16"),
        ({"device": "nowhere"}, "device 'nowhere' cannot be used"),
    ],
)
@pytest.mark.usefixtures("series")
def test_what_does_not_fit_is_said_before_anything_is_written(tmp_path: Path, more: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        capture(tmp_path, **more)
    assert not (tmp_path / "cap").exists()


@pytest.mark.usefixtures("series")
def test_rows_that_a_model_cannot_read_are_refused(tmp_path: Path) -> None:
    for ids, says in (
        ([[1, V]], f"hold token {V}"),
        ([[1] * 40], "longer than the 32"),
        ([[1]], "at least two tokens"),
    ):
        pq.write_table(pa.table({"input_ids": ids}), tmp_path / "rows.parquet")
        with pytest.raises(UsageError, match=says):
            capture(tmp_path)


def write_tokenizer(path: Path) -> Tokenizer:
    """A byte tokenizer of 60 tokens: digits, letters, and one for all else."""
    letters = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,()"
    words = {"?": 0} | {letter: n + 1 for n, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(path / "tokenizer.json"))
    return tokenizer


@pytest.mark.usefixtures("series")
def test_text_is_read_with_the_models_own_tokenizer(tmp_path: Path, pico) -> None:
    for step in (0, 1, 4):
        tokenizer = write_tokenizer(tmp_path / "m" / f"step{step}")
    text = "to be or not to be, that is the question (so they say). " * 4
    (tmp_path / "text.txt").write_text(text)
    done = pico(
        "capture",
        tmp_path / "m",
        "--data",
        tmp_path / "text.txt",
        "--seq-len",
        10,
        "--rows",
        4,
        "--out",
        tmp_path / "c",
    )
    assert done.code == 0, done.err
    assert "warning: your text was tokenized with the tokenizer of m at step 0" in done.err
    run = open_store(tmp_path / "c")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    rows = np.array(ids[: len(ids) // 11 * 11]).reshape(-1, 11)
    kept = [(i + 1) * len(rows) // 4 - 1 for i in range(4)]
    samples = run.samples(4, "val")
    assert samples["token_id"].tolist() == rows[kept][:, [0, 1, 2, 4, 5, 6, 7, 9]].ravel().tolist()  # 8 of 10
    assert set(samples["source"]) == {"text.txt"}
    stored = pq.read_table(tmp_path / "c" / "validation.parquet")
    assert stored["input_ids"].to_pylist() == rows[kept].tolist()
    assert stored["text"].to_pylist()[0].replace(" ", "") == "".join(text[11 * kept[0] : 11 * kept[0] + 11].split())


@pytest.mark.usefixtures("series")
def test_without_data_it_is_pythons_own_library(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "m" / "step0")
    run = pico_analyze.capture(tmp_path / "m", out=tmp_path / "c", steps="0", seq_len=16, sites="attn.v")
    samples = run.samples(0, "val")
    assert len(samples) == 32 * 8 and samples["source"].str.startswith("stdlib/").all()


@pytest.mark.usefixtures("series")
def test_rows_of_text_are_no_longer_than_the_model_reads(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "m" / "step0")
    run = pico_analyze.capture(tmp_path / "m", out=tmp_path / "c", steps="0", sites="attn.v", positions="last")
    assert set(run.samples(0, "val")["position"]) == {31}
    with pytest.raises(UsageError, match="rows of 33 tokens are longer than the 32 that the model reads"):
        pico_analyze.capture(tmp_path / "m", out=tmp_path / "d", steps="0", seq_len=33, sites="attn.v")


@pytest.mark.usefixtures("series")
def test_text_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no tokenizer.json to tokenize text with"):
        pico_analyze.capture(tmp_path / "m", out=tmp_path / "c")


def test_lines_of_json_hold_text_or_ids(tmp_path: Path, series: np.ndarray) -> None:
    lines = "\n".join(json.dumps({"input_ids": row}) for row in series.tolist())
    (tmp_path / "rows.jsonl").write_text(lines)
    one, other = capture(tmp_path), capture(tmp_path, data=str(tmp_path / "rows.jsonl"), out=tmp_path / "b")
    assert one.steps()[0].splits["val"].samples_sha256 == other.steps()[0].splits["val"].samples_sha256


def test_a_run_of_pico_is_run_on_its_own_validation_rows(tmp_path: Path) -> None:
    from pico_conformance.runs import write_run

    path = write_run(tmp_path / "runs", steps=(0, 2))
    before = open_store(path)
    run = pico_analyze.capture(path, out=tmp_path / "c", sites="attn.v", positions=4)
    manifest = documents.read_checkpoint(tmp_path / "c" / "checkpoints" / "step-00000002")
    assert manifest.tokens_seen == before.steps()[1].tokens_seen
    assert manifest.origin.manifest_sha256 == before.steps()[1].digest
    assert run.spec(2) == before.spec(2)
    rows = pq.read_table(path / "validation.parquet")["input_ids"].to_pylist()
    assert pq.read_table(tmp_path / "c" / "validation.parquet")["input_ids"].to_pylist() == rows


def test_a_killed_capture_loses_the_step_at_hand_and_goes_on(tmp_path: Path) -> None:
    course(tmp_path / "m", steps=(0, 1, 2, 3))
    write_rows(tmp_path / "rows.parquet", n_rows=40)
    command = [sys.executable, "-m", "pico_analyze", "capture", tmp_path / "m", "--data", tmp_path / "rows.parquet"]
    command += ["--out", tmp_path / "cap", "--sites", "attn.v", "--batch-size", "1"]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, env=dict(os.environ)) as process:
        sealed = tmp_path / "cap" / "checkpoints" / "step-00000001" / "manifest.json"
        until = time.monotonic() + 60
        while not sealed.is_file() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    (tmp_path / "cap" / "checkpoints" / ".tmp-step-00000002").mkdir(exist_ok=True)
    manifest = sealed.read_bytes()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert "already there" in done.stderr
    run = open_store(tmp_path / "cap")
    assert [info.step for info in run.steps()] == [0, 1, 2, 3] and not run.unusable()
    assert sealed.read_bytes() == manifest
    assert [entry.step for entry in documents.read_run(tmp_path / "cap").checkpoints] == [0, 1, 2, 3]
    assert not [path for path in (tmp_path / "cap").rglob("*") if path.name.startswith((".tmp", ".run"))]


@pytest.mark.usefixtures("series")
def test_two_commands_do_not_write_into_one_folder(tmp_path: Path) -> None:
    from pico_analyze.models.sealing import only_writer

    with (
        only_writer(tmp_path / "cap", "capture"),
        pytest.raises(UsageError, match="another command is writing"),
    ):
        capture(tmp_path)


CANARY = "import pathlib; pathlib.Path({path!r}).write_text('ran')\n"


def test_code_beside_weights_is_not_run_unless_it_is_trusted(tmp_path: Path) -> None:
    model, ran = make(tmp_path / "m", "llama"), tmp_path / "ran"
    del model
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config |= {"model_type": "homemade", "architectures": ["HomeForCausalLM"]}
    config["auto_map"] = {"AutoConfig": "home.HomeConfig", "AutoModelForCausalLM": "home.HomeForCausalLM"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (tmp_path / "m" / "home.py").write_text(
        CANARY.format(path=str(ran)) + "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class HomeConfig(LlamaConfig):\n    model_type = 'homemade'\n"
        "class HomeForCausalLM(LlamaForCausalLM):\n    config_class = HomeConfig\n"
    )
    write_rows(tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match=r"code of its own.*--trust-remote-code"):
        capture(tmp_path, architecture="llama")
    assert not ran.exists()
    run = capture(tmp_path, architecture="llama", trust_remote_code=True)
    assert ran.read_text() == "ran" and len(run.steps()) == 1
    assert "home.py" in documents.read_checkpoint(tmp_path / "cap" / "checkpoints" / "step-00000000").origin.files


def test_code_of_a_known_architecture_is_not_run_either(tmp_path: Path) -> None:
    make(tmp_path / "m", "llama")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "home.HomeForCausalLM"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (tmp_path / "m" / "home.py").write_text(CANARY.format(path=str(tmp_path / "ran")))
    write_rows(tmp_path / "rows.parquet")
    capture(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("series")
def test_pickled_weights_beside_safetensors_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "m" / "step0" / "pytorch_model.bin").write_bytes(b"not a pickle")
    assert capture(tmp_path, steps="0").steps()


def test_weights_that_are_not_there_are_no_random_numbers(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    make(tmp_path / "m", "llama")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    del weights["model.layers.1.input_layernorm.weight"]
    save_file(weights, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    write_rows(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"are not in its files \(model.layers.1.input_layernorm.weight\)"):
        capture(tmp_path)


@pytest.mark.parametrize("number", ["1e999", "Infinity", "NaN"])
def test_a_configuration_with_a_number_that_is_none_is_not_run(tmp_path: Path, number: str) -> None:
    make(tmp_path / "m", "llama")
    config = tmp_path / "m" / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', f'"rms_norm_eps": {number}'))
    write_rows(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"config.json: rms_norm_eps is not finite"):
        capture(tmp_path)


def test_what_is_not_finite_is_not_sealed(tmp_path: Path) -> None:
    model = make(tmp_path / "m", "llama", saved=False)
    with torch.no_grad():
        model.model.layers[1].self_attn.v_proj.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "m")
    write_rows(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"activations/layers.1.attn.v is not finite"):
        capture(tmp_path)
    assert not open_store(tmp_path / "cap").steps()


@pytest.mark.usefixtures("series")
def test_one_model_is_in_memory_at_a_time(tmp_path: Path, monkeypatch) -> None:
    from pico_analyze.models import running

    alive: list[weakref.ref] = []
    take = running.take

    def counted(model: torch.nn.Module, *args: object, **more: object) -> object:
        gc.collect()
        assert not [one for one in alive if one() is not None]
        alive.append(weakref.ref(model))
        return take(model, *args, **more)

    monkeypatch.setattr(running, "take", counted)
    capture(tmp_path, gradients=True)
    assert len(alive) == 3


@pytest.mark.parametrize("name", ["capture", "convert"])
def test_the_example_of_each_function_is_true_and_its_parts_are_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    course(tmp_path / "models", steps=(0, 1))
    (tmp_path / "rows.jsonl").write_text("\n".join(['{"input_ids": [1, 2, 3, 4]}'] * 3))
    function = getattr(pico_analyze, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name)
    assert tuple(doctest.DocTestRunner().run(example)) == (0, len(example.examples)) and example.examples
    for parameter in inspect.signature(function).parameters:
        assert f"\n    {parameter}: " in (inspect.getdoc(function) or ""), parameter


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


@pytest.mark.usefixtures("series")
def test_cka_of_a_series_on_the_hub_end_to_end(tmp_path: Path, hub: Hub, pico) -> None:
    repo = "tester/llama-series"
    for step in (0, 1, 4):
        folder = tmp_path / "m" / f"step{step}"
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        put_files(hub, repo, f"step{step}", files)
    done = pico(
        "capture", f"hf://{repo}", "--data", tmp_path / "rows.parquet", "--cache-dir", tmp_path / "cache",
        "--out", tmp_path / "hubbed", "--sites", "attn.v,resid",
    )  # fmt: skip
    assert done.code == 0, done.err
    run = open_store(tmp_path / "hubbed")
    local = capture(tmp_path, sites="attn.v,resid")
    for key, value in values(local).items():
        np.testing.assert_array_equal(value, run.read(key[0], "val", "activations", key[1]))
    origin = documents.read_checkpoint(tmp_path / "hubbed" / "checkpoints" / "step-00000004").origin
    assert origin.commit == hub.repository("models", repo).ref("refs/heads/step4") and origin.revision == "step4"
    answer = pico("compute", "cka", tmp_path / "hubbed", "--data", "activations", "--out", tmp_path / "analysis")
    assert answer.code == 0 and "1.0000" in answer.out, answer.err
    # the second time nothing of the models is asked for
    mark = hub.log.mark()
    again = pico(
        "capture", f"hf://{repo}", "--data", tmp_path / "rows.parquet", "--cache-dir", tmp_path / "cache",
        "--out", tmp_path / "hubbed", "--sites", "attn.v,resid",
    )  # fmt: skip
    assert "3 already there" in again.err
    assert hub.log.count(since=mark) <= 3


def pickled(source: Path, target: Path, shards: int) -> Path:
    """The same models, saved as transformers saved them before safetensors."""
    for model in sorted(source.iterdir()):
        copy = Path(shutil.copytree(model, target / model.name))
        weights = load_file(copy / "model.safetensors")
        (copy / "model.safetensors").unlink()
        if shards == 1:
            torch.save(weights, copy / "pytorch_model.bin")
            continue
        names = [f"pytorch_model-{n + 1:05d}-of-{shards:05d}.bin" for n in range(shards)]
        weight_map = {key: names[n * shards // len(weights)] for n, key in enumerate(weights)}
        for name in names:
            torch.save({key: weights[key] for key, of in weight_map.items() if of == name}, copy / name)
        (copy / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return target


@pytest.mark.usefixtures("series")
@pytest.mark.parametrize("shards", [1, 3])
def test_pickled_models_are_run_converted_and_audited_where_that_is_allowed(tmp_path: Path, shards: int, pico) -> None:
    expected = values(capture(tmp_path))
    expected_weights = pico_analyze.convert(tmp_path / "m", out=tmp_path / "converted")
    source = pickled(tmp_path / "m", tmp_path / "bin", shards)
    with pytest.raises(DataError, match="give --allow-pickle"):
        pico_analyze.capture(source, out=tmp_path / "refused", data=str(tmp_path / "rows.parquet"))
    words = ("--data", tmp_path / "rows.parquet", "--site", "attn.v,mlp.down", "--allow-pickle")
    done = pico("capture", source, *words, "--out", tmp_path / "b")
    assert done.code == 0, done.err
    found = values(open_store(tmp_path / "b"))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    again = pico("capture", source, *words, "--out", tmp_path / "b")
    assert again.code == 0 and "3 already there" in again.err
    done = pico("convert", source, "--allow-pickle", "--out", tmp_path / "c")
    assert done.code == 0, done.err
    converted = open_store(tmp_path / "c")
    for site in expected_weights.steps()[0].weights:
        weight = expected_weights.read(4, None, "weights", site)
        np.testing.assert_array_equal(converted.read(4, None, "weights", site), weight)
    assert verify_checkpoint(tmp_path / "c" / "checkpoints" / "step-00000004") == []
    assert not list(tmp_path.rglob(".tmp-model-*"))
    done = pico("audit", source, "--allow-pickle")
    assert "1 error" in done.err and "step 0 is no initialisation: norms vary" in done.out  # as the fixture makes it
    for file in (source / "step1").iterdir():
        shutil.copyfile(file, source / "step4" / file.name)
    done = pico("audit", source, "--allow-pickle")
    assert done.code == 3 and "steps 1 and 4 hold the same weights" in done.out


@pytest.mark.usefixtures("series")
def test_a_run_of_captures_has_no_models_to_be_run_and_the_message_names_those(tmp_path: Path, pico) -> None:
    capture(tmp_path)
    for command in ("capture", "convert", "behave"):
        done = pico(command, tmp_path / "cap", "--out", tmp_path / command)
        assert done.code == 3, done.err
        says = f"cap: step 0 holds captures and no weights: name the run that it is from, {tmp_path / 'm'}"
        assert says in done.err and not (tmp_path / command).exists()


@pytest.mark.parametrize("site", ["mlp.experts.up", "mlp.experts.3.down", "layers.0.mlp.experts.1.gate"])
def test_why_experts_are_not_captured_is_said(tmp_path, pico, site):
    import foreign

    path = foreign.write(tmp_path / "m", foreign.files(foreign.LLAMA, foreign.llama(np.random.default_rng(0))))
    answer = pico("capture", path, "--sites", site, "--out", tmp_path / "out")
    assert answer.code == 2 and not (tmp_path / "out").exists()
    assert f"{site!r} is not captured: an expert computes only the tokens that are routed to it" in answer.error
