"""Models of others are measured without the logits of a whole batch, whatever they do to them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers

from pico_schema.errors import TensorHeaderError
from pico_train.errors import CheckpointError
from pico_train.evaluation.models import causal_losses, load_causal

SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
GPT2 = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
GROUPED = SMALL | {"num_key_value_heads": 1, "head_dim": 8}
MODELS = {
    "llama": (transformers.LlamaConfig, GROUPED, True),
    "gpt_neox": (transformers.GPTNeoXConfig, SMALL, True),
    "gpt2": (transformers.GPT2Config, GPT2, True),
    "a cap on the logits": (transformers.Gemma2Config, GROUPED | {"final_logit_softcapping": 2.0}, False),
    "a scale of the logits": (transformers.CohereConfig, GROUPED | {"logit_scale": 0.5}, False),
}


@pytest.fixture(params=MODELS)
def case(request) -> tuple[Any, bool]:
    """A model with random weights, large enough that losses differ much; and whether its head is all there is."""
    kind, settings, plain = MODELS[request.param]
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(kind(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model, plain


@pytest.mark.parametrize("chunk", [1, 5, 11, 1000])
def test_losses_are_those_of_the_model_and_few_logits_exist_at_once(case, chunk):
    model, plain = case
    rows = torch.randint(0, 50, (4, 12), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(input_ids=rows[:, :-1]).logits
        expected = F.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
    each = causal_losses(model, chunk=chunk)
    sizes: list[int] = []
    watch = model.get_output_embeddings().register_forward_hook(lambda _m, _i, out: sizes.append(out[..., 0].numel()))
    found = each(rows)
    watch.remove()
    # Sums of 16 to 50 products of magnitude 1 to 100, in another order.
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert sum(sizes) == 44
    assert max(sizes) <= (chunk if plain else max(chunk, 11))
    assert not found.requires_grad


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model of others in a folder."""
    torch.manual_seed(1)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)).save_pretrained(tmp_path / "m")
    load_causal(tmp_path / "m", "m")  # is sound
    return tmp_path / "m"


def _configure(folder: Path, old: str, new: str) -> None:
    path = folder / "config.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("number", ["1e999", "Infinity", "NaN"])
@pytest.mark.parametrize(("setting", "value"), [("rope_theta", "10000.0"), ("rms_norm_eps", "1e-06")])
def test_a_configuration_with_a_number_that_is_none_is_refused(folder, setting, value, number):
    """transformers computes with it: losses that differ in the fifth digit."""
    _configure(folder, f'"{setting}": {value}', f'"{setting}": {number}')
    with pytest.raises(CheckpointError, match=f"config.json: .*{setting} is not finite") as refused:
        load_causal(folder, "m")
    assert refused.value.exit_code == 3


def test_a_limit_that_transformers_itself_leaves_open_is_none_of_them(folder):
    _configure(folder, '"rms_norm_eps"', '"time_step_limit": [0.0, Infinity], "rms_norm_eps"')
    load_causal(folder, "m")


def test_a_tensor_that_stands_twice_in_a_header_is_refused(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = content[8 : 8 + length].strip()
    entry = json.dumps({"lm_head.weight": json.loads(header)["lm_head.weight"]}).encode()
    twice = header[:-1] + b", " + entry[1:]
    path.write_bytes(struct.pack("<Q", len(twice)) + twice + content[8 + length :])
    with pytest.raises(TensorHeaderError, match=r"'lm_head.weight' is there twice"):
        load_causal(folder, "m")


def test_weights_of_other_shapes_than_the_configuration_says_are_refused_in_one_sentence(folder):
    _configure(folder, '"vocab_size": 50', '"vocab_size": 48')
    with pytest.raises(CheckpointError, match=r"have other shapes than its config.json says \(.*lm_head.weight"):
        load_causal(folder, "m")
