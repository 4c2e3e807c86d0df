"""What a run has consumed, by its manifests and by the changes that `run.json` records."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_run import DATA, PRODUCER, RUN_ID, SPEC, WHEN, contents

from pico_schema import CheckpointManifest, ConfigChange, DataCursor, RunManifest
from pico_schema.export import json_schemas
from pico_train.checkpoint.consumed import DATA_CHANGED, Consumed, consumed_before, consumed_in, value_at


def run(batch_size: int, *changes: tuple[int, str, object, object]) -> RunManifest:
    """A run whose configuration says `batch_size` by now."""
    return RunManifest(
        id=RUN_ID, name="small", created=WHEN, producer=PRODUCER, seed=1, model=SPEC, data=DATA,
        config={"training": {"batch_size": batch_size}},
        changes=tuple(ConfigChange(step=s, when=WHEN, field=f, before=b, after=a) for s, f, b, a in changes),
    )  # fmt: skip


def test_a_run_without_changes_has_consumed_step_times_batch_size():
    assert consumed_in(run(8), 5) == (Consumed(5, 40, 160), 8)  # rows of four tokens


def test_the_reported_case_of_eight_steps_of_eight_rows_and_four_of_sixteen():
    changed = run(16, (8, "training.batch_size", 8, 16))
    assert consumed_in(changed, 8) == (Consumed(8, 64, 256), 16)
    assert consumed_in(changed, 12)[0].rows == 64 + 4 * 16
    assert consumed_in(changed, 3) == (Consumed(3, 24, 96), 8)


def test_other_data_begin_at_their_first_row_and_tokens_go_on():
    changed = run(4, (5, DATA_CHANGED, "a", "b"))
    assert consumed_in(changed, 5)[0] == Consumed(5, 0, 80)
    assert consumed_in(changed, 7)[0] == Consumed(7, 8, 112)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_whatever_the_batches_were_each_begins_where_the_one_before_ended(sizes):
    """The oracle adds up the batches one by one."""
    changes = [
        (step, "training.batch_size", before, after)
        for step, (before, after) in enumerate(pairwise(sizes), start=1)
        if before != after
    ]
    changed, rows = run(sizes[-1], *changes), 0
    for step, size in enumerate(sizes):
        assert consumed_in(changed, step) == (Consumed(step, rows, rows * DATA.seq_len), size)
        rows += size


def test_what_a_manifest_says_is_where_it_goes_on():
    manifest = CheckpointManifest(
        **{**contents(7).manifest, "cursor": DataCursor(epoch=2, row=3, batch_size=8), "tokens_seen": 999},
        step=7,
        files={},
    )
    assert consumed_before(manifest) == Consumed(7, 2 * DATA.n_rows + 3, 999)
    assert consumed_before(manifest).after(9, batch_size=8, seq_len=4) == Consumed(9, 219, 999 + 64)


def test_the_contract_says_that_tokens_are_carried_on_under_another_batch_size():
    """What `test_the_reported_case…` computes is not step × batch size × sequence length, so no schema may say so."""
    (schema,) = (json.loads(text) for name, text in json_schemas().items() if name.startswith("checkpoint-"))
    words = schema["properties"]["tokens_seen"]["description"]
    assert not re.fullmatch(r"step × batch size × sequence length\.?", words)
    assert "each update's batch size" in words and "resumed" in words
    assert "resumed" in schema["$defs"]["DataCursor"]["description"]


def test_earlier_steps_cannot_be_asked_for():
    with pytest.raises(ValueError, match="step 3 lies before step 4"):
        Consumed(4, 16, 64).after(3, batch_size=4, seq_len=4)


def test_a_field_has_the_value_of_the_last_change_before_the_step():
    changed = run(4, (3, "monitoring.log_every", 10, 5), (8, "monitoring.log_every", 5, 1))
    assert [value_at(changed, "monitoring.log_every", step) for step in (0, 2, 3, 7, 8, 99)] == [10, 10, 5, 5, 1, 1]
    assert value_at(changed, "training.batch_size", 5) == 4 and value_at(changed, "no.such.field", 5) is None
