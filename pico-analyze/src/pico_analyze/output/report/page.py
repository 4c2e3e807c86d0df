"""A document and the front end in one file, which loads nothing and runs nothing but the script that is in it.

Text of runs reaches the page as JSON in a block that no parser of HTML leaves: `<`, `>` and `&` are written as escapes,
and so is everything beyond ASCII. The front end shows text as text. A Content-Security-Policy allows the one script and
the one style sheet by their digests, and no request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_LIVE = "connect-src 'self'; "


def page(document: dict[str, Any], *, live: str = "") -> str:
    """The HTML of a document.

    Args:
        document: As `document.document` makes it.
        live: The document's tag, where the page asks the server that it came from for newer ones; empty for a file.
    """
    script, style = _asset("report.js"), _asset("report.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        f"{_LIVE if live else ''}base-uri 'none'; form-action 'none'"
    )
    title = html.escape(f"{document['title']} · Pico report")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n'
        '<noscript>This report draws itself: it needs JavaScript, and no network.</noscript>\n<div id="report"></div>\n'
        f'<script type="application/json" id="document" data-live="{html.escape(live)}">{as_block(document)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def as_block(document: dict[str, Any]) -> str:
    """A document as JSON that can stand inside of a script element, whatever its texts are; no number is NaN."""
    text = json.dumps(_finite(document), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for letter, escape in _ESCAPES.items():  # in JSON they stand in texts alone
        text = text.replace(letter, escape)
    return text


def _finite(value: Any) -> Any:
    """The same without numbers that JSON has no word for: they are null."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")


@cache
def _asset(name: str) -> str:
    """A file of the front end; one that would end the element it stands in was built wrongly."""
    content = files("pico_analyze.output.report").joinpath("assets", name).read_text(encoding="utf-8")
    assert not any(end in content.lower() for end in ("</script", "</style", "<!--")), name
    return content
