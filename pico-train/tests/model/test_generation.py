"""Sampling: what each setting leaves possible, and that a seed decides the rest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from pico_schema import ModelSpec
from pico_train.model.decoder import Decoder
from pico_train.model.generation import generate, restrict, sample
from pico_train.model.huggingface import config_json

SPEC = ModelSpec(vocab_size=61, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=64, max_seq_len=48)

EPS = torch.finfo(torch.float32).eps


def decoder() -> Decoder:
    model = Decoder(SPEC)
    model.init_weights(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() == 2 else 1)
    return model


def prompt(rows: int = 2, length: int = 5) -> torch.Tensor:
    return torch.randint(0, SPEC.vocab_size, (rows, length), generator=torch.Generator().manual_seed(3))


def test_greedy_equals_transformers_and_equals_recomputing_everything():
    model = decoder()
    out = generate(model, prompt(), 20)
    reference = LlamaForCausalLM(LlamaConfig(**config_json(SPEC)))
    reference.load_state_dict(model.state_dict())
    expected = reference.generate(
        prompt(), attention_mask=torch.ones_like(prompt()), max_new_tokens=20, do_sample=False, pad_token_id=0
    )
    assert torch.equal(out, expected)
    slow = prompt()
    for _ in range(20):
        slow = torch.cat((slow, model(slow)[:, -1].argmax(-1, keepdim=True)), 1)
    assert torch.equal(out, slow)


def test_a_seed_decides_the_sample():
    model = decoder()
    first, again, other = (generate(model, prompt(), 20, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(99)
    assert torch.equal(generate(model, prompt(), 20, temperature=1.0, seed=1), first)


@given(v=st.integers(2, 40), k=st.integers(1, 40), p=st.floats(0.01, 1.0), seed=st.integers(0, 1000))
def test_top_k_and_top_p_leave_what_transformers_leaves(v, k, p, seed):
    logits = 3 * torch.randn(2, v, generator=torch.Generator().manual_seed(seed))
    ours = restrict(logits, top_k=k, top_p=None)
    assert torch.equal(ours, TopKLogitsWarper(top_k=k)(None, logits.clone()))
    assert (ours.isfinite().sum(-1) == min(k, v)).all()
    ours = restrict(logits, top_k=None, top_p=p)
    assert ours.isfinite().any(-1).all()
    kept = torch.where(ours.isfinite(), logits.softmax(-1), 0)
    assert (kept.sum(-1) >= p - v * EPS).all()  # enough
    assert ((kept.sum(-1) - torch.where(kept > 0, kept, 2).amin(-1)) < p + v * EPS).all()  # and not one too many
    if p < 1:
        theirs = TopPLogitsWarper(top_p=p)(None, logits.clone())
        border = ((logits.softmax(-1).sort(-1).values.cumsum(-1) - (1 - p)).abs() < v * EPS).any()
        assert border or torch.equal(ours, theirs)


def test_of_tokens_that_tie_exactly_k_stay():
    assert restrict(torch.zeros(1, 10), top_k=3, top_p=None).isfinite().sum() == 3


def test_the_temperature_shapes_the_draws():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).expand(20_000, 3)
    for temperature in (0.5, 1.0, 2.0):
        drawn = sample(logits, temperature=temperature, generator=torch.Generator().manual_seed(0))
        expected = torch.softmax(logits[0] / temperature, -1)
        # 20,000 draws: a standard error of at most 0.0036; four of them are allowed.
        assert torch.allclose(torch.bincount(drawn, minlength=3) / 20_000, expected, atol=0.0145)
    assert (sample(logits, temperature=0.0, generator=torch.Generator()) == 0).all()


def test_top_k_of_one_and_a_tiny_top_p_are_greedy():
    model = decoder()
    greedy = generate(model, prompt(), 12)
    assert torch.equal(generate(model, prompt(), 12, temperature=2.0, top_k=1, seed=4), greedy)
    assert torch.equal(generate(model, prompt(), 12, temperature=2.0, top_p=1e-6, seed=4), greedy)


def test_a_row_that_has_ended_stays_ended_and_all_ended_ends_the_call():
    model = decoder()
    free = generate(model, prompt(1), 20)[0, 5:]
    eos = int(free[3])
    first = int((free == eos).nonzero()[0])
    assert generate(model, prompt(1), 20, eos_id=eos)[0, 5:].tolist() == free[: first + 1].tolist()
    both = generate(model, prompt(2), 20, eos_id=int(generate(model, prompt(2), 20)[0, 8]))
    ended = both[0, 5:].tolist()
    eos = ended[-1] if len(both[0]) < 25 else int(generate(model, prompt(2), 20)[0, 8])
    assert set(ended[ended.index(eos) :]) == {eos}


def test_the_model_is_left_in_the_mode_it_was_in():
    model = decoder().train()
    generate(model, prompt(), 2)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": 44}, "at most 43 new tokens"),
        ({"max_new_tokens": -1}, "negative"),
        ({"temperature": -0.5}, "temperature=-0.5"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.5}, "top_p=1.5"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(decoder(), prompt(), **({"max_new_tokens": 4} | arguments))


def test_prompts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="no tokens"):
        generate(decoder(), torch.zeros(1, 0, dtype=torch.long), 3)
    for bad in (-1, 61):
        with pytest.raises(ValueError, match="vocabulary of 61"):
            generate(decoder(), torch.tensor([[bad]]), 3)
