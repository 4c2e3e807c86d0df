"""What the loop does at each step: measures, saves, updates, and in which order."""

from __future__ import annotations

import contextlib
import itertools
import signal
from types import SimpleNamespace

import pytest
import torch
from support.closeness import assert_close, relative_distance
from support.steps import VALIDATION, batch, copied, fit, settings

from pico_train.checkpoint.signals import Received
from pico_train.errors import NonFiniteError
from pico_train.schedules import learning_rate
from pico_train.training import engine, loop
from pico_train.training.step import Due, Snapshot

CAPTURES = "checkpoint.captures.every=2"
ROUNDING = 64


def mean_loss(decoder, rows):
    logits = decoder(rows[:, :-1])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


@pytest.mark.parametrize("clip", ["0.5", "0"])
@pytest.mark.parametrize("micro", ["null", "2", "1"])
def test_losses_norms_rates_and_weights_are_those_of_a_plain_loop(clip, micro):
    """The plain loop: all logits at once, torch's cross-entropy, its clipping and its AdamW."""
    changes = [f"training.grad_clip={clip}", f"training.micro_batch_size={micro}", "training.optimizer.lr=0.01"]
    happened = fit(settings(5, *changes, "training.optimizer.eps=1e-3"))
    decoder, config = happened.decoder, happened.config
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            weight.copy_(happened.weights[0][name])
    plain = config.training.optimizer
    decaying = [p for p in decoder.parameters() if p.dim() >= 2]
    others = [p for p in decoder.parameters() if p.dim() < 2]
    groups = [{"params": decaying, "weight_decay": plain.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(plain.beta1, plain.beta2), eps=plain.eps)
    schedule = config.training.schedule.model_dump()
    for step, measured in enumerate(happened.seen):
        optimizer.zero_grad()
        loss = mean_loss(decoder, batch(step).input_ids)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(decoder.parameters(), 0.5 if clip == "0.5" else 1e9)
        assert_close(measured.loss, loss.item(), factor=ROUNDING, dtype=torch.float32)
        assert_close(measured.grad_norm, norm.item(), factor=16 * ROUNDING, dtype=torch.float32)
        assert clip == "0" or norm > 0.5, "clipping is at work"
        assert (measured.step, measured.tokens_seen, measured.skipped) == (step, 32 * step, False)
        if step < 5:
            rate = learning_rate(step, peak=plain.lr, max_steps=5, **schedule)
            assert measured.lr == rate
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        for name, weight in decoder.named_parameters():
            assert_close(weight, happened.weights[step + 1][name], factor=16 * ROUNDING, name=name)
    assert [measured.step for measured in happened.seen] == list(range(6))
    assert happened.seen[-1].lr is None, "the last step is measured and not updated"
    assert happened.outcome == loop.Outcome(5, 0, saved=True) and happened.saved == []


def test_a_run_goes_on_from_the_step_of_its_first_batch():
    happened = fit(settings(5), steps=[4, 5])
    assert happened.events == [("record", 4), ("record", 5)] and happened.outcome == loop.Outcome(5, 0)
    assert happened.seen[0].lr == learning_rate(
        4, peak=happened.config.training.optimizer.lr, max_steps=5, **happened.config.training.schedule.model_dump()
    )


def test_what_is_due_is_saved_before_the_step_is_recorded_with_what_is_due():
    happened = fit(settings(4, "checkpoint.weights.every=2", "checkpoint.training_state.every=4", CAPTURES))
    assert happened.events == [
        ("record", 0), ("record", 1), ("save", 2), ("record", 2), ("record", 3), ("save", 4), ("record", 4),
    ]  # fmt: skip
    assert [item.due for item in happened.saved] == [Due(True, False, True, False), Due(True, True, True, False)]
    for item in happened.saved:
        assert item.batch.step == item.measured.step and item.captured.keys() == {"train", "val"}
        assert item.captured["train"].loss == item.measured.loss
        assert item.captured["val"].loss == item.measured.val_loss


@pytest.mark.parametrize(
    ("changes", "splits"),
    [
        (["captures.val.enabled=false"], {"train"}),
        (["captures.train.enabled=false"], {"val"}),
        (["captures.train.enabled=false", "captures.val.enabled=false", "checkpoint.weights.every=2"], set()),
    ],
)
def test_only_the_splits_that_are_wanted_are_captured(changes, splits):
    happened = fit(settings(2, CAPTURES, *changes), steps=[1, 2])
    (item,) = happened.saved
    assert item.captured.keys() == splits and (item.measured.val_loss is not None) == ("val" in splits)
    assert happened.seen[0].val_loss is None


@pytest.mark.parametrize("moments", ["true", "false"])
def test_a_train_capture_holds_activations_gradients_and_where_wanted_moments(moments):
    happened = fit(settings(2, CAPTURES, f"captures.moments={moments}", "captures.dtype=float32"), steps=[1, 2])
    (item,) = happened.saved
    site = "layers.0.attn.v"
    names = {f"activations/{site}", f"gradients/{site}"}
    train = item.captured["train"]
    assert train.tensors.keys() == names | ({f"exp_avg/{site}", f"exp_avg_sq/{site}"} if moments == "true" else set())
    assert [str(each) for each in train.sites] == [site] and item.captured["val"].tensors.keys() == names


@pytest.mark.parametrize("captured", [True, False], ids=["as part of a capture", "alone"])
def test_the_validation_loss_is_that_of_the_weights_before_the_update(captured):
    happened = fit(settings(4, *([CAPTURES] if captured else []), "evaluation.cadence.every=2"))
    assert [measured.val_loss is not None for measured in happened.seen] == [False, False, True, False, True]
    decoder = happened.decoder
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            weight.copy_(happened.weights[2][name])
        expected = mean_loss(decoder, VALIDATION).item()
    assert_close(happened.seen[2].val_loss, expected, factor=ROUNDING, dtype=torch.float32)


@pytest.mark.parametrize(
    ("changes", "micro", "chunk"),
    [(["training.loss_chunk=0"], 4, 32), (["training.micro_batch_size=2"], 2, 512), (["training.loss_chunk=5"], 4, 5)],
)
def test_a_batch_is_one_pass_and_its_logits_are_formed_at_once_unless_less_is_asked_for(
    monkeypatch, changes, micro, chunk
):
    accumulate, found = loop.accumulate, []

    def watched(*args, **kwargs):
        found.append((kwargs["micro_batch"], kwargs["chunk"]))
        return accumulate(*args, **kwargs)

    monkeypatch.setattr(loop, "accumulate", watched)
    fit(settings(1, *changes))
    assert found == [(micro, chunk)] * 2


def test_compiled_modules_run_as_python_only_where_something_is_tapped(monkeypatch):
    entered = []

    @contextlib.contextmanager
    def eagerly(decoder):
        entered.append(decoder)
        yield

    monkeypatch.setattr(loop, "eagerly", eagerly)
    happened = fit(settings(4, CAPTURES, "captures.val.enabled=false"))
    assert entered == [happened.decoder] * 2, "at steps 2 and 4"


def test_each_moment_is_counted_to_the_phase_that_it_ends(monkeypatch):
    """A clock that says a second more whenever it is asked: one for each lap."""
    ticks = itertools.count(100.0)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(ticks))
    happened = fit(settings(2, CAPTURES), steps=[1, 2])
    plain = {"data": 1.0, "capture": 1.0, "compute": 1.0, "update": 1.0}
    assert [measured.seconds for measured in happened.seen] == [plain, {**plain, "capture": 2.0, "checkpoint": 1.0}]


TERM = Received(signal.SIGTERM, 1.0)


class TestStopping:
    """A signal that is there when a step begins."""

    def test_before_a_step_it_is_saved_without_being_measured(self):
        happened = fit(settings(4, "checkpoint.weights.every=2"), signals={2: TERM})
        assert happened.outcome == loop.Outcome(2, signal.SIGTERM, saved=True)
        assert happened.events == [("record", 0), ("record", 1), ("save", 2)]
        (item,) = happened.saved
        assert item.due == Due(True, True, False, False) and item.captured == {}
        assert item.measured.loss is item.measured.lr is None and item.measured.tokens_seen == 64

    def test_where_captures_are_due_they_are_taken_first(self):
        happened = fit(settings(4, CAPTURES), signals={2: TERM})
        assert happened.outcome == loop.Outcome(2, signal.SIGTERM, saved=True)
        assert happened.events == [("record", 0), ("record", 1), ("save", 2)]
        (item,) = happened.saved
        assert item.due == Due(True, True, True, False) and item.captured.keys() == {"train", "val"}
        assert item.measured.loss is not None and item.measured.lr is None

    def test_before_the_last_step_the_run_ends_as_it_would_have(self):
        happened = fit(settings(2), signals={2: TERM})
        assert happened.outcome == loop.Outcome(2, 0, saved=True)
        assert happened.events == [("record", 0), ("record", 1), ("save", 2), ("record", 2)]
        assert happened.saved[0].due == Due(True, True, False, False) and happened.seen[-1].loss is not None

    def test_a_step_whose_loss_is_not_finite_is_not_saved(self, monkeypatch):
        break_losses(monkeypatch, {2})
        happened = fit(settings(4, CAPTURES, "training.on_nonfinite=skip"), signals={2: TERM})
        assert happened.outcome == loop.Outcome(2, signal.SIGTERM, saved=False) and happened.saved == []

    def test_one_that_comes_within_a_step_stops_the_run_before_the_next(self):
        looks = itertools.count()
        happened = fit(settings(4), stop_signal=lambda: TERM if next(looks) > 0 else None)
        assert happened.events == [("record", 0), ("save", 1)]
        assert happened.outcome == loop.Outcome(1, signal.SIGTERM, saved=True)

    def test_among_several_processes_it_is_agreed_on_in_the_step(self):
        assert loop._alone(SimpleNamespace(world_size=2), TERM) == 0


def break_losses(monkeypatch, steps):
    """Let the training loss of these steps be no number, and their gradients with it."""
    accumulate, calls = loop.accumulate, itertools.count()

    def sometimes(*args, **kwargs):
        total = accumulate(*args, **kwargs)
        if next(calls) not in steps:
            return total
        for parameter in args[0].parameters:
            parameter.grad.fill_(float("nan"))
        return total * float("nan")

    monkeypatch.setattr(loop, "accumulate", sometimes)


def test_an_update_that_is_left_out_leaves_the_weights_alone_and_nothing_of_it_is_captured(monkeypatch):
    break_losses(monkeypatch, {2})
    happened = fit(settings(4, CAPTURES, "training.on_nonfinite=skip"))
    assert [measured.skipped for measured in happened.seen] == [False, False, True, False, False]
    assert [item.batch.step for item in happened.saved] == [4]
    same = [
        all(torch.equal(weight, after[name]) for name, weight in before.items())
        for before, after in itertools.pairwise(happened.weights)
    ]
    assert same == [False, False, True, False, True], "nor is there an update after the last step"
    assert happened.seen[2].lr is not None and all(weight.isfinite().all() for weight in happened.weights[-1].values())


def test_a_gradient_that_is_not_finite_is_not_captured_and_the_step_is_saved(monkeypatch):
    norms = itertools.count()
    real = engine.Engine.gradient_norm
    monkeypatch.setattr(
        engine.Engine, "gradient_norm", lambda self: real(self) * (float("inf") if next(norms) == 2 else 1.0)
    )
    happened = fit(settings(4, CAPTURES, "training.on_nonfinite=skip"))
    assert [item.captured.keys() for item in happened.saved] == [{"val"}, {"train", "val"}]
    assert [measured.skipped for measured in happened.seen] == [False, False, True, False, False]


@pytest.mark.parametrize("signals", [None, {2: TERM}], ids=["due", "stopping"])
@pytest.mark.parametrize("good", [1, None])
def test_what_cannot_be_saved_ends_the_run_with_the_step_and_the_last_good_one(signals, good):
    def save(_snapshot: Snapshot) -> None:
        raise NonFiniteError("model.norm.weight is not finite at step 2")

    options = {} if good is None else {"last_good": lambda step: {2: good}[step]}
    with pytest.raises(NonFiniteError) as caught:
        fit(settings(4, "checkpoint.weights.every=2"), signals=signals, save=save, **options)
    known = "there is no checkpoint yet" if good is None else "the last good checkpoint is step 1"
    assert str(caught.value) == (
        f"model.norm.weight is not finite at step 2; {known}, nothing was saved over it: lower training.optimizer.lr"
    )
    assert caught.value.__suppress_context__


def test_what_is_captured_is_computed_again_under_a_smaller_scale_until_it_is_finite():
    """Under float16 a scale of 2^40 overflows: what is kept is the gradient all the same, once."""
    changes = ["checkpoint.captures.early=0", "captures.val.enabled=false", "captures.dtype=float32"]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    found, expected = (fit(settings(1, *changes), scaler=each) for each in (scaler, None))
    assert 1.0 < scaler.get_scale() < 2.0**40 and not found.seen[0].skipped
    for name, tensor in expected.saved[0].captured["train"].tensors.items():
        assert relative_distance(found.saved[0].captured["train"].tensors[name], tensor) < 0.02, name


def test_gradients_are_gone_after_each_step():
    happened = fit(settings(1))
    assert all(parameter.grad is None for parameter in happened.decoder.parameters())
    assert copied(happened.decoder).keys() == happened.weights[0].keys()
