"""One repository: a real bare git repository, read and written with the `git` binary; ref moves are atomic.

What a commit or a blob holds never changes: it is asked of git once. Where a ref points is read from its file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import secrets
import subprocess
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pico_conformance.answers import HubError

COMMIT_ID = re.compile(r"[0-9a-f]{40}")
NO_OBJECT = "0" * 40
STALE = "The branch was updated since you opened this page. Please refresh and try again."
POINTER_HEAD = b"version https://git-lfs.github.com/spec/v1\n"
POINTER_BODY = re.compile(rb"oid sha256:([0-9a-f]{64})\nsize (\d+)\n")
POINTER_CACHE = 65_536
SMALL = 65_536
"""Bytes of a blob that is kept in memory."""
KEPT = 256
"""Listings, and blobs, of one repository that are kept."""
LOOSE_REF = re.compile(r"refs/(?:heads|tags|tmp)/[\w-][\w./-]*")
Key = TypeVar("Key")
Value = TypeVar("Value")
LFS_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".npy",
    ".npz",
    ".ckpt",
    ".parquet",
    ".distcp",
)
GIT_ATTRIBUTES = "".join(f"*{end} filter=lfs diff=lfs merge=lfs -text\n" for end in LFS_SUFFIXES).encode()


def iso_time(seconds: float | str) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(int(float(seconds))))


def pointer(oid: str, size: int) -> bytes:
    """The small text that stands in git for an LFS object."""
    return POINTER_HEAD + f"oid sha256:{oid}\nsize {size}\n".encode()


@dataclasses.dataclass
class Repository:
    """A bare git repository at `path`."""

    path: Path
    _pointers: OrderedDict[str, tuple[str, int] | None] = dataclasses.field(default_factory=OrderedDict)
    _commits: set[str] = dataclasses.field(default_factory=set)
    """Ids that are known to be of commits."""
    _listings: OrderedDict[tuple[str, ...], list[dict[str, Any]]] = dataclasses.field(default_factory=OrderedDict)
    _blobs: OrderedDict[str, bytes] = dataclasses.field(default_factory=OrderedDict)

    @classmethod
    def create(cls, path: Path, owner: str) -> Repository:
        path.mkdir(parents=True)
        repository = cls(path)
        repository.git("init", "-q", "--bare", "-b", "main")
        repository.write("main", None, "initial commit", [(".gitattributes", GIT_ATTRIBUTES)], owner)
        return repository

    def git(self, *arguments: str, data: bytes | None = None) -> bytes:
        output = self.try_git(*arguments, data=data)
        if output is None:
            raise RuntimeError(f"git {' '.join(arguments[:2])} failed in {self.path.name}")
        return output

    def try_git(self, *arguments: str, data: bytes | None = None) -> bytes | None:
        """Standard output of a git command, None when it exits with an error."""
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
        command = ["git", "-C", str(self.path), *arguments]
        done = subprocess.run(command, input=data, capture_output=True, env=env, check=False)
        return done.stdout if done.returncode == 0 else None

    # -- refs

    def ref(self, name: str) -> str | None:
        """The commit that a full ref name points to."""
        if name in self._commits:
            return name
        if LOOSE_REF.fullmatch(name) and ".." not in name:
            try:
                found = (self.path / name).read_text().strip()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                if not (self.path / "packed-refs").exists():
                    return None
            else:
                if found in self._commits:
                    return found
        output = self.try_git("rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
        commit = output.decode().split()[-1] if output else None
        if commit is not None:
            self._commits.add(commit)
        return commit

    def resolve(self, revision: str) -> str:
        """Commit id of a branch, a tag, a full ref or a commit id."""
        candidates = [f"refs/heads/{revision}", f"refs/tags/{revision}"]
        if revision.startswith("refs/") or COMMIT_ID.fullmatch(revision):
            candidates.append(revision)
        for candidate in candidates:
            if commit := self.ref(candidate):
                return commit
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def refs(self, prefix: str) -> list[dict[str, str]]:
        listing = self.git("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", prefix)
        rows = [line.split() for line in listing.decode().splitlines()]
        return [{"name": r[0][len(prefix) :], "ref": r[0], "targetCommit": r[-1]} for r in rows]

    def valid_ref(self, name: str) -> bool:
        return self.try_git("check-ref-format", name) is not None

    def move(self, ref: str, to: str, was: str | None) -> bool:
        """Point `ref` at `to` if it still points at `was` (None: if it does not exist)."""
        return self.try_git("update-ref", ref, to, was or NO_OBJECT) is not None

    def delete(self, ref: str) -> bool:
        return self.ref(ref) is not None and self.try_git("update-ref", "-d", ref) is not None

    # -- content

    def entry(self, sha: str, size: int, path: str) -> dict[str, Any]:
        """A file's row of the tree API; LFS pointers are recognised by their content, as the Hub does."""
        row: dict[str, Any] = {"type": "file", "oid": sha, "size": size, "path": path}
        if 100 < size < 200:
            if sha not in self._pointers:
                raw = self.blob(sha)
                match = POINTER_BODY.fullmatch(raw.removeprefix(POINTER_HEAD))
                _keep(self._pointers, sha, (match[1].decode(), int(match[2])) if match else None, POINTER_CACHE)
            if found := self._pointers[sha]:
                row.update(size=found[1], lfs={"oid": found[0], "size": found[1], "pointerSize": size})
        return row

    def _rows(self, listing: bytes, folder: str) -> list[dict[str, Any]]:
        rows = []
        for line in listing.decode().split("\0")[:-1]:
            meta, name = line.split("\t", 1)
            _, kind, sha, size = meta.split()
            path = f"{folder}/{name}" if folder else name
            if kind == "tree":
                rows.append({"type": "directory", "oid": sha, "size": 0, "path": path})
            else:
                rows.append(self.entry(sha, int(size), path))
        return rows

    def tree(self, commit: str, folder: str = "", recursive: bool = True) -> list[dict[str, Any]]:
        key = (commit, folder, "recursive" if recursive else "")
        rows = self._listings.get(key)
        if rows is None:
            flags = ["-r", "-t"] if recursive else []
            listing = self.try_git("ls-tree", "-z", "-l", *flags, f"{commit}:{folder}" if folder else commit)
            if listing is None:
                message = f'{folder} does not exist on "{commit}"'
                raise HubError(404, message, "EntryNotFound", {"X-Repo-Commit": commit})
            rows = self._rows(listing, folder)
            if COMMIT_ID.fullmatch(commit):
                _keep(self._listings, key, rows, KEPT)
        return [dict(row) for row in rows]

    def find(self, commit: str, path: str) -> dict[str, Any] | None:
        """The row of one path, None when it is not in that commit."""
        return next((row for row in self.tree(commit) if row["path"] == path), None)

    def blob(self, sha: str) -> bytes:
        found = self._blobs.get(sha)
        if found is None:
            found = self.git("cat-file", "blob", sha)
            self._keep_blob(sha, found)
        return found

    def _keep_blob(self, sha: str, content: bytes) -> None:
        if len(content) <= SMALL:
            _keep(self._blobs, sha, content, KEPT)

    # -- history

    def last_commit(self, commit: str, path: str) -> dict[str, str]:
        line = self.git("log", "-1", "--format=%H%x00%ct%x00%s", commit, "--", path).decode()
        sha, when, title = line.rstrip("\n").split("\0")
        return {"id": sha, "title": title, "date": iso_time(when)}

    def log(self, commit: str, skip: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Commits, newest first."""
        form = "--format=%H%x00%an%x00%ct%x00%s%x00%b%x1e"
        text = self.git("log", f"--skip={skip}", f"-n{limit}", form, commit).decode()
        rows = []
        for record in text.split("\x1e\n")[:-1]:
            sha, user, when, title, body = record.split("\0")
            author = [{"user": user}]
            message = body.strip()
            rows.append({"id": sha, "title": title, "message": message, "authors": author, "date": iso_time(when)})
        return rows

    def write(
        self,
        branch: str,
        parent: str | None,
        message: str,
        changes: Iterable[tuple[str, bytes | None]],
        user: str,
    ) -> str:
        """Commit `changes` (path, content or None to delete) onto `parent`, in one atomic ref move.

        Raises:
            HubError: 412, the branch does not point at `parent` any more.
        """
        temporary, text = f"refs/tmp/{secrets.token_hex(8)}", message.encode()
        who = f"{user} <{user}@localhost> {int(time.time())} +0000"
        stream = [f"commit {temporary}\nmark :1\ncommitter {who}\ndata {len(text)}\n".encode(), text, b"\n"]
        if parent:
            stream.append(f"from {parent}\n".encode())
        for path, content in changes:
            if content is None:
                stream.append(f"D {_quoted(path)}\n".encode())
            else:
                stream += [f"M 100644 inline {_quoted(path)}\ndata {len(content)}\n".encode(), content, b"\n"]
                if len(content) <= SMALL:
                    self._keep_blob(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), content)
        stream.append(b"get-mark :1\n")
        new = self.git("fast-import", "--quiet", "--date-format=raw", data=b"".join(stream)).decode().strip()
        assert COMMIT_ID.fullmatch(new), new
        self._commits.add(new)
        moves = f"update refs/heads/{branch} {new} {parent or NO_OBJECT}\ndelete {temporary}\n"
        if self.try_git("update-ref", "--stdin", data=moves.encode()) is None:
            self.delete(temporary)
            raise HubError(412, STALE)
        return new


def _keep(kept: OrderedDict[Key, Value], key: Key, value: Value, at_most: int) -> None:
    """Keep a value; the oldest go."""
    kept[key] = value
    while len(kept) > at_most:
        try:
            kept.popitem(last=False)
        except KeyError:  # another thread was quicker
            break


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
