"""The loopback Hub: its state, its HTTP plumbing, and the order of things for one request.

What each address means is in `repo_routes` and `storage_routes`. Bodies are spooled to disk above one MiB and
answers are streamed, so memory stays bounded whatever travels.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from pico_conformance.answers import Answer, HubError
from pico_conformance.faults import Fault, FaultBook, flip_bit
from pico_conformance.gitstore import Repository
from pico_conformance.objects import PIECE, ObjectStore
from pico_conformance.requestlog import Request, RequestLog
from pico_conformance.xet import XetStore

JSON_LIMIT = 256 << 20
SERVER_TOKEN = "server"  # the Hub's own Xet reads: neither logged nor faulted


class Hub:
    """A Hub on 127.0.0.1 that keeps everything under `root`.

    Args:
        root: Folder for repositories and objects; may hold those of an earlier Hub.
        tokens: Roles by token; `write` may write, `read` may not.
        xet: Offer Xet storage; without it clients fall back to LFS.
        part_size: LFS uploads above this many bytes are asked for in parts.
        page: Rows per page of commit lists; `tree_page` of tree lists.
        commits_per_hour: Answer 429 to further commits, as the real Hub does.
        cdn_host: Where LFS downloads are redirected; another origin than the Hub's, so that leaking tokens show.
    """

    def __init__(
        self,
        root: Path,
        *,
        tokens: dict[str, str] | None = None,
        user: str = "tester",
        xet: bool = True,
        part_size: int = 8 << 20,
        page: int = 50,
        tree_page: int = 1000,
        commits_per_hour: int | None = None,
        cdn_host: str = "localhost",
        port: int = 0,
    ) -> None:
        self.root, self.user, self.xet_enabled = Path(root), user, xet
        self.tokens = tokens if tokens is not None else {f"hf_{secrets.token_hex(17)}": "write"}
        self.part_size, self.page, self.tree_page = part_size, page, tree_page
        self.commits_per_hour = commits_per_hour
        self.commit_times: deque[float] = deque(maxlen=10_000)
        self.objects = ObjectStore(self.root, "git", "lfs", "parts", "xorbs", "shards")
        self.xet = XetStore(self.objects)
        for shard in sorted((self.root / "shards").iterdir()):
            self.xet.add_shard(shard)
        self.collections: dict[str, dict[str, Any]] = {}
        self.faults, self.log = FaultBook(), RequestLog()
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self._key = secrets.token_bytes(16)
        self._repositories: dict[Path, Repository] = {}
        self._server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": self}))
        port = self._server.server_address[1]
        self.url, self.cdn = f"http://127.0.0.1:{port}", f"http://{cdn_host}:{port}"

    def start(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def token(self) -> str:
        """A token that may write."""
        return next(token for token, role in self.tokens.items() if role == "write")

    def environment(self, home: Path, *, token: str | None = None, xet: bool | None = None) -> dict[str, str]:
        """Environment variables that point a Hugging Face client at this Hub, with its caches under `home`."""
        xet = self.xet_enabled if xet is None else xet
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token if token is None else token,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_XET_CACHE": str(home / "xet"),
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    # -- state that routes share

    def repository(self, kind: str, name: str, role: str | None = "read") -> Repository:
        """The repository `name` (`owner/name`) of `kind` ("models", "datasets").

        Raises:
            HubError: 404, it does not exist, or is private and the caller is nobody.
        """
        path = self.root / "git" / kind / f"{name}.git"
        if ".." in name or not path.is_dir() or (role is None and (path / "private").exists()):
            raise HubError(404, "Repository not found", "RepoNotFound")
        with self.lock:
            return self._repositories.setdefault(path, Repository(path))

    def remove(self, kind: str, name: str) -> None:
        repository = self.repository(kind, name)
        with self.lock:
            self._repositories.pop(repository.path, None)
            shutil.rmtree(repository.path)

    def sign(self, what: str) -> str:
        """The signature of a short-lived address."""
        return hmac.new(self._key, what.encode(), "sha256").hexdigest()[:32]

    def commit_outside(self, kind: str, name: str, branch: str, path: str, content: bytes) -> str:
        """Commit as somebody else would, without a request; for tests that need a branch to move."""
        repository = self.repository(kind, name)
        with self.lock:
            head = repository.resolve(branch)
            return repository.write(branch, head, f"{path} by somebody else", [(path, content)], "somebody")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed drop their connections; anything else is a defect of the Hub and is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


@dataclasses.dataclass
class Call:
    """One request, as routes see it."""

    hub: Hub
    method: str
    parts: list[str]
    query: dict[str, list[str]]
    headers: Any
    body: Path | bytes
    role: str | None

    def bytes(self) -> bytes:
        """The body in memory, for the answers that need it whole.

        Raises:
            HubError: 413, it is larger than any real request of this kind.
        """
        if isinstance(self.body, bytes):
            return self.body
        if self.body.stat().st_size > JSON_LIMIT:
            raise HubError(413, "request body too large")
        return self.body.read_bytes()

    def file(self) -> Path:
        """The body as a file that the route may move away."""
        if isinstance(self.body, bytes):
            path = self.hub.objects.temporary()
            path.write_bytes(self.body)
            self.body = path
        return self.body

    def json(self) -> Any:
        try:
            return json.loads(self.bytes() or b"{}")
        except ValueError:
            raise HubError(400, "body is not JSON") from None

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in ("true", "1")

    def number(self, name: str, default: int) -> int:
        return int(self.query.get(name, [str(default)])[0])

    def must_write(self) -> None:
        if self.role is None:
            raise HubError(401, "Invalid username or password.")
        if self.role != "write":
            raise HubError(403, "You don't have the rights to write to this repository.")

    def must_be_signed(self, what: str) -> None:
        if not hmac.compare_digest(self.query.get("sig", [""])[0], self.hub.sign(what)):
            raise HubError(403, "Bad signature")


class _Counted:
    """A connection's output that counts its bytes: before they go, so that whoever has got them finds them counted."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.row: Request | None = None

    def write(self, data: bytes) -> None:
        if self.row is not None:
            self.row.sent += len(data)
        self._raw.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    timeout = 120

    def setup(self) -> None:
        super().setup()
        self.output = _Counted(self.wfile)
        self.wfile = self.output  # type: ignore[assignment]

    def log_message(self, *args: object) -> None:
        """Nothing on stderr: the Hub's log is `hub.log`."""

    def serve(self) -> None:
        address = urlsplit(self.path)
        internal = self.headers.get("Authorization") == f"Bearer {SERVER_TOKEN}"
        line = f"{self.command} {address.path}"
        fault = None if internal else self.hub.faults.take(line)
        self.row = Request(
            method=self.command,
            path=address.path,
            authorized="authorization" in self.headers,
            host=self.headers.get("Host"),
            range=self.headers.get("Range"),
            fault=fault.kind if fault else None,
        )
        if not internal:
            self.hub.log.add(self.row)
        if fault and fault.kind == "drop":
            return self.hang_up()
        if fault and fault.kind == "hang" and self.hub.stopping.wait(fault.delay):
            return self.hang_up()
        try:
            body = self.read_body(fault)
            answer = self.answer(address.path, parse_qs(address.query), body, fault)
            if isinstance(body, Path):
                body.unlink(missing_ok=True)
            if fault and fault.kind == "lost":
                return self.hang_up()
            self.output.row = self.row
            self.send(answer, fault)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self, path: str, query: dict[str, list[str]], body: Path | bytes, fault: Fault | None) -> Answer:
        from pico_conformance.router import race, route  # routes know the Hub; the Hub meets them here

        parts = path.split("/")[1:]
        try:
            if fault and fault.kind == "status":
                raise HubError(fault.status, "injected fault", headers=fault.headers)
            if fault and fault.kind == "answer":
                return Answer(200, fault.body, fault.headers)
            call = Call(self.hub, self.command, parts, query, self.headers, body, None)
            if fault and fault.kind == "race":
                race(call)
            return route(call)
        except HubError as error:
            return error.answer()

    def read_body(self, fault: Fault | None) -> Path | bytes:
        with tempfile.SpooledTemporaryFile(max_size=PIECE) as spool:
            for block in self.body_blocks():
                spool.write(block)
                self.row.received += len(block)
            spool.seek(0)
            if fault and fault.kind == "flip-upload":
                return flip_bit(spool.read(), fault.at)
            if self.row.received <= PIECE:
                return spool.read()
            path = self.hub.objects.temporary()
            with path.open("wb") as out:
                shutil.copyfileobj(spool, out, PIECE)
            return path

    def body_blocks(self) -> Any:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            block = self.rfile.read(min(left, PIECE))
            if not block:
                raise ConnectionResetError
            left -= len(block)
            yield block

    def send(self, answer: Answer, fault: Fault | None) -> None:
        headers = {
            "Content-Type": answer.content_type,
            "Content-Length": str(answer.size),
            "X-Request-Id": secrets.token_hex(6),
            **answer.headers,
        }
        self.row.status = answer.status
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = answer.size // 2 if fault and fault.kind == "truncate" else answer.size
        flip = fault.at if fault and fault.kind == "flip" else None
        if answer.file is None:
            body = answer.body if flip is None else flip_bit(answer.body, flip)
            self.wfile.write(body[:cut])
        else:
            self.stream(answer, cut, flip)
        self.wfile.flush()
        if cut < answer.size:
            self.hang_up()

    def stream(self, answer: Answer, length: int, flip: float | None) -> None:
        flip_at = -1 if flip is None else min(int(flip * answer.length), answer.length - 1)
        assert answer.file is not None
        with answer.file.open("rb") as source:
            source.seek(answer.offset)
            done = 0
            while done < length and (block := source.read(min(PIECE, length - done))):
                if done <= flip_at < done + len(block):
                    block = flip_bit(block, (flip_at - done + 0.5) / len(block))
                self.wfile.write(block)
                done += len(block)
