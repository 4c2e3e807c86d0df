"""``python -m pico_conformance.fuzz --mutations 2000``: exit code 1 where a command did what it must not.

One failure again, with what the command printed: ``--only SEED --command NAME``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path


def main() -> None:
    """Run a campaign and print what failed."""
    parser = argparse.ArgumentParser(prog="python -m pico_conformance.fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=2000, help="how many [default: 2000]")
    parser.add_argument("--seed", type=int, default=0, help="the first seed [default: 0]")
    parser.add_argument("--only", type=int, help="this seed alone")
    parser.add_argument("--command", help="this command alone; what it prints is shown")
    parser.add_argument("--commands", type=int, help="so many commands of each run, chosen by the seed [default: all]")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes [default: as many as cores]"
    )
    parser.add_argument("--golden", type=Path, default=Path(__file__).resolve().parents[3] / "golden")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # before anything heavy is imported: what is forked must have no threads
    from pico_conformance.fuzz.campaign import run

    seeds = range(options.seed, options.seed + options.mutations) if options.only is None else [options.only]
    begun, count, kinds = time.monotonic(), 0, Counter[str]()
    failures = []
    for _, mutation, found in run(
        seeds, options.golden, workers=options.workers, n_commands=options.commands, only=options.command
    ):
        count += 1
        kinds[mutation.split()[0]] += 1
        failures += found
        for failure in found:
            print(failure, flush=True)
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    print(f"{count} mutations ({told}) in {time.monotonic() - begun:.0f} s: {len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
