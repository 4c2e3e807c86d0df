"""Which release reads which documents, as a page: made from the golden runs, the version gate and the CHANGELOGs.

`python -m pico_conformance.compatibility shared-schema/docs` writes it. That the cells are true is tried by
`tests/test_compatibility.py`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from pico_schema import SCHEMA_VERSION, SchemaVersionError, __version__
from pico_schema.migrations import migrate, parse_version

ROOT = Path(__file__).resolve().parents[4]
GOLDEN = ROOT / "shared-schema" / "conformance" / "golden"
PAGE = "compatibility.md"
_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.M)
_HEADING = re.compile(r"^## (\d+\.\d+\.\d+)", re.M)

HEAD = """\
# What reads what

Made from the code by `make docs`. A document (`run.json`, `manifest.json`, an evaluation, `revisions.json`,
`suite.json`) says the version of the contract that it was written under, `schema_version`.

"""
RULES = """\

- **yes**: read, with all it says. Golden runs of each version lie in `shared-schema/conformance/golden`, and the tests
  put them through every reader.
- **yes, without what is newer**: read; fields that a newer minor version added are ignored.
- **no**: refused, with exit code 3 and the command that upgrades: `{command}`.

An older document is brought forward step by step when it is read (`pico_schema.migrations`); the file stays as it is.
Between minor versions there is one exception: a run of another maker's model (since 1.2) is refused by readers of 1.0
and 1.1, by its `architecture`.

## What each release stands on

A tool reads and writes documents by the pico-schema that is installed with it. Its range says which those may be.

{tools}
"""


def versions() -> list[str]:
    """Versions of the documents, ascending: each has a golden run."""
    return sorted((path.name for path in GOLDEN.iterdir()), key=parse_version)


def releases() -> list[str]:
    """Releases of pico-schema, ascending, as its CHANGELOG tells them."""
    text = (ROOT / "shared-schema" / "CHANGELOG.md").read_text(encoding="utf-8")
    told = {*_HEADING.findall(text), __version__}
    return sorted(told, key=lambda version: tuple(int(part) for part in version.split(".")))


def next_major() -> str:
    """The version of the contract that no release knows yet."""
    return f"{parse_version(SCHEMA_VERSION)[0] + 1}.0"


def answer(document: str, reader: str) -> str:
    """What a reader of a version of the contract makes of a document of a version."""
    try:
        migrate({"schema_version": document}, "run", where="document", current=reader)
    except SchemaVersionError:
        return "no"
    return "yes" if parse_version(document) <= parse_version(reader) else "yes, without what is newer"


def upgrade() -> str:
    """The command that the version gate names."""
    try:
        migrate({"schema_version": next_major()}, "run", where="document")
    except SchemaVersionError as error:
        return str(error).split("`")[1]
    raise AssertionError("a future major version is not refused")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def tools() -> str:
    """The newest state of each tool and the releases of the contract that it takes."""
    rows = []
    for tool in ("pico-train", "pico-analyze"):
        project = tomllib.loads((ROOT / tool / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        (needs,) = (text for text in project["dependencies"] if text.startswith("pico-schema"))
        version = _VERSION.search((ROOT / tool / "src" / tool.replace("-", "_") / "version.py").read_text("utf-8"))
        assert version is not None
        rows.append([f"{tool} {version[1]}", f"`{needs}`", f"1.0 to {SCHEMA_VERSION}", SCHEMA_VERSION])
    return table(["tool", "requires", "reads documents of", "writes"], rows)


def page() -> str:
    """The page as text."""
    columns = [version for version in releases() if version.rpartition(".")[0] in versions()]
    rows = [
        [document, *(answer(document, reader.rpartition(".")[0]) for reader in columns)]
        for document in [*versions(), next_major()]
    ]
    rows[-1][0] += " (to come)"
    reads = table(["document", *(f"pico-schema {version}" for version in columns)], rows)
    return HEAD + reads + "\n" + RULES.format(command=upgrade(), tools=tools())


def main() -> None:
    """Write the page into a directory."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PAGE).write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{directory / PAGE}\n")


if __name__ == "__main__":
    main()
