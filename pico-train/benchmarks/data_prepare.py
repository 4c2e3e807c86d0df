"""Preparation: megabytes of text per second and core with a BPE of 4,096, and a corpus larger than --memory.

    python benchmarks/data_prepare.py [--megabytes 24] [--large-megabytes 330] [--format table|json]

The text is the Python source of the standard library and of the installed packages: real text, of few repetitions. The
tokenizer is trained beforehand and not part of the speed, which is that of the whole command `pico-train data prepare`
(reading, hashing, tokenizing, packing, shuffling, writing, all digests), with one process and with two. The large
corpus is that text over and over, each document made different; peaks are sums over the command and its workers
of their resident memory, sampled twenty times a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GOALS = {
    "one process (MB per second of one core)": ("at least", 1.5),
    "two processes (MB per second of one core)": ("at least", 1.5),
    "peak memory, of --memory": ("at most", 1.0),
    "corpus, of --memory": ("at least", 1.0),
}
MEMORY = 300 * 10**6
"""What the large corpus must be prepared in, with one process."""


def texts() -> Iterator[str]:
    """Python source files, in a fixed order."""
    for root in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        for path in sorted(Path(root).rglob("*.py")):
            if root != sysconfig.get_path("stdlib") or "site-packages" not in path.parts:
                text = path.read_text(encoding="utf-8", errors="replace")
                if text:
                    yield text


def write_corpus(path: Path, size: int, *, repeat: bool = False) -> int:
    """JSON lines of about `size` bytes of text; its true size in bytes."""
    written = number = 0
    with path.open("w") as file:
        while written < size:
            for text in texts():
                number += 1
                unlike = f"# {number}\n" if repeat else ""
                file.write(json.dumps({"text": unlike + text}) + "\n")
                written += len((unlike + text).encode())
                if written >= size:
                    break
    return written


@dataclass(frozen=True)
class Spent:
    """What one call of the command took."""

    seconds: float
    """From start to end."""
    cpu: float
    """Seconds of processor time, of all its processes: on a busy machine the only fair measure."""
    peak: float
    """Peak memory of all its processes together, in bytes."""


def prepare(corpus: Path, out: Path, tokenizer: str, *, workers: int, memory: str = "2GB") -> Spent:
    """Run the command."""
    command = [sys.executable, "-m", "pico_train", "data", "prepare", str(corpus), "--out", str(out)]
    command += ["--tokenizer", tokenizer, "--seq-len", "2048", "--workers", str(workers), "--memory", memory]
    environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(process.stderr.read() if process.stderr else "failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(time.perf_counter() - started, cpu, peak)


def resident(pid: int) -> float:
    """Bytes that a process and its children have in memory; shared pages count once for each."""
    total = 0.0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    total += int(line.split()[1]) * 1024
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return total


def measure(root: Path, megabytes: int, large_megabytes: int) -> dict[str, float]:
    """All figures, by name."""
    size = write_corpus(root / "text.jsonl", megabytes * 10**6)
    first = prepare(root / "text.jsonl", root / "first", "train:4096", workers=1)
    tokenizer = str(root / "first" / "tokenizer")
    one = prepare(root / "text.jsonl", root / "one", tokenizer, workers=1)
    two = prepare(root / "text.jsonl", root / "two", tokenizer, workers=2)
    figures = {
        "one process (MB per second of one core)": size / 1e6 / one.cpu,
        "two processes (MB per second of one core)": size / 1e6 / two.cpu,
        "one process (MB/s)": size / 1e6 / one.seconds,
        "two processes (MB/s)": size / 1e6 / two.seconds,
        "peak memory, one process (MB)": one.peak / 1e6,
        "peak memory, two processes (MB)": two.peak / 1e6,
        "text (MB)": size / 1e6,
        "one process, training the tokenizer too (CPU s)": first.cpu,
    }
    if large_megabytes:
        large = write_corpus(root / "large.jsonl", large_megabytes * 10**6, repeat=True)
        spent = prepare(root / "large.jsonl", root / "large", "train:4096", workers=1, memory=f"{MEMORY}")
        figures |= {
            "peak memory, of --memory": spent.peak / MEMORY,
            "corpus, of --memory": large / MEMORY,
            "large corpus (MB)": large / 1e6,
            "large corpus (MB per second of one core)": large / 1e6 / spent.cpu,
        }
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=24, help="text to measure speed on")
    parser.add_argument("--large-megabytes", type=int, default=310, help="text to measure memory on; 0 leaves it out")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), arguments.megabytes, arguments.large_megabytes)
    if arguments.format == "json":
        print(json.dumps({"figures": figures, "goals": GOALS}, indent=1))
        return
    for name, value in figures.items():
        kind, goal = GOALS.get(name, ("", None))
        if goal is None:
            print(f"{name:<48}{value:>10.2f}")
        else:
            met = value >= goal if kind == "at least" else value <= goal
            print(f"{name:<48}{value:>10.2f}  ({kind} {goal:g})  {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
