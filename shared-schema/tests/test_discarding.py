"""Files that are being written when a process ends at once, and handles that writing leaves behind: none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pico_schema import files


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    files.discard_unfinished()


def test_what_is_being_written_is_discarded_and_the_old_file_stays(root: Path) -> None:
    (root / "x").write_bytes(b"old")
    with pytest.raises(FileNotFoundError), files.open_replacement(root / "x") as file:
        file.write(b"ne")
        assert len(list(root.glob(".x.*.tmp"))) == 1
        files.discard_unfinished()
        assert [path.name for path in root.iterdir()] == ["x"]
    assert (root / "x").read_bytes() == b"old"


def test_files_and_directories_go_with_the_process_if_it_asks_for_it(root: Path) -> None:
    (root / "scratch" / "deep").mkdir(parents=True)
    (root / "scratch" / "deep" / "piece").write_bytes(b"x")
    for name in ("file", "another", "kept"):
        (root / name).write_bytes(b"x")
    for name in ("scratch", "never made", "file", "another"):
        files.discard_with_process(root / name)
    files.discard_unfinished()
    assert [path.name for path in root.iterdir()] == ["kept"]


def test_what_cannot_be_removed_does_not_keep_the_rest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "scratch").mkdir()
    for i in range(3):
        (root / "scratch" / f"inside {i}").write_bytes(b"x")
        (root / f"beside {i}").write_bytes(b"x")
        files.discard_with_process(root / f"beside {i}")
    files.discard_with_process(root / "scratch")
    unlink = os.unlink
    stuck: dict[str, str] = {}

    def first_is_stuck(path: Any, **more: Any) -> None:
        name = Path(path).name
        if name == stuck.setdefault(name[:6], name):
            raise PermissionError(13, "Permission denied")
        unlink(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", first_is_stuck)
        files.discard_unfinished()
    left = {path.relative_to(root).as_posix() for path in root.rglob("*")}
    assert left == {"scratch", f"scratch/{stuck['inside']}", stuck["beside"]}


@pytest.mark.parametrize("fails", [False, True])
def test_a_name_that_is_no_longer_being_written_is_left_alone(root: Path, fails: bool) -> None:
    with contextlib.suppress(ValueError), files.replacement(root / "x", durable=False) as temporary:
        temporary.write_bytes(b"new")
        if fails:
            raise ValueError
    temporary.write_bytes(b"of someone else")
    files.discard_unfinished()
    assert temporary.read_bytes() == b"of someone else"


@pytest.mark.parametrize("durable", [None, True, False])
@pytest.mark.parametrize("way", ["file", "open", "path"])
def test_each_way_is_durable_unless_told_otherwise_and_leaves_no_handle(
    root: Path, monkeypatch: pytest.MonkeyPatch, way: str, durable: bool | None
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(handle)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    more = {} if durable is None else {"durable": durable}
    if way == "file":
        files.replace_file(root / "x", b"new", **more)
    elif way == "open":
        with files.open_replacement(root / "x", **more) as file:
            file.write(b"new")
    else:
        with files.replacement(root / "x", **more) as temporary:
            temporary.write_bytes(b"new")
    assert (root / "x").read_bytes() == b"new"
    both = 2 if os.name == "posix" else 1  # the file, then its directory where there are handles for one
    assert len(synced) == (0 if durable is False else both)
    for handle in synced:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)


def test_a_disk_that_does_not_sync_is_an_error_and_no_handle_is_left(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "x").write_bytes(b"old")
    asked: list[int] = []

    def fail(handle: int) -> None:
        asked.append(handle)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.replace_file(root / "x", b"new")
    assert [path.name for path in root.iterdir()] == ["x"] and (root / "x").read_bytes() == b"old"
    if os.name == "posix":
        with pytest.raises(OSError, match="Input/output error"):
            files.fsync_directory(root)
    for handle in asked:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)
