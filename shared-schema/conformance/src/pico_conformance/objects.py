"""Large objects on disk by sha256: LFS uploads in one piece or in parts, bodies streamed, never held in memory."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

from pico_conformance.answers import HubError
from pico_schema.digests import sha256_file

PIECE = 1 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")


def md5_file(path: Path) -> str:
    """The ETag that S3 gives to an object or a part."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


class ObjectStore:
    """Files under `root`/`folder`, each put there by one rename."""

    def __init__(self, root: Path, *folders: str) -> None:
        self.root = root
        for folder in (*folders, "tmp"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def path(self, folder: str, name: str) -> Path:
        if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.]*", name):
            raise HubError(400, "invalid object name")
        return self.root / folder / name

    def temporary(self) -> Path:
        return self.root / "tmp" / secrets.token_hex(8)

    def put(self, folder: str, name: str, body: Path, sha256: str | None = None) -> None:
        """Move the uploaded `body` into place.

        Raises:
            HubError: 400, the body does not hash to `sha256`.
        """
        if sha256 and sha256_file(body) != sha256:
            raise HubError(400, "sha256 of the body does not match the oid")
        body.replace(self.path(folder, name))

    def join(self, upload: str, parts: list[dict[str, object]], oid: str) -> None:
        """Assemble a multipart upload into the LFS object `oid`."""
        whole = self.temporary()
        with whole.open("wb") as out:
            for part in parts:
                piece = self.path("parts", f"{upload}.{part['partNumber']}")
                if str(part["etag"]).strip('"') != md5_file(piece):
                    raise HubError(400, "InvalidPart")
                with piece.open("rb") as stream:
                    while block := stream.read(PIECE):
                        out.write(block)
        self.put("lfs", oid, whole, sha256=oid)
        for part in parts:
            self.path("parts", f"{upload}.{part['partNumber']}").unlink()
