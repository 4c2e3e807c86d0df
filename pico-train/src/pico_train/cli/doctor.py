"""The command `doctor`: what works on this machine, and what is missing for what. Mounted by `app`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from pico_train.cli.console import As, Format, print_table

NEEDED = {
    "lm_eval": ("pico-train[eval]", "tasks of lm-eval in pico-train evaluate"),
    "matplotlib": ("pico-train[plots]", "pictures of pico-train check"),
    "submitit": ("pico-train[slurm]", "pico-train suite submit"),
    "wandb": ("wandb", "logging to Weights & Biases"),
    "pico_analyze": ("pico-analyze", "analysis of what was trained"),
}
"""Package → what installs it, and what it is for."""
LEAST_DISK = 2 * 2**30
"""Free bytes below which even small runs may not fit."""

Row = dict[str, Any]


def doctor(
    hub: Annotated[
        bool, typer.Option("--hub", help="Also ask the Hub who you are; nothing is asked otherwise.")
    ] = False,
    output: As = Format.table,
) -> None:
    """What works here, and what is missing for what: versions, devices, cores, disk, the Hub, extras."""
    rows = [*_software(), *_machine(), *_disk(), _hub(ask=hub), *_extras()]
    if output is Format.json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        print_table(rows)
    if any(row["state"] == "bad" for row in rows):
        raise typer.Exit(1)


def _row(what: str, state: str, found: str, advice: str = "") -> Row:
    return {"what": what, "state": state, "found": found, "what to do": advice}


def _software() -> list[Row]:
    from pico_train import environment

    found = environment.describe()
    rows = [_row("python", "ok", f"{found['python']} at {sys.executable}")]
    for name, version in found["packages"].items():
        state = "ok" if version else "bad"
        rows.append(_row(name, state, version or "not installed", "" if version else f"pip install {name}"))
    return rows


def _machine() -> list[Row]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows = [_row("cores", "ok", f"{cores} usable, {torch.get_num_threads()} threads of torch, {platform.machine()}")]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            rows.append(_row(f"cuda:{index}", "ok", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"))
    elif torch.backends.mps.is_available():
        rows.append(_row("mps", "ok", "Apple's GPU"))
    else:
        built = torch.version.cuda
        why = f"torch is built for CUDA {built} and sees no device" if built else "torch is built for the CPU alone"
        rows.append(_row("accelerator", "none", why, "models beyond some ten million parameters want one"))
    return rows


def _disk() -> list[Row]:
    from pico_train.data.cache import cache_root

    return [_room("disk here", Path.cwd()), _room("cache", cache_root(), "set PICO_CACHE to a directory of your own")]


def _room(what: str, path: Path, otherwise: str = "go to a directory of your own") -> Row:
    nearest = next(one for one in (path, *path.absolute().parents) if one.exists())
    free = shutil.disk_usage(nearest).free
    if not os.access(nearest, os.W_OK):
        return _row(what, "bad", f"{path}: cannot be written to", otherwise)
    state, advice = ("ok", "") if free >= LEAST_DISK else ("low", "pico-train plan says what a run takes")
    return _row(what, state, f"{path}: {free / 1e9:,.0f} GB free", advice)


def _hub(*, ask: bool) -> Row:
    """Whether there is a token; and whether the Hub takes it, if it is to be asked. The token itself is never shown."""
    from huggingface_hub import get_token

    from pico_train.publish.remote import endpoint

    token, where = get_token(), endpoint()
    login = "hf auth login, or set HF_TOKEN"
    if not ask:
        if token is None:
            return _row("hub", "none", f"no token for {where}", f"to publish: {login}")
        return _row("hub", "ok", f"a token for {where}; not asked", "pico-train doctor --hub tries it")
    return _asked(where, token, login)


def _asked(where: str, token: str | None, login: str) -> Row:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    call: Callable[[], Any] = HfApi().whoami if token else lambda: HfApi().list_models(limit=1)
    try:
        answer = call()
        name = answer.get("name") if isinstance(answer, dict) else None
        list(answer) if name is None else None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        return _row("hub", "bad", f"{where} does not take the token ({status})", login)
    except OSError as error:
        said = type(error).__name__
        return _row("hub", "bad", f"{where} cannot be reached ({said})", "see to the network, or a proxy")
    if name is None:
        return _row("hub", "none", f"{where} answers; no token", f"to publish: {login}")
    return _row("hub", "ok", f"{where} knows you as {name}")


def _extras() -> list[Row]:
    rows = []
    for package, (install, purpose) in NEEDED.items():
        there = find_spec(package) is not None
        found, advice = ("installed", "") if there else (f"not installed: {purpose}", f"pip install '{install}'")
        rows.append(_row(package, "ok" if there else "none", found, advice))
    return rows
