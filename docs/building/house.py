"""The map of the house in CONTRIBUTING: each room with its rule, from top to bottom as `.importlinter` orders them.

A room's rule is the first paragraph of its docstring. ``python docs/building/house.py`` writes the map between the two
comments in `.github/CONTRIBUTING.md`; a test of the conformance suite compares it with the code.
"""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / ".github" / "CONTRIBUTING.md"
_BETWEEN = re.compile(r"(?<=<!-- the map begins -->\n).*(?=<!-- the map ends -->)", re.S)
_FOLDERS = {"pico_schema": "shared-schema", "pico_train": "pico-train", "pico_analyze": "pico-analyze"}


def floors(contract: str) -> list[list[str]]:
    """The floors of a contract of layers, from top to bottom, each with its rooms as dotted names."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter", encoding="utf-8")
    section = parser[f"importlinter:contract:{contract}"]
    container = section.get("containers", "").strip()
    found = []
    for line in section["layers"].split("\n"):
        rooms = [room.strip() for room in line.split("|") if room.strip()]
        if rooms:
            found.append([f"{container}.{room}" if container else room for room in rooms])
    return found


def rule(room: str) -> str:
    """The first paragraph of a module's docstring, as one line.

    Raises:
        ValueError: there is no such module, or it has no docstring.
    """
    package, *_ = room.split(".")
    base = ROOT / _FOLDERS[package] / "src" / Path(*room.split("."))
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not file.is_file():
        raise ValueError(f"{room}, of .importlinter, is not at {file.relative_to(ROOT)}")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{file.relative_to(ROOT)} has no docstring: a room's rule is its first paragraph")
    return " ".join(text.partition("\n\n")[0].split()).rstrip(":")


def house() -> str:
    """The map, in Markdown."""
    lines = []
    for package, contract in (("pico_train", "train-rooms"), ("pico_analyze", "analyze-rooms")):
        lines += [f"**{package}**, from top to bottom; rooms of one line do not know each other:", ""]
        lines += ["| room | its rule |", "|---|---|"]
        for rooms in floors(contract):
            names = [room.removeprefix(f"{package}.") for room in rooms]
            rules = [rule(room).replace("|", "\\|") for room in rooms]
            lines.append(f"| {' · '.join(f'`{name}`' for name in names)} | {'<br>'.join(rules)} |")
        lines.append("")
    return "\n".join(lines)


def written(text: str, new: str) -> str:
    """A text with `new` between the two comments."""
    return _BETWEEN.sub(lambda _: f"\n{new}\n", text, count=1)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8"), house()), encoding="utf-8")
