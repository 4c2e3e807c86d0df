"""A hook of mkdocs: formulas are rendered while the site is built, so that a page needs no script for them.

KaTeX itself is run, in QuickJS. A formula that it does not take ends the build and is named.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import quickjs
from mkdocs.exceptions import PluginError

_FORMULA = re.compile(r'<(?P<tag>div|span) class="arithmatex">\\[\[(](?P<tex>.*?)\\[\])]</(?P=tag)>', re.S)


@functools.cache
def _katex() -> Callable[[str, bool], str]:
    context = quickjs.Context()
    context.eval((Path(__file__).parent / "katex.min.js").read_text(encoding="utf-8"))
    found: Callable[[str, bool], str] = context.eval(
        "(tex, display) => katex.renderToString(tex, {displayMode: display, throwOnError: true, strict: 'error'})"
    )
    return found


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """The page with its formulas rendered."""

    def rendered(match: re.Match[str]) -> str:
        tex, display = html.unescape(match["tex"]).strip(), match["tag"] == "div"
        try:
            shown = _katex()(tex, display)
        except quickjs.JSException as error:
            first = str(error).partition("\n")[0]
            raise PluginError(f"{page.file.src_path}: the formula {tex!r} is none: {first}") from None
        return f'<{match["tag"]} class="formula">{shown}</{match["tag"]}>'

    return _FORMULA.sub(rendered, content)
