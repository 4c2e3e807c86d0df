"""Puts the site's pages together in one folder, for mkdocs: `python docs/building/assemble.py FOLDER --made FOLDER`.

Documents of the repository with their links rewritten (`links`), pages made from the code (`generated`), and what the
blocks of the tutorial and of the gallery and the cells of a notebook print and draw (`running`, `notebooks`). mkdocs
renders the folder and knows nothing of the repository but the sources of the three packages, which mkdocstrings reads.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

import generated
import notebooks
import running
from links import OUTPUTS, Links
from sources import MADE, REPOSITORY, ROOT, pages

_MADE_LINK = re.compile(r"\]\(((?:" + "|".join(OUTPUTS) + r")[^)\s#]+)[)#]")
_OUTPUT = re.compile(r"^<!-- output(?:: (?P<lines>\d+) lines)? -->$", re.M)
_FENCE = re.compile(r"^```\w+\n.*?^```$", re.M | re.S)


def assemble(folder: Path, made: Path) -> None:
    """Write all pages into `folder`, which is made anew; blocks are run in a folder below `made`.

    Raises:
        ValueError: a link leads nowhere.
        RuntimeError: a block failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "docs" / "theme", folder / "theme")
    named = pages()
    links = Links(ROOT, REPOSITORY, named, lambda file, kept: _copy(file, folder / kept))
    documents = [ROOT / name for name in MADE]
    place = made / running.digest(ROOT, documents)
    for other in made.glob("*"):  # of code that has changed since
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    said = running.run(documents, place)
    for source, page in named.items():
        file = ROOT / source
        if file.suffix == ".ipynb":
            text = notebooks.page(file, said[file.name])
            _copy(file, (folder / page).with_name(file.name))
        else:
            text = file.read_text(encoding="utf-8")
            text = with_outputs(text, said[file.name]) if source in MADE else text
        if source in MADE:
            for output in _MADE_LINK.findall(text):
                _copy(place / output, (folder / page).parent / output)
        _write(folder / page, links.rewritten(source, text))
    for name, text in generated.interface().items():
        _write(folder / "reference" / "python" / name, text)
    _write(folder / "reference" / "schemas.md", generated.schemas(folder / "reference" / "schemas"))


def with_outputs(text: str, said: list[str]) -> str:
    """The text with what each block printed in the place of ``<!-- output: N lines -->`` below it."""
    blocks = list(_FENCE.finditer(text))
    if len(blocks) != len(said):
        raise ValueError(f"{len(blocks)} blocks, but {len(said)} were run")
    pieces, at = [], 0
    for mark in _OUTPUT.finditer(text):
        printed = [said[number] for number, block in enumerate(blocks) if block.end() < mark.start()][-1]
        lines = printed.rstrip("\n").split("\n")
        most = int(mark["lines"] or len(lines))
        shown = [*lines[:most], *(["…"] if len(lines) > most else [])]
        pieces += [text[at : mark.start()], "```text\n", "\n".join(shown), "\n```"]
        at = mark.end()
    return "".join([*pieces, text[at:]])


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, to)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Assemble the pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--made", type=Path, required=True, help="where blocks are run, kept from time to time")
    options = parser.parse_args()
    assemble(options.folder.resolve(), options.made.resolve())


if __name__ == "__main__":
    main()
