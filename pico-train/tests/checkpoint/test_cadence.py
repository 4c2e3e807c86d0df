import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_train.checkpoint.cadence import checkpoint_steps, is_due, steps_due
from pico_train.config import Cadence, CheckpointConfig


def test_early_steps_are_zero_and_the_powers_of_two():
    assert steps_due(Cadence(early=512, every=None, last=False), 10_000) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert steps_due(Cadence(early=100, every=None, last=False), 10_000)[-1] == 64
    assert steps_due(Cadence(early=0, every=None, last=False), 10_000) == [0]


def test_the_default_is_pythias():
    """0, 1, 2, 4 … 512, then every 1,000: Biderman et al. 2023, arXiv:2304.01373, section 2.1."""
    assert steps_due(Cadence(), 3000) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000]


def test_every_begins_after_step_zero():
    assert steps_due(Cadence(early=None, every=5, last=False), 17) == [5, 10, 15]


def test_explicit_steps_and_the_last():
    assert steps_due(Cadence(early=None, every=None, at=(3, 99), last=True), 10) == [3, 10]


def test_nothing_is_due_outside_the_run():
    everything = Cadence(early=10, every=1, at=(50,))
    assert not is_due(everything, -1, 10)
    assert not is_due(everything, 11, 10)
    assert not is_due(everything, 50, 10)


cadences = st.builds(
    Cadence,
    early=st.none() | st.integers(0, 600),
    every=st.none() | st.integers(1, 70),
    at=st.lists(st.integers(0, 400), max_size=4).map(tuple),
    last=st.booleans(),
)


@given(cadences, st.integers(1, 300))
def test_the_list_of_steps_and_the_question_agree(cadence, max_steps):
    assert steps_due(cadence, max_steps) == [step for step in range(max_steps + 1) if is_due(cadence, step, max_steps)]


@given(cadences, cadences, cadences, st.integers(1, 100))
def test_a_checkpoint_is_due_where_any_of_its_parts_is(weights, state, captures, max_steps):
    config = CheckpointConfig(weights=weights, training_state=state, captures=captures)
    expected = sorted({step for part in (weights, state, captures) for step in steps_due(part, max_steps)})
    assert checkpoint_steps(config, max_steps) == expected


@pytest.mark.parametrize("field, value", [("every", 0), ("early", -1), ("at", (-1,)), ("evry", 5)])
def test_an_impossible_cadence_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Cadence(**{field: value})
