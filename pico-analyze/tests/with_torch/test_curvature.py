"""Curvature and chains: against the exact Hessian, normal distributions known in closed form, and what cannot be."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import pico_analyze
import pico_analyze.models
from pico_analyze.errors import PluginError, UsageError
from pico_analyze.models.curvature import batches_of, langevin, mean_loss, read_chains, read_hessian
from pico_analyze.probes.chains import inverse_temperature, learning_coefficient, split_r_hat

FAMILIES = {
    "llama": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_key_value_heads": 1},
    "gpt_neox": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1},
    "gpt2": {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16},
}
V, T = 10, 6


def make(name: str, seed: int = 0) -> transformers.PreTrainedModel:
    more = {"vocab_size": V, "bos_token_id": 0, "eos_token_id": 1}
    if name != "gpt2":
        more |= {"num_attention_heads": 2, "max_position_embeddings": 16}
    config = transformers.AutoConfig.for_model(name, **FAMILIES[name] | more)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def rows(n: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, (n, T + 1))


def exact_hessian(model: nn.Module, ids: np.ndarray) -> np.ndarray:
    """By reverse mode twice, all its lines side by side, in float64, of all rows at once."""
    model = model.double()
    weights = list(model.parameters())
    loss = mean_loss(model, torch.as_tensor(ids))
    flat = torch.cat([one.flatten() for one in torch.autograd.grad(loss, weights, create_graph=True)])
    each = torch.autograd.grad(
        flat, weights, torch.eye(len(flat), dtype=flat.dtype), is_grads_batched=True, allow_unused=True
    )
    zeros = (torch.zeros(len(flat), *w.shape, dtype=flat.dtype) for w in weights)
    return torch.cat([(z if g is None else g).flatten(1) for g, z in zip(each, zeros, strict=True)], dim=1).numpy()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("batch_size", [2, 5])
def test_eigenvalue_and_trace_are_those_of_the_exact_hessian(name: str, batch_size: int) -> None:
    """Batches of 2, 2 and 1 rows, or of all: the mean is over tokens, not over batches."""
    ids = rows()
    expected = exact_hessian(make(name), ids)
    assert np.allclose(expected, expected.T, atol=1e-6)
    model = make(name)
    size = len(expected)
    found = read_hessian(model, batches_of(ids, batch_size, "cpu"), iterations=60, vectors=100, seed=0)
    top = np.linalg.eigvalsh(expected)[-1]
    assert found.top == pytest.approx(top, rel=1e-3)
    assert abs(found.top - top) <= found.residual + 1e-4 * abs(top), "the residual bounds the error"
    off_diagonal = 2 * ((expected**2).sum() - (np.diag(expected) ** 2).sum())  # variance of vᵀ H v, v of ±1
    assert found.trace == pytest.approx(np.trace(expected), abs=5 * math.sqrt(off_diagonal / 100))
    assert found.trace_error == pytest.approx(math.sqrt(off_diagonal / 100), rel=0.4)
    assert size > 300


def quadratic(curvatures: np.ndarray):
    """Weights at the minimum of ½ Σ h_i w_i², and that loss."""
    h = torch.as_tensor(curvatures)
    weights = [nn.Parameter(torch.zeros(len(h), dtype=torch.float64))]
    return weights, lambda batch: 0.5 * (h * weights[0] ** 2).sum() + batch


def stationary(h: np.ndarray, n_beta: float, lr: float, localization: float) -> float:
    """n β E[½ Σ h w²]: a step is w ← (1 - a/2) w + N(0, lr), a = lr (n β h + γ), whose variance is lr / (a - a²/4)."""
    a = lr * (n_beta * h + localization)
    return float(n_beta * (0.5 * h * lr / (a - a**2 / 4)).sum())


@pytest.mark.parametrize("flat", [0, 15])
def test_the_coefficient_of_a_quadratic_is_half_the_dimensions_that_are_not_flat(flat: int) -> None:
    h = np.concatenate([np.linspace(0.5, 2.0, 30 - flat), np.zeros(flat)])
    weights, loss = quadratic(h)
    how = {"lr": 1e-3, "localization": 5.0, "n_beta": 200.0}
    losses = langevin(weights, loss, [torch.zeros(())], chains=6, draws=600, burn_in=100, seed=0, **how)
    assert split_r_hat(losses) < 1.1
    value, error = learning_coefficient(losses, 0.0, 200.0)
    expected = stationary(h, **how)
    assert expected == pytest.approx((30 - flat) / 2, rel=0.05), "up to the step size and the localization"
    assert 0 < error < 1
    assert value == pytest.approx(expected, abs=5 * error)
    assert weights[0].abs().max() == 0, "the weights are as they were"


def test_equal_seeds_give_equal_chains_and_leave_the_random_state() -> None:
    weights, loss = quadratic(np.ones(3))
    how = {"chains": 2, "draws": 5, "burn_in": 2, "lr": 1e-3, "localization": 1.0, "n_beta": 10.0}
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first, again = (langevin(weights, loss, [torch.zeros(())], seed=3, **how) for _ in range(2))
    other = langevin(weights, loss, [torch.zeros(())], seed=4, **how)
    assert (first == again).all() and (first != other).any()
    assert (first[1] != first[0]).any(), "chains differ"
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_chain_that_diverges_has_nan_from_there() -> None:
    weights, loss = quadratic(np.full(3, 1e4))
    how = {"chains": 2, "draws": 400, "burn_in": 0, "lr": 1e3, "localization": 0.0, "n_beta": 1e6}
    losses = langevin(weights, loss, [torch.zeros(())], seed=0, **how)
    assert np.isfinite(losses[:, 0]).all() and np.isnan(losses[:, -1]).all()
    assert weights[0].abs().max() == 0


def test_a_chain_takes_batches_of_all_rows() -> None:
    """The losses along a chain that hardly moves are those of the batches; the loss before is that of all rows."""
    model, ids = make("llama"), rows(6)
    batches = batches_of(ids, 2, "cpu")
    how = {"chains": 2, "draws": 60, "burn_in": 0, "lr": 1e-16, "localization": 0.0}
    found = read_chains(model, batches, n_beta=1.0, how=how, seed=0)
    with torch.no_grad():
        each = [float(mean_loss(model, batch)) for batch in batches]
    assert found.loss_before == pytest.approx(np.mean(each), rel=1e-6)
    nearest = np.abs(found.losses_CD[..., None] - np.array(each)).min(-1)
    assert nearest.max() < 1e-5
    assert len(np.unique(np.abs(found.losses_CD[0, :, None] - np.array(each)).argmin(-1))) == 3


@pytest.fixture
def run(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for step in (0, 10):
        make("llama", seed=step).save_pretrained(tmp_path / "m" / f"checkpoint-{step}")
    lines = "\n".join(json.dumps({"input_ids": row.tolist()}) for row in rows())
    (tmp_path / "rows.jsonl").write_text(lines)
    return tmp_path / "m"


def test_rows_say_what_was_measured_and_how_sure_it_is(run) -> None:
    asked = {"data": "rows.jsonl", "probes": ["curvature", "llc"], "out": "analysis"}
    params = {"iterations": 12, "vectors": 4, "chains": 2, "draws": 12, "burn_in": 2, "lr": 1e-7, "localization": 1e6}
    frame = pico_analyze.behave(run, **asked, probe_params=params)
    assert set(frame["metric"]) == {"hessian_top", "hessian_trace", "llc"} and set(frame["step"]) == {0, 10}
    top = frame[frame["metric"] == "hessian_top"].set_index("step")
    expected = np.linalg.eigvalsh(exact_hessian(make("llama", seed=10), rows()))[-1]
    assert top.loc[10, "value"] == pytest.approx(expected, rel=0.05)
    assert {"iterations", "vectors", "seed", "rows"} <= json.loads(top.loc[10, "params"]).keys()
    for row in frame[frame["metric"] == "llc"].to_dict("records"):
        extra = json.loads(row["extra"])
        assert extra["n_beta"] == pytest.approx(inverse_temperature(5 * T))
        if math.isnan(row["value"]):
            assert "the chains have not converged" in row["reason"] and "not_converged" in extra
        else:
            assert extra["r_hat"] <= 1.1
    traces = sorted((frame.attrs.get("directory") or run.parent / "analysis").rglob("llc/*.safetensors"))
    assert len(traces) == 2, "the losses of each step are kept"
    again = pico_analyze.behave(run, **asked, probe_params=params, budget=0)
    assert again["value"].equals(frame["value"]), "what is there costs nothing"
    other = pico_analyze.behave(run, **asked, probe_params=params | {"draws": 13}, steps="10")
    assert set(other[other["metric"] == "llc"]["digest"]).isdisjoint(frame["digest"]), "another question"


def test_chains_that_drift_have_no_value(run) -> None:
    """From weights that are no minimum, without a burn-in: the losses fall all the way."""
    params = {"chains": 2, "draws": 40, "burn_in": 0, "lr": 1e-4, "localization": 1.0, "n_beta": 1000.0}
    frame = pico_analyze.behave(run, data="rows.jsonl", probes="llc", probe_params=params, steps="0", batch_size=5)
    (row,) = frame.to_dict("records")
    extra = json.loads(row["extra"])
    assert math.isnan(row["value"]) and "split R-hat" in row["reason"] and extra["r_hat"] > 1.1
    assert math.isfinite(extra["not_converged"])


def test_a_step_size_that_diverges_is_said(run) -> None:
    params = {"chains": 2, "draws": 20, "burn_in": 0, "lr": 900.0, "n_beta": 1e9}
    frame = pico_analyze.behave(run, data="rows.jsonl", probes="llc", probe_params=params, steps="0")
    (row,) = frame.to_dict("records")
    assert math.isnan(row["value"]) and row["reason"] == "a chain met what is not finite: give a smaller llc.lr"


def test_nothing_costly_begins_before_it_is_agreed_to(run) -> None:
    with pytest.raises(UsageError, match=r"curvature at 2 steps .*: more than the budget of 0 min: give --budget \d"):
        pico_analyze.behave(run, data="rows.jsonl", probes="curvature", budget=0)
    assert "curvature" not in set(pico_analyze.behave(run, data="rows.jsonl")["site"]), "nor where no probe is named"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"probes": "llc", "probe_params": {"chain": 3}},
            "no probe here has a parameter 'chain'; did you mean 'chains'?",
        ),
        ({"probes": "llc", "probe_params": {"chains": 1}}, "probe llc: chains=1 is below 2"),
        ({"probes": "attention", "probe_params": {"draws": 9}}, "no probe here has a parameter 'draws'"),
        ({"probes": "curvature", "dtype": "bfloat16"}, "probe curvature needs float32"),
        ({"probes": "induction", "probe_params": {"tokens": "sen"}}, "tokens=sen is not one of all, seen"),
    ],
)
def test_what_does_not_fit_is_said(run, more: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        pico_analyze.behave(run, data="rows.jsonl", **more)


@pytest.mark.parametrize("missing", ["devinterp.optim", "hessian_eigenthings"])
def test_without_the_extra_one_sentence_says_what_to_install(
    run, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "pico_analyze.models.curvature")
    monkeypatch.delattr(pico_analyze.models, "curvature")
    with pytest.raises(PluginError, match=r"^curvature needs .*: pip install 'pico-analyze\[curvature\]'$"):
        pico_analyze.behave(run, data="rows.jsonl", probes="llc")
