"""A checksum that stands in the file that it is of, so that it goes wherever the file goes: the sha256 of the whole
file, taken while 64 zeros stood in its place.

A writer puts `PLACE` into the file's own metadata, and `sealed` fills it in.
"""

from __future__ import annotations

import hashlib

_SIGN, _ZEROS = b"sha256 of this file with 64 zeros here: ", b"0" * 64
PLACE = (_SIGN + _ZEROS).decode()
"""What stands for the checksum until it is known."""


def sealed(content: bytes, *, at_end: bool) -> bytes:
    """The same with its checksum.

    Args:
        content: A file with `PLACE` in it.
        at_end: Whether the format keeps metadata at the end, so that the last place counts, and not the first.
    """
    at = _place(content, at_end=at_end)
    assert at is not None
    return b"".join((content[:at], _checksum(content, at), content[at + len(_ZEROS) :]))


def is_sound(content: bytes, *, at_end: bool) -> bool | None:
    """Whether a file is as it was sealed; None for one without a checksum."""
    at = _place(content, at_end=at_end)
    return None if at is None else content[at : at + len(_ZEROS)] == _checksum(content, at)


def _place(content: bytes, *, at_end: bool) -> int | None:
    found = content.rfind(_SIGN) if at_end else content.find(_SIGN)
    return None if found < 0 else found + len(_SIGN)


def _checksum(content: bytes, at: int) -> bytes:
    digest = hashlib.sha256(memoryview(content)[:at])
    digest.update(_ZEROS)
    digest.update(memoryview(content)[at + len(_ZEROS) :])
    return digest.hexdigest().encode()
