"""A signal stops a preparation within two seconds, whatever it is at; what is done is kept, and nothing is left.

A real process each time: what is tested is what a person or a scheduler sees.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PROGRAMS
from support.corpora import make_text

from pico_train.data import tokenizer
from pico_train.data.prepare import encode
from pico_train.errors import StorageError

WITHIN = 2.0
"""Seconds: what is promised."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    for number in range(12):
        (root / f"{number:02}.txt").write_text(make_text(number, 300))
    return root


def content(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def arguments(texts: Path, out: Path, workers: int = 1) -> list[str]:
    return [
        "data", "prepare", str(texts), "--out", str(out), "--tokenizer", "train:280", "--seq-len", "16",
        "--rows-per-shard", "150", "--workers", str(workers),
    ]  # fmt: skip


@contextlib.contextmanager
def started(stage: str, *words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process group of its own, waiting at the stage."""
    command = [sys.executable, str(PROGRAMS / "stopped_prepare.py"), stage, *words]
    variables = {**os.environ, "RAYON_NUM_THREADS": "1", **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=variables, text=True, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout is not None
            assert "there" in process.stdout.readline()
            yield process
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


def ends(process: subprocess.Popen[str], *, within: float = WITHIN) -> tuple[int, str]:
    """Exit code, and what was said on stderr; by then every process of its group is gone."""
    begun = time.monotonic()
    _, said = process.communicate(timeout=60)
    # Seconds of a wall clock tell of the machine's load as well; four times the promise is far below what was seen.
    assert time.monotonic() - begun < 4 * within, said
    deadline = time.monotonic() + 10
    while group_of(process.pid):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.02)
    assert "Traceback" not in said, said
    return process.returncode, said


def group_of(number: int) -> list[int]:
    """Processes of a group that still run (as far as /proc tells)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, group = path.read_text().rpartition(")")[2].split()[:3]
            if int(group) == number and state != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    ("stage", "number", "code", "workers"),
    [
        ("tokenizer", signal.SIGINT, 130, 1),
        ("read", signal.SIGTERM, 143, 1),
        ("tokenize", signal.SIGINT, 130, 3),
        ("shards", signal.SIGTERM, 143, 1),
    ],
)
def test_a_signal_stops_it_and_the_same_command_goes_on(
    stage: str, number: signal.Signals, code: int, workers: int, texts: Path, tmp_path: Path, finished: dict[str, str]
) -> None:
    """The whole group gets it, as from a terminal or from SLURM: the workers leave it to the command."""
    out = tmp_path / "c"
    with started(stage, *arguments(texts, out, workers)) as process:
        os.killpg(process.pid, number)
        returned, said = ends(process)
    assert returned == code, said
    (error,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert error == (
        f"error: stopped by {number.name} while {out} was prepared: what is done is kept, the same command goes on "
        "from there"
    )
    journal = json.loads((out / ".prepare" / "journal.json").read_text())
    if stage == "tokenize":
        assert journal["point"]["position"][0] >= 1, "tokenized text is kept"
    if stage == "shards":
        assert len(journal["shards"]["train"]) == 1, "a shard is kept"
    done = subprocess.run(
        [sys.executable, "-m", "pico_train", *arguments(texts, out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert content(out) == finished


@pytest.fixture(scope="module")
def finished(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed preparation makes."""
    from typer.testing import CliRunner

    from pico_train.cli.app import app

    out = tmp_path_factory.mktemp("finished") / "c"
    result = CliRunner().invoke(app, arguments(texts, out))
    assert result.exit_code == 0, result.output
    return content(out)


def test_a_second_signal_ends_it_at_once_and_the_first_decides_the_code(texts: Path, tmp_path: Path) -> None:
    with started("tokenizer", *arguments(texts, tmp_path / "c")) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        returned, said = ends(process, within=0.5)
    assert returned == 143, said


def test_a_run_that_prepares_its_text_stops_as_well(texts: Path, tmp_path: Path) -> None:
    words = ["run", "--set", f"data.paths=[{texts}]", "--set", "data.source=text", "--set", "data.tokenizer=train:280"]
    words += ["--set", "data.seq_len=16", "--name", "r", "--out", str(tmp_path)]
    with started("tokenizer", *words, PICO_CACHE=str(tmp_path / "cache")) as process:
        process.send_signal(signal.SIGTERM)
        returned, said = ends(process)
    assert returned == 143, said
    assert "stopped by SIGTERM while " in said


def test_a_worker_that_is_killed_is_told_of(tmp_path: Path) -> None:
    """As the kernel kills where memory is short."""
    tokenizer.save_trained(tokenizer.train([make_text(1, 300)], 280), tmp_path, max_length=16)
    piece = encode.Piece(make_text(2, 100), "train", "", "a.txt", begins=True, ends=True)

    def batches() -> Iterator[list[encode.Piece]]:
        for number in range(100):
            if number == 4:
                for worker in multiprocessing.active_children():
                    worker.kill()
            yield [piece]

    with pytest.raises(
        StorageError, match="a process that tokenizes was ended from outside, perhaps for want of memory"
    ):
        list(encode.encode(batches(), tmp_path, eos_id=0, workers=2))
    assert multiprocessing.active_children() == []
