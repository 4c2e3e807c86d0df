"""What rich checkpoints cost: a captured step, the time a save blocks training, throughput with saves, bytes.

    python benchmarks/checkpoint_cost.py [--preset small] [--rounds 3] [--out DIR] [--format table|json]

The model is a preset's, the batch one row of 2,048 random tokens, bf16-mixed, two threads; what is saved is the whole
content: weights, optimizer, train captures at the default sites, the batch. Arms alternate, so that a slow minute of
the machine does not fall on one of them alone, and their medians are compared. Validation captures are left out: they
are a pass of their own over a fixed set, whose cost depends on its size alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pico_schema import DataFingerprint, RunManifest, documents, layout
from pico_train.checkpoint.consumed import Consumed
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.config import RunConfig, layers
from pico_train.data.loader import Batch
from pico_train.training.engine import Engine, build_fabric, set_up
from pico_train.training.loop import fit
from pico_train.training.snapshot import PRODUCER, assemble
from pico_train.training.step import Measured, Snapshot

THREADS = 2
PERIOD = 20
"""Steps from one save to the next."""
GOALS = {
    "captured step / plain step": ("at most", 1.10),
    "blocked by a save / synchronous save": ("at most", 0.30),
    "throughput, saving every 20 steps / never": ("at least", 0.90),
    "bytes / (weights + optimizer + captures)": ("at most", 1.05),
}


def configuration(preset: str, out: Path, at: tuple[int, ...], last: int) -> RunConfig:
    """The preset's model with one row per batch, and a checkpoint at the steps `at`."""
    never: dict[str, Any] = {"early": None, "every": None, "last": False, "at": list(at)}
    shape = layers.preset_values(preset)["model"]
    return RunConfig.model_validate(
        {
            "out": str(out), "name": "cost", "model": shape,
            "data": {"seq_len": 2048}, "distributed": {"accelerator": "cpu"},
            "training": {"max_steps": last, "batch_size": 1, "precision": "bf16-mixed", "compile": "off",
                         "schedule": {"warmup_steps": 1}},
            "checkpoint": {"weights": never, "training_state": never, "captures": never},
            "captures": {"val": {"enabled": False}},
            "evaluation": {"cadence": never | {"at": []}},
        }
    )  # fmt: skip


class Corpus:
    """Random rows, as a `pico_train.data.corpus.Corpus`."""

    def __init__(self, config: RunConfig) -> None:
        self.vocab_size, self.seq_len, self.n_rows, self.eos_id = config.model.vocab_size, config.data.seq_len, 1000, 0
        self.tokenizer_dir = None
        self.fingerprint = DataFingerprint(
            source="random", sha256="0" * 64, n_rows=1000, seq_len=self.seq_len, vocab_size=self.vocab_size
        )

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """(k, seq_len + 1) int32."""
        each = [np.random.default_rng(int(i)).integers(0, self.vocab_size, self.seq_len + 1) for i in ids]
        return np.stack(each).astype(np.int32)

    def sources(self, ids: np.ndarray) -> list[str]:
        """Where each row comes from."""
        return ["random"] * len(ids)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Batch N for N = first … last."""
        for step in range(first, last + 1):
            ids = np.array([step])
            rows = self.rows(ids)
            consumed = Consumed(step, step, step * self.seq_len)
            yield Batch(step, torch.from_numpy(rows).long(), ids, self, rows, consumed)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Taken:
    """Seconds on the clock, and of all processors together, which others on the machine disturb less."""

    wall: float
    cpu: float
    capture: float = 0.0
    """Seconds of it that went into copying captures."""

    @classmethod
    def now(cls) -> Taken:
        """Both clocks."""
        return cls(time.perf_counter(), time.process_time())


def run_steps(
    engine: Engine, config: RunConfig, corpus: Corpus, steps: range, save: Callable[[Snapshot], None]
) -> list[Taken]:
    """What each step took, from the batch to the update, checkpoints included."""
    taken: list[Taken] = []
    last = Taken.now()

    def record(measured: Measured) -> None:
        nonlocal last
        now = Taken.now()
        taken.append(Taken(now.wall - last.wall, now.cpu - last.cpu, measured.seconds.get("capture", 0.0)))
        last = now

    fit(engine, config, corpus.batches(steps.start, steps.stop - 1), torch.empty(0), record=record, save=save)
    return taken


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--rounds", type=int, default=3, help="captured steps, and saves of each kind")
    parser.add_argument("--out", type=Path, help="directory on the disk to measure [default: a temporary one]")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(dir=options.out) as place:
        figures = measure(options.preset, options.rounds, Path(place))
    results = [
        {"figure": name, "value": round(figures[name], 3), "goal": f"{word} {goal}"}
        for name, (word, goal) in GOALS.items()
    ]
    results += [{"figure": name, "value": round(v, 3), "goal": ""} for name, v in figures.items() if name not in GOALS]
    if options.format == "json":
        print(json.dumps(results, indent=1))
    else:
        print("| figure | measured | goal |\n| --- | --- | --- |")
        print("\n".join(f"| {row['figure']} | {row['value']} | {row['goal']} |" for row in results))


def begin_run(config: RunConfig, place: Path) -> tuple[Engine, Corpus, RunManifest, Path]:
    """The model, random rows, and a run's directory below `place` as it is before its first checkpoint."""
    fabric = build_fabric(config)
    fabric.launch()
    engine = set_up(fabric, config, config.spec)
    corpus = Corpus(config)
    run = RunManifest(
        id=uuid.uuid4().hex, name="cost", created=datetime.now(UTC), producer=PRODUCER, seed=config.seed,
        model=config.spec, data=corpus.fingerprint, config=config.model_dump(mode="json"),
    )  # fmt: skip
    run_dir = place / "cost"
    (run_dir / layout.CHECKPOINTS).mkdir(parents=True)
    documents.write(run_dir / layout.RUN_MANIFEST, run)
    return engine, corpus, run, run_dir


def measure(preset: str, rounds: int, place: Path) -> dict[str, float]:
    """All figures, by name."""
    far = 10**6
    captures_at = tuple(range(3, 3 + 2 * rounds, 2))
    config = configuration(preset, place, captures_at, far)
    engine, corpus, run, run_dir = begin_run(config, place)

    snapshots: list[Snapshot] = []
    seconds = run_steps(engine, config, corpus, range(captures_at[-1] + 1), snapshots.append)
    plain, captured = seconds[2::2], [seconds[step] for step in captures_at]
    _tell("plain steps", plain)
    _tell("captured steps", captured)

    blocked, synchronous = [], []
    with CheckpointWriter(run_dir) as writer:
        for snapshot in snapshots:
            begin = time.perf_counter()
            writer.submit(assemble(engine, config, corpus, run, snapshot))  # type: ignore[arg-type]
            blocked.append(time.perf_counter() - begin)
            writer.wait()
        for directory in (run_dir / layout.CHECKPOINTS).iterdir():
            shutil.rmtree(directory)
        for snapshot in snapshots:
            begin = time.perf_counter()
            writer.save(assemble(engine, config, corpus, run, snapshot))  # type: ignore[arg-type]
            synchronous.append(time.perf_counter() - begin)

        print(f"blocked {blocked}, synchronous {synchronous}", file=sys.stderr)
        manifest = documents.read_checkpoint(run_dir / layout.checkpoint_dir(snapshots[-1].batch.step))
        content = sum(t.numel() * t.element_size() for t in snapshots[-1].captured["train"].tensors.values())
        content += sum(p.numel() * p.element_size() for p in engine.parameters)
        moments = (value for values in engine.optimizer.state.values() for value in values.values())
        content += sum(value.numel() * value.element_size() for value in moments)
        size = manifest.size + (run_dir / layout.checkpoint_dir(manifest.step) / layout.MANIFEST).stat().st_size

        first = 1000
        saving = configuration(preset, place, (first,), far)
        half = PERIOD // 2
        never = run_steps(engine, config, corpus, range(100, 100 + half), snapshots.append)

        def save(snapshot: Snapshot) -> None:
            writer.submit(assemble(engine, saving, corpus, run, snapshot))  # type: ignore[arg-type]

        with_save = run_steps(engine, saving, corpus, range(first, first + PERIOD), save)
        writer.wait()
        never += run_steps(engine, config, corpus, range(200, 200 + half), snapshots.append)
        _tell("never saving", never)
        _tell("saving once", with_save)
    return {
        "captured step / plain step": _median_wall(captured) / _median_wall(plain),
        "blocked by a save / synchronous save": statistics.median(blocked) / statistics.median(synchronous),
        "throughput, saving every 20 steps / never": (
            sum(step.wall for step in never) / sum(step.wall for step in with_save)
        ),
        "bytes / (weights + optimizer + captures)": size / content,
        "plain step, s": _median_wall(plain),
        "captured step, s": _median_wall(captured),
        "copying captures, s": statistics.median(step.capture for step in captured),
        "captured step / plain step, in processor time": (
            statistics.median(step.cpu for step in captured) / statistics.median(step.cpu for step in plain)
        ),
        "processor time, never saving / saving every 20 steps": (
            sum(step.cpu for step in never) / sum(step.cpu for step in with_save)
        ),
        "blocked by a save, s": statistics.median(blocked),
        "synchronous save, s": statistics.median(synchronous),
        "checkpoint, MB": size / 1e6,
    }


def _tell(what: str, steps: list[Taken]) -> None:
    print(f"{what}: " + ", ".join(f"{step.wall:.2f} s ({step.cpu:.2f})" for step in steps), file=sys.stderr)


def _median_wall(steps: list[Taken]) -> float:
    return statistics.median(step.wall for step in steps)


if __name__ == "__main__":
    main()
