"""Each schedule equals, step by step, the scheduler of torch or transformers that researchers know."""

from itertools import pairwise

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close

from pico_train.config import ScheduleConfig
from pico_train.schedules import derived_warmup, learning_rate

PEAK = 3e-4
ROUNDING = 16
"""Epsilons (float64) of the peak: each rate is a few operations, the reference's in another order."""


def reference(make, steps: int) -> list[float]:
    """The rates of a stateful scheduler at updates 0 to `steps` − 1."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=PEAK)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(rates) < steps else None
    return rates


def ours(steps: int, **settings: object) -> list[float]:
    return [learning_rate(step, peak=PEAK, max_steps=steps, **settings) for step in range(steps)]


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize(("warmup", "steps"), [(2, 10), (10, 100), (25, 100), (50, 200), (99, 100), (100, 100)])
@pytest.mark.parametrize(("start", "end"), [(0.04, 4e-6), (0.1, 0.01)])
def test_one_cycle_is_torchs(anneal, warmup, steps, start, end):
    expected = reference(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=PEAK,
            total_steps=steps,
            pct_start=warmup / steps,
            anneal_strategy=anneal,
            div_factor=1 / start,
            final_div_factor=start / end,
            cycle_momentum=False,
        ),
        steps,
    )
    found = ours(steps, name="one_cycle", warmup_steps=warmup, anneal=anneal, start_factor=start, end_factor=end)
    assert_close(found, expected, factor=ROUNDING)


def test_the_defaults_of_the_configuration_are_the_defaults_of_one_cycle():
    config = ScheduleConfig(warmup_steps=30)
    expected = reference(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=PEAK, total_steps=100, pct_start=0.3),
        100,
    )
    assert_close(ours(100, **config.model_dump()), expected, factor=ROUNDING)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 7), (1, 10), (10, 100), (99, 100)])
def test_linear_cosine_and_constant_are_transformers(warmup, steps):
    make = {
        "linear": lambda o: transformers.get_linear_schedule_with_warmup(o, warmup, steps),
        "cosine": lambda o: transformers.get_cosine_schedule_with_warmup(o, warmup, steps),
        "constant": lambda o: transformers.get_constant_schedule_with_warmup(o, warmup),
    }
    for name, scheduler in make.items():
        found = ours(steps, name=name, warmup_steps=warmup)
        assert_close(found, reference(scheduler, steps), factor=ROUNDING, name=name)


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize(("warmup", "decay", "steps"), [(0, 10, 50), (10, 20, 100), (10, 90, 100), (5, 0, 20)])
def test_warm_up_stable_decay_is_transformers(anneal, floor, warmup, decay, steps):
    expected = reference(
        lambda optimizer: transformers.get_wsd_schedule(
            optimizer,
            num_warmup_steps=warmup,
            num_stable_steps=steps - warmup - decay,
            num_decay_steps=decay,
            decay_type={"cos": "cosine", "linear": "linear"}[anneal],
            min_lr_ratio=floor,
        ),
        steps,
    )
    found = ours(steps, name="wsd", warmup_steps=warmup, anneal=anneal, end_factor=floor, decay_fraction=decay / steps)
    assert_close(found, expected, factor=ROUNDING)


@given(
    name=st.sampled_from(["one_cycle", "linear", "cosine", "wsd", "constant"]),
    anneal=st.sampled_from(["cos", "linear"]),
    steps=st.integers(1, 500),
    warmup=st.integers(0, 499),
    decay=st.floats(0.01, 1),
)
def test_the_rate_rises_to_the_peak_and_never_rises_again(name, anneal, steps, warmup, decay):
    # One-cycle's warm-up includes the peak itself, so without one its first step is already on the way down.
    warmup = max(min(warmup, steps - 1), int(name == "one_cycle"))
    rates = ours(steps, name=name, warmup_steps=warmup, anneal=anneal, decay_fraction=decay)
    assert all(0.0 <= rate <= PEAK * (1 + 1e-12) for rate in rates)
    top = max(0, warmup - 1) if name == "one_cycle" else warmup
    assert max(rates) == rates[top] == pytest.approx(PEAK)
    assert all(a <= b for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in pairwise(rates[top:]))


def test_beyond_the_end_the_last_rate_stays():
    for name in ("one_cycle", "linear", "cosine", "wsd", "constant"):
        settings = {"name": name, "peak": PEAK, "max_steps": 20, "warmup_steps": 4}
        assert learning_rate(1000, **settings) == learning_rate(20, **settings) <= PEAK


@pytest.mark.parametrize(
    ("name", "part", "steps", "warmup"),
    [
        ("one_cycle", 0.1, 200, 20), ("one_cycle", 0.0125, 200_000, 2500), ("linear", 0.1, 8, 1), ("wsd", 0.1, 2, 0),
        ("cosine", 0.99, 8, 7), ("cosine", 0.99, 1, 0), ("one_cycle", 0.1, 1, 1), ("one_cycle", 0.0, 50, 1),
    ],
)  # fmt: skip
def test_a_part_of_the_run_is_so_many_steps_of_warm_up(name, part, steps, warmup):
    assert derived_warmup(name, part, steps) == warmup
    settings = {"name": name, "peak": PEAK, "max_steps": steps}
    for step in range(min(steps, 60)):
        assert learning_rate(step, warmup=part, **settings) == learning_rate(step, warmup_steps=warmup, **settings)


def test_a_decay_takes_at_most_what_the_warm_up_leaves():
    """Nine tenths of the run are left; a decay that asks for all of it takes those."""
    settings = {"name": "wsd", "warmup_steps": 10, "end_factor": 0.1}
    assert ours(100, **settings, decay_fraction=1.0) == ours(100, **settings, decay_fraction=0.9)


@pytest.mark.parametrize(("fraction", "first_below"), [(0.2, 81), (0.204, 81), (0.206, 80), (0.005, 100)])
def test_a_decay_takes_whole_steps(fraction, first_below):
    rates = [*ours(100, name="wsd", warmup_steps=10, decay_fraction=fraction), 0.0]
    assert next(step for step in range(10, 101) if rates[step] < PEAK) == first_below


def test_rates_between_two_ends_are_on_the_curve_and_stay_within():
    from pico_train.schedules.base import interpolate

    assert [interpolate(1.0, 3.0, part, "linear") for part in (-1.0, 0.0, 0.25, 1.0, 2.0)] == [1.0, 1.0, 1.5, 3.0, 3.0]
    assert_close([interpolate(1.0, 3.0, part, "cos") for part in (-1.0, 0.0, 0.5, 1.0, 2.0)], [1, 1, 2, 3, 3], factor=4)
    assert_close(interpolate(0.0, 1.0, 1 / 3, "cos"), 0.25, factor=4)


def test_without_a_warm_up_the_first_rate_is_the_peak():
    for name in ("linear", "cosine", "wsd", "constant"):
        assert learning_rate(0, name=name, peak=PEAK, max_steps=10, warmup_steps=0) == PEAK, name


def test_what_is_not_set_is_as_torch_and_the_configuration_have_it():
    """A start at 1/25 of the peak, an end at 4e-6 of it, a decay over the last fifth."""
    expected = reference(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=PEAK, total_steps=50, pct_start=0.2), 50
    )
    assert_close(ours(50, name="one_cycle", warmup_steps=10), expected, factor=ROUNDING)
    expected = reference(
        lambda o: transformers.get_wsd_schedule(
            o, num_warmup_steps=10, num_stable_steps=30, num_decay_steps=10, decay_type="cosine", min_lr_ratio=4e-6
        ),
        50,
    )
    assert_close(ours(50, name="wsd", warmup_steps=10), expected, factor=ROUNDING)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_one_step_after_the_warm_up_goes_all_the_way_down_and_none_stays_up(name):
    settings = {"name": name, "peak": PEAK, "max_steps": 10}
    assert [learning_rate(step, warmup_steps=9, **settings) for step in (9, 10, 11)] == [PEAK, 0.0, 0.0]
    assert learning_rate(10, warmup_steps=10, **settings) == PEAK, "a run that is all warm-up, beyond its end"


def test_a_decay_of_one_step_goes_all_the_way_down():
    settings = {"name": "wsd", "peak": 1.0, "max_steps": 10, "warmup_steps": 2, "end_factor": 0.25}
    assert [learning_rate(step, decay_fraction=0.1, **settings) for step in (8, 9, 10, 11)] == [1.0, 1.0, 0.25, 0.25]
