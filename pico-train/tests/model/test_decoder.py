"""The decoder computes what `transformers.LlamaForCausalLM` computes, and has no state outside itself."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.closeness import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from pico_schema import ModelSpec
from pico_train.config import layers
from pico_train.model.decoder import Decoder, KVCache, rotary_tables, rotate
from pico_train.model.huggingface import config_json, expected_shapes

ROUNDING = 256
"""Epsilons of the largest logit, or gradient of a weight, that another order of the same sums may make."""

# Heads and their width decide the attention kernel's path: these are the presets', with fewer layers, a smaller
# vocabulary and a narrower feed-forward.
GEOMETRIES = {
    name: layers.load_config(preset=name).spec.model_dump(include={"d_model", "n_heads", "n_kv_heads"})
    for name in layers.presets()
} | {
    "every head its own": {"d_model": 32, "n_heads": 4, "n_kv_heads": 4},
    "one key head": {"d_model": 32, "n_heads": 4, "n_kv_heads": 1},
}


def spec_of(name: str, **changes: object) -> ModelSpec:
    fields = dict(vocab_size=101, n_layers=2, d_ff=64, max_seq_len=64, **GEOMETRIES[name])
    return ModelSpec(**(fields | changes))


def build(spec: ModelSpec, seed: int = 0) -> Decoder:
    model = Decoder(spec)
    model.init_weights(seed)
    # Weights ten times the initial ones: attention is then far from uniform and a wrong position or head shows.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10 * (128 / spec.d_model) ** 0.5)
            else:
                parameter.add_(torch.linspace(-0.5, 0.5, parameter.numel()))
    return model


def llama(model: Decoder) -> LlamaForCausalLM:
    reference = LlamaForCausalLM(LlamaConfig(**config_json(model.spec), attn_implementation="sdpa"))
    reference.load_state_dict(model.state_dict(), strict=True)
    return reference


def tokens(spec: ModelSpec, rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, spec.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_logits_and_gradients_are_llamas(name):
    model = build(spec_of(name))
    reference = llama(model)
    ids = tokens(model.spec, 2, 24)
    logits, expected = model(ids), reference(ids).logits
    assert expected.abs().max() > 1.0  # the comparison means something
    assert_close(logits, expected, factor=ROUNDING)
    pull = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)) / logits.numel()
    (logits * pull).sum().backward()
    (expected * pull).sum().backward()
    theirs = dict(reference.named_parameters())
    assert theirs.keys() == dict(model.named_parameters()).keys()
    for parameter_name, parameter in model.named_parameters():
        gradient = theirs[parameter_name].grad
        assert gradient.abs().max() > 0
        assert_close(parameter.grad, gradient, factor=ROUNDING, name=parameter_name)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_decoding_through_the_cache_equals_the_whole_pass(name):
    model = build(spec_of(name))
    ids = tokens(model.spec, 2, 20)
    whole = model(ids)
    cache = KVCache(model.spec, 2, 20, device=ids.device, dtype=torch.float32)
    # A first chunk, single tokens, and a chunk behind a filled cache, where causality needs care.
    pieces = [model(piece, cache) for piece in ids.split([7, 1, 1, 8, 3], dim=1)]
    assert_close(torch.cat(pieces, 1), whole, factor=ROUNDING)
    assert cache.length == 20


@hypothesis_settings(max_examples=25)
@given(data=st.data(), length=st.integers(2, 16))
def test_every_split_of_a_sequence_gives_the_same_logits(data, length):
    model = build(spec_of("every head its own"))
    ids = tokens(model.spec, 1, length)
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1), max_size=4)))
    cache = KVCache(model.spec, 1, length, device=ids.device, dtype=torch.float32)
    pieces = [model(piece, cache) for piece in ids.tensor_split(cuts, dim=1)]
    assert_close(torch.cat(pieces, 1), model(ids), factor=ROUNDING)


def test_a_cache_that_is_too_small_is_refused():
    model = build(spec_of("one key head"))
    cache = KVCache(model.spec, 1, 4, device=torch.device("cpu"), dtype=torch.float32)
    with pytest.raises(ValueError, match="space for 4 positions, 5 are needed"):
        model(tokens(model.spec, 1, 5), cache)


@hypothesis_settings(max_examples=25)
@given(position=st.integers(1, 15), token=st.integers(0, 100))
def test_no_position_sees_a_later_token(position, token):
    model = build(spec_of("tiny"))
    ids = tokens(model.spec, 1, 16)
    changed = ids.clone()
    changed[0, position] = token
    assert torch.equal(model(ids)[:, :position], model(changed)[:, :position])


def test_rotation_keeps_lengths_and_depends_on_distance_only():
    x = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(0)).expand(1, 1, 12, 8)
    turned = rotate(x, *rotary_tables(0, 12, 8, 10_000.0, x.device))
    assert_close(turned.norm(dim=-1), x.norm(dim=-1), factor=8)
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    score = (turned[0, 0] @ turned[0, 0].T).numpy()
    for distance in range(12):
        # Angles up to 11 radians are rounded to float32, so each score by 11 epsilons of the largest, and its sum.
        along = score.diagonal(distance)
        assert abs(along - score[0, distance]).max() <= 32 * torch.finfo(torch.float32).eps * score[0, 0]
    # Pair (0, C/2) turns by one radian per position: written out for position 1.
    c, s = torch.tensor(1.0).cos(), torch.tensor(1.0).sin()
    expected = x[0, 0, 1, 0] * c - x[0, 0, 1, 4] * s
    assert abs(turned[0, 0, 1, 0] - expected) <= 4 * torch.finfo(torch.float32).eps * x.abs().max()


def test_two_sizes_in_one_process_do_not_disturb_each_other():
    small, large = build(spec_of("one key head")), build(spec_of("tiny", rope_theta=500.0))
    ids = tokens(small.spec, 1, 12)
    before = small(ids)
    large(ids)
    assert torch.equal(small(ids), before)


def test_parameters_have_the_names_shapes_and_number_the_specification_says():
    for tie in (False, True):
        spec = spec_of("tiny", tie_embeddings=tie)
        model = Decoder(spec)
        assert {name: tuple(p.shape) for name, p in model.named_parameters()} == expected_shapes(spec)
        assert sum(p.numel() for p in model.parameters()) == spec.n_params


def test_initial_weights_depend_on_seed_and_name_alone():
    spec = spec_of("one key head")
    first, second, other = Decoder(spec), Decoder(spec), Decoder(spec)
    torch.manual_seed(1)
    first.init_weights(5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second.init_weights(5)
    other.init_weights(6)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator was left alone
    for (name, a), b, c in zip(first.named_parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.dim() == 1 or not torch.equal(a, c), name
    deeper = Decoder(spec.model_copy(update={"n_layers": 3}))
    deeper.init_weights(5)
    assert torch.equal(deeper.lm_head.weight, first.lm_head.weight)
    matrix = Decoder(spec_of("tiny", vocab_size=5000))
    matrix.init_weights(0)
    assert matrix.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.01)


def test_scaled_initial_weights_differ_in_what_writes_to_the_residual_stream():
    """Two matrices in each of L blocks, 1/√(2L) as large (GPT-2); all others are the same numbers."""
    spec = spec_of("tiny", n_layers=8)
    normal, scaled = Decoder(spec), Decoder(spec)
    normal.init_weights(5)
    scaled.init_weights(5, scaled=True)
    writing = 0
    for (name, a), b in zip(normal.named_parameters(), scaled.parameters(), strict=True):
        writes = name.endswith((".o_proj.weight", ".down_proj.weight"))
        torch.testing.assert_close(b, a / 4 if writes else a, rtol=1e-6, atol=0)
        writing += writes
    assert writing == 16


def test_computing_in_bfloat16_stays_near_float32():
    model = build(spec_of("tiny"))
    ids = tokens(model.spec, 2, 24)
    expected = model(ids)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(ids)
    assert mixed.dtype == torch.bfloat16
    true = model.bfloat16()(ids)
    for logits in (mixed, true):
        assert (logits.float() - expected).norm() / expected.norm() < 0.05


def test_no_mask_is_made_for_a_whole_sequence(monkeypatch):
    seen = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def watch(*args, **kwargs):
        seen.append((kwargs["attn_mask"], kwargs["is_causal"]))
        return kernel(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    model = build(spec_of("one key head"))
    model(tokens(model.spec, 1, 8))
    assert seen == [(None, True)] * model.spec.n_layers
