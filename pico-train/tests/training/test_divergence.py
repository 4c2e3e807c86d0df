"""Which steps may be saved and updated, and when a run must end: the rules alone, on numbers that are given."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pico_train.config import RunConfig
from pico_train.errors import NonFiniteError
from pico_train.training.divergence import LARGEST_NORM, Divergence, Verdict
from pico_train.training.step import Due, Measured

BATCH = SimpleNamespace(step=7, row_ids=np.arange(30, 40))
INF, NAN = math.inf, math.nan


def judge(*, can_lower: bool = False, weight: float = 1.0, good: int | None = 3, **training: object) -> Divergence:
    """The judge of a run whose only weight is given."""
    decoder = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(decoder.weight, weight)
    engine = SimpleNamespace(can_lower_scale=can_lower, decoder=decoder, first_said=lambda name: name)
    config = RunConfig.model_validate({"training": training})
    asked: list[int] = []
    made = Divergence(engine, config, lambda step: asked.append(step) or good)  # type: ignore[arg-type, func-returns-value]
    made.asked = asked  # type: ignore[attr-defined]
    return made


def measured(loss: float = 2.0, norm: float = 1.0, val: float | None = None, step: int = 7) -> Measured:
    return Measured(step, 0, loss=loss, grad_norm=norm, val_loss=val)


@pytest.mark.parametrize(
    ("numbers", "can_lower", "expected"),
    [
        (measured(), False, Verdict(may_save=True, update=True, overflow=False)),
        (measured(val=2.0), True, Verdict(may_save=True, update=True, overflow=False)),
        (measured(norm=INF), True, Verdict(may_save=True, update=False, overflow=True)),
        (measured(norm=NAN), True, Verdict(may_save=True, update=False, overflow=True)),
        (measured(norm=INF), False, Verdict(may_save=True, update=False, overflow=False)),
        (measured(loss=NAN), True, Verdict(may_save=False, update=False, overflow=False)),
        (measured(loss=-INF, norm=INF), True, Verdict(may_save=False, update=False, overflow=False)),
        (measured(val=INF), True, Verdict(may_save=False, update=False, overflow=False)),
        (measured(val=NAN, norm=INF), True, Verdict(may_save=False, update=False, overflow=False)),
    ],
)
def test_what_may_be_done_with_a_step(numbers, can_lower, expected):
    divergence = judge(can_lower=can_lower, on_nonfinite="skip")
    assert divergence.judge(numbers, BATCH, last=False) == expected
    assert divergence.overflowed(numbers) == expected.overflow
    assert divergence.count == (0 if expected.update or expected.overflow else 1)


def test_a_gradient_whose_square_overflows_is_not_used_unless_it_is_clipped():
    """It would leave an infinite second moment, though every number of it is finite."""
    assert math.isfinite(torch.tensor(LARGEST_NORM * 0.999).square().item())
    assert math.isinf(torch.tensor(LARGEST_NORM * 1.001).square().item())
    large = measured(norm=1.001 * LARGEST_NORM)
    assert judge(on_nonfinite="skip", grad_clip=1.0).judge(large, BATCH, last=False).update
    unclipped = judge(on_nonfinite="skip", grad_clip=0.0)
    assert unclipped.judge(measured(norm=0.999 * LARGEST_NORM), BATCH, last=False).update
    assert unclipped.judge(large, BATCH, last=False) == Verdict(may_save=True, update=False, overflow=False)
    with pytest.raises(NonFiniteError, match=r"norm is 1\.8\d+e\+19 at .*, and its square more than float32"):
        judge(on_nonfinite="stop", grad_clip=0.0).judge(large, BATCH, last=False)


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        (measured(loss=NAN, norm=NAN, val=NAN), "loss is nan"),
        (measured(norm=NAN, val=INF), "validation loss is inf"),
        (measured(norm=INF, val=1.0), "gradient norm is inf"),
    ],
)
def test_the_run_ends_naming_what_where_and_the_last_good_checkpoint(numbers, what):
    divergence = judge()
    with pytest.raises(NonFiniteError) as ended:
        divergence.judge(numbers, BATCH, last=False)
    assert str(ended.value) == (
        f"{what} at step 7 (batch 7, rows 30, 31, 32, 33, …); the last good checkpoint is step 3, nothing was saved "
        "over it: lower training.optimizer.lr, or set training.on_nonfinite=skip to leave out such updates"
    )
    assert ended.value.everywhere and ended.value.exit_code == 1
    assert divergence.asked == [7]


def test_skipping_ends_after_so_many_in_a_row_and_good_is_what_lies_before_the_first():
    divergence = judge(on_nonfinite="skip", max_nonfinite=3)
    divergence.judge(measured(norm=NAN, step=1), BATCH, last=False)
    divergence.judge(measured(step=2), BATCH, last=False)  # in between, all is well
    for step in (3, 4):
        divergence.judge(measured(norm=NAN, step=step), BATCH, last=False)
    with pytest.raises(NonFiniteError, match=r"gradient norm is nan at step 5 .*, 3 in a row; the last good"):
        divergence.judge(measured(norm=NAN, step=5), BATCH, last=False)
    assert divergence.asked == [3]


def test_overflows_of_a_scale_that_can_be_lowered_are_not_counted():
    divergence = judge(can_lower=True, max_nonfinite=1)
    for _ in range(5):
        assert divergence.judge(measured(norm=INF), BATCH, last=False).overflow
    assert divergence.count == 0


def test_broken_weights_end_the_run_also_where_updates_may_be_skipped():
    divergence = judge(weight=NAN, on_nonfinite="skip", good=None)
    with pytest.raises(NonFiniteError) as ended:
        divergence.judge(measured(loss=NAN), BATCH, last=False)
    assert str(ended.value).endswith(
        "since weight is not finite: an update broke the weights; there is no checkpoint yet, nothing was saved over "
        "it: lower training.optimizer.lr"
    )
    assert (
        judge(weight=NAN, on_nonfinite="skip").judge(measured(norm=NAN), BATCH, last=False).may_save
    )  # a look each save has


def test_at_the_last_step_a_loss_that_is_not_finite_ends_the_run_and_a_gradient_does_not():
    with pytest.raises(NonFiniteError, match=r"loss is nan at step 7 .*, the last; "):
        judge(on_nonfinite="skip").judge(measured(loss=NAN), BATCH, last=True)
    assert judge(on_nonfinite="skip").judge(measured(norm=NAN), BATCH, last=True).may_save


NEVER = {"early": None, "every": None, "last": False}


@pytest.mark.parametrize(
    ("checkpoint", "captures", "expected"),
    [
        ({"weights": {"every": 4}}, {}, (True, False, False)),
        ({"training_state": {"every": 4}}, {}, (True, True, False)),
        ({"captures": {"every": 4}}, {}, (True, False, True)),
        ({"captures": {"every": 4}}, {"train": {"enabled": False}}, (True, False, True)),
        ({"captures": {"every": 4}}, {"val": {"enabled": False}}, (True, False, True)),
        ({"captures": {"every": 4}}, {"train": {"enabled": False}, "val": {"enabled": False}}, (False, False, False)),
        ({}, {}, (False, False, False)),
    ],
)
def test_what_is_due_at_a_step(checkpoint, captures, expected):
    parts = ("weights", "training_state", "captures")
    wanted = {part: {**NEVER, **checkpoint.get(part, {})} for part in parts}
    config = RunConfig.model_validate(
        {"checkpoint": wanted, "captures": captures, "evaluation": {"cadence": {**NEVER, "every": 8}}}
    )
    due = Due.at(4, config)
    assert (due.weights, due.state, due.captures) == expected and due.checkpoint == any(expected)
    assert (Due.at(4, config).evaluation, Due.at(8, config).evaluation, Due.at(5, config).checkpoint) == (
        False,
        True,
        False,
    )
    stopping = due.with_state()
    assert (stopping.weights, stopping.state, stopping.captures, stopping.evaluation) == (
        True,
        True,
        expected[2],
        False,
    )
