"""The page of a run that is still training, served on this machine: the page once, and its newest document on request.

Only these two are served, to requests that name this server: a page of another origin that has found the port gets
nothing.
"""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from pico_analyze.errors import StorageError
from pico_analyze.output.report.page import as_block, page


class LiveServer:
    """Serves the newest document until it is closed.

    Args:
        host: Address to listen on.
        port: Port; 0 for any that is free.

    Raises:
        StorageError: the address cannot be listened on.
    """

    def __init__(self, host: str, port: int) -> None:
        self._lock = Lock()
        self._document: dict[str, Any] = {}
        self._block, self._tag = b"{}", ""
        try:
            self._server = _Server((host, port), _handler(self))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise StorageError(
                f"{host}:{port} cannot be listened on ({why}): choose another --port or --host"
            ) from None
        self.port: int = self._server.server_address[1]
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self.port}/"
        self.names = {f"{name}:{self.port}" for name in (shown, "127.0.0.1", "localhost", "[::1]")}
        """What a request may call this server; for one that listens everywhere, anything."""
        self.anywhere = host in ("0.0.0.0", "::")
        Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="live").start()

    def publish(self, document: dict[str, Any]) -> bool:
        """Take a document for the newest; whether it is another than the one before."""
        block = as_block(document).encode()
        tag = hashlib.sha256(block).hexdigest()[:16]
        with self._lock:
            changed = tag != self._tag
            self._document, self._block, self._tag = document, block, tag
        return changed

    def answer(self, path: str, tag: str | None) -> tuple[HTTPStatus, str, bytes, str]:
        """Status, type, content and tag of what is at a path, to someone who has the document with a tag."""
        with self._lock:
            document, block, own = self._document, self._block, self._tag
        if not own:
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", b"the page is being made\n", ""
        if path == "/":
            return HTTPStatus.OK, "text/html; charset=utf-8", page(document, live=own).encode(), own
        if path != "/document":
            return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"nothing is here: the page is at /\n", ""
        if tag == own:
            return HTTPStatus.NOT_MODIFIED, "application/json", b"", own
        return HTTPStatus.OK, "application/json", block, own

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """A reader that went away is no fault of the server."""


def _handler(live: LiveServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            """Answer, if it is this server that is asked."""
            if not live.anywhere and self.headers.get("Host", "") not in live.names:
                return self._send(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", b"another server is meant\n", "")
            return self._send(*live.answer(self.path.partition("?")[0], self.headers.get("If-None-Match")))

        def _send(self, status: HTTPStatus, kind: str, content: bytes, tag: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("X-Frame-Options", "DENY")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            if tag:
                self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(content)

        def version_string(self) -> str:
            """No version of Python's in answers."""
            return "pico-analyze"

        def log_message(self, *_: object) -> None:
            """Requests are not printed."""

    return Handler
