"""Runs the blocks of a page or the cells of a notebook, as a reader would, and keeps what they print and make.

The page is run once for its code and the code of the packages: a folder with a name made of both holds what came of it,
so that writing about it takes no training. Nothing is made smaller here; that the blocks work is tested too, with
smaller models, by `shared-schema/conformance/tests/test_documents.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import notebooks

from pico_conformance.command_lines import commands
from pico_conformance.documents import Snippet, snippets

PACKAGES = ("shared-schema", "pico-train", "pico-analyze")


def digest(root: Path, documents: Sequence[Path]) -> str:
    """Of the code of the documents and of the packages: what is made depends on nothing else of the repository."""
    found = hashlib.sha256()
    for document in documents:
        for language, code in _code(document):
            found.update(f"{language}\n{code}\n".encode())
    for package in PACKAGES:
        for path in sorted((root / package / "src").rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                found.update(path.relative_to(root).as_posix().encode() + b"\n" + path.read_bytes())
    return found.hexdigest()[:16]


def _code(document: Path) -> list[tuple[str, str]]:
    if document.suffix == ".ipynb":
        return [(kind, source) for kind, source in notebooks.cells(document) if kind == "code"]
    return [(snippet.language, snippet.code) for snippet in snippets(document)]


def run(documents: Sequence[Path], place: Path) -> dict[str, list[str]]:
    """Run the blocks of documents in `place`, in order.

    Returns:
        For each document (its name) what each block of it printed; empty for blocks that are not run. For a notebook
        what each cell shows, as `notebooks.run` gives it.

    Raises:
        RuntimeError: a block failed; the message has what it said.
    """
    said = place / "said.json"
    if said.is_file():
        kept: dict[str, list[str]] = json.loads(said.read_text(encoding="utf-8"))
        return kept
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    names: dict[str, object] = {"__name__": "__main__"}
    found: dict[str, list[str]] = {}
    with contextlib.chdir(place), _environment(place):
        for document in documents:
            if document.suffix == ".ipynb":
                found[document.name] = notebooks.run(document, place)
            else:
                found[document.name] = [_run(snippet, names) for snippet in snippets(document)]
    said.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


@contextlib.contextmanager
def _environment(place: Path) -> Iterator[None]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "PICO_CACHE": str(place / ".cache"), "MPLBACKEND": "Agg", "COLUMNS": "100"}
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(snippet: Snippet, names: dict[str, object]) -> str:
    if snippet.reason is not None:
        return ""
    if snippet.language == "python":
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                exec(compile(snippet.code, snippet.where, "exec"), names)
            except Exception:
                raise RuntimeError(f"{snippet.where}:\n{traceback.format_exc()}") from None
        return printed.getvalue()
    if snippet.language != "sh":
        return ""
    return "".join(_command(words, snippet) for words in commands(snippet.code) if words[:2] != ["pip", "install"])


def _command(words: list[str], snippet: Snippet) -> str:
    print("+", " ".join(words), flush=True)
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{snippet.where}: {' '.join(words)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout.replace(f"{Path.cwd()}{os.sep}", "")
