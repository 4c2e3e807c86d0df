"""What the loop around forward, backward and update costs, and how long a run takes to its first step.

    python benchmarks/engine_loop.py [--steps 60] [--format table|json]

The loop is that of `pico-train run` with its data, logging and hooks, on the demo's model, without checkpoints. What
it costs is the part of a step's time that is not spent inside forward and backward passes, the gradient norm, clipping
and the optimizer's update: these are timed by wrapping the very functions that the loop calls.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

THREADS = 2
GOAL = 0.03


def measure(steps: int, out: str) -> dict[str, float]:
    """Train the demo in this process; seconds of the median step, and of the work inside it."""
    import torch

    from pico_train.config import layers
    from pico_train.reporter import Reporter
    from pico_train.run import train
    from pico_train.training import loop
    from pico_train.training.engine import Engine

    torch.set_num_threads(THREADS)
    never = "{early: null, every: null, last: false}"
    config = layers.load_config(
        preset="demo",
        set=[
            f"training.max_steps={steps}",
            "training.schedule.warmup_steps=5",
            f"checkpoint.weights={never}",
            f"checkpoint.training_state={never}",
            f"checkpoint.captures={never}",
            f"evaluation.cadence={never}",
            "monitoring.log_every=1",
        ],
        out=out,
    )
    work = [0.0]

    def timed(function):
        def call(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                work[0] += time.perf_counter() - begin

        return call

    loop.accumulate = timed(loop.accumulate)
    Engine.gradient_norm = timed(Engine.gradient_norm)
    loop.update_weights = timed(loop.update_weights)
    whole, inside, marks = [], [], []

    class Watch(Reporter):
        def step(self, row, *, shown):
            marks.append((time.perf_counter(), work[0]))
            super().step(row, shown=shown)

    train(config, reporter=Watch())
    for (t0, w0), (t1, w1) in pairwise(marks[5:-1]):
        whole.append(t1 - t0)
        inside.append(w1 - w0)
    outside = [a - b for a, b in zip(whole, inside, strict=True)]
    return {"step_s": statistics.median(whole), "outside_s": statistics.median(outside)}


def first_step(out: str) -> float:
    """Seconds from starting `pico-train run` to its first finished step, the tokenizer cached."""
    command = [sys.executable, "-m", "pico_train", "run", "--out", out, "--set", "training.max_steps=1"]
    command += ["--set", "training.schedule.warmup_steps=0", "--set", "monitoring.log_every=1"]
    log = Path(out, "demo", "metrics.jsonl")
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = float("nan")
    while process.poll() is None:
        if log.exists() and log.stat().st_size:
            seconds = time.perf_counter() - begin
            break
        time.sleep(0.01)
    process.wait()
    return seconds


def main() -> None:
    """Measure both, each in processes of their own, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--format", choices=["table", "json"], default="table")
    parser.add_argument("--one", metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.steps, options.one)))
        return
    with tempfile.TemporaryDirectory() as out:
        environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
        command = [sys.executable, __file__, "--one", f"{out}/loop", "--steps", str(options.steps)]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        start = min(first_step(f"{out}/first{i}") for i in range(2))
    row = {
        "step_ms": round(found["step_s"] * 1e3, 1),
        "loop_ms": round(found["outside_s"] * 1e3, 2),
        "loop_share": round(found["outside_s"] / found["step_s"], 4),
        "goal": GOAL,
        "start_to_first_step_s": round(start, 1),
    }
    if options.format == "json":
        print(json.dumps(row))
    else:
        print("| " + " | ".join(row) + " |\n|" + " --- |" * len(row))
        print("| " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()
