"""What is captured of weights: gradients, AdamW's moments, and in which number format they lie on the host."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from support.closeness import assert_close

from pico_schema import ModelSpec
from pico_schema.sites import Site
from pico_train.config import CapturesConfig
from pico_train.model.decoder import Decoder
from pico_train.training import capture
from pico_train.training.optimizer import build_optimizer

SITES = [Site.parse(name) for name in ("embed", "layers.0.resid", "layers.0.mlp.down", "norm.final", "head")]
WEIGHTED = {"embed", "layers.0.mlp.down", "norm.final", "head"}
"""A residual stream has no weight; sites after it do."""
B1, B2 = 0.75, 0.9375


def engine(*, tied=False, rank=0):
    """A model whose gradients are given, and an optimizer that has not yet updated it."""
    shape = {"vocab_size": 10, "d_model": 8, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 12}
    decoder = Decoder(ModelSpec(**shape, max_seq_len=8, tie_embeddings=tied))
    decoder.init_weights(0)
    generator = torch.Generator().manual_seed(1)
    for parameter in decoder.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer = build_optimizer(decoder, lr=1e-3, betas=(B1, B2))
    return SimpleNamespace(decoder=decoder, optimizer=optimizer, is_rank_zero=rank == 0, world_size=1)


def gradients_by_site(model):
    decoder = model.decoder
    found = {"embed": decoder.model.embed_tokens.weight, "norm.final": decoder.model.norm.weight}
    found |= {"layers.0.mlp.down": decoder.model.layers[0].mlp.down_proj.weight}
    found |= {"head": found["embed"] if decoder.lm_head.weight is found["embed"] else decoder.lm_head.weight}
    return {name: parameter.grad.clone() for name, parameter in found.items()}


@pytest.mark.parametrize("tied", [False, True])
def test_after_one_update_the_moments_are_parts_of_the_gradient_and_of_its_square(tied):
    """Kingma & Ba 2015, algorithm 1, t = 1: m = (1 - β1) g and v = (1 - β2) g²."""
    model = engine(tied=tied)
    gradients = gradients_by_site(model)
    model.optimizer.step()
    found = capture.moments(model, SITES)
    assert found.keys() == {f"{name}/{site}" for name in ("exp_avg", "exp_avg_sq") for site in WEIGHTED}
    for site, gradient in gradients.items():
        assert_close(found[f"exp_avg/{site}"], (1 - B1) * gradient, factor=4)
        assert_close(found[f"exp_avg_sq/{site}"], (1 - B2) * gradient**2, factor=4)


def test_moments_that_were_taken_are_not_touched_by_later_updates():
    model = engine()
    model.optimizer.step()
    found = capture.moments(model, SITES)
    before = {name: tensor.clone() for name, tensor in found.items()}
    model.optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.items())


def test_before_an_update_there_are_no_moments():
    assert capture.moments(engine(), SITES) == {}


def test_moments_in_another_number_format_are_stored_in_float32():
    model = engine()
    model.optimizer.step()
    for state in model.optimizer.state.values():
        state["exp_avg"] = state["exp_avg"].double()
    assert {tensor.dtype for tensor in capture.moments(model, SITES).values()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_those_of_the_sites_weights_rounded_to_the_number_format(dtype):
    model = engine()
    found = capture.gradients(model, SITES, dtype)
    expected = gradients_by_site(model)
    assert found.keys() == {f"gradients/{site}" for site in WEIGHTED}
    for site, gradient in expected.items():
        assert torch.equal(found[f"gradients/{site}"], gradient.to(dtype)), site


def test_a_weight_without_a_gradient_is_named():
    model = engine()
    model.decoder.model.norm.weight.grad = None
    with pytest.raises(AssertionError, match=r"no gradient at norm\.final"):
        capture.gradients(model, SITES, torch.float32)


def test_only_rank_zero_has_them():
    model = engine(rank=1)
    model.optimizer.step()
    assert capture.gradients(model, SITES, torch.float32) == capture.moments(model, SITES) == {}


@pytest.mark.parametrize(("name", "dtype"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_captures_are_stored_in_the_number_format_of_the_configuration(name, dtype):
    assert capture.storage_dtype(CapturesConfig(dtype=name)) == dtype


def test_a_copy_on_the_host_lies_row_by_row_and_is_no_view():
    given = torch.arange(6.0).view(2, 3).T.requires_grad_()
    copied = capture.to_host(given, torch.float32)
    assert copied.is_contiguous() and not copied.requires_grad and copied.tolist() == given.tolist()
    assert copied.data_ptr() != given.data_ptr()
    assert capture.to_host(copied, torch.float32).data_ptr() != copied.data_ptr()


def test_the_sites_of_a_configuration_are_those_of_every_layer_in_the_order_of_computation():
    found = capture.captured_sites(CapturesConfig(sites=["head", "resid", "embed"]), 2)
    assert [str(site) for site in found] == ["embed", "layers.0.resid", "layers.1.resid", "head"]
