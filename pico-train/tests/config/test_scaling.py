"""Settings that follow the size of the model: one rule for a family."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_schema import ModelSpec
from pico_train.config import ScalingConfig, layers
from pico_train.errors import ConfigError

BLOCK = 2 * 64 * 64 + 2 * 64 * 64 + 3 * 64 * 128 + 2 * 64
"""Parameters of a block of `spec`."""
LADDER = ["rule=ladder", f"base_parameters={BLOCK}", "base_lr=0.004", "base_batch_size=16"]
SIZE = ["model.d_model=64", "model.n_heads=4", "model.n_kv_heads=4", "model.d_ff=128"]


def spec(n_layers: int) -> ModelSpec:
    return ModelSpec(vocab_size=8, d_model=64, n_layers=n_layers, n_heads=4, n_kv_heads=4, d_ff=128)


def load(*assignments: str, n_layers: int = 8, scaling: list[str] = LADDER):
    size = [*SIZE, f"model.n_layers={n_layers}"]
    return layers.load_config(set=[*size, *(f"training.scaling.{each}" for each in scaling), *assignments])


def test_eight_times_the_parameters_have_half_the_rate_and_four_times_the_batch():
    run = load()
    assert run.training.optimizer.lr == pytest.approx(0.002, rel=1e-12)
    assert run.training.batch_size == 64


def test_the_base_is_itself():
    run = load(n_layers=1)
    assert (run.training.optimizer.lr, run.training.batch_size) == (0.004, 16)


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([1, 8, 32]))
def test_rate_and_batch_follow_the_size(small, large, multiple):
    rule = ScalingConfig(
        rule="ladder", base_parameters=BLOCK, base_lr=0.01, base_batch_size=32 * 8, batch_multiple=multiple
    )
    small, large = sorted((small, large))
    (lr, rows), (lower, more) = rule.ladder(spec(small)), rule.ladder(spec(large))
    assert lower <= lr and more >= rows and rows % multiple == more % multiple == 0
    # the batch times the square of the rate is the same at every size, but for rounding to the multiple
    assert abs(rows - 256 * (0.01 / lr) ** 2) <= multiple / 2 + 1e-6 * rows


def test_what_is_resolved_is_read_as_it_is(tmp_path):
    run = load()
    (tmp_path / "run.yaml").write_text(layers.to_yaml(run))
    assert layers.load_config(tmp_path / "run.yaml") == run


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["training.optimizer.lr=0.1"], "training.optimizer.lr=0.1 is not what training.scaling.rule=ladder makes of"),
        (["training.optimizer.lr=0.1"], " the base, 0.002: leave it out, or change training.scaling.base_lr"),
        (["training.batch_size=8"], " the base, 64: leave it out, or change training.scaling.base_batch_size"),
        (["training.scaling.base_batch_size=12"], "=12 is no multiple of training.scaling.batch_multiple=8"),
        (["training.scaling.base_d_model=64"], "base_d_model is of the rule mup, and training.scaling.rule is ladder"),
        (["training.scaling.base_lr=null"], "rule=ladder needs training.scaling.base_lr, of the base size"),
        (["training.scaling.rule=mup"], "training.scaling.rule=mup needs training.scaling.base_d_model"),
        (["training.scaling.rule=stairs"], "training.scaling.rule: input should be 'none', 'ladder' or 'mup'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(assignments, says):
    with pytest.raises(ConfigError) as refused:
        load(*assignments)
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_mup_is_refused_where_it_is_not_defined():
    with pytest.raises(ConfigError, match=r"rule=mup is not defined for training\.optimizer\.name=adafactor"):
        load("training.optimizer.name=adafactor", scaling=["rule=mup", "base_d_model=32"])
