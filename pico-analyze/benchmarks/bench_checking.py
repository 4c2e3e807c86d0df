"""What checking costs: the OV study of a run read for the first time, for the second, and without any check.

    python benchmarks/bench_checking.py 384 --steps 11

Each arm is the whole command in a process of its own, into an empty directory; the arms take turns, and of each the
fastest counts. First time: no digest is remembered, so that every file is read through. Second: all are remembered.
Without: bytes are given out as they are, which no option of the program does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process
from pathlib import Path

from bench_cli import STUDY, make_run

RUN = "from pico_analyze.cli.app import main; main()"
UNCHECKED = """
import os
from pico_analyze.stores import checked_file
checked_file.CheckedFile._check = lambda self, file: checked_file.state_of(os.fstat(file.fileno()))
"""


def spent(code: str, root: Path, cache: Path) -> tuple[float, float]:
    """Seconds on the clock and of CPU of the whole command."""
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", code, "run", str(root / "study.yaml"), "--out", str(out), "--no-plot"]
    environment = os.environ | {"PICO_CACHE": str(cache)}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(errors.decode())
    return seconds, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("d_model", type=int)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        run, cache = root / "runs" / "bench", root / "cache"
        writer = Process(target=make_run, args=(run.parent, arguments.d_model, tuple(range(arguments.steps))))
        writer.start()
        writer.join()
        (root / "study.yaml").write_text(STUDY.format(run=run, steps="all", out=root / "out"))
        read = sum(path.stat().st_size for path in run.rglob("*.safetensors"))
        time.sleep(3)  # files are remembered once they have been left alone for two seconds
        best: dict[str, tuple[float, float]] = {}
        for _ in range(arguments.repeats):
            for arm in ("without", "first time", "second time"):
                if arm == "first time":
                    shutil.rmtree(cache, ignore_errors=True)
                found = spent(UNCHECKED + RUN if arm == "without" else RUN, root, cache)
                known = best.get(arm, found)
                best[arm] = min(known[0], found[0]), min(known[1], found[1])
        print(f"{read / 1e6:.0f} MB in files that the study reads")
        for arm, (seconds, cpu) in best.items():
            ratios = [a / b for a, b in zip((seconds, cpu), best["without"], strict=True)]
            print(f"{arm}: {seconds:.1f} s ({cpu:.1f} s of CPU): {ratios[0]:.3f}x, by CPU {ratios[1]:.3f}x", flush=True)


if __name__ == "__main__":
    main()
