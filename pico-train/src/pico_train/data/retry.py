"""Asking again: what a lost connection or a busy server needs, with growing pauses, and never for a plain refusal."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from pico_train.errors import StorageError

T = TypeVar("T")

ATTEMPTS = 8
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0


def with_retries(
    call: Callable[[], T],
    *,
    what: str,
    attempts: int = ATTEMPTS,
    on_retry: Callable[[str], None] | None = None,
) -> T:
    """The result of `call`, tried up to `attempts` times, with pauses that double and vary a little.

    Errors that asking again cannot mend (not found, no access, anything but network and server trouble) pass through.

    Raises:
        StorageError: still failing after the last attempt.
    """
    pause = FIRST_PAUSE
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except Exception as error:
            if _kinds(error) & _OFFLINE:
                raise StorageError(f"{what}: is not in the cache, and HF_HUB_OFFLINE is set: unset it") from None
            if not is_transient(error):
                raise
            reason = type(error).__name__ if status_of(error) is None else f"HTTP {status_of(error)}"
            if attempt == attempts:
                raise StorageError(
                    f"{what}: still failing after {attempts} attempts ({reason}): check the connection and run it again"
                ) from error
            wait = max(_asked_to_wait(error), pause * random.uniform(0.75, 1.25))
            if on_retry:
                on_retry(f"{what}: {reason}; attempt {attempt + 1} of {attempts} in {wait:.1f} s")
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
    raise AssertionError("unreachable")


def is_transient(error: BaseException) -> bool:
    """Whether asking again may help: the connection failed, or the server says it is busy or broken."""
    status = status_of(error)
    if status is not None:
        return status in (408, 425, 429) or status >= 500
    return isinstance(error, ConnectionError | TimeoutError) or bool(_kinds(error) & _CONNECTION)


_CONNECTION = frozenset({"TransportError", "IncompleteTransfer", "IncompleteRead", "ProtocolError"})
"""Errors of the HTTP clients below huggingface_hub, by name: which client that is depends on its version."""
_NO_ANSWER = "LocalEntryNotFoundError"
"""What huggingface_hub makes of any error while it asks for a file; its cause says which."""
_OFFLINE = frozenset({"OfflineModeIsEnabled"})


def _kinds(error: BaseException) -> set[str]:
    """Names of an error's classes; for a file that could not be asked for, those of the cause."""
    if type(error).__name__ == _NO_ANSWER and error.__cause__ is not None:
        return _kinds(error.__cause__)
    return {kind.__name__ for kind in type(error).__mro__}


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error that has one."""
    if type(error).__name__ == _NO_ANSWER and error.__cause__ is not None:
        return status_of(error.__cause__)
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _asked_to_wait(error: BaseException) -> float:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return min(float(headers.get("Retry-After", 0)), LONGEST_PAUSE)
    except (TypeError, ValueError):
        return 0.0
