"""Asking again: what a lost connection or a busy server needs, with growing pauses, and never for a plain refusal."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from pico_train.counting import counted
from pico_train.errors import StorageError

T = TypeVar("T")

ATTEMPTS = 8
OPENING_ATTEMPTS = 6
"""Tries where somebody waits for something to be opened: about a quarter of a minute in all."""
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

    Args:
        call: What to try.
        what: What it asks for, for messages.
        attempts: Tries in all.
        on_retry: Called with a sentence before each pause.

    Raises:
        StorageError: still failing after the last attempt.
    """

    def tell(state: RetryCallState) -> None:
        if on_retry is not None:
            wait = state.next_action.sleep if state.next_action is not None else 0.0
            reason, following = _reason(_error(state)), state.attempt_number + 1
            on_retry(f"{what}: {reason}; attempt {following} of {attempts} in {wait:.1f} s")

    def give_up(state: RetryCallState) -> T:
        error = _error(state)
        raise StorageError(
            f"{what}: still failing after {counted(attempts, 'attempt')} ({_reason(error)}): check the "
            f"connection and run it again"
        ) from error

    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(attempts),
        wait=_pause,
        before_sleep=tell,
        retry_error_callback=give_up,
    )
    try:
        return retrying(call)
    except Exception as error:
        if _kinds(error) & _OFFLINE:
            raise StorageError(f"{what}: is not in the cache, and HF_HUB_OFFLINE is set: unset it") from None
        raise


def _pause(state: RetryCallState) -> float:
    """Seconds to wait: doubling, varied so that clients fall out of step, and at least what the server asks for."""
    doubled = wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)(state)
    return max(_asked_to_wait(_error(state)), doubled * random.uniform(0.75, 1.25))


def _error(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome is not None else None
    assert error is not None
    return error


def _reason(error: BaseException) -> str:
    status = status_of(error)
    return type(error).__name__ if status is None else f"HTTP {status}"


def is_transient(error: BaseException) -> bool:
    """Whether asking again may help: the connection failed, or the server says it is busy or broken."""
    if _kinds(error) & _OFFLINE:
        return False
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
