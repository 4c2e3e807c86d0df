"""Links of a document, as they have to be on its page.

In the repository a link leads to a file beside the document, so that it works where the file is read. On the site it
leads to the page that this file became, to a copy of a picture, or to the file in the repository's address. One that
leads nowhere is an error.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s]+)(?P<after>\))")
_PICTURES = {".png", ".svg", ".jpg"}
OUTPUTS = ("runs/", "analysis/")
"""Where links of a page that is run lead to what it made."""


class Links:
    """Rewrites the links of documents.

    Args:
        root: The repository.
        repository: Its address, without a slash at the end.
        pages: Source to page.
        keep: Called with a file of the repository (a picture) and its path on the site, which has to be there.
    """

    def __init__(
        self, root: Path, repository: str, pages: dict[str, str], keep: Callable[[Path, str], None] = lambda *_: None
    ) -> None:
        self.root, self.pages, self.keep = root, pages, keep
        self.repository = repository
        self._blob = re.compile(re.escape(repository) + r"/(?:blob|tree)/main/")

    def rewritten(self, source: str, text: str) -> str:
        """The text of `source` with its links as on the site; blocks of code are left as they are.

        Raises:
            ValueError: a link leads to a file that does not exist; the message says where it stands.
        """
        lines, fence = [], None
        for number, line in enumerate(text.split("\n"), 1):
            mark = _FENCE.match(line)
            if mark and fence is None:
                fence = mark[1]
            elif mark and mark[1].startswith(fence or " "):
                fence = None
            elif fence is None:
                try:
                    line = _LINK.sub(lambda m: m["before"] + self.target(source, m["target"]) + m["after"], line)
                except ValueError as error:
                    raise ValueError(f"{source}:{number}: {error}") from None
            lines.append(line)
        return "\n".join(lines)

    def target(self, source: str, target: str) -> str:
        """Where one link of `source` leads on the site."""
        if self._blob.match(target):
            path, _, anchor = self._blob.sub("", target).partition("#")
        elif re.match(r"[a-z]+:|#", target) or target.startswith(OUTPUTS):
            return target
        else:
            path, _, anchor = target.partition("#")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        file = self.root / path
        if not file.exists():
            raise ValueError(f"{target} leads to {path}, which does not exist")
        here = Path(self.pages[source]).parent
        if path in self.pages:
            found = posixpath.relpath(self.pages[path], here)
        elif file.suffix in _PICTURES:
            kept = f"media/{file.name}"
            self.keep(file, kept)
            found = posixpath.relpath(kept, here)
        else:
            found = f"{self.repository}/{'tree' if file.is_dir() else 'blob'}/main/{path}"
        return f"{found}#{anchor}" if anchor else found
