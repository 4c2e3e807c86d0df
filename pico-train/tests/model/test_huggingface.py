"""A checkpoint is a plain Llama checkpoint: transformers reads it, and this package reads what transformers writes."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from support.closeness import assert_close
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

from pico_schema import ModelSpec
from pico_train.errors import CheckpointError
from pico_train.model.decoder import Decoder
from pico_train.model.huggingface import config_json, generation_config_json, load_spec, load_weights, stored_dtype


def spec_of(**changes) -> ModelSpec:
    fields = {"vocab_size": 61, "d_model": 24, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 40}
    return ModelSpec(**(fields | {"max_seq_len": 32, "rope_theta": 5000.0, "norm_eps": 1e-5} | changes))


def saved(directory, spec, dtype=torch.float32):
    model = Decoder(spec)
    model.init_weights(0)
    model.to(dtype)
    name = str(dtype).removeprefix("torch.")
    (directory / "config.json").write_text(json.dumps(config_json(spec, bos_id=1, eos_id=2, dtype=name)))
    (directory / "generation_config.json").write_text(json.dumps(generation_config_json(bos_id=1, eos_id=2)))
    tensors = {n: p.detach() for n, p in model.named_parameters()}
    safetensors.torch.save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return model


@pytest.mark.parametrize("tie", [False, True])
def test_transformers_loads_it_without_custom_code(tmp_path, tie):
    model = saved(tmp_path, spec_of(tie_embeddings=tie))
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs) is LlamaForCausalLM
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = torch.arange(20)[None]
    assert_close(theirs(ids).logits, model(ids), factor=128)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == 2


def test_the_type_of_the_weights_is_kept(tmp_path):
    saved(tmp_path, spec_of(), torch.bfloat16)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert stored_dtype(load_weights(tmp_path)) == "bfloat16"


@pytest.mark.parametrize("tie", [False, True])
def test_the_geometry_survives_the_way_there_and_back(tmp_path, tie):
    spec = spec_of(tie_embeddings=tie)
    saved(tmp_path, spec)
    assert load_spec(tmp_path) == spec
    # Both generations of transformers find the rotary base: 4 at the top level, 5 inside rope_parameters.
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 5000.0
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters["rope_theta"] == 5000.0


def test_what_transformers_writes_can_be_read(tmp_path):
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=40,
    )
    theirs = LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path)
    model = Decoder(load_spec(tmp_path))
    model.load_state_dict(load_weights(tmp_path))
    ids = torch.arange(20)[None]
    assert_close(theirs(ids).logits, model(ids), factor=128)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "gpt_neox"}, "model_type is 'gpt_neox', but this decoder computes 'llama' only"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling is"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_type is 'llama3'"),
        ({"rope_parameters": "default"}, "rope_parameters is 'default', not an object"),
        ({"head_dim": 8}, "head_dim is 8, but only 6 = width / heads works"),
        ({"hidden_size": 25}, "d_model=25 is not divisible"),
        ({"hidden_size": None}, "d_model: "),
    ],
)
def test_a_model_that_this_decoder_does_not_compute_is_refused(tmp_path, change, says):
    (tmp_path / "config.json").write_text(json.dumps(config_json(spec_of()) | change))
    with pytest.raises(CheckpointError) as refused:
        load_spec(tmp_path)
    assert says in str(refused.value)
