"""Which rows a batch holds: a bijection per epoch, the same however the work is shared."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_train.data.order import batch_digest, cursor, rank_slice, row_ids
from pico_train.data.shards.sharded_rows import ShardIndex


@given(
    n_rows=st.integers(1, 200),
    batch=st.integers(1, 50),
    order=st.sampled_from(["sequential", "shuffled"]),
    seed=st.integers(0, 2**63 - 1),
)
def test_each_epoch_holds_every_row_once(n_rows: int, batch: int, order: str, seed: int) -> None:
    steps = -(-3 * n_rows // batch)
    line = np.concatenate(
        [row_ids(s, batch_size=batch, n_rows=n_rows, order=order, seed=seed) for s in range(steps)]  # type: ignore[arg-type]
    )
    for epoch in range(3):
        assert sorted(line[epoch * n_rows : (epoch + 1) * n_rows]) == list(range(n_rows))


def test_shuffled_epochs_differ_and_so_do_seeds() -> None:
    def epoch(number: int, seed: int) -> list[int]:
        return row_ids(number, batch_size=100, n_rows=100, order="shuffled", seed=seed).tolist()

    assert epoch(0, seed=1) != epoch(1, seed=1)
    assert epoch(0, seed=1) != epoch(0, seed=2)
    assert epoch(0, seed=1) != list(range(100))


def test_a_batch_may_straddle_two_epochs() -> None:
    ids = row_ids(2, batch_size=4, n_rows=10, order="sequential", seed=0)
    assert ids.tolist() == [8, 9, 0, 1]
    assert cursor(8, n_rows=10) == (0, 8)
    assert cursor(12, n_rows=10) == (1, 2)


def test_the_order_is_pinned_for_ever() -> None:
    """Frozen on the day it was written: if this changes, every published run's batches do."""
    ids = row_ids(7, batch_size=8, n_rows=1000, order="shuffled", seed=42)
    assert ids.tolist() == [668, 521, 613, 374, 108, 579, 324, 468]
    late = row_ids(10**9, batch_size=4, n_rows=10**10, order="shuffled", seed=42)
    assert late.tolist() == [8688178666, 9512226227, 8563657317, 1416155105]


def test_ranks_together_hold_the_batch_in_order() -> None:
    rows = np.arange(12)
    for world in (1, 2, 3, 4, 6, 12):
        assert np.concatenate([rows[rank_slice(12, r, world)] for r in range(world)]).tolist() == rows.tolist()
    with pytest.raises(ValueError, match="12 rows cannot be shared evenly by 5"):
        rank_slice(12, 0, 5)
    with pytest.raises(ValueError, match="rank 2 does not exist"):
        rank_slice(12, 2, 2)


def test_the_digest_is_that_of_shape_and_little_endian_int32() -> None:
    rows = np.array([[1, 2, 3], [4, 5, 70000]])
    by_hand = hashlib.sha256(b"2,3;" + struct.pack("<6i", 1, 2, 3, 4, 5, 70000)).hexdigest()
    assert batch_digest(rows) == by_hand
    assert batch_digest(rows.astype(">i8")) == by_hand
    assert batch_digest(rows.reshape(3, 2)) != by_hand


def test_any_step_of_ten_billion_rows_is_located() -> None:
    """At once: the benchmark reports the figure."""
    index = ShardIndex.of(np.full(488_282, 20_480))
    assert index.n_rows > 10**10
    ids = row_ids(9_000_000, batch_size=1024, n_rows=index.n_rows, order="shuffled", seed=1)
    shards, rows = index.locate(ids)
    assert np.array_equal(shards * 20_480 + rows, ids)


GOOD = {"step": 0, "batch_size": 1, "n_rows": 1, "order": "shuffled", "seed": 0}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"step": -1}, "no batch -1 of 1 rows out of 1"),
        ({"step": -1, "position": 0}, "no batch -1 of 1 rows out of 1"),
        ({"position": -1}, "no batch 0 of 1 rows out of 1"),
        ({"batch_size": 0}, "no batch 0 of 0 rows out of 1"),
        ({"n_rows": 0}, "no batch 0 of 1 rows out of 0"),
        ({"order": "random"}, "order 'random' is neither sequential nor shuffled"),
    ],
)
def test_what_is_no_batch_is_refused_and_the_smallest_is_one(changes: dict[str, object], says: str) -> None:
    assert row_ids(**GOOD).tolist() == row_ids(**GOOD | {"position": 0}).tolist() == [0]
    with pytest.raises(ValueError) as caught:
        row_ids(**GOOD | changes)
    assert str(caught.value) == says


@given(
    step=st.integers(0, 99),
    position=st.integers(0, 99),
    batch=st.integers(1, 40),
    n_rows=st.integers(1, 30),
    order=st.sampled_from(["sequential", "shuffled"]),
)
def test_where_a_position_is_given_the_batch_begins_there(
    step: int, position: int, batch: int, n_rows: int, order: str
) -> None:
    """The oracle is a line of single rows, each a batch of its own."""
    settings = {"n_rows": n_rows, "order": order, "seed": 3}
    line = [row_ids(at, batch_size=1, **settings)[0] for at in range(position, position + batch)]
    assert row_ids(step, batch_size=batch, position=position, **settings).tolist() == line


def test_an_empty_batch_has_the_digest_of_its_shape() -> None:
    assert batch_digest(np.empty((0, 5), np.int64)) == hashlib.sha256(b"0,5;").hexdigest()


@pytest.mark.parametrize("rank", [-1, 3])
def test_a_rank_that_does_not_exist_has_no_share(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} does not exist among 3 processes"):
        rank_slice(6, rank, 3)
