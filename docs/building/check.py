"""Checks the site that was built: `python docs/building/check.py site --pages FOLDER`.

Every link and every file that a page needs leads to something that is there, anchors too, and nothing is asked of
another host: scripts, styles, fonts and pictures are the site's own. (Links that a reader follows may lead elsewhere.)
Documents are written for CommonMark, as the repository's host reads them, and mkdocs reads another Markdown: lists,
tables and blocks of each page are counted in both.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
"""Attributes that a browser loads by itself."""
LOADING_LINKS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "manifest"}
COUNTED = ("li", "tr", "pre", "h2", "h3")
_IN_STYLES = re.compile(r"url\(\s*['\"]?(?!data:)([^'\")]+)|@import\s+['\"]([^'\"]+)")


class Page(HTMLParser):
    """What a page names, and what of it a browser loads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Collect what a tag names."""
        found = {name: value or "" for name, value in attributes}
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "link" and LOADING_LINKS & set(found.get("rel", "").split()):
            self.loads.append(found.get("href", ""))
        if tag in LOADED and found.get(LOADED[tag]):
            self.loads.append(found[LOADED[tag]])


def faults(site: Path) -> Iterator[str]:
    """A sentence for each thing that is wrong with a site."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: there are no pages"
    for path, page in pages.items():
        where = path.relative_to(site)
        for target in page.loads:
            yield from _foreign(where, target) or _missing(site, path, target, pages)
        for target in page.links:
            if not urlsplit(target).scheme and not target.startswith("//"):
                yield from _missing(site, path, target, pages)
    for path in sorted(site.rglob("*.css")):
        for match in _IN_STYLES.finditer(path.read_text(encoding="utf-8")):
            yield from _foreign(path.relative_to(site), match[1] or match[2])


def _foreign(where: Path, target: str) -> list[str]:
    parts = urlsplit(target)
    return [f"{where}: loads {target}"] if parts.netloc or parts.scheme not in ("", "data", "blob") else []


def _missing(site: Path, path: Path, target: str, pages: dict[Path, Page]) -> Iterator[str]:
    parts = urlsplit(target)
    if parts.scheme or path.name == "404.html":  # whose addresses are those of the site's root
        return
    where, file = path.relative_to(site), path
    if parts.path:
        file = (path.parent / unquote(parts.path)).resolve()
        file = file / "index.html" if file.is_dir() else file
    if not file.is_file():
        yield f"{where}: {target} leads to nothing"
    # A report keeps its view in the address: what stands there is no place on the page.
    elif parts.fragment and file in pages and "=" not in parts.fragment and not parts.fragment.startswith("__"):
        if unquote(parts.fragment) in pages[file].ids:
            return
        yield f"{where}: {target}: there is no such place on that page"


def misread(site: Path, pages: Path) -> Iterator[str]:
    """A sentence for each page that mkdocs reads otherwise than CommonMark; pages of the interface are not Markdown."""
    reader = MarkdownIt("commonmark").enable("table")
    for path in sorted(pages.rglob("*.md")):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(pages)
        if "\n::: " in text:
            continue
        built = (site / name).with_suffix(".html").read_text(encoding="utf-8")
        article = built[built.index("<article") : built.index("</article>")]
        for tag in COUNTED:
            meant, found = (len(re.findall(f"<{tag}[ >]", html)) for html in (reader.render(text), article))
            if meant != found:
                yield f"{name}: {found} of <{tag}>, but CommonMark has {meant}: put blank lines around lists and blocks"


def main() -> None:
    """Print what is wrong; fail if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--pages", type=Path, required=True, help="what it was built from")
    options = parser.parse_args()
    site = options.site.resolve()
    found = [*faults(site), *misread(site, options.pages)]
    print(*found, sep="\n", end="\n" if found else "")
    count, size = 0, 0
    for path in site.rglob("*"):
        if path.is_file():
            count, size = count + path.name.endswith(".html"), size + path.stat().st_size
    print(f"{site}: {count} pages, {size / 2**20:.1f} MiB, {len(found)} faults")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
