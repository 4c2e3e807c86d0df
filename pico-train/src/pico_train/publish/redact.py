"""Nothing secret leaves this package: tokens and signatures are cut out of every text before it is kept or shown.

The client's own messages hold signed addresses and, in debug mode, headers. `install` makes every log record of this
process pass here, whichever library writes it.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from types import TracebackType

_PATTERNS = (
    (re.compile(r"(https?://[^\s?'\"<>\\]+)\?[^\s'\"<>)\\\]}]+"), r"\1"),
    (re.compile(r"\b(hf|xet|api_org)_[A-Za-z0-9_.-]{6,}"), r"\1_…"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), r"\1 …"),
    (
        re.compile(r"(?i)(access[-_]?token|authorization|signature|sig|token)(['\"]?\s*[:=]\s*['\"]?)[^\s'\",}&]{6,}"),
        r"\1\2…",
    ),
)
_secrets: set[str] = set()


def remember(secret: str | None) -> None:
    """Cut this very text out as well, whatever it looks like."""
    if secret and len(secret) >= 4:
        _secrets.add(secret)


def clean(text: str) -> str:
    """`text` without tokens, signatures and query strings."""
    for secret in _secrets:
        text = text.replace(secret, "…")
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def sentence(error: BaseException, limit: int = 300) -> str:
    """The first line of an error's message, clean and short, with the name of its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = clean(lines[0] if lines else "no message")
    return f"{type(error).__name__}: {text[:limit]}"


def install() -> None:
    """Make every log record, warning and uncaught exception of this process clean."""
    plain = logging.getLogRecordFactory()

    def factory(*arguments: object, **keywords: object) -> logging.LogRecord:
        record = plain(*arguments, **keywords)
        try:
            record.msg, record.args = clean(record.getMessage()), ()
        except Exception:
            record.msg, record.args = "a message that could not be formatted", ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = clean("".join(traceback.format_exception(record.exc_info[1])))
            record.exc_info = None
        return record

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(clean("".join(traceback.format_exception(kind, error, trace))))

    logging.setLogRecordFactory(factory)
    logging.captureWarnings(True)
    sys.excepthook = hook
