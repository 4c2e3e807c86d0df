"""What a route may answer: JSON, bytes, a slice of a file, or an error with the Hub's own error headers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

JSON = "application/json"
BYTES = "application/octet-stream"


class HubError(Exception):
    """An error answer. `code` becomes `X-Error-Code`, from which the client makes its exception class."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {
            **({"X-Error-Code": code} if code else {}),
            "X-Error-Message": message,
            **(headers or {}),
        }

    def answer(self) -> Answer:
        return Answer(self.status, json.dumps({"error": str(self)}).encode(), self.headers)


@dataclasses.dataclass
class Answer:
    """One HTTP answer. With `file`, the body is `length` bytes of that file from `offset` on, streamed."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    content_type: str = JSON
    file: Path | None = None
    offset: int = 0
    length: int = 0

    @property
    def size(self) -> int:
        return self.length if self.file else len(self.body)


def as_json(value: Any, headers: dict[str, str] | None = None, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), headers or {})


def ranged(content: bytes | Path, header: str | None, headers: dict[str, str]) -> Answer:
    """200 with the whole of `content`, or 206 with the part that a `Range: bytes=…` header asks for."""
    total = content.stat().st_size if isinstance(content, Path) else len(content)
    status, first, last = 200, 0, total - 1
    start, dash, end = (header or "").lower().removeprefix("bytes=").partition("-")
    if dash and (start or end) and (start + end).isdigit():
        status = 206
        first = int(start) if start else max(0, total - int(end))
        last = min(int(end), total - 1) if start and end else total - 1
        if first > last:
            raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{total}"})
        headers = {**headers, "Content-Range": f"bytes {first}-{last}/{total}"}
    if isinstance(content, Path):
        return Answer(status, b"", headers, BYTES, file=content, offset=first, length=last - first + 1)
    return Answer(status, content[first : last + 1], headers, BYTES)
