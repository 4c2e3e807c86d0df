"""The snippets of the documents: every block of code, in order, with its language, and why it is not run if it is not.

A block that a test cannot run carries, in a comment of its own just above it, ``<!-- not run: the reason -->``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

RUN = {"sh", "python"}
"""Languages whose blocks are run."""
SHOWN = {"text", "yaml", "toml"}
"""Languages of what is only looked at: trees of files, configurations (which are loaded), packaging."""
_MARKER = re.compile(r"<!--\s*not run:\s*(?P<reason>\S.*?)\s*-->\s*", re.S)


@dataclass(frozen=True)
class Snippet:
    """One block of a document."""

    document: Path
    line: int
    """Line of the block's first line of code, from 1."""
    language: str
    code: str
    reason: str | None = None
    """Why it is not run; None for one that is."""

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.document}:{self.line}"


def snippets(document: Path) -> list[Snippet]:
    """Every block of a document.

    Raises:
        ValueError: a block has no language or one that nothing is known of, is indented instead of fenced, or has a
            marker without need; the message says where.
    """
    found: list[Snippet] = []
    marker: str | None = None
    for token in MarkdownIt("commonmark").parse(document.read_text(encoding="utf-8")):
        line = token.map[0] + 2 if token.map else 0
        if token.type == "html_block" and (match := _MARKER.fullmatch(token.content)):
            marker = " ".join(match["reason"].split())
            continue
        if token.type == "code_block":
            raise ValueError(f"{document}:{line - 1}: indented code: put it between ```sh and ```, or ```text")
        if token.type == "fence":
            language = token.info.strip()
            if language not in RUN | SHOWN:
                known = ", ".join(sorted(RUN | SHOWN))
                raise ValueError(f"{document}:{line - 1}: a block of {language or 'no language'}: name one of {known}")
            found.append(Snippet(document, line, language, token.content, marker if language in RUN else None))
        if marker is not None and (token.type != "fence" or token.info.strip() not in RUN):
            raise ValueError(f"{document}:{line}: `not run` stands above something that would not be run anyway")
        marker = None
    return found


def inline_commands(document: Path) -> list[tuple[int, str]]:
    """Line and text of every command of this project that stands within a sentence or a table."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8")):
        for child in token.children or ():
            if child.type == "code_inline" and re.match(r"(pico-(train|analyze)|--set) \S", child.content):
                found.append((token.map[0] + 1 if token.map else 0, child.content))
    return found
