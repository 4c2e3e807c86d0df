"""μP: the factors are those of the paper, and what is trained with them folded in is what its multipliers train."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import largest_difference
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from pico_schema import ModelSpec, layout
from pico_train import load_decoder
from pico_train.config import OptimizerConfig
from pico_train.model.decoder import Decoder
from pico_train.model.huggingface import config_json
from pico_train.model.width import Width
from pico_train.training.optimizer import optimizer_of, set_learning_rate

SPEC = ModelSpec(vocab_size=48, d_model=32, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=64, max_seq_len=16)
WIDTH = Width.of(SPEC, base_d_model=8)
EMBED, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.layers.1.input_layernorm.weight"
QUERY, UP = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"


def test_the_factors_at_four_times_the_width_are_those_of_table_8():
    """Deviation: matrices 1/√m. Adam: matrices 1/m, else 1. SGD: in and out m. Multipliers, folded: head 1/m, queries
    1/√m, since the width of a head is four times the base's as well."""
    assert Width(4.0, 4.0) == WIDTH
    assert [WIDTH.multiplier(name) for name in (EMBED, HEAD, NORM, QUERY, UP)] == [1, 1 / 4, 1, 1 / 2, 1]
    assert [WIDTH.init_factor(name) for name in (EMBED, HEAD, QUERY, UP)] == [1, 1 / 4, 1 / 4, 1 / 2]
    assert [WIDTH.lr_factor(name, "adam") for name in (EMBED, HEAD, NORM, QUERY, UP)] == [1, 1 / 4, 1, 1 / 8, 1 / 4]
    assert [WIDTH.lr_factor(name, "gradient") for name in (EMBED, HEAD, NORM, QUERY, UP)] == [4, 1 / 4, 4, 1 / 4, 1]
    assert [WIDTH.lr_factor(name, "spectral") for name in (QUERY, UP)] == [1 / 2, 1]
    assert [WIDTH.lr_factor(name, "rms") for name in (QUERY, UP)] == [1 / 4, 1 / 2]
    assert [WIDTH.eps_factor(name) for name in (EMBED, HEAD, QUERY, UP)] == [1, 4, 2, 1]


def test_heads_that_stay_as_wide_leave_their_queries_alone():
    fixed = Width.of(SPEC, base_d_model=8, base_head_dim=16)
    assert fixed.multiplier(QUERY) == 1 and fixed.lr_factor(QUERY, "adam") == fixed.lr_factor(UP, "adam")


@given(st.sampled_from([EMBED, HEAD, NORM, QUERY, UP]), st.sampled_from(["adam", "gradient", "spectral", "rms"]))
def test_at_the_base_nothing_changes(name, update):
    base = Width.of(SPEC, base_d_model=32)
    assert (base.init_factor(name), base.lr_factor(name, update), base.eps_factor(name)) == (1, 1, 1)


@given(st.integers(0, 10), st.integers(0, 10), st.sampled_from([EMBED, HEAD, NORM, QUERY, UP]))
def test_two_widenings_are_one(first, second, name):
    """From base to middle and from middle to wide is from base to wide."""
    one, two, both = (Width(2.0**n, 2.0**n) for n in (first, second, first + second))
    assert both.init_factor(name) == pytest.approx(one.init_factor(name) * two.init_factor(name))
    for update in ("adam", "gradient", "spectral", "rms"):
        assert both.lr_factor(name, update) == pytest.approx(one.lr_factor(name, update) * two.lr_factor(name, update))


def test_initial_weights_have_the_deviations_of_the_rule_and_are_the_bases_numbers():
    plain, wide = Decoder(SPEC), Decoder(SPEC)
    plain.init_weights(3, scaled=True)
    wide.init_weights(3, scaled=True, width=WIDTH)
    for (name, one), two in zip(plain.named_parameters(), wide.parameters(), strict=True):
        assert torch.equal(two, one * (WIDTH.init_factor(name) if one.dim() > 1 else 1.0)), name


def test_one_matrix_for_embedding_and_head_is_refused():
    with pytest.raises(ValueError, match="cannot share a matrix"):
        Width.of(SPEC.model_copy(update={"tie_embeddings": True}), base_d_model=8)


LR, DECAY, EPS, M = 1e-2, 0.1, 1e-6, 4


def with_multipliers(start: dict[str, torch.Tensor]) -> tuple[LlamaForCausalLM, torch.optim.Optimizer]:
    """transformers' Llama with table 8 as it is written: multipliers in the forward pass, rates by group.

    Scores are divided by head_dim / √(head_dim of the base) = 16 / √4 in place of √16: half as large.
    """
    model = LlamaForCausalLM(LlamaConfig(**config_json(SPEC)))
    unfolded = {name: weight.clone() for name, weight in start.items()}
    unfolded[HEAD] *= M
    for name in unfolded:
        if "q_proj" in name:
            unfolded[name] *= 2
    model.load_state_dict(unfolded)
    model.lm_head.register_forward_hook(lambda _m, _a, out: out / M)
    for block in model.model.layers:
        block.self_attn.q_proj.register_forward_hook(lambda _m, _a, out: out / 2)
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for n, p in named.items() if "proj" in n], "lr": LR / M, "weight_decay": DECAY * M},
        {"params": [named[EMBED], named[HEAD]], "lr": LR, "weight_decay": DECAY},
        {"params": [p for n, p in named.items() if "norm" in n], "lr": LR, "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=EPS)


def test_what_trains_folded_is_what_the_papers_multipliers_train():
    ours = Decoder(SPEC)
    ours.init_weights(5, width=WIDTH)
    theirs, plain = with_multipliers(ours.state_dict())
    optimizer = optimizer_of(ours, OptimizerConfig(lr=LR, weight_decay=DECAY, eps=EPS), WIDTH)
    set_learning_rate(optimizer, LR)
    start = {name: weight.clone() for name, weight in ours.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        rows = torch.randint(48, (4, 17), generator=generator)
        for model, stepper in ((lambda ids: ours(ids), optimizer), (lambda ids: theirs(ids).logits, plain)):
            stepper.zero_grad()
            torch.nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()
            stepper.step()
    folded = {name: weight.detach().clone() for name, weight in theirs.state_dict().items()}
    folded[HEAD] /= M
    for name in folded:
        if "q_proj" in name:
            folded[name] /= 2
    assert largest_difference(ours.state_dict(), start) > 5 * LR, "it did move"
    assert largest_difference(ours.state_dict(), folded) < 1e-5
    ids = torch.randint(48, (2, 16), generator=generator)
    with torch.no_grad():
        expected, found = theirs(ids).logits, ours(ids)
        assert (found - expected).abs().max() < 1e-5 < 1e-2 < found.abs().max()
        plain_llama = LlamaForCausalLM(LlamaConfig(**config_json(SPEC)))
        plain_llama.load_state_dict(ours.state_dict())
        assert (plain_llama(ids).logits - expected).abs().max() < 1e-5


def test_a_run_is_sealed_as_a_plain_llama_and_goes_on_bit_for_bit(text, tmp_path):
    from support.training_runs import logged, weights

    mup = {"rule": "mup", "base_d_model": 8}
    runs = [config(tmp_path / name, text, training__scaling=mup) for name in ("whole", "parts")]
    assert launch(train_until, runs[0]) == [0]
    assert [launch(train_until, runs[1], 8), launch(train_until, runs[1])] == [[143], [0]]
    one, two = tmp_path / "whole/tiny", tmp_path / "parts/tiny"
    assert logged(one) == logged(two) and largest_difference(weights(one, 14), weights(two, 14)) == 0
    expected = Decoder(runs[0].spec)
    expected.init_weights(runs[0].sub_seed("weights"), width=Width(2.0, 2.0))
    assert largest_difference(weights(one, 0), expected.state_dict()) == 0
    sealed = one / layout.checkpoint_dir(14)
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad():
        ours, theirs = load_decoder(sealed)(ids), AutoModelForCausalLM.from_pretrained(sealed)(ids).logits
    assert (ours - theirs).abs().max() < 1e-5
    state = torch.load(sealed / "training_state/state.ckpt", weights_only=True)["optimizer"]
    factors = {name: group.get("lr_factor", 1.0) for group in state["param_groups"] for name in group["param_names"]}
    assert [factors[name] for name in (EMBED, HEAD, NORM, UP)] == [1, 1 / 2, 1, 1 / 2]
    assert factors[QUERY] == pytest.approx(math.sqrt(1 / 8))
