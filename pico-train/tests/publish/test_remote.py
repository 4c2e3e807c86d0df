"""Waiting, and the names of contents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pico_schema.digests import git_blob_id
from pico_train.publish.remote import backoff


@given(st.integers(1, 10_000), st.floats(0.01, 10), st.floats(10, 1000))
def test_waits_double_and_stay_within_their_bound(tries: int, first: float, longest: float) -> None:
    full = min(longest, first * 2 ** min(tries - 1, 40))
    assert full / 2 <= backoff(tries, first, longest) <= full


def test_git_names_a_file_as_git_does() -> None:
    """`printf 'hello' | git hash-object --stdin`"""
    assert git_blob_id(b"hello") == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
