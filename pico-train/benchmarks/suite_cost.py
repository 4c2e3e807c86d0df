"""What a suite adds to its runs, and how well two at a time use two cores.

    python benchmarks/suite_cost.py [--runs 10] [--steps 60]

The same small runs are made one by one, each by a `pico-train run` of its own with one thread, then by `pico-train
suite run`, then by `pico-train suite run --parallel 2`. Their work is the processor time of the first; what a suite
adds is what all processes of the second take more. Two at a time would take half of that work by the clock, were
nothing lost.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASE = {
    "model": {"d_model": 64, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "d_ff": 256, "vocab_size": 1024},
    "data": {"source": "stdlib", "tokenizer": "train:1024", "seq_len": 128, "val_rows": 8},
    "training": {"batch_size": 16},
    "checkpoint": {
        "weights": {"early": None, "every": None},
        "training_state": {"early": None, "every": None},
        "captures": {"early": None, "every": None},
    },
    "evaluation": {"cadence": {"early": None, "every": None}},
    "distributed": {"accelerator": "cpu", "devices": 1},
}


def timed(words: list[str], where: Path) -> tuple[float, float]:
    """Seconds by the clock, and of the processor in all processes, of one command."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PICO_CACHE": str(where / "cache")}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "pico_train", *words]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, cwd=where)
    if done.returncode:
        raise SystemExit(done.stderr)
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    return end - begin, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        base = BASE | {"training": BASE["training"] | {"max_steps": given.steps}}
        seeds = list(range(1, given.runs + 1))
        (where / "one.yaml").write_text(json.dumps(base), encoding="utf-8")
        timed(["run", "one.yaml", "--name", "first", "--set", "training.max_steps=1"], where)  # the text is prepared
        alone = [timed(["run", "one.yaml", "--name", f"r{seed}", "--set", f"seed={seed}"], where) for seed in seeds]
        found = {"one by one": (sum(wall for wall, _ in alone), sum(work for _, work in alone))}
        for name, words in (("suite run", []), ("suite run --parallel 2", ["--parallel", "2"])):
            file = where / f"s{len(words)}.yaml"
            file.write_text(json.dumps({"base": base, "axes": {"seed": seeds}}), encoding="utf-8")
            found[name] = timed(["suite", "run", file.name, *words], where)
    work = found["one by one"][1]
    print(f"{given.runs} runs of {given.steps} steps, one thread each, {os.cpu_count()} cores\n")
    print("| how | clock s | processor s | processor time over one by one | clock over a perfect share |")
    print("| --- | --- | --- | --- | --- |")
    for name, (wall, processor) in found.items():
        share = wall / (work / (2 if "2" in name else 1))
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {processor / work:.3f}× | {share:.2f}× |")


if __name__ == "__main__":
    main()
