"""Which shard holds which rows."""

from __future__ import annotations

import numpy as np

from pico_train.data.shards.sharded_rows import ShardIndex


def test_shards_without_rows_are_passed_over() -> None:
    shards, rows = ShardIndex.of([3, 0, 2]).locate(np.arange(5))
    assert shards.tolist() == [0, 0, 0, 2, 2]
    assert rows.tolist() == [0, 1, 2, 0, 1]
