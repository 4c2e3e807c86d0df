"""The repository API: create, refs, history, trees, commits; shapes are those that the client's source expects."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlencode

from pico_conformance.answers import Answer, HubError, as_json
from pico_conformance.gitstore import COMMIT_ID, LFS_SUFFIXES, STALE, Repository, iso_time, pointer
from pico_conformance.hub import Call

REPO_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
REGULAR_LIMIT = 10_000_000
WRITES = {"branch", "tag", "preupload", "commit", "settings", "xet-write-token"}


def who_am_i(call: Call) -> Answer:
    if call.role is None:
        raise HubError(401, "Invalid username or password.")
    access = {"type": "access_token", "accessToken": {"displayName": "test", "role": call.role}}
    return as_json({"type": "user", "name": call.hub.user, "id": "0", "orgs": [], "auth": access})


def create(call: Call) -> Answer:
    hub, wanted = call.hub, call.json()
    call.must_write()
    kind = (wanted.get("type") or "model") + "s"
    name = f"{wanted.get('organization') or hub.user}/{wanted['name']}"
    url = hub.url + ("/" if kind == "models" else f"/{kind}/") + name
    if not REPO_NAME.fullmatch(name) or ".." in name:
        raise HubError(400, "Invalid repo name")
    path = hub.root / "git" / kind / f"{name}.git"
    private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
    with hub.lock:
        if path.exists():
            message = f"You already created this {kind[:-1]} repo: {name}"
            return as_json({"error": message, "url": url}, status=409)
        Repository.create(path, hub.user)
        if private:
            (path / "private").touch()
    return as_json({"url": url, "name": name, "id": name, "private": private})


def remove(call: Call) -> Answer:
    call.must_write()
    wanted = call.json()
    owner = wanted.get("organization") or call.hub.user
    call.hub.remove(wanted.get("type", "model") + "s", f"{owner}/{wanted['name']}")
    return as_json({})


def validate_card(_: Call) -> Answer:
    """`POST /api/validate-yaml`: any card is valid."""
    return as_json({"errors": [], "warnings": []})


def collections(call: Call) -> Answer:
    """`POST /api/collections/{slug}/items` and `GET /api/collections/{slug}`."""
    slug = "/".join(call.parts[2:4])
    if slug not in call.hub.collections:
        raise HubError(404, "Collection not found")
    found = call.hub.collections[slug]
    if call.method == "POST" and call.parts[4:] == ["items"]:
        call.must_write()
        item = call.json()["item"]
        if any(known["id"] == item["id"] for known in found["items"]):
            raise HubError(409, "Item already in collection")
        found["items"].append({**item, "_id": str(len(found["items"])), "position": len(found["items"])})
    return as_json(found)


def listing(call: Call, kind: str) -> Answer:
    """`GET /api/{kind}?author=&search=&limit=`: the repositories that the caller may see, by name."""
    author, search = (call.query.get(name, [""])[0] for name in ("author", "search"))
    root = call.hub.root / "git" / kind
    names = [path.relative_to(root).as_posix().removesuffix(".git") for path in sorted(root.glob("*/*.git"))]
    shown = [
        {"_id": str(n), "id": name, "modelId": name}
        for n, name in enumerate(names)
        if name.startswith(f"{author}/" if author else "")
        and search.lower() in name.lower()
        and (call.role is not None or not (root / f"{name}.git" / "private").exists())
    ]
    limit, at = call.number("limit", 1000), call.number("cursor", 0)
    following = {"author": author, "search": search, "limit": limit, "cursor": at + limit}
    return _page(call, shown[at : at + limit], following if len(shown) > at + limit else None)


def repository_api(call: Call, kind: str, name: str, action: str, rest: list[str]) -> Answer:
    """Everything under `/api/{kind}/{name}/`."""
    if action in WRITES:
        call.must_write()
    repository = call.hub.repository(kind, name, call.role)
    if action in ("", "revision"):
        return _info(call, repository, name, rest[0] if rest else "main")
    if action == "refs":
        return _refs(repository)
    if action == "settings" and call.method == "PUT":
        return _settings(call, repository)
    if not rest:
        raise HubError(404, "Not found")
    if action == "branch":
        return _branch(call, repository, rest[0])
    if action == "tag":
        return _tag(call, repository, rest[0])
    address = name if kind == "models" else f"{kind}/{name}"
    return _at_commit(call, repository, address, action, rest)


def _at_commit(call: Call, repository: Repository, address: str, action: str, rest: list[str]) -> Answer:
    """What is asked of a revision, the first word of `rest`."""
    commit = repository.resolve(rest[0])
    match action:
        case "commits":
            return _commits(call, repository, commit)
        case "tree":
            return _tree(call, repository, commit, "/".join(rest[1:]))
        case "paths-info":
            return _paths_info(call, repository, commit)
        case "preupload":
            return _preupload(call, repository, commit)
        case "xet-write-token" | "xet-read-token":
            return _xet_token(call)
        case "commit":
            return _commit(call, repository, address, rest[0], commit)
    raise HubError(404, "Not found")


def _refs(repository: Repository) -> Answer:
    heads, tags = repository.refs("refs/heads/"), repository.refs("refs/tags/")
    return as_json({"branches": heads, "tags": tags, "converts": [], "pullRequests": []})


def _info(call: Call, repository: Repository, name: str, revision: str) -> Answer:
    commit = repository.resolve(revision)
    siblings = []
    for row in repository.tree(commit):
        if row["type"] != "file":
            continue
        sibling: dict[str, Any] = {"rfilename": row["path"]}
        if "blobs" in call.query:
            sibling.update(size=row["size"], blobId=row["oid"])
            if "lfs" in row:
                lfs = row["lfs"]
                sibling["lfs"] = {
                    "sha256": lfs["oid"],
                    "size": row["size"],
                    "pointerSize": lfs["pointerSize"],
                }
        siblings.append(sibling)
    return as_json(
        {
            "_id": "0",
            "id": name,
            "modelId": name,
            "author": name.split("/")[0],
            "sha": commit,
            "private": (repository.path / "private").exists(),
            "disabled": False,
            "gated": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
            "lastModified": repository.last_commit(commit, ".")["date"],
            "createdAt": iso_time(repository.path.stat().st_ctime),
        }
    )


def _branch(call: Call, repository: Repository, branch: str) -> Answer:
    ref = f"refs/heads/{branch}"
    if not repository.valid_ref(ref) or COMMIT_ID.fullmatch(branch):
        raise HubError(400, "Invalid branch name")
    if call.method == "DELETE":
        if not repository.delete(ref):
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        return as_json({})
    if repository.ref(ref):
        raise HubError(409, "Reference already exists")
    repository.move(ref, repository.resolve(call.json().get("startingPoint") or "main"), None)
    return as_json({})


def _tag(call: Call, repository: Repository, revision: str) -> Answer:
    if call.method == "DELETE":
        if not repository.delete(f"refs/tags/{revision}"):
            raise HubError(404, "Tag not found", "RevisionNotFound")
        return as_json({})
    wanted, commit = call.json(), repository.resolve(revision)
    ref = f"refs/tags/{wanted['tag']}"
    if not repository.valid_ref(ref):
        raise HubError(400, "Invalid tag name")
    if not repository.move(ref, commit, None):
        raise HubError(409, "Tag reference exists already")
    return as_json({})


def _settings(call: Call, repository: Repository) -> Answer:
    wanted, marker = call.json(), repository.path / "private"
    if wanted.get("private") or wanted.get("visibility") == "private":
        marker.touch()
    else:
        marker.unlink(missing_ok=True)
    return as_json({})


def _page(call: Call, rows: list[Any], following: dict[str, Any] | None) -> Answer:
    if following is None:
        return as_json(rows)
    address = f"{call.hub.url}/{'/'.join(call.parts)}?{urlencode(following)}"
    return as_json(rows, {"Link": f'<{address}>; rel="next"'})


def _commits(call: Call, repository: Repository, commit: str) -> Answer:
    limit, page = call.number("limit", call.hub.page), call.number("p", 0)
    rows = repository.log(commit, skip=limit * page, limit=limit + 1)
    if "expand[]" in call.query:
        for row in rows:
            row["formatted"] = {"title": row["title"], "message": row["message"]}
    more = {"p": page + 1, "limit": limit} if len(rows) > limit else None
    return _page(call, rows[:limit], more)


def _with_last_commit(repository: Repository, commit: str, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        row["lastCommit"] = repository.last_commit(commit, row["path"])


def _with_xet_hash(call: Call, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        if "lfs" in row and call.hub.xet_enabled and (xet := call.hub.xet.by_sha256.get(row["lfs"]["oid"])):
            row["xetHash"] = xet


def _tree(call: Call, repository: Repository, commit: str, folder: str) -> Answer:
    rows = repository.tree(commit, folder, call.flag("recursive"))
    size = call.hub.tree_page if not call.flag("expand") else min(50, call.hub.tree_page)
    at = call.number("cursor", 0)
    chosen = rows[at : at + size]
    if call.flag("expand"):
        _with_last_commit(repository, commit, chosen)
    _with_xet_hash(call, chosen)
    more = None
    if len(rows) > at + size:
        more = {**{key: value[0] for key, value in call.query.items()}, "cursor": at + size}
    return _page(call, chosen, more)


def _paths_info(call: Call, repository: Repository, commit: str) -> Answer:
    is_json = "json" in call.headers.get("Content-Type", "")
    wanted = call.json() if is_json else parse_qs(call.bytes().decode())
    rows = [row for path in wanted.get("paths", []) if (row := repository.find(commit, path))]
    expand = wanted.get("expand", False)
    if str(expand[0] if isinstance(expand, list) else expand).lower() == "true":
        _with_last_commit(repository, commit, rows)
    _with_xet_hash(call, rows)
    return as_json(rows)


def _preupload(call: Call, repository: Repository, commit: str) -> Answer:
    rows = []
    for wanted in call.json()["files"]:
        path = wanted["path"]
        binary = b"\0" in base64.b64decode(wanted.get("sample", ""))
        lfs = path.endswith(LFS_SUFFIXES) or wanted["size"] > REGULAR_LIMIT or binary
        known = repository.find(commit, path) or {}
        oid = known.get("lfs", {}).get("oid") or (known.get("oid") if known.get("type") == "file" else None)
        mode = "lfs" if lfs else "regular"
        rows.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return as_json({"files": rows, "commitOid": commit})


def _xet_token(call: Call) -> Answer:
    if not call.hub.xet_enabled:
        raise HubError(404, "Xet is not enabled")
    expiry, token = int(time.time()) + 3600, "xet_" + call.hub.sign("xet")
    headers = {
        "X-Xet-Cas-Url": call.hub.url,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(expiry),
    }
    return as_json({"accessToken": token, "exp": expiry, "casUrl": call.hub.url}, headers)


def _changes(call: Call, repository: Repository, head: str) -> tuple[dict[str, Any], list[tuple[str, bytes | None]]]:
    """Header and changes of a commit's ndjson body."""
    hub, changes, header = call.hub, list[tuple[str, bytes | None]](), dict[str, Any]()
    for line in call.bytes().splitlines():
        try:
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
        except (ValueError, KeyError, TypeError):
            raise HubError(400, "commit body is not ndjson") from None
        if key == "header":
            header = value
            continue
        path = value["path"].rstrip("/")
        if not path or any(part in ("", ".", "..", ".git") for part in path.split("/")):
            raise HubError(400, f"Invalid path: {value['path']!r}")
        if key == "file":
            changes.append((path, base64.b64decode(value["content"])))
        elif key == "lfsFile":
            stored = hub.xet.materialise(value["oid"], hub.url)
            if stored is None:
                message = "Your push was rejected because an LFS pointer pointed to a file that does not exist."
                raise HubError(400, f"{message} Offending file: {path}")
            changes.append((path, pointer(value["oid"], stored.stat().st_size)))
        elif key in ("deletedFile", "deletedFolder"):
            if repository.find(head, path) is None:
                raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
            changes.append((path, None))
        else:
            raise HubError(400, f"Unknown operation {key}")
    return header, changes


def _commit(call: Call, repository: Repository, address: str, branch: str, head: str) -> Answer:
    hub = call.hub
    if repository.ref(f"refs/heads/{branch}") is None:
        raise HubError(400, "Cannot commit to something that is not a branch")
    header, changes = _changes(call, repository, head)
    if not header.get("summary"):
        raise HubError(400, "header with a summary is required")
    message = header["summary"] + (f"\n\n{header['description']}" if header.get("description") else "")
    with hub.lock:
        _within_limit(call)
        now = repository.resolve(branch)
        parent = header.get("parentCommit")
        if parent and not now.startswith(parent):
            raise HubError(412, STALE)
        new = repository.write(branch, now, message, changes, hub.user)
        hub.commit_times.append(time.time())
    url = f"{hub.url}/{address}/commit/{new}"
    return as_json({"success": True, "commitOid": new, "commitUrl": url, "hookOutput": ""})


def _within_limit(call: Call) -> None:
    """The real Hub's limit on commits per hour."""
    limit, times = call.hub.commits_per_hour, call.hub.commit_times
    while times and times[0] < time.time() - 3600:
        times.popleft()
    if limit is not None and len(times) >= limit:
        wait = max(1, int(times[0] + 3600 - time.time()))
        message = "You have exceeded the rate limit for repository commits"
        raise HubError(429, message, headers={"Retry-After": str(wait)})
