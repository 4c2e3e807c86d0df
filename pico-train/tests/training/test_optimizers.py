"""Every optimizer trains as torch's own does in a plain loop, keeps what the plan says, and goes on bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close, largest_difference
from support.steps import batch, fit, settings
from support.tiny import config
from support.training_runs import (
    logged,
    train_again,
    train_until,
    train_with_exact_directions,
    training_state,
    weights,
)
from support.worlds import launch

from pico_schema import ModelSpec, layout
from pico_train.config import OptimizerConfig, RunConfig, layers
from pico_train.errors import ConfigError
from pico_train.model.decoder import Decoder
from pico_train.plan import plan
from pico_train.training.muon import MuonWithAdamW
from pico_train.training.optimizer import optimizer_of

NAMES = ("adamw", "muon", "sgd", "adafactor")
PEAK, DECAY, CLIP, WARMUP, STEPS = 0.02, 0.3, 0.4, 2, 6
REST = 0.004


def linear(step: int) -> float:
    """From zero up to PEAK at step 2, and down to zero at step 6."""
    return PEAK * min(step / WARMUP, (STEPS - step) / (STEPS - WARMUP))


def plain_optimizers(name: str, named: dict[str, torch.Tensor]) -> list[tuple[torch.optim.Optimizer, float]]:
    """torch's own, each with its peak learning rate over PEAK."""
    norms = [p for n, p in named.items() if "norm" in n]
    body = [p for n, p in named.items() if "proj" in n]
    tables = [p for n, p in named.items() if "embed" in n or "lm_head" in n]
    assert len(norms) + len(body) + len(tables) == len(named)

    def groups(*decaying: list[torch.Tensor]) -> list[dict]:
        return [
            {"params": [p for each in decaying for p in each], "weight_decay": DECAY},
            {"params": norms, "weight_decay": 0.0},
        ]

    if name == "muon":
        muon = torch.optim.Muon(body, lr=0.0, weight_decay=DECAY, momentum=0.9, adjust_lr_fn="match_rms_adamw")
        return [(muon, 1.0), (torch.optim.AdamW(groups(tables), lr=0.0, betas=(0.8, 0.97), eps=1e-6), REST / PEAK)]
    every = groups(body, tables)
    if name == "adamw":
        return [(torch.optim.AdamW(every, lr=0.0, betas=(0.8, 0.97), eps=1e-6), 1.0)]
    if name == "sgd":
        return [(torch.optim.SGD(every, lr=0.0, momentum=0.9, nesterov=True), 1.0)]
    return [(torch.optim.Adafactor(every, lr=0.0, beta2_decay=-0.7), 1.0)]


OWN = {
    "adamw": ["beta1=0.8", "beta2=0.97", "eps=1e-6"],
    "muon": ["beta1=0.8", "beta2=0.97", "eps=1e-6", "momentum=0.9", f"rest_lr={REST}"],
    "sgd": ["momentum=0.9", "nesterov=true"],
    "adafactor": ["beta2_decay=-0.7"],
}


@pytest.mark.parametrize("name", NAMES)
def test_each_trains_as_torchs_own_in_a_plain_loop(name, monkeypatch):
    """Clipping, weight decay and schedule are at work.

    Muon's directions are taken in float32, in both loops: in bfloat16 gradients that differ in their last bit, as they
    do between processors, give some of them another direction altogether.
    """
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    chosen = [f"name={name}", f"lr={PEAK}", f"weight_decay={DECAY}", *OWN[name]]
    course = ["training.schedule.name=linear", f"training.schedule.warmup_steps={WARMUP}"]
    asked = [*(f"training.optimizer.{each}" for each in chosen), *course, f"training.grad_clip={CLIP}"]
    run = settings(STEPS, *asked)
    happened = fit(run)
    model = Decoder(run.spec)
    model.load_state_dict(happened.weights[0])
    named = dict(model.named_parameters())
    made = plain_optimizers(name, named)
    norms, moved = [], 0.0
    for step in range(STEPS):
        rows = batch(step).input_ids
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(named.values(), CLIP).item())
        for optimizer, part in made:
            for group in optimizer.param_groups:
                group["lr"] = part * linear(step)
            optimizer.step()
        moved += linear(step)
        # Rounding of gradients, which Muon's iteration and small second moments turn into a part of an update.
        found = happened.weights[step + 1]
        assert largest_difference(found, {n: p.detach() for n, p in named.items()}) <= 1e-6 + moved / 100, step
    assert max(norms) > CLIP, "clipping is at work"
    assert largest_difference(happened.weights[-1], happened.weights[0]) > (1e-4 if name == "sgd" else 1e-2)


# ---------------------------------------------------------------- Muon


def matrices(seed: int, out: int, inner: int, count: int = 2) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.nn.Parameter(torch.randn(out, inner, generator=generator)) for _ in range(count)]
    for parameter in made:
        parameter.grad = torch.randn(out, inner, generator=generator)
    return made


def test_muon_on_a_toy_is_torchs_bit_for_bit():
    one, two = matrices(1, 6, 4, 3), matrices(1, 6, 4, 3)
    groups = [{"params": one[:2], "weight_decay": 0.1}], [{"params": one[2:], "weight_decay": 0.2}]
    together = MuonWithAdamW(*groups, muon={"lr": 0.1, "momentum": 0.8}, adamw={"lr": 0.03})
    apart = [torch.optim.Muon(two[:2], lr=0.1, momentum=0.8, weight_decay=0.1),
             torch.optim.AdamW(two[2:], lr=0.03, weight_decay=0.2)]  # fmt: skip
    for _ in range(3):
        together.step()
        for optimizer in apart:
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("out", "inner"), [(5, 5), (12, 4), (4, 12)])
@pytest.mark.parametrize(("adjust", "scale"), [
    ("original", lambda out, inner: math.sqrt(max(1, out / inner))),
    ("match_rms_adamw", lambda out, inner: 0.2 * math.sqrt(max(out, inner))),
])  # fmt: skip
def test_an_update_of_muon_has_singular_values_near_the_rate(out: int, inner: int, adjust: str, scale: Callable):
    """Five iterations of its polynomial take singular values from 0.05 to 1 to some near 1: written out here."""
    [parameter] = matrices(3, out, inner, 1)
    left, _, right = torch.linalg.svd(parameter.grad, full_matrices=False)
    sizes = torch.linspace(1.0, 0.2, len(_))
    parameter.grad = left @ torch.diag(sizes) @ right
    before = parameter.detach().clone()
    other = torch.nn.Parameter(torch.ones(2))
    optimizer = MuonWithAdamW(
        [{"params": [parameter], "weight_decay": 0.0}], [{"params": [other]}],
        muon={"lr": 0.5, "adjust_lr_fn": adjust}, adamw={"lr": 0.1},
    )  # fmt: skip
    optimizer.step()
    update = (before - parameter.detach()).double() / (0.5 * scale(out, inner))
    x = sizes.double() / sizes.double().norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    expected = left.double() @ torch.diag(x) @ right.double()
    # bfloat16 products, fifteen of them: a few of its epsilons (2^-7) of the largest value, 1.2.
    assert (update - expected).abs().max() < 0.06
    sizes = torch.linalg.svdvals(update)
    assert sizes.min() > 0.6 and sizes.max() < 1.3


@given(st.floats(1e-3, 1e3), st.integers(0, 20))
def test_muon_does_not_see_the_size_of_a_gradient(factor: float, seed: int):
    """A power of two changes no bit; another factor what rounding to bfloat16 does."""
    factor = 2.0 ** round(math.log2(factor))
    moved = []
    for size in (1.0, factor):
        [parameter] = matrices(seed, 4, 6, 1)
        parameter.grad *= size
        torch.optim.Muon([parameter], lr=0.1).step()
        moved.append(parameter.detach())
    assert torch.equal(*moved)


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_keeps_as_many_numbers_as_the_plan_says(name):
    spec = ModelSpec(vocab_size=40, d_model=16, n_layers=3, n_heads=2, n_kv_heads=1, d_ff=24, max_seq_len=8)
    model = Decoder(spec)
    model.init_weights(0)
    chosen = OptimizerConfig(name=name)
    optimizer = optimizer_of(model, chosen)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kept = sum(v.numel() for state in optimizer.state.values() for n, v in state.items() if n != "step")
    assert kept == chosen.n_moments_of(spec)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(map(id, model.parameters()))  # each once
    assert not any(
        p.dim() == 2 and group["weight_decay"] == 0 for group in optimizer.param_groups for p in group["params"]
    )


def test_sgd_without_momentum_keeps_nothing():
    assert OptimizerConfig(name="sgd", momentum=0.0).n_moments((3, 4), in_block=True) == 0
    report = plan(layers.load_config(set=["training.optimizer.name=sgd", "training.optimizer.momentum=0"]))
    assert report.memory_optimizer == report.checkpoint_bytes_state == 0


def test_the_plan_of_muon_is_smaller_by_one_moment_of_the_matrices():
    adamw, muon = (plan(layers.load_config(preset="small", set=[f"training.optimizer.name={n}"])) for n in NAMES[:2])
    # 12 blocks of 2 · 384² + 2 · 384 · 128 + 3 · 384 · 1,536 weights in matrices, four bytes each
    matrices = 12 * (2 * 384**2 + 2 * 384 * 128 + 3 * 384 * 1536)
    assert adamw.memory_optimizer - muon.memory_optimizer == 4 * matrices
    assert adamw.checkpoint_bytes_state - muon.checkpoint_bytes_state == 4 * matrices


# ---------------------------------------------------------------- runs

RATES = {"adamw": 3e-3, "muon": 3e-3, "sgd": 0.3, "adafactor": 3e-2}
MOMENTS = {
    "muon": {"momentum_buffer/layers.1.attn.v": (8, 16), "exp_avg/embed": (300, 16), "exp_avg_sq/embed": (300, 16)},
    "sgd": {"momentum_buffer/layers.1.attn.v": (8, 16), "momentum_buffer/norm.final": (16,)},
    "adafactor": {"row_var/layers.1.attn.v": (8, 1), "col_var/layers.1.attn.v": (1, 16), "variance/norm.final": (16,)},
}


def asked(name: str, **more: object) -> dict[str, object]:
    optimizer = {"training__optimizer__name": name, "training__optimizer__lr": RATES[name]}
    return {**optimizer, "captures__moments": True, "data__log_digests": False, **more}


@pytest.fixture(scope="module", params=NAMES[1:])
def alone(request, text, tmp_path_factory):
    """A run in one piece, by one process."""
    out = tmp_path_factory.mktemp(request.param)
    assert launch(train_until, config(out, text, **asked(request.param))) == [0]
    return request.param, out / "tiny"


def test_a_resumed_run_is_the_same_bit_for_bit(alone, text, tmp_path):
    name, whole = alone
    for stop_at in (8, None):
        assert launch(train_until, config(tmp_path, text, **asked(name)), stop_at) == [143 if stop_at else 0]
    assert logged(tmp_path / "tiny") == logged(whole)
    last = layout.checkpoint_dir(14)
    assert largest_difference(weights(tmp_path / "tiny", 14), weights(whole, 14)) == 0
    assert training_state(tmp_path / "tiny" / last) == training_state(whole / last)
    assert logged(whole)[-1]["loss"] < logged(whole)[0]["loss"] - 0.05, "it did learn"


def test_moments_are_captured_by_the_names_that_torch_gives_them(alone):
    import safetensors.numpy

    name, run_dir = alone
    held = safetensors.numpy.load_file(run_dir / layout.checkpoint_dir(12) / layout.captures_file("train"))
    kept = {key: array.shape for key, array in held.items() if not key.startswith(("activations/", "gradients/"))}
    assert MOMENTS[name].items() <= kept.items()
    names = {key.partition("/")[0] for key in kept}
    assert names == {key.partition("/")[0] for key in MOMENTS[name]}
    # before the update of step 12: those of the state that is sealed with it
    state = torch.load(run_dir / layout.checkpoint_dir(12) / "training_state/state.ckpt", weights_only=True)[
        "optimizer"
    ]
    numbers = {
        n: number for g in state["param_groups"] for number, n in zip(g["params"], g["param_names"], strict=True)
    }
    mine = state["state"][numbers["model.layers.1.self_attn.v_proj.weight"]]
    for key in (key for key in kept if key.endswith("/layers.1.attn.v")):
        assert np.array_equal(held[key], mine[key.partition("/")[0]].numpy())


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_several_processes_train_as_one_and_go_on_from_where_they_stopped(alone, text, tmp_path, strategy):
    name, whole = alone
    if (name, strategy) == ("adafactor", "fsdp"):
        with pytest.raises(
            Exception, match=r"training\.optimizer\.name=adafactor cannot update weights that distributed"
        ):
            config(tmp_path, text, **asked(name, distributed__strategy=strategy))
        return
    if (name, strategy) == ("sgd", "ddp"):
        pytest.skip("its update knows nothing of processes")
    if name == "muon":
        (tmp_path / "alone").mkdir()
        assert launch(train_with_exact_directions, config(tmp_path / "alone", text, **asked(name))) == [0]
        whole = tmp_path / "alone" / "tiny"
    shared = asked(name, distributed__strategy=strategy)
    stopped, done = ({"world": 2}, {"world": 2}) if name == "muon" else ({"world": 2}, {})
    assert launch(train_with_exact_directions, config(tmp_path, text, **shared), 8, **stopped) == [143, 143]
    others = asked(name, distributed__strategy=strategy if done else "auto")
    assert set(launch(train_with_exact_directions, config(tmp_path, text, **others), **done)) == {0}
    moved = sum(row.get("lr") or 0.0 for row in logged(whole))
    # Gradients are summed in another order; Muon's iteration and second moments turn that into a part of an update.
    assert largest_difference(weights(tmp_path / "tiny", 14), weights(whole, 14)) <= moved / 50
    found, expected = ([row["loss"] for row in logged(each)] for each in (tmp_path / "tiny", whole))
    assert_close(found, expected, factor=2000 if name == "muon" else 64, dtype=torch.float32)


def test_a_state_of_another_optimizer_is_refused(alone, text, tmp_path):
    name, _ = alone
    if name != "sgd":
        pytest.skip("once is enough")
    assert launch(train_until, config(tmp_path, text, **asked(name)), 8) == [143]
    before = asked("adamw")
    [answer] = launch(train_again, config(tmp_path, text, **before))
    assert "training.optimizer.name was 'sgd', is now 'adamw'" in answer
    [answer] = launch(train_again, config(tmp_path, text, **before), True)
    assert answer.startswith("CheckpointError") and "\n" not in answer
    assert "the state is of sgd, the run's optimizer is adamw: a run keeps the optimizer that it began with" in answer


# ---------------------------------------------------------------- settings


def test_what_an_optimizer_has_for_itself_has_its_default_and_is_null_for_others():
    found = {name: OptimizerConfig(name=name).model_dump() for name in NAMES}
    own = ("momentum", "nesterov", "adjust_lr", "rest_lr", "beta2_decay")
    assert [[found[name][field] for field in own] for name in NAMES] == [
        [None, None, None, None, None],
        [0.95, True, "match_rms_adamw", None, None],
        [0.9, False, None, None, None],
        [None, None, None, None, -0.8],
    ]
    for name in NAMES:
        run = layers.load_config(set=[f"training.optimizer.name={name}"])
        assert RunConfig.model_validate(run.model_dump(mode="json")) == run


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["momentum=0.9"], "=0.9 is a setting of muon and sgd, and training.optimizer.name is adamw: leave it out"),
        (["name=sgd", "adjust_lr=original"], "training.optimizer.adjust_lr=original is a setting of muon, and"),
        (["name=sgd", "rest_lr=0.1"], "training.optimizer.rest_lr=0.1 is a setting of muon, and"),
        (["name=muon", "beta2_decay=-0.5"], "training.optimizer.beta2_decay=-0.5 is a setting of adafactor, and"),
        (["name=sgd", "nesterov=true", "momentum=0"], "training.optimizer.nesterov needs a momentum"),
        (["name=lion"], "training.optimizer.name: input should be 'adamw', 'muon', 'sgd' or 'adafactor'"),
        (["name=muon", "momentum=1"], "training.optimizer.momentum: input should be less than 1, but it is 1"),
    ],
)  # fmt: skip
def test_a_setting_of_another_optimizer_is_refused_in_one_sentence(assignments, says):
    with pytest.raises(ConfigError) as refused:
        layers.load_config(set=[f"training.optimizer.{each}" for each in assignments])
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_torch_without_muon_is_told_in_one_sentence(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    spec = ModelSpec(vocab_size=40, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=24, max_seq_len=8)
    with pytest.raises(ConfigError, match=r"training\.optimizer\.name=muon: torch .* install torch 2\.9 or newer"):
        optimizer_of(Decoder(spec), OptimizerConfig(name="muon"))
