"""A notebook of Jupyter as a page: its cells, and below each what it shows when the notebook is run.

nbclient runs it. Into Markdown it is put here, not by nbconvert: that brings ten packages more, and leaves tables with
styles of their own and with empty lines, at which HTML in Markdown ends, so that its work would have to be done again.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

PICTURES = "analysis"
"""Folder, where the notebook is run, of a folder with the pictures that it shows."""
_SECONDS = 600
"""Longest that a cell may take."""
_STYLE = re.compile(r"<style.*?</style>|(?<=<table)(?: border=\"1\"| class=\"dataframe\")+", re.S)
"""What pandas says of how its tables look: here they look as all others do."""


def cells(path: Path) -> list[tuple[str, str]]:
    """Kind (markdown, code) and source of each cell."""
    return [(cell.cell_type, cell.source) for cell in _read(path).cells]


def run(path: Path, place: Path) -> list[str]:
    """Run a notebook in `place`; what each cell shows, as Markdown that leads to pictures in `place`.

    Raises:
        RuntimeError: a cell failed; the message has what it said.
    """
    notebook = _read(path)
    client = NotebookClient(
        notebook, timeout=_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise RuntimeError(f"{path}: {error}") from None
    folder = place / PICTURES / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    said = []
    for number, cell in enumerate(notebook.cells):
        shown: list[str] = []
        for output in cell.get("outputs", []):
            shown.append(_shown(output, folder / f"{number}-{len(shown)}.png", place))
        said.append("\n\n".join(filter(None, shown)))
    return said


def page(path: Path, said: list[str]) -> str:
    """The notebook as Markdown, with what `run` gave of each cell; the notebook itself has to lie beside the page."""
    parts = []
    for (kind, source), shown in zip(cells(path), said, strict=True):
        parts += [f"```python\n{source}\n```" if kind == "code" else source, *([shown] if shown else [])]
    note = f'This page is <a href="{path.name}" download>a notebook</a>, as it was run when the site was built.'
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def _shown(output: Any, picture: Path, place: Path) -> str:
    """One output, in the richest of its forms; nothing of what is said to those who wait (stderr)."""
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```" if output.name == "stdout" else ""
    if "image/png" in output.data:
        picture.write_bytes(base64.b64decode(output.data["image/png"]))
        return f"![What the cell above draws]({picture.relative_to(place).as_posix()})"
    if "text/html" in output.data:
        lines = _STYLE.sub("", output.data["text/html"]).split("\n")
        return "\n".join(['<div class="shown">', *(line for line in lines if line.strip()), "</div>"])
    return f"```text\n{output.data['text/plain']}\n```"
