"""Numbers of things in sentences."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``2,048 rows``: a number with the noun that goes with it.

    Args:
        n: How many.
        noun: What one of them is called; the last word is put in the plural by an s.
        plural: What several are called, where that is another word.
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
