"""What a begun run fixes: its warm-up stays, and a learning rate that bends is told of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pico_schema import ConfigChange, Producer, RunManifest
from pico_train.config import RunConfig, layers, recorded
from pico_train.errors import ConfigError
from pico_train.schedules import learning_rate

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DATA = {"source": "text", "sha256": "0" * 64, "n_rows": 100, "seq_len": 8, "vocab_size": 64}


def config(*assignments: str, preset: str = "demo") -> RunConfig:
    return layers.load_config(preset=preset, set=assignments)


def run(values: dict[str, Any], *changes: tuple[str, Any, Any]) -> RunManifest:
    made = tuple(ConfigChange(step=5, when=NOW, field=name, before=old, after=new) for name, old, new in changes)
    return RunManifest(
        id="a" * 32, name="demo", created=NOW, producer=Producer(name="a test", version="0"), seed=42,
        model=config().spec, data=DATA, config=values, changes=made,
    )  # fmt: skip


def written(settled: RunConfig) -> dict[str, Any]:
    return settled.model_dump(mode="json")


def schedule(settled: RunConfig) -> tuple[float | None, int | None]:
    return settled.training.schedule.warmup, settled.training.schedule.warmup_steps


@pytest.mark.parametrize(("preset", "steps"), [("demo", 20), ("tiny", 2500), ("small", 2500), ("xl", 2500)])
def test_at_its_own_length_a_preset_has_the_warm_up_that_it_always_had(preset: str, steps: int) -> None:
    assert schedule(recorded.with_whole_warmup(config(preset=preset), None)) == (None, steps)


@pytest.mark.parametrize("preset", layers.presets())
@pytest.mark.parametrize("name", ["one_cycle", "linear", "cosine", "wsd", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20])
def test_every_preset_trains_however_short_the_run(preset: str, name: str, steps: int) -> None:
    short = config(f"training.max_steps={steps}", f"training.schedule.name={name}", preset=preset)
    settled = recorded.with_whole_warmup(short, None)
    again = layers.validate(written(settled))  # as the run's config.yaml has it
    assert again == settled
    peak = settled.training.optimizer.lr
    rates = [recorded.rate(settled, step) for step in range(steps)]
    assert max(rates) == pytest.approx(peak)  # whatever its length, a run comes to its peak
    assert rates == [recorded.rate(short, step) for step in range(steps)]


def test_a_run_of_before_goes_on_as_it_was() -> None:
    # As 2.0.0 recorded it: the steps of warm-up, and no part of the run.
    old = written(config("training.schedule.warmup_steps=20"))
    del old["training"]["schedule"]["warmup"]
    settled = recorded.with_whole_warmup(config(), run(old))
    assert schedule(settled) == (None, 20)
    assert written(settled)["training"]["schedule"] | {} == old["training"]["schedule"] | {"warmup": None}
    longer = recorded.with_whole_warmup(config("training.max_steps=400"), run(old))
    assert schedule(longer) == (None, 20)
    assert [recorded.recorded_rate(old, step) for step in range(201)] == [recorded.rate(settled, s) for s in range(201)]


def test_a_longer_run_keeps_its_warm_up_the_second_time_too() -> None:
    begun = recorded.with_whole_warmup(config(), None)
    longer = recorded.with_whole_warmup(config("training.max_steps=400"), run(written(begun)))
    once = run(written(longer), ("training.max_steps", 200, 400))
    assert schedule(recorded.with_whole_warmup(config("training.max_steps=800"), once)) == (None, 20)


def test_another_warm_up_that_is_asked_for_is_not_overlooked() -> None:
    begun = run(written(recorded.with_whole_warmup(config(), None)))
    assert schedule(recorded.with_whole_warmup(config("training.schedule.warmup=0.5"), begun)) == (None, 100)
    assert schedule(recorded.with_whole_warmup(config("training.schedule.warmup_steps=7"), begun)) == (None, 7)


def test_a_run_that_becomes_shorter_than_its_warm_up_is_told_so() -> None:
    begun = run(written(recorded.with_whole_warmup(config(), None)))
    with pytest.raises(ConfigError, match=r"a warm-up of 20 steps, which leaves nothing of training\.max_steps=8"):
        recorded.with_whole_warmup(config("training.max_steps=8"), begun)


def test_explicit_steps_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"warmup_steps=20 leaves nothing of training\.max_steps=8"):
        config("training.max_steps=8", "training.schedule.warmup_steps=20")


@pytest.mark.parametrize("name", ["one_cycle", "linear", "cosine", "wsd"])
def test_a_finished_run_that_is_made_longer_bends(name: str) -> None:
    words = ["training.schedule.warmup_steps=2", f"training.schedule.name={name}"]
    before, after = config("training.max_steps=8", *words), config("training.max_steps=16", *words)
    told = recorded.bend(written(before), after, 8)
    assert told is not None and "\n" not in told
    # Both rates from the formulas: at its end, the schedule has come to 4e-6 of the peak, or to zero.
    last = {"one_cycle": 3e-3 * 4e-6, "wsd": 3e-3 * 4e-6}.get(name, 0.0)
    assert "at step 8: training.max_steps was 8 and is now 16" in told
    assert f"had come to {last:.3g}" in told
    assert f"made at {learning_rate(8, peak=3e-3, max_steps=16, **after.training.schedule.model_dump()):.3g}" in told
    assert "training.schedule.name=wsd" in told and "--set training.max_steps=16" in told


def test_the_trunk_of_wsd_and_a_constant_rate_go_on_without_a_bend() -> None:
    for name, step in (("wsd", 150), ("constant", 200)):
        words = ["training.schedule.warmup_steps=20", f"training.schedule.name={name}"]
        before, after = config(*words), config("training.max_steps=400", *words)
        assert recorded.bend(written(before), after, step) is None


def test_any_change_of_the_rate_is_told() -> None:
    before = config("training.schedule.warmup_steps=20")
    for word in ["training.optimizer.lr=1e-3", "training.schedule.name=linear", "training.schedule.warmup_steps=40"]:
        told = recorded.bend(written(before), config("training.schedule.warmup_steps=20", word), 30)
        assert told is not None and "its settings have changed" in told
    assert recorded.bend(written(before), before, 30) is None
    assert recorded.bend(written(before), config("training.optimizer.lr=1e-3"), 0) is None  # nothing was trained yet


@pytest.mark.parametrize("record", [{}, {"training": 3}, {"training": {"max_steps": 8, "optimizer": {"lr": "x"}}}])
def test_a_record_that_does_not_tell_the_rate_is_no_bend(record: dict[str, Any]) -> None:
    assert recorded.bend(record, config(), 5) is None
    assert schedule(recorded.with_whole_warmup(config(), run(record))) == (None, 20)


def test_a_record_of_another_version_is_read() -> None:
    """Settings that are no more are passed over; those that came later have their defaults."""
    settled = recorded.with_whole_warmup(config("training.max_steps=8"), None)
    record = written(settled)
    record["data"]["allow_change"] = False
    record["of_old"] = {"a": 1}
    del record["data"]["encoding_errors"]
    del record["monitoring"]
    assert recorded.read(record, "the run old") == settled
    assert recorded.completed(record) == written(settled)


def test_a_record_that_this_version_cannot_follow_says_what_it_is() -> None:
    record = written(recorded.with_whole_warmup(config("training.max_steps=8"), None))
    record["training"]["optimizer"]["decay"] = "sometimes"
    with pytest.raises(ConfigError, match=r"the configuration that the run old records .* training\.optimizer\.decay"):
        recorded.read(record, "the run old")
    assert recorded.completed(record) == record
