"""The OV study on a Dask scheduler of this machine, with one worker process and with two.

    python benchmarks/bench_cluster.py 384 --steps 11

Start of the command included, start of scheduler and workers not; both arms in one run, twice, the faster one counts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process
from pathlib import Path

from bench_cli import STUDY, make_run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def study_seconds(root: Path, address: str, attempt: str) -> float:
    """Seconds of the whole command."""
    out = ["--out", str(root / f"out-{attempt}"), "--no-plot", "--format", "csv"]
    command = [sys.executable, "-c", "from pico_analyze.cli.app import main; main()", "run", str(root / "study.yaml")]
    start = time.perf_counter()
    subprocess.run([*command, *out, "--scheduler", address], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    from dask_cluster import Cluster

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("d_model", type=int)
    parser.add_argument("--steps", type=int, default=11)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        run = root / "runs" / "bench"
        writer = Process(target=make_run, args=(run.parent, arguments.d_model, tuple(range(arguments.steps))))
        writer.start()
        writer.join()
        (root / "study.yaml").write_text(STUDY.format(run=run, steps="all", out=root / "out"))
        best: dict[int, float] = {}
        for attempt in range(2):
            for workers in (1, 2):
                folder = root / f"cluster-{workers}-{attempt}"
                with Cluster(folder, workers) as cluster, cluster.client():  # all workers are there
                    seconds = study_seconds(root, cluster.address, f"{workers}-{attempt}")
                best[workers] = min(best.get(workers, seconds), seconds)
        print(f"one worker {best[1]:.1f} s, two workers {best[2]:.1f} s: {best[2] / best[1]:.2f}x", flush=True)


if __name__ == "__main__":
    main()
