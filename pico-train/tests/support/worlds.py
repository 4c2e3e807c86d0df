"""Functions run in processes of their own, one or several at a time, as a launcher would start them.

The processes are forked from a server that has imported the heavy modules once, so each costs a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["pico_train.run", "pico_train.data.sources.text", "pyarrow.parquet", "pandas", "torch.distributed.fsdp"]
)  # pandas, since pyarrow imports it where it is installed

PATIENCE = 120.0
"""Seconds after which a process is taken to hang."""


def launch(
    target: Callable[..., Any], *arguments: Any, world: int = 1, environment: dict[str, str] | None = None
) -> list[Any]:
    """What `target(*arguments)` returns in each of `world` processes that know of each other, by rank.

    Raises:
        RuntimeError: one of them raised, or ended without an answer; its traceback is in the message.
    """
    started = [start(target, *arguments, rank=rank, world=world, environment=environment) for rank in ranks(world)]
    answers = []
    failure = ""
    for process, pipe in started:
        good, answer = pipe.recv() if pipe.poll(PATIENCE) and not _ended(pipe) else (False, "no answer")
        answers.append(answer)
        if not good and not failure:
            failure = str(answer)
            for other, _ in started:
                other.kill()
        process.join(PATIENCE)
    if failure:
        raise RuntimeError(failure)
    return answers


def _ended(pipe: Connection) -> bool:
    try:
        return not pipe.poll(0)
    except (EOFError, OSError):
        return True


_port = 0


def ranks(world: int) -> range:
    """The ranks of processes that are to be started one by one, which will meet at a port of their own."""
    global _port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        _port = probe.getsockname()[1]
    return range(world)


def start(
    target: Callable[..., Any],
    *arguments: Any,
    rank: int = 0,
    world: int = 1,
    environment: dict[str, str] | None = None,
) -> tuple[Any, Connection]:
    """One process, begun; and where its answer, (True, value) or (False, traceback), will come."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    variables = {"OMP_NUM_THREADS": "1", "PICO_CACHE": os.environ.get("PICO_CACHE", ""), **(environment or {})}
    if world > 1:
        variables |= {
            "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port),
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
            "GROUP_RANK": "0", "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
    process = CONTEXT.Process(target=_enter, args=(theirs, variables, target, arguments))
    process.start()
    theirs.close()
    return process, ours


def _enter(pipe: Connection, variables: dict[str, str], target: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    os.environ.update(variables)
    torch.set_num_threads(1)
    try:
        pipe.send((True, target(*arguments)))
        code = 0
    except BaseException as error:
        pipe.send((False, traceback.format_exc()))
        code = error.code if isinstance(error, SystemExit) else getattr(error, "exit_code", 1)
    pipe.close()
    os._exit(code)  # process groups and threads that are still there would only delay the end
