from datetime import UTC, datetime

import pytest

from pico_schema import ConfigChange
from pico_train.checkpoint.changes import accept_changes, config_changes, configuration_at
from pico_train.checkpoint.consumed import DATA_CHANGED
from pico_train.config import RunConfig
from pico_train.errors import ConfigError

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def as_json(**updates):
    raw = RunConfig().model_dump(mode="json")
    for path, value in updates.items():
        section, _, key = path.rpartition("__")
        target = raw
        for part in section.split("__") if section else []:
            target = target[part]
        target[key] = value
    return raw


def test_equal_configurations_have_no_changes():
    assert config_changes(as_json(), RunConfig().model_dump()) == []  # tuples and lists are the same


def test_each_changed_field_is_named_with_both_values():
    changes = config_changes(as_json(), as_json(training__optimizer__lr=1e-2, seed=7))
    assert changes == [("seed", 42, 7), ("training.optimizer.lr", 3e-4, 1e-2)]


def test_a_change_is_refused_naming_every_field_that_may_not_change():
    changes = config_changes(as_json(), as_json(model__d_model=64, training__batch_size=8, training__max_steps=900))
    with pytest.raises(ConfigError, match=r"model\.d_model was 128, is now 64; training\.batch_size was 16") as caught:
        accept_changes(changes, step=5, when=NOW)
    assert "max_steps" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_length_devices_logging_and_publishing_may_change_and_are_recorded():
    now = as_json(
        training__max_steps=900,
        training__micro_batch_size=2,
        distributed__devices=2,
        monitoring__log_every=3,
        publish__repo="org/name",
    )
    accepted = accept_changes(config_changes(as_json(), now), step=5, when=NOW)
    assert {change.field: (change.before, change.after) for change in accepted} == {
        "training.max_steps": (RunConfig().training.max_steps, 900),
        "training.micro_batch_size": (None, 2),
        "distributed.devices": ("auto", 2),
        "monitoring.log_every": (RunConfig().monitoring.log_every, 3),
        "publish.repo": (None, "org/name"),
    }
    assert all(change.step == 5 and change.when == NOW for change in accepted)


def test_override_accepts_and_records_what_leaves_it_the_same_run():
    changes = config_changes(as_json(), as_json(training__optimizer__lr=1e-2, training__batch_size=8))
    accepted = accept_changes(changes, step=0, when=NOW, override=True)
    assert [(change.field, change.before, change.after) for change in accepted] == [
        ("training.batch_size", 16, 8),
        ("training.optimizer.lr", 3e-4, 1e-2),
    ]


@pytest.mark.parametrize(
    "field, value",
    [("model__d_model", 64), ("seed", 7), ("data__seed", 7), ("data__seq_len", 64), ("data__order", "sequential")],
)
def test_not_even_override_makes_it_another_model_or_loses_count_of_the_rows(field, value):
    changes = config_changes(as_json(), as_json(**{field: value}))
    with pytest.raises(ConfigError, match=f"{field.replace('__', '.')} was .* not even --override"):
        accept_changes(changes, step=5, when=NOW, override=True)


def test_a_run_that_goes_back_takes_back_what_was_changed_after_that_step():
    changes = [
        ConfigChange(step=4, when=NOW, field="monitoring.log_every", before=10, after=5),
        ConfigChange(step=12, when=NOW, field="training.max_steps", before=24, after=48),
        ConfigChange(step=12, when=NOW, field=DATA_CHANGED, before="a", after="b"),
        ConfigChange(step=20, when=NOW, field="training.max_steps", before=48, after=60),
    ]
    config = as_json(training__max_steps=60, monitoring__log_every=5)
    back, kept, later = configuration_at(config, changes, 12)
    assert back == as_json(training__max_steps=48, monitoring__log_every=5)
    assert (kept, later) == (tuple(changes[:3]), tuple(changes[3:]))
    back, kept, later = configuration_at(config, changes, 6)
    assert back == as_json(training__max_steps=24, monitoring__log_every=5)
    assert (kept, later) == (tuple(changes[:1]), tuple(changes[1:]))
    assert config == as_json(training__max_steps=60, monitoring__log_every=5), "what was given is left alone"


def test_a_field_that_a_newer_version_added_counts_as_a_change():
    older = as_json()
    del older["captures"]["moments"]
    assert config_changes(older, as_json()) == [("captures.moments", None, False)]


def test_a_run_may_be_moved():
    assert config_changes(as_json(), as_json(out="/elsewhere")) == []
