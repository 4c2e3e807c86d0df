"""Where bytes move: LFS batch, upload and multipart, the CDN, downloads by revision, and the Xet store."""

from __future__ import annotations

import re
import secrets
from typing import Any
from urllib.parse import quote

from pico_conformance.answers import Answer, HubError, as_json, ranged
from pico_conformance.hub import Call, Hub
from pico_conformance.objects import SHA256, md5_file
from pico_schema.digests import sha256_file

LFS_JSON = "application/vnd.git-lfs+json"


def _signed(hub: Hub, what: str) -> str:
    return f"{hub.url}/_lfs/{what}?sig={hub.sign(what)}"


def lfs_batch(call: Call, kind: str, name: str) -> Answer:
    hub, wanted = call.hub, call.json()
    call.must_write()
    hub.repository(kind, name)
    rows, in_parts = [], False
    for item in wanted["objects"]:
        oid, size = item["oid"], item["size"]
        if not SHA256.fullmatch(oid):
            rows.append({**item, "error": {"code": 422, "message": "invalid oid"}})
        elif hub.objects.path("lfs", oid).exists():
            rows.append({"oid": oid, "size": size})  # no actions: it is there already
        else:
            upload: dict[str, Any] = {"href": _signed(hub, f"put/{oid}")}
            if size > hub.part_size and "multipart" in wanted.get("transfers", []):
                in_parts, key = True, secrets.token_hex(8)
                count = -(-size // hub.part_size)
                parts = {f"{i:05d}": _signed(hub, f"part/{key}/{i}") for i in range(1, count + 1)}
                upload = {
                    "href": _signed(hub, f"complete/{key}"),
                    "header": {"chunk_size": str(hub.part_size), **parts},
                }
            actions = {"upload": upload, "verify": {"href": _signed(hub, f"verify/{oid}")}}
            rows.append({"oid": oid, "size": size, "authenticated": True, "actions": actions})
    answer = as_json({"transfer": "multipart" if in_parts else "basic", "objects": rows})
    answer.content_type = LFS_JSON
    return answer


def lfs_store(call: Call) -> Answer:
    """The signed addresses that a batch answer hands out."""
    objects, parts = call.hub.objects, call.parts
    call.must_be_signed("/".join(parts[1:]))
    match call.method, parts[1]:
        case "PUT", "put":
            body = call.file()
            etag = md5_file(body)
            objects.put("lfs", parts[2], body, sha256=parts[2])
            return Answer(200, b"", {"ETag": f'"{etag}"'})
        case "PUT", "part":
            body = call.file()
            etag = md5_file(body)
            objects.put("parts", f"{parts[2]}.{parts[3]}", body)
            return Answer(200, b"", {"ETag": f'"{etag}"'})
        case "POST", "complete":
            wanted = call.json()
            if not objects.path("lfs", wanted["oid"]).exists():
                objects.join(parts[2], wanted["parts"], wanted["oid"])
            return as_json({})
        case "POST", "verify":
            stored = objects.path("lfs", parts[2])
            if not stored.exists() or stored.stat().st_size != call.json()["size"]:
                raise HubError(404, "object missing or of another size")
            return as_json({})
    raise HubError(404, "Not found")


def cdn(call: Call) -> Answer:
    """Another origin, which refuses tokens as S3 does."""
    if call.headers.get("Authorization"):
        raise HubError(400, "Only one auth mechanism allowed")
    oid = call.parts[1]
    call.must_be_signed(f"cdn/{oid}")
    stored = call.hub.xet.materialise(oid, call.hub.url)
    if stored is None:
        raise HubError(404, "Not found")
    return ranged(stored, call.headers.get("Range"), {"ETag": f'"{oid}"'})


def download(call: Call, kind: str, name: str, revision: str, path: str) -> Answer:
    """`/{name}/resolve/{revision}/{path}`: regular files at once, large ones by redirect to the CDN."""
    hub = call.hub
    repository = hub.repository(kind, name, call.role)
    commit = repository.resolve(revision)
    row = repository.find(commit, path)
    if row is None or row["type"] != "file":
        raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit})
    headers = {
        "X-Repo-Commit": commit,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.split('/')[-1])}",
        "ETag": f'"{row["oid"]}"',
    }
    if "lfs" not in row:
        return ranged(repository.blob(row["oid"]), call.headers.get("Range"), headers)
    oid = row["lfs"]["oid"]
    headers.update(
        {
            "X-Linked-Size": str(row["size"]),
            "X-Linked-ETag": f'"{oid}"',
            "Location": f"{hub.cdn}/_cdn/{oid}?sig={hub.sign(f'cdn/{oid}')}",
        }
    )
    if hub.xet_enabled and (xet := hub.xet.by_sha256.get(oid)):
        headers["X-Xet-Hash"] = xet
        headers["Link"] = f'<{hub.url}/api/{kind}/{name}/xet-read-token/{commit}>; rel="xet-auth"'
    return Answer(302, b"", headers)


def xet_store(call: Call) -> Answer:
    """The Xet CAS; only version 1 of its addresses, to which clients fall back."""
    hub, parts = call.hub, call.parts
    version, what = parts[0], parts[1] if len(parts) > 1 else ""
    if what == "xorbs" and call.method == "POST":
        if not SHA256.fullmatch(parts[3]):
            raise HubError(400, "bad hash")
        is_new = not hub.objects.path("xorbs", parts[3]).exists()
        hub.objects.put("xorbs", parts[3], call.file())
        return as_json({"was_inserted": is_new})
    if what == "shards" and call.method == "POST" and version == "v1":
        body = call.file()
        hub.xet.add_shard(body, hub.url)
        hub.objects.put("shards", sha256_file(body), body)
        return as_json({"result": 1})
    if what == "reconstructions" and version == "v1":
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", call.headers.get("Range", ""))
        first, end = (int(span[1]), int(span[2]) + 1) if span else (0, None)
        return as_json(
            hub.xet.reconstruction(
                parts[2], first, end, lambda xorb: f"{hub.url}/v1/get/{xorb}?sig={hub.sign(f'xorb/{xorb}')}"
            )
        )
    if what == "get":
        call.must_be_signed(f"xorb/{parts[2]}")
        return ranged(hub.objects.path("xorbs", parts[2]), call.headers.get("Range"), {})
    if what == "telemetry":
        return as_json({})
    raise HubError(404, "Not found")
