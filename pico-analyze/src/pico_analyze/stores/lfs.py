"""What a clone without git LFS leaves in a large file's place: a pointer of three lines."""

from __future__ import annotations

POINTER = b"version https://git-lfs.github.com/spec/v1"
"""What each begins with (git-lfs, docs/spec.md)."""
MAX_POINTER = 1024
"""A pointer has fewer bytes, as the same document says."""
WHAT_A_POINTER_IS = (
    "it is a pointer of git LFS, not the file itself: fetch that with `git lfs pull`, or download the model with "
    "`hf download`"
)


def is_pointer(content: bytes | bytearray | memoryview) -> bool:
    """Whether content, or its beginning, is that of a pointer."""
    return len(content) < MAX_POINTER and bytes(content[: len(POINTER)]) == POINTER
