"""Names in a sentence: some of them, however many there are."""

from __future__ import annotations

from collections.abc import Sequence


def named(names: Sequence[str], most: int) -> str:
    """The first `most` of some names, and how many more there are: "a.txt, b.txt and 38 more"."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
