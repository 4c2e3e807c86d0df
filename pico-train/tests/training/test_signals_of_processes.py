"""Which signal stops a run of several processes, and that all of them agree on it; threads stand for them."""

from __future__ import annotations

from signal import SIGINT, SIGTERM, SIGUSR1, SIGUSR2

import pytest
import torch
from support.steps import settings
from support.together import Together

from pico_train.checkpoint.signals import Received
from pico_train.training import loop
from pico_train.training.step import Measured


@pytest.mark.parametrize(
    ("came", "stops", "questions"),
    [
        ([None, None], 0, 0),
        ([Received(SIGINT, 1.0), None], SIGINT, 0),
        ([None, Received(SIGINT, 1.0)], SIGINT, 0),
        ([None, None, Received(SIGUSR2, 1.0)], SIGUSR2, 0),
        ([Received(SIGTERM, 2.0), Received(SIGTERM, 1.0)], SIGTERM, 0),
        ([Received(SIGINT, 2.0), Received(SIGTERM, 1.0)], SIGTERM, 1),
        ([Received(SIGINT, 1.0), Received(SIGTERM, 2.0)], SIGINT, 1),
        ([Received(SIGUSR1, 3.0), None, Received(SIGTERM, 4.0), Received(SIGUSR2, 2.0)], SIGUSR2, 1),
        ([Received(SIGTERM, 1.0)], 0, 0),
    ],
    ids=["none", "first", "second", "last", "same", "later-number", "earlier-number", "three", "alone"],
)
def test_the_earliest_signal_decides_and_only_of_different_ones_is_asked_when_they_came(came, stops, questions):
    """They come over with the loss. A process that is alone has begun the step, and stops before the next."""
    together, config = Together(len(came)), settings(1)

    def one(engine):
        measured = Measured(0, 0)
        loss = torch.tensor(32.0 * (engine.rank + 1))
        number = loop._synchronize(engine, config, measured, loss, torch.tensor(3.0), came[engine.rank])
        return number, measured.loss, measured.grad_norm

    mean = sum(range(1, len(came) + 1))
    assert together.run(one) == [(stops, mean, 3.0)] * len(came)
    assert together.asked == ["sum"] + ["gather"] * questions
