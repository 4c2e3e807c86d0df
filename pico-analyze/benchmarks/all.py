"""All benchmarks of pico-analyze, one after the other; what they printed last is in BENCHMARKS.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
COMMANDS = (
    ("bench_cka.py", "384", "--direct"),
    ("bench_cka.py", "1536"),
    ("bench_metrics.py", "384"),
    ("bench_cli.py", "384", "--steps", "11"),
    ("bench_cli.py", "1536"),
    ("bench_checking.py", "384"),
    ("bench_capture.py",),
    ("bench_capture.py", "--gradients"),
    ("bench_cluster.py", "384", "--steps", "11"),
    ("bench_tasks.py",),
)


def main() -> int:
    """Run each in a process of its own, with one BLAS thread as the command line sets it; stop at the first failure."""
    environment = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1") | os.environ
    for name, *arguments in COMMANDS:
        print(f"\n$ python benchmarks/{' '.join((name, *arguments))}", flush=True)
        done = subprocess.run([sys.executable, str(HERE / name), *arguments], env=environment, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
