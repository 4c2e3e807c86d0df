"""Runs the snippets of one document, in order, in processes that have imported the heavy modules already.

Python blocks share one process, as the cells of a notebook do; each command has one of its own. Where a document would
train the demo for minutes, the model and the text are made smaller, from outside: `SMALLER` is put below whatever the
snippet itself sets. Nothing else differs from what a person would run.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "pico_train.run",
        "pico_train.cli.app",
        "pico_train.data.sources.text",
        "pico_analyze.cli.app",
        "pico_analyze.engine",
        "transformers.models.llama.modeling_llama",
        "pyarrow.parquet",
        "pandas",
    ]
)
PATIENCE = 180.0
"""Seconds after which a snippet is taken to hang."""
SMALLER = (
    "model.d_model=32",
    "model.d_ff=64",
    "model.vocab_size=512",
    "data.source=text",
    "data.tokenizer=train:512",
    "data.seq_len=32",
    "data.val_rows=8",
    "training.batch_size=4",
)
"""Settings of the demo that documents do not mention; the text is set beside them."""


class Notebook:
    """Where a document's snippets are run.

    Args:
        place: Working directory of all of them.
        environment: Variables over those of this process.
        text: The folder of text on which the demo is trained.
    """

    def __init__(self, place: Path, environment: Mapping[str, str], text: Path) -> None:
        self.place, self.environment, self.text = place, dict(environment), text
        self._python: tuple[Any, Connection] | None = None

    def command(self, words: list[str]) -> str:
        """Run a command of this project; returns what it said.

        Raises:
            AssertionError: it ended with another code than 0.
        """
        process, pipe = self._start(_run_command, words)
        ended, said = pipe.recv() if pipe.poll(PATIENCE) else (None, "no answer")
        process.kill()
        assert ended == 0, f"{' '.join(words)} ended with {ended}:\n{said}"
        return said

    def python(self, code: str, where: str) -> str:
        """Run a block in the document's own process; returns what it printed.

        Raises:
            AssertionError: it raised.
        """
        if self._python is None:
            self._python = self._start(_run_blocks)
        pipe = self._python[1]
        pipe.send((code, where))
        good, said = pipe.recv() if pipe.poll(PATIENCE) else (False, "no answer")
        assert good, f"{where}:\n{said}"
        return said

    def close(self) -> None:
        """End the document's process."""
        if self._python is not None:
            self._python[0].kill()
            self._python[0].join()

    def _start(self, target: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
        ours, theirs = CONTEXT.Pipe()
        settings = [*SMALLER, f"data.paths=[{self.text}]"]
        process = CONTEXT.Process(
            target=_begin, args=(theirs, str(self.place), self.environment, settings, target, arguments), daemon=False
        )
        process.start()
        theirs.close()
        return process, ours


def _begin(
    pipe: Connection,
    place: str,
    environment: dict[str, str],
    settings: list[str],
    target: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.update(environment)
    os.chdir(place)
    sys.path.insert(0, "")
    _make_smaller(settings)
    target(pipe, *arguments)


def _make_smaller(settings: list[str]) -> None:
    from pico_train.config import layers

    load_config = layers.load_config

    def smaller(file: Any = None, *, preset: str | None = None, set: Any = (), **rest: Any) -> Any:
        if file is None and preset in (None, layers.DEFAULT_PRESET):
            set = [*settings, *set]
        return load_config(file, preset=preset, set=set, **rest)

    layers.load_config = smaller


def _run_command(pipe: Connection, words: list[str]) -> None:
    with _output() as said:
        ended: Any = 0
        try:
            _enter(words)
        except SystemExit as error:
            ended = error.code or 0
        except BaseException:
            ended = 1
            traceback.print_exc()
    pipe.send((ended, said.getvalue()))
    pipe.close()
    os._exit(0)


def _enter(words: list[str]) -> None:
    """What the shell and the interpreter would do with these words."""
    if words[:2] == ["python", "-m"]:
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        return
    from pico_analyze.cli import app as analyze
    from pico_train.cli import app as train

    sys.argv = list(words)
    {"pico-train": train.main, "pico-analyze": analyze.main}[words[0]]()


def _run_blocks(pipe: Connection) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    while True:
        code, where = pipe.recv()
        good = True
        with _output() as said:
            try:
                exec(compile(code, where, "exec"), names)
            except BaseException:
                good = False
                traceback.print_exc()
        pipe.send((good, said.getvalue()))


@contextlib.contextmanager
def _output() -> Iterator[io.StringIO]:
    """What is printed meanwhile, to either stream."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said
