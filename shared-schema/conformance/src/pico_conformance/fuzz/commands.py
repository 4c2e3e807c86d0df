"""What is asked of a run: every command of both tools, called in this process with its output captured.

Modules that take long to import are imported by `load`, once, before processes are forked.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import os
import pkgutil
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

_HEAVY = (
    "torch",
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "scipy.linalg",
    "scipy.stats",
    "safetensors.numpy",
    "tokenizers",
)
_LEFT_OUT = frozenset({"__main__", "unpickle", "plots", "cluster"})
"""Modules that do something when they are imported, or that no command below uses."""


def load() -> None:
    """Import all that commands import, once: processes that are forked afterwards have it, in one version."""
    for name in _HEAVY:
        importlib.import_module(name)
    for package in ("pico_schema", "pico_train", "pico_analyze"):
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if found.name.rpartition(".")[2] not in _LEFT_OUT:
                importlib.import_module(found.name)


class TooLong(BaseException):
    """A command has not ended within its time; no handler of errors may catch it."""


@dataclass(frozen=True)
class Answer:
    """What a command printed, and how it ended."""

    code: int | None
    """Exit code; None where an exception left the command."""
    out: str
    err: str
    raised: str = ""
    """The traceback of what left the command, if anything did."""
    hung: bool = False
    """Whether it was stopped after its time."""


Values = dict[str, str]
"""What a command found out, by what it is of: texts that can be compared."""


@dataclass(frozen=True)
class Command:
    """One thing that can be asked of a run."""

    name: str
    tool: str
    """Distribution whose command it is; `library` for functions of it."""
    words: Callable[[Path], list[str]]
    """Arguments, given the folder that holds the run and its table."""
    values: Callable[[str], Values] | None = None
    """What of its output is a value that no damage may change in silence."""
    slow: bool = False
    """Whether it takes long before anything is damaged: left out where not all commands are asked."""


def _run(folder: Path) -> str:
    return str(folder / "golden")


def _rows(out: str) -> Values:
    """Rows of a table: place → value and reason. The run's own name is no part of a place."""
    place = (
        "step",
        "split",
        "data",
        "component",
        "site",
        "layer",
        "head",
        "metric",
        "params",
        "target_step",
        "target_layer",
    )
    return {
        json.dumps([row.get(name) for name in place]): json.dumps([row["value"], row.get("reason")])
        for row in csv.DictReader(io.StringIO(out))
    }


def _summary(out: str) -> Values:
    return {str(number): line for number, line in enumerate(out.splitlines())}


def _fields(*names: str) -> Callable[[str], Values]:
    def values(out: str) -> Values:
        found = json.loads(out)
        return {name: json.dumps(found.get(name)) for name in names}

    return values


def _verdict(out: str) -> Values:
    return {"sound": "sound"} if out else {}


def _compute(*words: str, table: str = "fresh") -> Callable[[Path], list[str]]:
    def arguments(folder: Path) -> list[str]:
        where = folder / "analysis" if table == "kept" else folder / f"out-{len(words)}"
        return [
            "compute",
            *words[:1],
            _run(folder),
            *words[1:],
            "--no-plot",
            "--format",
            "csv",
            "--threads",
            "1",
            "--out",
            str(where),
        ]

    return arguments


KEPT = ("cka", "--site", "attn.v")
"""What the table beside the run was made of."""

COMMANDS: tuple[Command, ...] = (
    Command("verify", "pico-train", lambda f: ["verify", _run(f)], _verdict),
    Command("inspect", "pico-train", lambda f: ["inspect", _run(f)]),
    Command("inspect a step", "pico-train", lambda f: ["inspect", f"{_run(f)}@4", "--format", "json"]),
    Command(
        "generate",
        "pico-train",
        lambda f: ["generate", f"{_run(f)}@4", "--temperature", "0", "--max-new-tokens", "6", "--format", "json"],
        _fields("step", "continuation"),
    ),
    Command(
        "data show", "pico-train", lambda f: ["data", "show", f"{_run(f)}@2", "--format", "json"], _summary, slow=True
    ),
    Command(
        "data show val",
        "pico-train",
        lambda f: ["data", "show", f"{_run(f)}@2", "--split", "val", "--format", "json"],
        _summary,
    ),
    Command("config show", "pico-train", lambda f: ["config", "show", f"{_run(f)}/config.yaml"]),
    Command("plan", "pico-train", lambda f: ["plan", f"{_run(f)}/config.yaml", "--format", "json"]),
    Command(
        "publish",
        "pico-train",
        lambda f: ["publish", _run(f), "--repo", "org/name", "--dry-run", "--max-attempts", "1"],
    ),
    Command("resume", "library", lambda f: ["resume", _run(f)]),
    Command("list", "pico-analyze", lambda f: ["list", _run(f)]),
    Command("weights", "pico-analyze", _compute("norm", "--data", "weights", "--site", "attn.v,mlp.up,embed"), _rows),
    Command("activations", "pico-analyze", _compute("cka", "-c", "simple"), _rows),
    Command(
        "gradients",
        "pico-analyze",
        _compute("per", "--data", "gradients", "-c", "ov_circuit", "--split", "train"),
        _rows,
    ),
    Command(
        "several",
        "pico-analyze",
        _compute("procrustes", "-c", "ov_circuit", "--target", "prev", "--bootstrap", "10", "--steps", "0-2"),
        _rows,
    ),
    Command("a table again", "pico-analyze", _compute(*KEPT, table="kept"), _rows),
    Command(
        "dynamics",
        "pico-analyze",
        lambda f: [
            "dynamics",
            "cka",
            _run(f),
            "--site",
            "attn.v",
            "--evaluation",
            "val_loss",
            "--format",
            "csv",
            "--threads",
            "1",
            "--out",
            str(f / "out-d"),
        ],
        _summary,
    ),
    Command("audit", "pico-analyze", lambda f: ["audit", _run(f)]),
    Command("samples", "library", lambda f: ["samples", _run(f)], _summary),
    Command(
        "a foreign model",
        "pico-analyze",
        lambda f: [
            "compute",
            "norm",
            str(f / "model"),
            "--data",
            "weights",
            "-c",
            "simple",
            "--no-plot",
            "--format",
            "csv",
            "--threads",
            "1",
            "--out",
            str(f / "out-m"),
        ],
    ),
    Command("repair", "pico-train", lambda f: ["repair", _run(f)]),
)
"""In this order: the last one changes the run."""


def prepare(folder: Path) -> None:
    """What a command needs besides the run: the last checkpoint's files alone, as a model of transformers."""
    checkpoint = folder / "golden" / "checkpoints" / "step-00000004"
    with contextlib.suppress(OSError):
        (folder / "model").mkdir()
        for name in ("config.json", "model.safetensors"):
            if (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, folder / "model" / name)


def call(command: Command, folder: Path, seconds: float) -> Answer:
    """Run one command as the shell would, but in this process; stop it after so many seconds."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    code: int | None = None
    raised, hung = "", False
    with _limited(seconds), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
        try:
            _main(command, folder)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except TooLong:
            raised, hung = traceback.format_exc(), True
        except BaseException as error:
            code = getattr(error, "exit_code", None) if command.tool == "library" else None
            raised = "" if isinstance(code, int) else traceback.format_exc()
            err.write(f"error: {error}\n")
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))
    return Answer(code, texts[0], texts[1], raised, hung)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _main(command: Command, folder: Path) -> None:
    words = command.words(folder)
    os.chdir(folder)
    if command.tool == "library":
        _LIBRARY[words[0]](words[1])
        return
    sys.argv = [command.tool, *words]
    module = importlib.import_module(f"{command.tool.replace('-', '_')}.cli.app")
    module.main()


def _resume(run: str) -> None:
    """What a resume decides before it reads data: what a crash left, and which checkpoint it goes on from."""
    resume: Any = importlib.import_module("pico_train.checkpoint.resume")
    resume.reconcile(Path(run))
    found = resume.newest_complete(Path(run))
    print(found and found.step)


def _samples(run: str) -> None:
    """The tokens of the last step's batch."""
    api: Any = importlib.import_module("pico_analyze")
    for line in api.open_run(run).samples(4, "train").itertuples(index=False):
        print(*line)


_LIBRARY: dict[str, Callable[[str], None]] = {"resume": _resume, "samples": _samples}
