"""How long a sharded save blocks training: this project's way, torch's asynchronous save, and a synchronous one.

    python benchmarks/checkpoint_sharded.py [--preset tiny] [--rounds 3]

FSDP2 on two processes with gloo. The same state is saved in three ways: copied to the host and written by a thread with
`torch.distributed.checkpoint.save`; `async_save`; and `save`. What counts is the time until training could go on, and
the time until the shards are on the disk.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

from pico_train.checkpoint.state import copy_to_host
from pico_train.config import RunConfig, layers
from pico_train.training.engine import Engine, build_fabric, set_up


def main() -> None:
    """Measure on both processes; the first prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = RunConfig.model_validate(
        {
            "model": layers.preset_values(options.preset)["model"],
            "distributed": {"accelerator": "cpu", "strategy": "fsdp", "devices": 2},
        }
    )
    fabric = build_fabric(config)
    fabric.launch()
    engine = set_up(fabric, config, config.spec)
    for parameter in engine.parameters:
        parameter.grad = torch.zeros_like(parameter)
    engine.optimizer.step()
    group = dist.new_group(backend="gloo")
    place = fabric.broadcast(tempfile.mkdtemp() if fabric.global_rank == 0 else None)
    ways = {"copy, then save in a thread": in_a_thread, "async_save": asynchronous, "save": synchronous}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(options.rounds):
        for name, way in ways.items():
            fabric.barrier()
            taken[name].append(way(engine, Path(place) / f"{turn}-{name[:5]}", group))
    if fabric.global_rank == 0:
        shutil.rmtree(place)
        print("| way | blocked, s | written after, s |\n| --- | --- | --- |")
        for name, times in taken.items():
            blocked, whole = (statistics.median(column) for column in zip(*times, strict=True))
            print(f"| {name} | {blocked:.3f} | {whole:.3f} |")


def state_of(engine: Engine) -> dict[str, Any]:
    """Shards of model and optimizer."""
    return {
        "model": get_model_state_dict(engine.decoder),
        "optimizer": get_optimizer_state_dict(engine.decoder, engine.optimizer),
    }


def in_a_thread(engine: Engine, path: Path, group: Any) -> tuple[float, float]:
    """As `checkpoint.sharded` does it."""
    begin = time.perf_counter()
    state = copy_to_host(state_of(engine))
    thread = threading.Thread(
        target=dcp.save, args=(state,), kwargs={"storage_writer": dcp.FileSystemWriter(path), "process_group": group}
    )
    thread.start()
    blocked = time.perf_counter() - begin
    thread.join()
    return blocked, time.perf_counter() - begin


def asynchronous(engine: Engine, path: Path, group: Any) -> tuple[float, float]:
    """torch's own asynchronous save."""
    begin = time.perf_counter()
    future: Any = dcp.async_save(state_of(engine), storage_writer=dcp.FileSystemWriter(path), process_group=group)
    blocked = time.perf_counter() - begin
    future.result()
    return blocked, time.perf_counter() - begin


def synchronous(engine: Engine, path: Path, group: Any) -> tuple[float, float]:
    """torch's synchronous save."""
    begin = time.perf_counter()
    dcp.save(state_of(engine), storage_writer=dcp.FileSystemWriter(path), process_group=group)
    return (time.perf_counter() - begin,) * 2


if __name__ == "__main__":
    main()
