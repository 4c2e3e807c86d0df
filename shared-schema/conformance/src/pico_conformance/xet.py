"""Xet's content-addressed store as far as clients see it: shards name files as chunk ranges of xorbs.

Formats are the public ones of the Xet protocol specification. `hf_xet`, where installed, rebuilds whole files for plain
HTTP readers and proves, when a commit names them, that what was uploaded hashes to what was declared.
"""

from __future__ import annotations

import struct
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from pico_conformance.answers import HubError
from pico_conformance.objects import ObjectStore
from pico_schema.digests import sha256_file

SHARD_HEADER = 48
ENTRY = 48
BOOKEND = b"\xff" * 32
WITH_VERIFICATION = 1 << 31
WITH_METADATA = 1 << 30
XORB_FOOTER = b"XETBLOB"


class Term(NamedTuple):
    """`size` bytes of a file: chunks `first` to `last` (exclusive) of one xorb."""

    xorb: str
    size: int
    first: int
    last: int


def hash_text(raw: bytes) -> str:
    """Xet writes a 32-byte hash as four little-endian 64-bit numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def _files_of(shard: bytes) -> list[tuple[str, str | None, list[Term]]]:
    """The files that a shard describes: name, sha256 where it is declared, terms.

    Raises:
        HubError: 400, it is no shard.
    """
    position, found = SHARD_HEADER, []
    try:
        while shard[position : position + 32] != BOOKEND:
            name = hash_text(shard[position : position + 32])
            flags, count = struct.unpack("<II", shard[position + 32 : position + 40])
            position += ENTRY
            terms = []
            for at in range(position, position + ENTRY * count, ENTRY):
                _, size, first, last = struct.unpack("<IIII", shard[at + 32 : at + 48])
                terms.append(Term(hash_text(shard[at : at + 32]), size, first, last))
            position += ENTRY * count * (2 if flags & WITH_VERIFICATION else 1)
            sha256 = None
            if flags & WITH_METADATA:
                sha256 = hash_text(shard[position : position + 32])
                position += ENTRY
            found.append((name, sha256, terms))
    except struct.error:
        raise HubError(400, "not a shard") from None
    return found


class XetStore:
    """What was uploaded through Xet, indexed by Xet hash and by sha256."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self.files: dict[str, list[Term]] = {}
        self.by_sha256: dict[str, str] = {}
        self._offsets: dict[str, list[int]] = {}
        self._lock = threading.RLock()

    def add_shard(self, body: Path, endpoint: str | None = None) -> None:
        """Index the files that a shard describes; with `endpoint`, prove that they hash to what was declared.

        Raises:
            HubError: 400, it names a xorb that was not uploaded, its files are not what they claim, or it is no shard.
        """
        found = _files_of(body.read_bytes())
        with self._lock:
            if any(not self.objects.path("xorbs", t.xorb).exists() for _, _, terms in found for t in terms):
                raise HubError(400, "shard names an unknown xorb")
            for name, sha256, terms in found:
                self.files[name] = terms
                if sha256:
                    self.by_sha256[sha256] = name
        if endpoint is not None:
            for name, sha256, terms in found:
                if sha256 and not self._is_sound(sha256, endpoint):
                    self._forget(name, sha256, terms)
                    raise HubError(400, "the content does not hash to what the shard declares")

    def _is_sound(self, sha256: str, endpoint: str) -> bool:
        """The real store checks xorbs as they come; this one rebuilds the files that they make."""
        try:
            return self.materialise(sha256, endpoint) is not None
        except Exception:  # whatever the decoder says of damaged chunks
            return False

    def _forget(self, name: str, sha256: str, terms: list[Term]) -> None:
        with self._lock:
            self.files.pop(name, None)
            self.by_sha256.pop(sha256, None)
            for term in terms:
                self._offsets.pop(term.xorb, None)
                self.objects.path("xorbs", term.xorb).unlink(missing_ok=True)

    def chunk_offsets(self, xorb: str) -> list[int]:
        """Where each chunk of a xorb begins; one more for the end."""
        if xorb not in self._offsets:
            offsets, position = [0], 0
            path = self.objects.path("xorbs", xorb)
            size = path.stat().st_size
            with path.open("rb") as stream:
                while position < size:
                    stream.seek(position)
                    head = stream.read(8)
                    if head[:7] == XORB_FOOTER:
                        break
                    position += 8 + int.from_bytes(head[1:4], "little")
                    offsets.append(position)
            self._offsets[xorb] = offsets
        return self._offsets[xorb]

    def reconstruction(self, name: str, first: int, end: int | None, url: Any) -> dict[str, Any]:
        """The terms that overlap bytes [first, end) of a file, and where their chunks are fetched.

        `url` maps a xorb's name to a signed address.
        """
        terms = self.files.get(name)
        if terms is None:
            raise HubError(404, "unknown file")
        total = sum(term.size for term in terms)
        end = total if end is None else min(end, total)
        if first >= total > 0:
            raise HubError(416, "range starts past the end")
        chosen: list[dict[str, Any]] = []
        spans: dict[str, list[tuple[int, int]]] = {}
        at, skip = 0, None
        for term in terms:
            if at < end and at + term.size > first:
                skip = first - at if skip is None else skip
                span = {"start": term.first, "end": term.last}
                chosen.append({"hash": term.xorb, "unpacked_length": term.size, "range": span})
                spans.setdefault(term.xorb, []).append((term.first, term.last))
            at += term.size
        fetch = {xorb: self._fetch(xorb, wanted, url(xorb)) for xorb, wanted in spans.items()}
        return {"offset_into_first_range": skip or 0, "terms": chosen, "fetch_info": fetch}

    def _fetch(self, xorb: str, spans: list[tuple[int, int]], url: str) -> list[dict[str, Any]]:
        merged: list[list[int]] = []
        for first, last in sorted(spans):  # clients require disjoint chunk ranges
            if merged and first <= merged[-1][1]:
                merged[-1][1] = max(last, merged[-1][1])
            else:
                merged.append([first, last])
        offsets = self.chunk_offsets(xorb)
        return [
            {
                "range": {"start": first, "end": last},
                "url": url,
                "url_range": {"start": offsets[first], "end": offsets[last] - 1},
            }
            for first, last in merged
        ]

    def materialise(self, oid: str, endpoint: str) -> Path | None:
        """The LFS object `oid`, rebuilt from Xet storage if that is how it came; None when nobody uploaded it."""
        target = self.objects.path("lfs", oid)
        if not target.exists() and oid in self.by_sha256:
            import hf_xet  # type: ignore[import-untyped]

            name, temporary = self.by_sha256[oid], self.objects.temporary()
            info = hf_xet.XetFileInfo(name, sum(term.size for term in self.files[name]))
            expiry = int(time.time()) + 3600
            with hf_xet.XetSession().new_file_download_group(
                endpoint=endpoint, token="server", token_expiry_unix_secs=expiry
            ) as group:
                group.start_download_file(info, str(temporary))
            if sha256_file(temporary) != oid:
                with self._lock:
                    self.by_sha256.pop(oid, None)
                raise HubError(400, "xet content does not hash to the declared sha256")
            temporary.replace(target)
        return target if target.exists() else None
