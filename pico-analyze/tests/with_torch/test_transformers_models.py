"""Weights as the store reads them, against what the model itself computes from them."""

import numpy as np
import pytest
import torch
import transformers
from closeness import assert_close

import pico_analyze
from pico_analyze.stores.opening import open_store

SMALL = {"vocab_size": 60}


def models():
    yield (
        "llama",
        transformers.LlamaConfig(
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            **SMALL,
        ),
    )
    yield "gpt2", transformers.GPT2Config(n_embd=24, n_layer=2, n_head=4, n_positions=32, **SMALL)
    yield (
        "gpt_neox",
        transformers.GPTNeoXConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, **SMALL
        ),
    )


@pytest.mark.parametrize(("name", "config"), list(models()), ids=lambda value: value if isinstance(value, str) else "")
def test_values_and_their_projection_are_the_models_own(tmp_path, name, config):
    """x·W_Vᵀ + b is what reaches attention as values, and W_O is what the heads' output goes through."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    model.save_pretrained(tmp_path / name)
    store = open_store(tmp_path / name)
    blocks = {"llama": "model.layers", "gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}[name]
    attention = getattr(
        model.get_submodule(f"{blocks}.1"), {"gpt2": "attn", "gpt_neox": "attention"}.get(name, "self_attn")
    )
    fused = {"gpt2": "c_attn", "gpt_neox": "query_key_value"}.get(name)
    x = torch.randn(1, 5, 24)
    heads = 4
    with torch.no_grad():
        if fused is None:
            q, k, v = (getattr(attention, f"{part}_proj")(x)[0].numpy() for part in "qkv")
        elif name == "gpt2":
            q, k, v = (part[0].numpy() for part in getattr(attention, fused)(x).split(24, dim=2))
        else:
            by_head = getattr(attention, fused)(x)[0].view(5, heads, 3 * 6)
            q, k, v = (by_head[..., 6 * i : 6 * i + 6].reshape(5, 24).numpy() for i in range(3))
    bias = {"gpt2": "c_attn", "gpt_neox": "query_key_value"}
    for part, expected in zip("qkv", (q, k, v), strict=True):
        weight = store.read(0, None, "weights", f"layers.1.attn.{part}")
        shift = np.zeros(len(weight), np.float32)
        if name in bias:
            full = getattr(attention, bias[name]).bias.detach().numpy()
            index = "qkv".index(part)
            shift = (
                full.reshape(heads, 3, 6)[:, index].ravel()
                if name == "gpt_neox"
                else full[24 * index : 24 * index + 24]
            )
        assert_close(x[0].numpy() @ weight.T + shift, expected, factor=24)  # sums of 24 float32 products
    out = {"gpt2": "c_proj", "gpt_neox": "dense"}.get(name, "o_proj")
    module = getattr(attention, out)
    with torch.no_grad():
        expected = module(x)[0].numpy() - (module.bias.numpy() if getattr(module, "bias", None) is not None else 0)
    assert_close(x[0].numpy() @ store.read(0, None, "weights", "layers.1.attn.o").T, expected, factor=24)


WIDE = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, **SMALL}
OWN_HEADS = {
    "qwen3": transformers.Qwen3Config(**WIDE, num_key_value_heads=2, head_dim=16),
    "gemma": transformers.GemmaConfig(**WIDE, num_key_value_heads=1, head_dim=8),
    "llama": transformers.LlamaConfig(**WIDE, num_key_value_heads=2, head_dim=10),
    "indivisible": transformers.Qwen3Config(**(WIDE | {"hidden_size": 26}), num_key_value_heads=2, head_dim=8),
}


@pytest.mark.parametrize("name", OWN_HEADS)
def test_circuits_of_heads_with_a_width_of_their_own_are_the_models(tmp_path, name):
    """What a head moves from one position to another is W_O·W_V of it: put through the model's own modules, a value at
    a time, and summed over what no other head touches."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(OWN_HEADS[name]).eval()
    model.save_pretrained(tmp_path / name)
    frame = pico_analyze.compute("norm", str(tmp_path / name), component="ov_circuit", data="weights")
    found = frame[frame["head"] >= 0].set_index(["layer", "head"])["value"]
    for layer in range(2):
        attention = model.model.layers[layer].self_attn
        width, head_dim = model.config.hidden_size, attention.head_dim
        with torch.no_grad():
            values = attention.v_proj(torch.eye(width)).view(width, -1, head_dim)
            values = values.repeat_interleave(attention.num_key_value_groups, dim=1)
            for head in range(4):
                alone = torch.zeros_like(values)
                alone[:, head] = values[:, head]
                moved = attention.o_proj(alone.reshape(width, -1)).double().numpy()
                assert found[layer, head] == pytest.approx(np.linalg.norm(moved), rel=1e-5)  # float32 products
