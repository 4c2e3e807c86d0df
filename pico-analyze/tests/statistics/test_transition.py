"""When a course changes and what others do meanwhile: courses built by hand, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from pico_analyze.errors import UsageError
from pico_analyze.output.transition import transition_picture, transition_text
from pico_analyze.statistics.transition import Change, Transition, change, courses, meeting, transition

STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 100, 150, 200]


def rows(metric: str, values, *, steps=STEPS, layer=None, head=None, data="behaviour", **more) -> list[dict]:
    at = {"component": "probe", "site": "induction", "split": "val", "params": "{}", "run": "r", "ci_low": math.nan}
    at |= {"target_run": None, "target_step": pd.NA, "target_layer": pd.NA, "null_mean": math.nan, "reason": None}
    return [
        at | {"metric": metric, "step": step, "value": float(value), "layer": layer, "head": head, "data": data} | more
        for step, value in zip(steps, values, strict=True)
    ]


def table(*parts: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame([row for part in parts for row in part])
    return frame.astype(dict.fromkeys(("layer", "head", "target_step", "target_layer"), "Int64"))


def test_a_change_is_told_by_measured_steps() -> None:
    found = change([0, 1, 2, 4, 8, 16], [0.0, 0.02, 0.08, 0.4, 0.95, 1.0])
    assert found == Change(begin=2, half=8, end=8, before=4, first=0.0, farthest=1.0)
    falling = change([0, 1, 2, 4, 8, 16], [5.0, 5.0, 4.9, 3.0, 1.4, 1.0])
    assert falling == Change(begin=2, half=4, end=8, before=2, first=5.0, farthest=1.0)
    assert falling.size == -4


def test_a_change_that_is_taken_back_is_told_up_to_its_peak() -> None:
    found = change([0, 1, 2, 3, 4], [0.0, 0.5, 1.0, 0.4, 0.0])
    assert found is not None and (found.begin, found.half, found.end, found.farthest) == (0, 1, 2, 1.0)


@pytest.mark.parametrize(("steps", "values"), [([0, 1], [0.0, 1.0]), ([0, 1, 2], [3.0, 3.0, 3.0])])
def test_what_has_no_course_has_no_change(steps: list[int], values: list[float]) -> None:
    assert change(steps, values) is None


walks = st.lists(st.integers(-1000, 1000), min_size=3, max_size=30).filter(lambda one: len(set(one)) > 1)


@given(walks, st.sampled_from([-4.0, -0.5, 0.25, 8.0]), st.integers(-50, 50))
def test_the_steps_of_a_change_do_not_depend_on_unit_sign_or_origin(walk: list[int], unit: float, origin: int) -> None:
    """Powers of two and small integers: exact in float64, so that no threshold is crossed by rounding."""
    steps = list(range(0, 2 * len(walk), 2))
    one, other = change(steps, walk), change(steps, [unit * (value + origin) for value in walk])
    if one is None:
        assert other is None
        return
    assert other is not None
    assert (one.begin, one.before, one.half, one.end) == (other.begin, other.before, other.half, other.end)
    assert other.size == unit * one.size
    assert one.begin <= one.before < one.half <= one.end


def test_a_window_holds_the_share_of_the_path_that_lies_in_it() -> None:
    (course,) = courses(table(rows("m", [0, 1, 3, 2], steps=[0, 10, 20, 30])))
    assert course.within(10, 20) == (1.0, 3.0, 0.5)  # of 1 + 2 + 1
    assert course.within(11, 19) == (1.0, 3.0, 0.5), "ends move outward"
    assert course.within(0, 30) == (0.0, 2.0, 1.0)


def heads_and_others(middle: float = 60.0, context: float = 60.0) -> pd.DataFrame:
    def course(at: float) -> np.ndarray:
        return expit((np.array(STEPS) - at) / 4) - expit(-at / 4)

    return table(
        rows("prefix_matching", 0.01 * course(middle), layer=0, head=0),
        rows("prefix_matching", 0.9 * course(middle), layer=1, head=0),
        rows("prefix_matching", 0.6 * course(middle), layer=1, head=1),
        rows("prefix_matching", -0.8 * course(middle), layer=1, head=2),
        rows("in_context_score", 5 * course(context)),
        rows("cka", course(middle), data="activations", site="resid", layer=1, target_run="r", component="simple"),
        rows("cka", np.linspace(0, 1, len(STEPS)), data="activations", site="resid", layer=0, target_run="r"),
    )


def test_the_transition_is_that_of_the_head_that_changes_most() -> None:
    found = transition(heads_and_others(), "prefix_matching", 0.3)
    assert isinstance(found, Transition)
    assert (found.course.place["layer"], found.course.place["head"]) == (1, 0)
    assert [one.place["head"] for one in found.companions] == [1], "the one that falls is none"
    assert (found.change.before, found.change.half) == (32, 64)
    assert {one.place["metric"] for one in found.others} == {"in_context_score", "cka"}


def test_the_words_are_made_of_the_rows() -> None:
    found = transition(heads_and_others(), "prefix_matching", 0.3)
    text = transition_text(found, "run r")
    assert "prefix_matching of layer 1, head 0 goes from 0.0000 at step 0 to 0.9000" in text
    assert "is halfway by step 64 (not yet at 32)" in text
    assert "at least half as far: layer 1, head 1" in text
    assert "in_context_score goes from 0.0000 at step 0 to 5.000" in text and "the two coincide" in text
    assert "cka, steps 32 to 100: rises at 2 and falls at 0 of 2 places" in text
    assert "most of all at resid, layer 1" in text
    late = transition_text(transition(heads_and_others(context=180.0), "prefix_matching", 0.3), "run r")
    assert "136 steps later: the two do not coincide" in late and "the two coincide" not in late


def test_a_small_change_is_no_transition() -> None:
    found = transition(heads_and_others(), "prefix_matching", 0.95)
    assert found == (
        "prefix_matching changes by 0.9 at most, from step 0 to 200: less than the 0.95 that the study takes for a "
        "transition"
    )
    assert transition_text(found, "run r") == f"run r: {found}"
    one_step = transition(table(rows("m", [1.0], steps=[3], layer=0, head=0)), "m", 0.1)
    assert isinstance(one_step, str) and "three steps with a value are needed" in one_step
    with pytest.raises(UsageError, match="there is no row of copying"):
        transition(heads_and_others(), "copying", 0.3)


def test_meeting_is_the_same_from_both_sides() -> None:
    at = [Change(10, 20, 30, 15, 0, 1), Change(15, 25, 40, 20, 0, 1), Change(28, 60, 70, 50, 0, 1)]
    assert meeting(at[0], at[1]) == meeting(at[1], at[0]) == "the two coincide"
    assert meeting(at[0], at[2]) == meeting(at[2], at[0]) == "the two overlap, and do not coincide"
    far = Change(90, 100, 120, 95, 0, 1)
    assert meeting(at[0], far) == "80 steps later: the two do not coincide"
    assert meeting(far, at[0]) == "80 steps earlier: the two do not coincide"


def test_steps_without_a_value_are_left_out_and_pairs_of_steps_are_no_course() -> None:
    holes = table(rows("m", [0.0, math.nan, 1.0], steps=[0, 1, 2]))
    (course,) = courses(holes)
    assert course.steps.tolist() == [0, 2]
    pairs = table(rows("m", [1.0, 0.5], steps=[0, 0]), rows("m", [0.5, 1.0], steps=[1, 1]))
    assert list(courses(pairs)) == []


def test_the_figure_has_a_panel_for_each_metric_and_place(tmp_path) -> None:
    frame = heads_and_others()
    found = transition(frame, "prefix_matching", 0.3)
    assert isinstance(found, Transition)
    path = transition_picture(frame, found, "study", tmp_path / "f.png")
    from matplotlib.image import imread

    pixels = imread(path)
    assert pixels.shape[0] > 3 * 1.4 * 144, "three panels, one above the other"
    shaded = (np.abs(pixels[..., :3] - np.array([249, 236, 209]) / 255) < 0.02).all(-1)
    assert shaded.sum() > 1000, "the window is shaded"


def course(metric: str, values: list[float], head: int | None = None, **more) -> list[dict]:
    return rows(metric, values, steps=list(range(len(values))), head=head, layer=None if head is None else 0, **more)


def test_a_change_as_large_as_is_asked_for_is_a_transition_and_less_is_none() -> None:
    frame = table(course("m", [0.0, 0.25, 0.5], head=0))
    assert isinstance(transition(frame, "m", 0.5), Transition)
    assert isinstance(transition(frame, "m", 0.5000001), str)


def test_companions_go_half_as_far_at_least_and_in_the_same_direction() -> None:
    changes = {0: -8.0, 1: -4.0, 2: -3.9, 3: 7.0, 4: 4.0, 5: -7.0}
    frame = table(*(course("m", [1.0, 1 + size / 2, 1 + size], head=head) for head, size in changes.items()))
    found = transition(frame, "m", 1.0)
    assert isinstance(found, Transition) and found.course.place["head"] == 0
    assert [one.place["head"] for one in found.companions] == [1, 5]


def test_of_heads_the_first_that_changes_most_stands_for_its_metric_and_site() -> None:
    frame = table(
        course("m", [0.0, 0.5, 1.0], head=0),
        course("by_head", [0.0, 0.1, 0.2], head=0),
        course("by_head", [0.0, -0.3, -0.6], head=1),
        course("by_head", [0.0, 0.3, 0.6], head=2),
        course("by_head", [5.0, 5.0, 5.0], head=3),
        course("by_head", [0.0, 0.1, 0.3], head=0, site="other"),
        course("by_head", [0.0, 0.2, 0.1], head=1, site="other"),
        course("whole", [3.0, 3.0, 3.0]),
        course("whole", [3.0, 4.0, 5.0], site="other"),
    )
    found = transition(frame, "m", 0.5)
    assert isinstance(found, Transition)
    told = [(one.place["metric"], one.place["site"], one.place["head"]) for one in found.others]
    assert told == [
        ("by_head", "induction", 1), ("by_head", "other", 0), ("whole", "induction", None), ("whole", "other", None)
    ]  # fmt: skip


def test_others_have_three_steps_at_least() -> None:
    frame = table(course("m", [0.0, 0.5, 1.0], head=0), course("two", [0.0, 1.0]), course("three", [0.0, 1.0, 2.0]))
    found = transition(frame, "m", 0.5)
    assert isinstance(found, Transition)
    assert [one.place["metric"] for one in found.others] == ["three"]


def test_a_step_that_is_a_tenth_of_the_way_is_still_the_beginning() -> None:
    assert change([0, 1, 2, 3], [0.0, 1.0, 6.0, 10.0]) == Change(1, 2, 3, 1, 0.0, 10.0)
    assert change([0, 1, 2], [0.0, 1.0, 2.0]) == Change(0, 1, 2, 0, 0.0, 2.0), "three steps are enough"


def test_windows_that_touch_overlap_and_halves_at_their_ends_coincide() -> None:
    one = Change(10, 20, 30, 15, 0, 1)
    assert meeting(one, Change(20, 25, 40, 20, 0, 1)) == "the two coincide"  # its window begins at the other's half
    assert meeting(one, Change(5, 10, 20, 7, 0, 1)) == "the two coincide"  # it is halfway where the other begins
    assert meeting(one, Change(20, 30, 40, 25, 0, 1)) == "the two coincide"  # and where the other ends
    assert meeting(one, Change(1, 10, 20, 5, 0, 1)) == "the two coincide"
    for touching in (Change(30, 40, 50, 35, 0, 1), Change(1, 5, 10, 3, 0, 1)):
        assert meeting(one, touching) == meeting(touching, one) == "the two overlap, and do not coincide"
    assert "do not coincide" in meeting(one, Change(31, 40, 50, 35, 0, 1)) and "20 steps later" in meeting(
        one, Change(31, 40, 50, 35, 0, 1)
    )
