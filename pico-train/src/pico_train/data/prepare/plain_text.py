"""Plain text files: one document each, in UTF-8. Large ones are streamed, never in memory as a whole."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from pico_train.data.prepare import opening
from pico_train.data.prepare.documents import Document, digest
from pico_train.data.prepare.records import Errors, TextLayout, not_text, not_utf8

IN_MEMORY = 4 * 2**20
"""Bytes up to which a text file is read at once; larger ones are streamed, twice."""


def text_file(path: Path, source: str, layout: TextLayout, *, named: bool) -> Document:
    """The document that a text file is.

    Raises:
        DataError: it is not UTF-8, or holds zero bytes, and that is refused; or a compressed file is damaged.
        StorageError: the disk failed.
    """
    with opening.reading(path):
        small = path.stat().st_size <= IN_MEMORY and opening.compression(path) is None
    if small:
        return Document.of("".join(_decoded(path, layout.errors)), source=source, named=named)

    def parts() -> Iterator[str]:
        return _decoded(path, layout.errors)

    return Document(source, digest(parts()), parts, named)


def _decoded(path: Path, errors: Errors) -> Iterator[str]:
    """The text of a file, in parts; a byte-order mark at its start is not part of it."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace" if errors == "replace" else "strict")
    with opening.open_text(path) as file:
        done = waiting = 0
        start = b""
        while block := file.read(opening.BLOCK):
            start = start or block[:4]
            try:
                text = decoder.decode(block)
            except UnicodeDecodeError as error:
                # The decoder holds back the beginning of a character that the block before ended in.
                place = max(0, done - waiting + error.start + (3 if _marked(start, done) else 0))
                raise not_utf8(path, f"byte {place}", start) from None
            if b"\0" in block and errors == "refuse":
                raise not_text(path, f"a zero byte, byte {done + block.index(0)}", block[:64])
            waiting = len(decoder.getstate()[0])
            done += len(block)
            yield text.replace("\0", "\ufffd") if errors == "replace" else text
        try:
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise not_utf8(path, f"byte {done}, its end", start) from None


def _marked(start: bytes, done: int) -> bool:
    """Whether the decoder counts from behind a byte-order mark: in the block that begins with one."""
    return done == 0 and start.startswith(codecs.BOM_UTF8)
