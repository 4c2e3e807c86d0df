"""One repository: a real bare git repository, read and written with the `git` binary; ref moves are atomic."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import subprocess
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pico_conformance.answers import HubError

COMMIT_ID = re.compile(r"[0-9a-f]{40}")
NO_OBJECT = "0" * 40
STALE = "The branch was updated since you opened this page. Please refresh and try again."
POINTER_HEAD = b"version https://git-lfs.github.com/spec/v1\n"
POINTER_BODY = re.compile(rb"oid sha256:([0-9a-f]{64})\nsize (\d+)\n")
POINTER_CACHE = 65_536
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
        output = self.try_git("rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
        return output.decode().split()[-1] if output else None

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
                raw = self.git("cat-file", "blob", sha)
                match = POINTER_BODY.fullmatch(raw.removeprefix(POINTER_HEAD))
                self._pointers[sha] = (match[1].decode(), int(match[2])) if match else None
                while len(self._pointers) > POINTER_CACHE:
                    self._pointers.popitem(last=False)
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
        flags = ["-r", "-t"] if recursive else []
        listing = self.try_git("ls-tree", "-z", "-l", *flags, f"{commit}:{folder}" if folder else commit)
        if listing is None:
            message = f'{folder} does not exist on "{commit}"'
            raise HubError(404, message, "EntryNotFound", {"X-Repo-Commit": commit})
        return self._rows(listing, folder)

    def find(self, commit: str, path: str) -> dict[str, Any] | None:
        """The row of one path, None when it is not in that commit."""
        if not path or path.endswith("/"):
            return None
        rows = self._rows(self.git("ls-tree", "-z", "-l", commit, "--", path), "")
        return rows[0] if rows else None

    def blob(self, sha: str) -> bytes:
        return self.git("cat-file", "blob", sha)

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
        stream = [f"commit {temporary}\ncommitter {who}\ndata {len(text)}\n".encode(), text, b"\n"]
        if parent:
            stream.append(f"from {parent}\n".encode())
        for path, content in changes:
            if content is None:
                stream.append(f"D {_quoted(path)}\n".encode())
            else:
                stream += [f"M 100644 inline {_quoted(path)}\ndata {len(content)}\n".encode(), content, b"\n"]
        self.git("fast-import", "--quiet", "--date-format=raw", data=b"".join(stream))
        new = self.ref(temporary)
        assert new is not None
        moved = self.move(f"refs/heads/{branch}", new, parent)
        self.delete(temporary)
        if not moved:
            raise HubError(412, STALE)
        return new


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
