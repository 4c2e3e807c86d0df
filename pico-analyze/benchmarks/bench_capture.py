"""What `capture` costs beside bare forwards of transformers: the same models, rows, batches and threads.

    python benchmarks/bench_capture.py --steps 3

A series of random models of Pythia-70m's size is written to a scratch directory. The bare arm loads each step with
`from_pretrained` and puts the rows through it, keeping nothing; with --gradients it goes backward too, for all
weights. The capture does the whole of its work: digests, rows, hooks, sealing with fsync. The arms take turns in this
process, by the clock and by CPU, and of each the fastest counts. A third arm forms no logits, as a capture does not
where neither gradients nor the head are asked for. Peak memory is that of a process for each arm.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def make_series(root: Path, steps: int, size: dict[str, int]) -> None:
    """Random models, a directory each."""
    import torch
    import transformers

    for step in range(steps):
        torch.manual_seed(step)
        model = transformers.AutoModelForCausalLM.from_config(transformers.GPTNeoXConfig(**size))
        model.save_pretrained(root / "series" / f"step{step}")
    ids = np.random.default_rng(0).integers(0, size["vocab_size"], (32, 129))
    pq.write_table(pa.table({"input_ids": ids.tolist()}), root / "rows.parquet")


def bare(root: Path, *, gradients: bool, batch_size: int, threads: int) -> None:
    """Load and run each step."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    ids = torch.tensor(pq.read_table(root / "rows.parquet")["input_ids"].to_pylist())
    for path in sorted((root / "series").iterdir()):
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        for batch in ids.split(batch_size):
            if gradients:
                model(input_ids=batch, labels=batch).loss.backward()
            else:
                with torch.no_grad():
                    model(input_ids=batch[:, :-1])


def base(root: Path, *, gradients: bool, batch_size: int, threads: int) -> None:
    """Load and run each step, up to the final norm."""
    import torch
    import transformers

    del gradients
    torch.set_num_threads(threads)
    ids = torch.tensor(pq.read_table(root / "rows.parquet")["input_ids"].to_pylist())
    for path in sorted((root / "series").iterdir()):
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        with torch.no_grad():
            for batch in ids.split(batch_size):
                model.base_model(input_ids=batch[:, :-1], use_cache=False)


def captured(root: Path, *, gradients: bool, batch_size: int, threads: int) -> None:
    """Capture each step."""
    import pico_analyze

    del threads  # as many as cores
    shutil.rmtree(root / "out", ignore_errors=True)
    rows = str(root / "rows.parquet")
    pico_analyze.capture(
        root / "series", out=root / "out", data=rows, gradients=gradients, batch_size=batch_size, device="cpu"
    )


def spent(arm: Callable[..., None], root: Path, **how: int) -> tuple[float, float]:
    """Seconds by the clock and of CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    arm(root, **how)
    return time.perf_counter() - clock, time.process_time() - cpu


def _peak(arm: Callable[..., None], root: Path, how: dict[str, int]) -> float:
    arm(root, **how)
    status = Path("/proc/self/status").read_text()  # getrusage would tell the parent's, where that was larger
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--gradients", action="store_true")
    arguments = parser.parse_args()
    import os

    threads = len(os.sched_getaffinity(0))
    size = {"vocab_size": 50304, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6}
    size |= {"num_attention_heads": 8, "max_position_embeddings": 2048}
    how = {"gradients": arguments.gradients, "batch_size": arguments.batch_size, "threads": threads}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_series(root, arguments.steps, size)
        arms = {"bare": bare, "capture": captured} | ({} if arguments.gradients else {"without logits": base})
        best: dict[str, tuple[float, float]] = {}
        for _ in range(arguments.repeats):
            for name, arm in arms.items():
                found = spent(arm, root, **how)
                known = best.get(name, found)
                best[name] = min(known[0], found[0]), min(known[1], found[1])
                print(f"  {name}: {found[0]:.2f} s ({found[1]:.2f} s of CPU)", flush=True)
        for name, (seconds, cpu) in best.items():
            ratios = seconds / best["bare"][0], cpu / best["bare"][1]
            print(
                f"{name}: {seconds:.2f} s ({cpu:.2f} s of CPU): {ratios[0]:.2f}x, by CPU {ratios[1]:.2f}x", flush=True
            )
        with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for name, arm in arms.items():
                print(f"{name}: {pool.apply(_peak, (arm, root, how)):.0f} MB at its peak", flush=True)


if __name__ == "__main__":
    main()
