"""Whether data are those that a run was begun with."""

from __future__ import annotations

from typing import Any

import pytest

from pico_train.data.fingerprint import check_unchanged
from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.errors import DataError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": "sequential"}, r"data.order was shuffled and is sequential \(another order\)"),
        ({"seq_len": 32}, r"data.seq_len was 16 and is 32"),
        ({"sha256": "0" * 64, "n_rows": 5}, r"data.n_rows was \d+ and is 5"),
        ({"sha256": "0" * 64}, r"data.sha256 was [0-9a-f]{20} and is 0{20} \(other rows"),
        ({"tokenizer_sha256": "1" * 64, "sha256": "0" * 64}, r"data.tokenizer_sha256 was"),
    ],
)
def test_other_data_are_refused_on_resume(corpus: ShardCorpus, change: dict[str, Any], message: str) -> None:
    begun = corpus.fingerprint.model_copy(update={"order": "shuffled"})
    with pytest.raises(DataError, match=message + r".*--override"):
        check_unchanged(begun, begun.model_copy(update=change))
    assert set(check_unchanged(begun, begun.model_copy(update=change), allow=True)) == set(change)


def test_the_same_rows_elsewhere_are_the_same_data(corpus: ShardCorpus) -> None:
    elsewhere = corpus.fingerprint.model_copy(update={"source": "hub", "details": {"repo": "a/b"}})
    assert check_unchanged(corpus.fingerprint, elsewhere) == []
