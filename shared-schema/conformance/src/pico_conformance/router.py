"""Which route answers which address."""

from __future__ import annotations

import re
from urllib.parse import unquote

from pico_conformance import repo_routes, storage_routes
from pico_conformance.answers import Answer, HubError
from pico_conformance.hub import SERVER_TOKEN, Call

ACCOUNT_ROUTES = {
    "whoami-v2": repo_routes.who_am_i,
    "validate-yaml": repo_routes.validate_card,
    "collections": repo_routes.collections,
}
REPOSITORIES = {"create": repo_routes.create, "delete": repo_routes.remove}
STORES = {
    "v1": storage_routes.xet_store,
    "v2": storage_routes.xet_store,
    "_lfs": storage_routes.lfs_store,
    "_cdn": storage_routes.cdn,
}


def route(call: Call) -> Answer:
    """Answer one call.

    Raises:
        HubError: What the Hub would answer instead of success.
    """
    if call.parts[0] in STORES:
        return STORES[call.parts[0]](call)
    call.role = _role(call)
    return _api(call) if call.parts[0] == "api" else _content(call)


def _api(call: Call) -> Answer:
    """Addresses that begin with ``/api/``."""
    parts = call.parts
    second, third = [*parts[1:3], "", ""][:2]
    if second in ACCOUNT_ROUTES:
        return ACCOUNT_ROUTES[second](call)
    if second == "repos" and third in REPOSITORIES:
        return REPOSITORIES[third](call)
    if second in ("models", "datasets") and len(parts) == 2:
        return repo_routes.listing(call, second)
    if second in ("models", "datasets") and len(parts) >= 4:
        action = parts[4] if len(parts) > 4 else ""
        return repo_routes.repository_api(call, second, "/".join(parts[2:4]), action, [unquote(p) for p in parts[5:]])
    raise HubError(404, "Not found")


def _content(call: Call) -> Answer:
    """Addresses of a repository itself: its large objects and its files."""
    kind, parts = "models", call.parts
    if parts[0] == "datasets":
        kind, parts = parts[0], parts[1:]
    if len(parts) >= 2 and parts[1].endswith(".git") and parts[2:] == ["info", "lfs", "objects", "batch"]:
        return storage_routes.lfs_batch(call, kind, f"{parts[0]}/{parts[1][:-4]}")
    if len(parts) >= 5 and parts[2] == "resolve":
        name, revision, path = f"{parts[0]}/{parts[1]}", unquote(parts[3]), unquote("/".join(parts[4:]))
        return storage_routes.download(call, kind, name, revision, path)
    raise HubError(404, "Not found")


def _role(call: Call) -> str | None:
    header = call.headers.get("Authorization")
    if header is None:
        return None
    token = header.removeprefix("Bearer ")
    if token == SERVER_TOKEN:
        return "write"
    if token not in call.hub.tokens:
        raise HubError(401, "Invalid credentials in Authorization header")
    return call.hub.tokens[token]


def race(call: Call) -> None:
    """Move the branch that the call is about to commit to, as a concurrent publisher would."""
    match = re.fullmatch(r"api/(models|datasets)/([^/]+/[^/]+)/commit/([^/]+)", "/".join(call.parts))
    if match:
        kind, name, branch = match[1], match[2], unquote(match[3])
        call.hub.commit_outside(kind, name, branch, f"notes-{len(call.hub.log)}.txt", b"somebody was faster\n")
