"""Which split a shard belongs to, told by its name, where there is no manifest to say it."""

from __future__ import annotations

import re

_HELD_OUT = re.compile(r"(?:^|[/_.-])(?:val|valid|validation|dev|eval)(?=[/_.-]|$)", re.IGNORECASE)
_TEST = re.compile(r"(?:^|[/_.-])test(?=[/_.-]|$)", re.IGNORECASE)


def split_of(name: str) -> str:
    """train, val or test: the split that a file's path, relative to the corpus, names; train if it names none."""
    if _HELD_OUT.search(name):
        return "val"
    return "test" if _TEST.search(name) else "train"


def in_order(names: list[str]) -> list[str]:
    """Names sorted so that numbers in them count: part-2 before part-10."""
    return sorted(names, key=lambda name: [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name)])
