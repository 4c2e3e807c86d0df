"""AdamW as in the paper, with the groups that the settings ask for."""

import copy

import pytest
import torch
from support.closeness import assert_close, distance

from pico_schema import ModelSpec
from pico_train.model.decoder import Decoder
from pico_train.training.loss import next_token_loss
from pico_train.training.optimizer import build_optimizer, set_learning_rate


def decoder(tie: bool = False) -> Decoder:
    spec = ModelSpec(
        vocab_size=64, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=32, max_seq_len=32, tie_embeddings=tie
    )
    model = Decoder(spec)
    model.init_weights(0)
    return model


def decayed_names(model: Decoder, optimizer: torch.optim.Optimizer) -> set[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] > 0 for p in group["params"]}


@pytest.mark.parametrize("tie", [False, True])
def test_the_setting_decides_which_parameters_decay(tie):
    model = decoder(tie)
    everything = dict(model.named_parameters())
    expected = {
        "all": set(everything),
        "matrices": {name for name in everything if "norm" not in name},
        "none": set(),
    }
    for decay, names in expected.items():
        optimizer = build_optimizer(model, lr=1e-3, decay=decay)
        assert decayed_names(model, optimizer) == names
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(held) == sorted(map(id, everything.values()))  # each once


def test_frozen_parameters_are_left_out():
    model = decoder()
    model.lm_head.weight.requires_grad_(False)
    optimizer = build_optimizer(model, lr=1e-3)
    assert not any(p is model.lm_head.weight for group in optimizer.param_groups for p in group["params"])


@pytest.mark.parametrize("fused", [None, False])
def test_an_update_is_the_papers(fused):
    """Algorithm 2 of arXiv:1711.05101, written out in float64."""
    model = decoder()
    lr, (b1, b2), eps, decay = 1e-2, (0.8, 0.9), 1e-6, 0.3
    optimizer = build_optimizer(model, lr=1.0, betas=(b1, b2), eps=eps, weight_decay=decay, fused=fused)
    set_learning_rate(optimizer, lr)
    rows = torch.arange(34).view(2, 17) % 64
    weight = model.model.layers[0].self_attn.k_proj.weight
    norm = model.model.norm.weight
    state = {p: (p.detach().double().clone(), 0.0, 0.0) for p in (weight, norm)}
    for t in range(1, 4):
        optimizer.zero_grad()
        next_token_loss(model, rows).backward()
        for parameter, (value, m, v) in state.items():
            gradient = parameter.grad.double()
            m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
            step = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
            reached = decay if parameter is weight else 0.0
            state[parameter] = (value - lr * (step + reached * value), m, v)
        optimizer.step()
    for parameter, (value, _, _) in state.items():
        # Three updates of lr × (about 1): each rounds to the weight's size and to the update's.
        assert_close(parameter, value, factor=64, dtype=torch.float32)
        assert distance(torch.ones_like(parameter), value, torch.float32) > 1e4  # it did move


def test_the_fused_update_equals_the_plain_one():
    one, two = decoder(), decoder()
    rows = torch.arange(34).view(2, 17) % 64
    for model, fused in ((one, True), (two, False)):
        optimizer = build_optimizer(model, lr=1e-3, fused=fused)
        for _ in range(5):
            optimizer.zero_grad()
            next_token_loss(model, rows).backward()
            optimizer.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert_close(a, b, factor=64)


def test_the_learning_rate_reaches_every_group():
    model = decoder()
    optimizer = build_optimizer(model, lr=1e-3)
    before = copy.deepcopy(model.state_dict())
    set_learning_rate(optimizer, 0.0)
    next_token_loss(model, torch.arange(34).view(2, 17)).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]


def test_the_defaults_are_those_of_the_configuration():
    from pico_train.config import RunConfig

    settings, optimizer = RunConfig().training.optimizer, build_optimizer(decoder(), lr=1e-3)
    assert len(optimizer.param_groups) == 2
    for group, decay in zip(optimizer.param_groups, (settings.weight_decay, 0.0), strict=True):
        assert group["betas"] == (settings.beta1, settings.beta2) == (0.9, 0.95)
        assert (group["eps"], group["lr"], group["weight_decay"]) == (settings.eps, 1e-3, decay)
        assert group["fused"] is True and group["amsgrad"] is False and group["maximize"] is False


@pytest.mark.parametrize(("decay", "expected"), [("all", [0.2]), ("none", [0.0]), ("matrices", [0.2, 0.0])])
def test_a_group_without_parameters_is_left_out(decay, expected):
    optimizer = build_optimizer(decoder(), lr=1e-3, weight_decay=0.2, decay=decay)
    assert [group["weight_decay"] for group in optimizer.param_groups] == expected


def test_parameters_keep_the_models_order():
    model = decoder()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    groups = build_optimizer(model, lr=1e-3).param_groups
    assert [id(p) for p in groups[0]["params"]] == [id(p) for p in matrices]
