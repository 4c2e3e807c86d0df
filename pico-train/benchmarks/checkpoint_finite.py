"""What looking for a NaN costs, of all that a save takes.

    python benchmarks/checkpoint_finite.py [--preset small] [--rounds 3] [--threads 1] [--out DIR]

The whole content of a checkpoint as in `checkpoint_cost.py`: it is copied, looked at, hashed, written and sealed. Saves
with the check and without it take turns, and the check is timed by itself besides. Time is that of the processor, all
threads together, of the kernel too: what other programs do on the machine disturbs it little. One thread by default:
more of them wait for work actively after each tensor, and that time counts as well.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import torch
from checkpoint_cost import begin_run, configuration, run_steps

from pico_schema import layout
from pico_train.checkpoint.contents import CheckpointContents
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.training.snapshot import assemble
from pico_train.training.step import Snapshot

CAPTURED = 1
"""The step that is saved: by then the optimizer has its moments."""


def measure(preset: str, rounds: int, place: Path) -> dict[str, float]:
    """Median seconds of the processor: a save without the check, one with it, the check; and megabytes looked at."""
    config = configuration(preset, place, (CAPTURED,), 10**6)
    engine, corpus, run, run_dir = begin_run(config, place)
    snapshots: list[Snapshot] = []
    run_steps(engine, config, corpus, range(CAPTURED + 1), snapshots.append)
    [snapshot] = snapshots
    checked = CheckpointContents.nonfinite
    without, with_it, alone = [], [], []
    with CheckpointWriter(run_dir) as writer:

        def save() -> float:
            started = time.process_time()
            writer.save(assemble(engine, config, corpus, run, snapshot))  # type: ignore[arg-type]
            taken = time.process_time() - started
            for directory in (run_dir / layout.CHECKPOINTS).iterdir():
                shutil.rmtree(directory)
            return taken

        for _ in range(rounds + 1):  # the first of each is a warm-up
            with patch.object(CheckpointContents, "nonfinite", None):
                without.append(save())
            with_it.append(save())
            contents = assemble(engine, config, corpus, run, snapshot)  # type: ignore[arg-type]
            started = time.process_time()
            assert checked.func(contents) is None
            alone.append(time.process_time() - started)
    return {
        "without": statistics.median(without[1:]),
        "with": statistics.median(with_it[1:]),
        "check": statistics.median(alone[1:]),
        "megabytes": _numbers(contents) / 1e6,
    }


def _numbers(contents: CheckpointContents) -> int:
    """Bytes of all tensors that are looked at."""
    found, waiting = 0, [contents.weights, contents.training_state, *(item.tensors for item in contents.captures)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, torch.Tensor):
            found += item.numel() * item.element_size()
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="directory on the disk to measure [default: a temporary one]")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory(dir=given.out) as place:
        found = measure(given.preset, given.rounds, Path(place))
    print("| preset, MB of numbers | save without the check, s | with it, s | the check alone, s | with / without |")
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| {given.preset}, {found['megabytes']:.0f} | {found['without']:.3f} | {found['with']:.3f} "
        f"| {found['check']:.3f} | {found['with'] / found['without']:.2f}× |"
    )


if __name__ == "__main__":
    main()
