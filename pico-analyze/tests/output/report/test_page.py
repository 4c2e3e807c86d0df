"""The file of a report: nothing in it can be taken for markup, its policy allows its own script alone, and it is
built from the sources beside it."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import struct
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from figure_rows import lines_of, rows_of
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.output.report.document import Shown, Told
from pico_analyze.output.report.packing import packed
from pico_analyze.output.report.page import as_block, page
from pico_analyze.reports import document_of

WEB = Path(__file__).resolve().parents[3] / "web"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--",
    "<img src=x onerror=alert(1)>",
    "\u2028\u2029",
    "&lt;",
    "'\"`${x}",
]


class Elements(html.parser.HTMLParser):
    """What an independent parser sees: elements with attributes, and the text of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - whichever ends
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def parsed(content: str) -> Elements:
    found = Elements()
    found.feed(content)
    return found


def hostile_page() -> str:
    frames = [lines_of(run=name, layers=1) for name in HOSTILE]
    told = Told(HOSTILE[0], notes=HOSTILE, findings=[{"text": HOSTILE[0], "caveat": HOSTILE[2], "selection": {}}])
    return page(document_of([Shown(frame) for frame in frames], told))


def test_texts_from_anywhere_are_data_and_come_back_whole() -> None:
    found = parsed(hostile_page())
    plain_page = parsed(page(document_of([Shown(lines_of(run="m"))])))
    assert [tag for tag, _ in found.seen] == [tag for tag, _ in plain_page.seen]
    document = json.loads(found.scripts[0])
    assert [run["name"] for run in document["runs"]] == HOSTILE
    assert document["notes"] == HOSTILE


def test_the_policy_allows_the_one_script_and_the_one_style_sheet() -> None:
    content = hostile_page()
    found = parsed(content)
    policy = next(a["content"] or "" for tag, a in found.seen if a.get("http-equiv") == "Content-Security-Policy")
    [script] = re.findall(r"script-src '(sha256-[^']+)'", policy)
    [style] = re.findall(r"style-src '(sha256-[^']+)'", policy)
    ours = re.search(r"<style>(.*)</style>", content, re.S)
    assert ours is not None
    for allowed, text in ((script, found.scripts[1]), (style, ours[1])):
        assert allowed == "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    assert not any(name.startswith("on") or (name in ("src", "style")) for _, a in found.seen for name in a)
    assert "http://" not in policy and "https://" not in policy


@given(st.recursive(st.none() | st.text() | st.floats(allow_nan=True) | st.integers(), st.lists))
def test_a_block_is_json_without_a_letter_of_markup(value: object) -> None:
    block = as_block({"x": value})
    assert not set(block) & set("<>&\u2028\u2029")
    assert block.isascii()
    json.loads(block)


def test_numbers_that_json_lacks_are_null() -> None:
    assert json.loads(as_block({"x": [float("nan"), float("inf"), 1.5]})) == {"x": [None, None, 1.5]}


def test_arrays_are_little_endian_whatever_they_were() -> None:
    values = np.array([[1.5, np.nan], [-2.0, 3.0]], dtype=np.float32)
    assert base64.b64decode(packed(values)) == struct.pack("<4f", 1.5, float("nan"), -2.0, 3.0)
    assert base64.b64decode(packed(values.T)) == struct.pack("<4f", 1.5, -2.0, float("nan"), 3.0)
    assert base64.b64decode(packed(np.array([1, 258], np.int32))) == b"\x01\0\0\0\x02\x01\0\0"


def test_equal_pages_are_equal_files() -> None:
    assert hostile_page() == hostile_page()


@pytest.mark.parametrize("frame", [rows_of([], lambda _: 0.0), None])
def test_a_page_without_rows_is_a_page(frame: object) -> None:
    document = document_of([Shown(frame)])  # type: ignore[arg-type]
    assert document["cubes"] == []
    assert parsed(page(document)).scripts[1]


def test_the_front_end_is_built_from_the_sources_beside_it() -> None:
    """`make web` builds it; where node is at hand, `make web-check` builds it and compares."""
    if not WEB.is_dir():
        pytest.skip("the sources of the front end are not in this archive")
    names = [f"src/{path.name}" for path in sorted((WEB / "src").iterdir())]
    digest = hashlib.sha256()
    for name in [*names, "package-lock.json", "vite.config.ts"]:
        digest.update(f"{name}\n".encode() + (WEB / name).read_bytes())
    built = files("pico_analyze.output.report").joinpath("assets", "report.js").read_text(encoding="utf-8")
    assert f"Built from sources {digest.hexdigest()}." in built, "the front end is older than its sources: make web"
    assert "Permission is hereby granted, free of charge" in built  # the licence of what is inlined
