"""What is recorded of a checkpoint beside its tensors."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pico_train.training.capture import SampleIndex
from pico_train.training.snapshot import samples_digest

ROWS = np.arange(5 * 4).reshape(5, 4)
"""Five rows of four tokens, all different."""


def by_hand(rows: np.ndarray, samples: SampleIndex) -> str:
    """The digest as its documentation says it: shape and positions as JSON, then the ids kept, row after row."""
    kept = [token for row in samples.rows for token in rows[row].tolist()]
    head = json.dumps([[len(samples.rows), rows.shape[1]], list(samples.positions)])
    ids = b"".join(int(token).to_bytes(4, "little", signed=True) for token in kept)
    return hashlib.sha256(head.encode() + ids).hexdigest()


@given(
    rows=st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True).map(sorted),
    positions=st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True).map(sorted),
    place=st.tuples(st.integers(0, 4), st.integers(0, 3)),
)
def test_the_samples_digest_says_which_rows_positions_and_tokens_were_kept(
    rows: list[int], positions: list[int], place: tuple[int, int]
) -> None:
    samples = SampleIndex(tuple(rows), tuple(positions))
    digest = samples_digest(ROWS, samples)
    assert digest == by_hand(ROWS, samples)
    for other in (
        SampleIndex(tuple(rows), (0, 1, 2)),
        SampleIndex(tuple(rows), (0,)),
        SampleIndex((0, 2), samples.positions),
    ):
        assert (samples_digest(ROWS, other) == digest) == (other == samples)
    changed = ROWS.copy()
    changed[place] += 1
    assert (samples_digest(changed, samples) != digest) == (place[0] in rows), (
        "of rows that are kept, every token counts"
    )
    if len(rows) > 1:
        assert samples_digest(ROWS, SampleIndex((*rows[1:], rows[0]), samples.positions)) != digest, "and their order"
    assert samples_digest(ROWS.astype(np.int64), samples) == samples_digest(ROWS.astype(np.int32), samples)
