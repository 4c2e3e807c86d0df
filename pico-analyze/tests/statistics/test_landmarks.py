"""What stands out in courses: by hand, against other ways to compute it, and what must not matter."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.statistics.landmarks import apart, fastest, halfway, loss_change, order, settled
from pico_analyze.statistics.transition import Course


def course(values, steps=None, **place) -> Course:
    steps = range(len(values)) if steps is None else steps
    named = dict.fromkeys(("layer", "head")) | place
    return Course(named, np.array(list(steps), np.int64), np.array(values, np.float64))


def test_a_course_settles_where_it_stays_above_and_the_target_says_nothing():
    at = settled(course([0.1, 0.95, 0.5, 0.92, 0.93, 1.0], [0, 1, 2, 4, 8, 16]), 16, 0.9)
    assert (at.step, at.before) == (4, 2)
    assert settled(course([0.95, 0.99, 1.0], [0, 4, 8]), 8, 0.9).step == 0
    assert settled(course([0.95, 0.99, 1.0], [0, 4, 8]), 8, 0.9).before is None
    late = settled(course([0.1, 0.2, 1.0], [0, 4, 8]), 8, 0.9)
    assert (late.step, late.before) == (None, None)  # only the target itself is above, as it must be


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(0.1, 1))
def test_a_settling_step_is_the_first_from_which_all_are_above(values, tau):
    target = len(values) - 1
    found = settled(course(values), target, tau)
    good = [at for at in range(target) if all(value >= tau for value in values[at:target])]
    assert found.step == (good[0] if good else None)
    assert found.before == (good[0] - 1 if good and good[0] else None)


def test_the_fastest_change_is_per_doubling_of_the_step():
    found = fastest(course([0.0, 1.0, 3.0, 3.5], [0, 1, 3, 7]))  # one doubling of 1 + step each
    assert found is not None
    assert (found.begin, found.end, found.first, found.last) == (1, 3, 1.0, 3.0)
    assert found.rate == pytest.approx(2.0)
    slow = fastest(course([0.0, 1.0, 3.0], [0, 1, 1023]))  # two in nine doublings are less than one in one
    assert slow is not None and (slow.begin, slow.end) == (0, 1)
    assert fastest(course([2.0, 2.0, 2.0])) is None
    assert fastest(course([2.0])) is None


def heads(values) -> list[Course]:
    return [course([0.0, value], layer=at // 4, head=at % 4) for at, value in enumerate(values)]


def test_a_head_apart_is_told_with_its_distance_in_robust_deviations():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 100.0]  # median 4.5, median deviation 2
    (found,) = apart(heads(values))
    assert (found.course.place["layer"], found.course.place["head"], found.heads) == (1, 3, 8)
    assert (found.value, found.median) == (100.0, 4.5)
    assert found.deviations == pytest.approx((100 - 4.5) / (1.4826 * 2))


@given(
    st.lists(st.integers(-1000, 1000), min_size=8, max_size=24),
    st.sampled_from([0.25, 4.0, -2.0]),
    st.integers(-100, 100),
)
def test_heads_apart_do_not_depend_on_unit_sign_or_origin(values, unit, origin):
    """Powers of two and integers: exact in float64."""
    one = apart(heads(values))
    other = apart(heads([unit * (value + origin) for value in values]))
    assert [found.course.place for found in one] == [found.course.place for found in other]
    sign = math.copysign(1, unit)
    assert [found.deviations * sign for found in one] == pytest.approx([found.deviations for found in other])


def test_normal_values_have_almost_no_head_apart():
    """Of 200 models of 144 heads each: 5 robust deviations are seldom where nothing lies apart."""
    rng = np.random.default_rng(0)
    counts = [len(apart(heads(rng.standard_normal(144)))) for _ in range(200)]
    assert sum(counts) <= 2  # 0.02 are expected of normal values with the true deviation


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0, 3.0, 100.0],
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 100.0],
        [1.0] * 7 + [2.0],
        [1.0, 1.0 + 1e-12, 1.0 - 1e-12, 1.0, 1.0, 1.0 + 1e-12, 1.0 - 1e-12, 1.0 + 1e-9],
    ],
    ids=["few", "one too few", "equal", "rounding"],
)
def test_few_heads_and_equal_ones_have_none_apart(values):
    assert apart(heads(values)) == []


def test_heads_are_compared_at_the_last_step_that_all_have():
    some = heads([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    some[2] = course([0.0, 50.0, 3.0], [0, 1, 2], layer=0, head=2)
    assert [(found.course.place["head"], found.value) for found in apart(some)] == [(2, 50.0)]
    some[3] = course([4.0], [9], layer=0, head=3)
    assert apart(some) == []  # no step is common to all


def test_the_order_of_layers_is_kendalls_and_its_probability_that_of_all_orders():
    steps = {0: 1, 1: 2, 2: 4, 3: 16, 4: 8, 5: 32}
    found = order(steps)
    values = list(steps.values())

    def tau(of):
        return sum(np.sign(b - a) for a, b in itertools.combinations(of, 2)) / 15

    assert found is not None and found.layers == 6
    assert found.tau == pytest.approx(tau(values))
    extreme = [abs(tau(of)) >= abs(tau(values)) - 1e-9 for of in itertools.permutations(values)]
    assert found.p == pytest.approx(np.mean(extreme))


def test_two_settling_steps_are_enough_for_an_order():
    found = order({0: 1, 1: 1, 2: 1, 3: 4, 4: 4})
    assert found is not None and found.layers == 5
    # 6 of 10 pairs go one way and 4 are ties: τ-b is 6 / √(10 · 6)
    assert found.tau == pytest.approx(6 / math.sqrt(60))


def test_few_layers_and_layers_that_settle_together_have_no_order():
    assert order({0: 1, 1: 2, 2: 3, 3: 4}) is None
    assert order(dict.fromkeys(range(12), 8)) is None


def test_half_of_the_courses_are_halfway_by_the_lower_median():
    some = [course([0.0, 0.0, 1.0, 1.0]), course([0.0, 1.0, 1.0, 1.0]), course([0.0, 0.0, 0.0, 1.0]), course([1.0] * 4)]
    assert halfway(some) == 2
    assert halfway([*some, course([0.0, 1.0, 1.0, 1.0])]) == 1
    assert halfway([course([1.0, 1.0, 1.0])]) is None


def test_a_loss_without_a_value_at_a_step_changes_by_those_it_has():
    found = loss_change({0: 8.0, 1: math.nan, 2: 7.9, 4: 5.0, 8: 4.0})
    assert found is not None and (found.first, found.farthest, found.half, found.before) == (8.0, 4.0, 4, 2)
    assert loss_change({0: 8.0, 1: 7.0}) is None
