"""The same batches for every number of processes, accumulation, prefetch, resume and model size."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pico_train.config import layers
from pico_train.data.corpus import open_corpus
from pico_train.data.loader import Loader
from pico_train.data.order import batch_digest
from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.errors import ConfigError, DataError

BATCH = 12


def loader(corpus: ShardCorpus, **settings: object) -> Loader:
    values = {"batch_size": BATCH, "order": "shuffled", "seed": 7, **settings}
    return Loader(corpus, **values)  # type: ignore[arg-type]


@pytest.fixture
def expected(corpus: ShardCorpus) -> list[str]:
    """Digests of the batches of more than two epochs, each read alone."""
    steps = 2 * corpus.n_rows // BATCH + 3
    return [loader(corpus).batch(step).digest for step in range(steps)]


@pytest.mark.parametrize("prefetch", [0, 1, 4])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_and_prefetch_change_nothing(corpus: ShardCorpus, expected: list[str], world: int, prefetch: int) -> None:
    steps = 25
    ranks = [
        list(loader(corpus, rank=rank, world_size=world, prefetch=prefetch).from_step(0, steps))
        for rank in range(world)
    ]
    for step in range(steps):
        shares = [batches[step] for batches in ranks]
        assert [batch.digest for batch in shares] == [expected[step]] * world
        together = torch.cat([batch.input_ids for batch in shares]).numpy()
        assert batch_digest(together) == expected[step]
        assert all(batch.step == step for batch in shares)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_micro_batches_are_slices_of_the_batch(corpus: ShardCorpus, expected: list[str], accumulation: int) -> None:
    for batch in loader(corpus).from_step(0, 10):
        micro = batch.input_ids.chunk(accumulation)
        assert len(micro) == accumulation
        assert batch_digest(torch.cat(micro).numpy()) == expected[batch.step]


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
@pytest.mark.parametrize("prefetch", [0, 4])
def test_a_resume_sees_what_the_straight_run_saw(corpus: ShardCorpus, order: str, prefetch: int) -> None:
    """In mid-epoch, in the batch that straddles two epochs, right before and right after it."""
    edge = corpus.n_rows // BATCH
    assert corpus.n_rows % BATCH, "the edge should lie inside a batch"
    stop = 2 * edge + 3
    straight = [b.digest for b in loader(corpus, order=order).from_step(0, stop)]
    for start in (1, edge // 2, edge - 1, edge, edge + 1, 2 * edge):
        again = loader(corpus, order=order, prefetch=prefetch).from_step(start, stop)
        assert [b.digest for b in again] == straight[start:]


def test_a_resume_at_an_epoch_that_ends_with_a_batch(corpus: ShardCorpus) -> None:
    batch = next(size for size in (8, 7, 6, 5, 4, 3, 2, 1) if corpus.n_rows % size == 0)
    edge = corpus.n_rows // batch
    straight = [b.digest for b in loader(corpus, batch_size=batch).from_step(0, edge + 4)]
    resumed = [b.digest for b in loader(corpus, batch_size=batch).from_step(edge, edge + 4)]
    assert resumed == straight[edge:]


def test_every_row_is_seen_once_per_epoch(corpus: ShardCorpus) -> None:
    steps = corpus.n_rows // BATCH + 1
    seen = np.concatenate([b.row_ids for b in loader(corpus).from_step(0, steps)])[: corpus.n_rows]
    assert sorted(seen) == list(range(corpus.n_rows))


def test_sizes_of_a_family_see_the_same_batches(corpus_dir: Path, cache: Path) -> None:
    digests = {}
    for preset in ("tiny", "small", "xl"):
        config = layers.load_config(
            preset=preset,
            set=[
                "data.source=tokens", f"data.paths=[{corpus_dir}]", "data.seq_len=16", "data.tokenizer=null",
                "data.order=shuffled", "training.batch_size=64",
            ],
        )  # fmt: skip
        corpus = open_corpus(config.data, cache_dir=cache)
        batches = Loader(
            corpus,
            batch_size=config.training.batch_size,
            order=config.data.order,
            seed=config.sub_seed("data"),
            prefetch=config.data.prefetch,
        )
        digests[preset] = [b.digest for b in batches.from_step(0, 20)]
    assert digests["tiny"] == digests["small"] == digests["xl"]


def test_batches_are_int64_rows_of_the_corpus(corpus: ShardCorpus) -> None:
    batch = loader(corpus, rank=1, world_size=3).batch(5)
    assert batch.input_ids.dtype == torch.int64
    assert batch.input_ids.shape == (4, corpus.seq_len + 1)
    assert np.array_equal(batch.input_ids.numpy(), corpus.rows(batch.row_ids[4:8]))
    assert np.array_equal(batch.global_rows(), corpus.rows(batch.row_ids))
    assert len(batch.sources()) == BATCH


def test_closing_the_iterator_ends_its_threads(corpus: ShardCorpus) -> None:
    batches = loader(corpus, prefetch=8).from_step(0, 10**9)
    next(batches)
    assert any(thread.name.startswith("pico-loader") for thread in threading.enumerate())
    batches.close()  # type: ignore[attr-defined]
    gc.collect()
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("pico-loader") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_error_while_reading_ahead_comes_at_its_step(corpus: ShardCorpus) -> None:
    """Steps before the damaged row are delivered; the error is the row's own."""

    class Damaged:
        n_rows, seq_len = corpus.n_rows, corpus.seq_len

        def rows(self, ids: np.ndarray) -> np.ndarray:
            if 50 in ids:
                raise DataError("row 50 is damaged")
            return corpus.rows(ids)

    batches = Loader(Damaged(), batch_size=10, order="sequential", seed=0, prefetch=4).from_step(0, 9)  # type: ignore[arg-type]
    assert [next(batches).step for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="row 50 is damaged"):
        next(batches)


def test_fewer_rows_than_a_batch_are_refused(corpus: ShardCorpus) -> None:
    size = corpus.n_rows + 1
    with pytest.raises(DataError, match=rf"fewer than a batch of {size}: set training.batch_size={corpus.n_rows}"):
        loader(corpus, batch_size=size)


def test_a_batch_that_ranks_cannot_share_is_refused(corpus: ShardCorpus) -> None:
    with pytest.raises(ConfigError, match=r"training.batch_size: a batch of 12 rows cannot be shared evenly by 5"):
        loader(corpus, world_size=5)
