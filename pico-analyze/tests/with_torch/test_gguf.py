"""Models of GGUF against the models that they were made of, and against transformers' own reader of GGUF."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from written_gguf import write_gguf

import pico_analyze
from pico_analyze.errors import DataError
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.transformers.gguf_architectures import OF_GGUF

V, D, FF, H, LAYERS = 64, 32, 64, 4, 2
USUAL = {"vocab_size": V, "hidden_size": D, "intermediate_size": FF, "num_hidden_layers": LAYERS}
USUAL |= {"num_attention_heads": H, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1}
USUAL |= {"pad_token_id": 0}
GPT = {"vocab_size": V, "n_embd": D, "n_layer": LAYERS, "n_head": H, "bos_token_id": 0}
GROUPED = USUAL | {"num_key_value_heads": 2}
OWN = GROUPED | {"head_dim": 16}
WIDE = GROUPED | {"head_dim": 128}
"""As transformers takes it where it reads GGUF of Qwen3, whatever the file says; so with widths of experts."""
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 768}
MADE = {
    "llama": ("llama", GROUPED),
    "llama_tied": ("llama", GROUPED | {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", GROUPED),
    "qwen3": ("qwen3", WIDE),
    "qwen2moe": ("qwen2_moe", GROUPED | MOE | {"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632}),
    "qwen3moe": ("qwen3_moe", WIDE | MOE),
    "stablelm": ("stablelm", GROUPED),
    "gemma2": ("gemma2", OWN),
    "gemma3": ("gemma3_text", OWN),
    "starcoder2": ("starcoder2", GROUPED),
    "nemotron": ("nemotron", GROUPED),
    "phi3": ("phi3", GROUPED),
    "gpt2": ("gpt2", GPT),
    "bloom": ("bloom", {"vocab_size": V, "hidden_size": D, "n_layer": LAYERS, "n_head": H}),
}
"""GGUF's name of an architecture → transformers', and a tiny configuration."""


def a_model(kind: str, config: dict):
    """A model with random weights that bfloat16 holds."""
    torch.manual_seed(0)
    made = transformers.CONFIG_MAPPING[kind](**config)
    model = transformers.AutoModelForCausalLM.from_config(made).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
            parameter.copy_(parameter.to(torch.bfloat16).float())
    return model


def state_of(model) -> dict[str, np.ndarray]:
    """Its parameters; a tied head once."""
    return {name: one.detach().numpy() for name, one in model.named_parameters()}


@pytest.fixture
def pair(tmp_path, request):
    """The same model as transformers saves it, and as GGUF."""
    name = request.param
    kind, config = MADE[name]
    model = a_model(kind, config)
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "gguf").mkdir()
    arch = name.partition("_")[0]
    write_gguf(tmp_path / "gguf" / "model.gguf", arch, model.config, state_of(model))
    return model, tmp_path / "saved", tmp_path / "gguf"


@pytest.mark.parametrize("pair", MADE, indirect=True)
def test_every_site_is_that_of_the_model_it_was_made_of(pair):
    _, saved, path = pair
    one, other = open_store(saved), open_store(path)
    assert other.steps()[0].weights == one.steps()[0].weights
    assert not other.without_site(0).missing and not other.without_site(0).quantized
    for site in one.steps()[0].weights:
        expected, found = (store.read(0, None, "weights", site) for store in (one, other))
        if site == "norm.final":  # one was added to some, and taken away
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=site)
    spec, known = other.spec(0), one.spec(0)
    same = ("vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "tie_embeddings", "n_experts")
    assert [getattr(spec, name) for name in same] == [getattr(known, name) for name in same]


@pytest.mark.parametrize("pair", MADE, indirect=True)
def test_transformers_reads_the_same_model_from_the_file(pair):
    """A second implementation that undoes what llama.cpp's converter does: the files of these tests are such files."""
    model, _, path = pair
    load = transformers.AutoModelForCausalLM.from_pretrained
    read = load(path, gguf_file="model.gguf", dtype=torch.float32)
    found = dict(read.named_parameters())
    for name, expected in model.named_parameters():
        np.testing.assert_allclose(found[name].detach().numpy(), expected.detach().numpy(), atol=2e-7, err_msg=name)


def test_each_architecture_is_checked():
    assert set(OF_GGUF) == {f"gguf_{name.partition('_')[0]}" for name in MADE}


def put(path, kind: str = "F32", arch: str = "llama"):
    """A file of GGUF of a tiny Llama; its weights."""
    model = a_model("llama", GROUPED)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gguf(path, arch, model.config, state_of(model), kind)
    return model


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_is_read_and_marked(tmp_path, kind):
    model = put(tmp_path / "m.gguf", kind)
    array = open_store(tmp_path / "m.gguf").read(0, None, "weights", "layers.1.attn.k")
    expected = model.model.layers[1].self_attn.k_proj.weight
    cast = expected.to({"F16": torch.float16, "BF16": torch.bfloat16}[kind]).float()
    np.testing.assert_array_equal(np.asarray(array), cast.detach().numpy())
    assert array.stored == {"F16": "float16", "BF16": "bfloat16"}[kind]


def test_quantized_matrices_are_named_and_convert_dequantizes_them(tmp_path, pico):
    import gguf

    model = put(tmp_path / "q" / "m.gguf", "Q8_0")
    answer = pico("list", tmp_path / "q")
    assert answer.code == 0 and "16 matrices are quantized" in answer.out
    assert "quantized (gguf Q8_0)" in answer.out and "`pico-analyze convert RUN --out DIR` dequantizes" in answer.out
    with pytest.raises(DataError, match=r"quantized|no weights"):
        open_store(tmp_path / "q").read(0, None, "weights", "layers.0.attn.q")
    answer = pico("convert", tmp_path / "q", "--out", tmp_path / "made")
    assert answer.code == 0, answer.error
    read = open_store(tmp_path / "made").read(0, None, "weights", "layers.0.mlp.up")
    weight = model.model.layers[0].mlp.up_proj.weight.detach().numpy()
    kind = gguf.GGMLQuantizationType.Q8_0
    np.testing.assert_array_equal(read, gguf.dequantize(gguf.quantize(weight, kind), kind))


def test_a_series_is_measured_audited_and_captured(tmp_path, pico):
    model = put(tmp_path / "run" / "step1" / "m.gguf")
    put(tmp_path / "run" / "step2" / "m.gguf")
    norms = pico_analyze.compute("norm", tmp_path / "run", data="weights", sites="attn.q", layers=0)
    expected = float(model.model.layers[0].self_attn.q_proj.weight.detach().norm())
    assert norms["value"].tolist() == pytest.approx([expected] * 2)
    assert "m.gguf" in norms["provenance"].iloc[0]
    answer = pico("audit", tmp_path / "run")
    assert "steps 1 and 2 hold the same weights" in answer.out
    rows = tmp_path / "rows.jsonl"
    ids = [[(7 * row + position) % V for position in range(9)] for row in range(3)]
    rows.write_text("".join(json.dumps({"input_ids": one}) + "\n" for one in ids))
    answer = pico(
        *("capture", tmp_path / "run", "--steps", "1", "--data", rows, "--sites", "attn.q", "--positions", "all"),
        *("--out", tmp_path / "made"),
    )
    assert answer.code == 0, answer.error
    taken = []
    model.model.layers[1].self_attn.q_proj.register_forward_hook(lambda *given: taken.append(given[2]))
    with torch.no_grad():
        model(torch.tensor(ids)[:, :-1])
    found = open_store(tmp_path / "made").read(1, "val", "activations", "layers.1.attn.q")
    np.testing.assert_allclose(found, taken[0].flatten(0, 1).numpy(), rtol=1e-5, atol=1e-6)


def test_matrices_of_an_architecture_that_is_not_in_the_table_are_measured_by_name(tmp_path):
    put(tmp_path / "m.gguf", arch="granite")
    store = open_store(tmp_path / "m.gguf")
    assert "model_type 'gguf_granite' are not known" in store.without_site(0).unknown
    frame = pico_analyze.compute("norm", tmp_path / "m.gguf", data="weights", tensors="blk.*.attn_q.weight")
    assert frame["layer"].tolist() == [0, 1]


def test_one_of_several_is_to_be_named_and_parts_are_one_model(tmp_path):
    put(tmp_path / "m-F32.gguf")
    put(tmp_path / "m-F16.gguf", "F16")
    with pytest.raises(DataError, match=r"it has 2 models of GGUF \(m-F16\.gguf, m-F32\.gguf\): name the file"):
        open_store(tmp_path)
    assert open_store(tmp_path / "m-F32.gguf").steps()[0].weights
    (tmp_path / "m-F16.gguf").unlink()
    (tmp_path / "m-F32.gguf").rename(tmp_path / "m-00001-of-00002.gguf")
    with pytest.raises(DataError, match=r"incomplete: 1 of the 2 files of m are there"):
        open_store(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_one_sentence(tmp_path, pico, share):
    put(tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(content[: int(len(content) * share)])
    answer = pico("list", tmp_path / "m.gguf")
    assert answer.code == 3 and "Traceback" not in answer.error and len(answer.error.splitlines()) == 1
    assert "truncated or damaged" in answer.error or "too short" in answer.error


def test_any_byte_of_the_header_may_be_another(tmp_path):
    """A header is foreign input: whatever is in it, it is read or refused, at once and within bounds."""
    put(tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    end = content.index(b"output.weight") + 60
    rng = np.random.default_rng(0)
    for place in rng.choice(end, 300, replace=False):
        damaged = bytearray(content)
        damaged[place] = int(rng.integers(256))
        (tmp_path / "d.gguf").write_bytes(damaged)
        try:
            open_store(tmp_path / "d.gguf", ReadOptions())
        except DataError as error:
            assert len(str(error)) < 3000


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (4, 99, "it is GGUF of version 99"),
        (8, 2**40, "it claims 1,099,511,627,776 tensors"),
        (16, 2**40, "it claims 1,099,511,627,776 values"),
        (24, 2**40, "a name of 1,099,511,627,776 bytes is none"),
    ],
)
def test_counts_are_bounded_before_anything_is_allocated(tmp_path, at, value, says):
    put(tmp_path / "m.gguf")
    content = bytearray((tmp_path / "m.gguf").read_bytes())
    width = 4 if at == 4 else 8
    content[at : at + width] = value.to_bytes(width, "little")
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(DataError, match=says):
        open_store(tmp_path / "m.gguf")
