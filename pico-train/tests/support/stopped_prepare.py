"""Run as a program: `pico-train data …` with batches so small that a stage can be met; tells of each on stdout.

usage: stopped_prepare.py STAGE ARGUMENTS…

STAGE is where it waits, with work left to do, for a signal: tokenizer (while one is trained), read (while text is
read), tokenize (after a batch was laid on rows), shards (after one was written). It prints "there" when it is there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pico_train.cli import app
from pico_train.data import tokenizer
from pico_train.data.prepare import encode, opening, pipeline, tokenize


def wait() -> None:
    """Say that the stage is reached, and take longer over it than anybody waits."""
    print("there", flush=True)
    time.sleep(60)


def train_for_long(_texts: Iterable[str], size: int) -> Any:
    """What does not return to Python for many seconds: the merges of many words that differ."""

    def words() -> Iterator[str]:
        for start in range(0, 400_000, 1000):
            yield " ".join(f"{number * 7919:x}" for number in range(start, start + 1000))
        print("there", flush=True)

    return _train(words(), size + 100_000)


_train = tokenizer.train


def wait_on_third_batch(rows: tokenize.SpooledRows, encoded: encode.EncodedPieces) -> None:
    """`SpooledRows.add`, and after the third batch a long wait."""
    _add(rows, encoded)
    _added.append(encoded)
    if len(_added) == 3:
        wait()


_add = tokenize.SpooledRows.add
_added: list[encode.EncodedPieces] = []


def wait_after_a_shard(*arguments: Any, on_shard: Any, **named: Any) -> Any:
    """`write_shards`, and after each shard a long wait."""

    def noted(entry: Any) -> None:
        on_shard(entry)
        wait()

    return _write_shards(*arguments, on_shard=noted, **named)


_write_shards = pipeline.write_shards


def wait_before_reading(path: Path) -> Any:
    """`open_text`, after a long wait."""
    wait()
    return _open_text(path)


_open_text = opening.open_text


if __name__ == "__main__":
    encode.BATCH_CHARS = tokenize.BATCH_CHARS = 2000
    stage = sys.argv[1]
    if stage == "tokenizer":
        tokenizer.train = train_for_long
    elif stage == "read":
        opening.open_text = wait_before_reading  # type: ignore[assignment]
    elif stage == "tokenize":
        tokenize.SpooledRows.add = wait_on_third_batch  # type: ignore[method-assign]
    else:
        pipeline.write_shards = wait_after_a_shard
    sys.argv = ["pico-train", *sys.argv[2:]]
    app.main()
