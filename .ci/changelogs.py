"""What a package's CHANGELOG.md says of a release: under `## VERSION`, `## VERSION (DATE)` or `## Unreleased`."""

from __future__ import annotations

import re

UNRELEASED = "Unreleased"
_HEADING = re.compile(r"^## +(?P<name>\S+)(?: +\((?P<about>[^)]*)\))? *$", re.M)
NOT_YET = "not yet released"


def sections(text: str) -> dict[str, str]:
    """Version (or "Unreleased") → its text, in the order of the file; a version that is not released yet is Unreleased.

    Raises:
        ValueError: a heading is told twice.
    """
    headings = list(_HEADING.finditer(text))
    found: dict[str, str] = {}
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        name = UNRELEASED if heading["about"] == NOT_YET else heading["name"]
        if name in found:
            raise ValueError(f"two sections '## {name}'")
        found[name] = text[heading.end() : following.start() if following else len(text)].strip()
    return found
