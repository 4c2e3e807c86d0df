"""A run put on the loopback Hub without a publisher: what readers' tests read, where pico-train is not installed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pico_conformance.gitstore import LFS_SUFFIXES, Repository, pointer
from pico_conformance.hub import Hub
from pico_schema import RevisionIndex, documents, layout, read_checkpoint, read_run


def put_run(hub: Hub, run_dir: Path, repo: str) -> list[str]:
    """Commit each sealed checkpoint of a run to its branch and tag it; returns the commits by ascending step."""
    path = hub.root / "git" / "models" / f"{repo}.git"
    if not path.exists():
        Repository.create(path, hub.user)
    repository, run, commits = hub.repository("models", repo), read_run(run_dir), dict[int, str]()
    branch = layout.branch_name(run.name)
    head = repository.resolve("main")
    repository.move(f"refs/heads/{branch}", head, None)
    index = RevisionIndex(run_id=run.id, run_name=run.name)
    for entry in run.checkpoints:
        directory = run_dir / layout.checkpoint_dir(entry.step)
        index = index.with_commits(commits)
        index = index.with_checkpoint(read_checkpoint(directory), entry.manifest_sha256)
        wanted = {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
        wanted[layout.REVISIONS] = documents.dump(index)
        wanted[layout.RUN_MANIFEST] = documents.dump(run)
        if run.validation is not None:
            wanted[layout.VALIDATION_ROWS] = (run_dir / layout.VALIDATION_ROWS).read_bytes()
        changes = [(path, _stored(hub, path, content)) for path, content in wanted.items()]
        head = repository.write(branch, head, f"{run.name} step {entry.step}", changes, hub.user)
        repository.move(f"refs/tags/{layout.tag_name(run.name, entry.step)}", head, None)
        commits[entry.step] = head
    return list(commits.values())


def put_files(hub: Hub, repo: str, branch: str, files: dict[str, bytes], *, title: str | None = None) -> str:
    """Commit any files to a branch, created where missing; returns the commit."""
    path = hub.root / "git" / "models" / f"{repo}.git"
    if not path.exists():
        Repository.create(path, hub.user)
    repository = hub.repository("models", repo)
    head = repository.ref(f"refs/heads/{branch}") or repository.resolve("main")
    repository.move(f"refs/heads/{branch}", head, None)
    changes = [(name, _stored(hub, name, content)) for name, content in files.items()]
    return repository.write(branch, head, title or f"files for {branch}", changes, hub.user)


def _stored(hub: Hub, path: str, content: bytes) -> bytes:
    """What git holds of a file: itself, or the pointer to a large object that is stored on the way."""
    if not path.endswith(LFS_SUFFIXES):
        return content
    oid = hashlib.sha256(content).hexdigest()
    hub.objects.path("lfs", oid).write_bytes(content)
    return pointer(oid, len(content))
