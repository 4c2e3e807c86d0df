"""The loader: tokens per second and memory at sequence 2,048, against `datasets` streaming; locating a step; resuming.

    python benchmarks/data_loader.py [--seconds 4] [--format table|json]

Every arm runs in a process of its own, so that its peak resident memory (VmHWM, everything included) is its own, on
two cores, and reads the same rows from local Parquet into int64 CPU tensors of 32 rows. `datasets` streams the same
files through a DataLoader whose collate makes a tensor of the lists, as its documentation and most trainers do; a
second arm of it converts through numpy. The files are in the page cache for all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SEQ_LEN = 2048
ROWS_PER_SHARD = 4096
N_SHARDS = 4
BATCH = 32
VOCABULARY = 50_280
ARMS = (
    "pico, plain shards, shuffled",
    "pico, plain shards, sequential",
    "pico, zstd shards, sequential",
    "datasets streaming, lists collated",
    "datasets streaming, numpy collated",
)
GOALS = {
    "tokens/s, plain shards, shuffled (M)": ("at least", 5.0),
    "tokens/s, zstd shards, sequential (M)": ("at least", 5.0),
    "peak memory, plain shards (MB)": ("at most", 300.0),
    "times datasets streaming": ("at least", 1.0),
    "locating a step of 10 billion rows (ms)": ("at most", 50.0),
    "resuming on 10,000 shards (s)": ("at most", 1.0),
}


def make_shards(root: Path) -> None:
    """The same random rows, ids spread as in text (Zipf), in plain and in compressed shards, and a tokenizer."""
    from tokenizers import Tokenizer, models

    from pico_train.data import tokenizer
    from pico_train.data.shards.parquet import rows_per_group, write_shard

    draw = np.random.default_rng(0)
    group = rows_per_group(SEQ_LEN + 1)
    for shard in range(N_SHARDS):
        ids = np.minimum(draw.zipf(1.2, (ROWS_PER_SHARD, SEQ_LEN + 1)), VOCABULARY - 1).astype(np.int32)
        blocks = [(ids[i : i + group], ["made up"] * len(ids[i : i + group])) for i in range(0, len(ids), group)]
        for compression in ("none", "zstd"):
            path = root / compression / f"train-{shard:05d}.parquet"
            path.parent.mkdir(exist_ok=True)
            write_shard(path, blocks, row_len=SEQ_LEN + 1, compression=compression)
    words = {tokenizer.END_OF_TEXT: 0, **{f"word{i}": i for i in range(1, VOCABULARY)}}
    made_up = Tokenizer(models.WordLevel(words, unk_token=tokenizer.END_OF_TEXT))
    tokenizer.save_trained(made_up, root / "tokenizer", max_length=SEQ_LEN)
    for compression in ("none", "zstd"):  # so that the index is known, as it is to every run but the first
        next(pico(root, compression, "sequential"))


def pico(root: Path, compression: str, order: str) -> Iterator[Any]:
    """Batches of this package's loader, for ever."""
    from pico_train.config import DataConfig
    from pico_train.data.corpus import open_corpus
    from pico_train.data.loader import Loader

    config = DataConfig.model_validate(
        {
            "source": "tokens", "paths": [str(root / compression)], "seq_len": SEQ_LEN, "order": order,
            "tokenizer": str(root / "tokenizer"),
        }
    )  # fmt: skip
    corpus = open_corpus(config, cache_dir=root / "cache")
    for batch in Loader(corpus, batch_size=BATCH, order=config.order, seed=0).from_step(0, 10**9):
        yield batch.input_ids


def streaming(root: Path, numpy: bool) -> Iterator[Any]:
    """Batches of `datasets` streaming through a DataLoader, for ever."""
    import datasets
    import torch
    from torch.utils.data import DataLoader

    def of_lists(rows: list[dict[str, Any]]) -> torch.Tensor:
        return torch.tensor([row["input_ids"] for row in rows])

    def of_arrays(rows: list[dict[str, Any]]) -> torch.Tensor:
        return torch.from_numpy(np.stack([row["input_ids"] for row in rows]).astype(np.int64))

    files = sorted(str(path) for path in (root / "zstd").glob("*.parquet"))
    data = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True, columns=["input_ids"])
    if numpy:
        data = data.with_format("numpy")
    while True:
        yield from DataLoader(data, batch_size=BATCH, collate_fn=of_arrays if numpy else of_lists, num_workers=0)


def measure(root: Path, arm: str, seconds: float) -> dict[str, float]:
    """Run one arm in this process: tokens per second after a warm-up, and peak memory in MB."""
    import torch

    torch.set_num_threads(1)
    if arm.startswith("pico"):
        batches = pico(root, "zstd" if "zstd" in arm else "none", arm.rsplit(" ", 1)[1])
    else:
        batches = streaming(root, "numpy" in arm)
    for _ in range(3):
        next(batches)
    started, tokens, total = time.perf_counter(), 0, 0
    while (elapsed := time.perf_counter() - started) < seconds:
        batch = next(batches)
        tokens += batch[:, 1:].numel()
        total += int(batch[0, 0])
    assert total > 0
    return {"tokens_per_second": tokens / elapsed, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Peak resident memory of this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("this benchmark reads /proc")


def locate() -> float:
    """Milliseconds to find all rows of one batch of 1,024 among 10 billion in 488,282 shards; the slowest of 20."""
    from pico_train.data.order import row_ids
    from pico_train.data.shards.sharded_rows import ShardIndex

    index = ShardIndex.of(np.full(488_282, 20_480))
    times = []
    for step in np.random.default_rng(0).integers(0, 9 * 10**6, 20).tolist():
        started = time.perf_counter()
        index.locate(row_ids(step, batch_size=1024, n_rows=index.n_rows, order="shuffled", seed=step))
        times.append(1000 * (time.perf_counter() - started))
    return max(times)


def resume(root: Path, n_shards: int = 10_000) -> dict[str, float]:
    """Seconds from nothing to the first batch of a late step on many shards (links to one), first and later times."""
    from pico_train.config import DataConfig
    from pico_train.data.corpus import open_corpus
    from pico_train.data.loader import Loader

    folder = root / "many"
    folder.mkdir()
    original = next((root / "none").glob("*.parquet"))
    for number in range(n_shards):
        os.link(original, folder / f"train-{number:05d}.parquet")
    config = DataConfig.model_validate(
        {"source": "tokens", "paths": [str(folder)], "seq_len": SEQ_LEN, "tokenizer": str(root / "tokenizer")}
    )
    times = []
    for _ in range(2):
        started = time.perf_counter()
        corpus = open_corpus(config, cache_dir=root / "cache")
        loader = Loader(corpus, batch_size=1024, order="sequential", seed=0)
        step = int(0.9 * corpus.n_rows / 1024)
        next(iter(loader.from_step(step, step + 1)))
        times.append(time.perf_counter() - started)
    return {"first": times[0], "again": times[1]}


def arm_in_a_process(root: Path, arm: str, seconds: float) -> dict[str, float]:
    """`measure` in a fresh process on two cores."""
    command = [sys.executable, __file__, "--arm", arm, "--root", str(root), "--seconds", str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(root / "hf")}
    cores = sorted(os.sched_getaffinity(0))[:2]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    if done.returncode:
        raise SystemExit(f"{arm}: {done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="time per arm")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(measure(arguments.root, arguments.arm, arguments.seconds)))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_shards(root)
        results = {arm: arm_in_a_process(root, arm, arguments.seconds) for arm in ARMS}
        located, resumed = locate(), resume(root)
    report(results, located, resumed, arguments.format)


def report(results: dict[str, dict[str, float]], located: float, resumed: dict[str, float], form: str) -> None:
    """Print the figures beside their goals."""
    speed = {arm: result["tokens_per_second"] / 1e6 for arm, result in results.items()}
    ours = [arm for arm in ARMS if arm.startswith("pico")]
    plain = [arm for arm in ours if "plain" in arm]
    figures = {
        "tokens/s, plain shards, shuffled (M)": speed[ARMS[0]],
        "tokens/s, zstd shards, sequential (M)": speed[ARMS[2]],
        "peak memory, plain shards (MB)": max(results[arm]["peak_mb"] for arm in plain),
        "times datasets streaming": min(speed[a] for a in ours) / max(speed[a] for a in ARMS if a not in ours),
        "locating a step of 10 billion rows (ms)": located,
        "resuming on 10,000 shards (s)": resumed["again"],
    }
    met = {
        name: figures[name] >= goal if kind == "at least" else figures[name] <= goal
        for name, (kind, goal) in GOALS.items()
    }
    if form == "json":
        print(
            json.dumps({"arms": results, "figures": figures, "goals": GOALS, "met": met, "resume": resumed}, indent=1)
        )
    else:
        for arm, result in results.items():
            print(f"{arm:<40}{result['tokens_per_second'] / 1e6:>10.1f} M tokens/s{result['peak_mb']:>8.0f} MB")
        print(f"{'opening 10,000 shards for the first time':<40}{resumed['first']:>10.2f} s")
        for name, (kind, goal) in GOALS.items():
            print(f"{name:<44}{figures[name]:>10.2f}  ({kind} {goal:g})  {'met' if met[name] else 'MISSED'}")


if __name__ == "__main__":
    main()
