"""Replacing a file: the old one or the new one, whole, whatever happens on the way."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pico_schema import files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is there already, alone in its directory."""
    path = tmp_path / "run.json"
    path.write_bytes(b"old")
    return path


def alone(path: Path) -> bool:
    return [item.name for item in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize(
    ("content", "stored"), [(b"new", b"new"), (bytearray(b"new"), b"new"), ("nëw\n", "nëw\n".encode()), (b"", b"")]
)
def test_content_takes_the_place_of_the_old_file(
    path: Path, content: bytes | bytearray | str, stored: bytes, durable: bool
) -> None:
    files.replace_file(path, content, durable=durable)
    assert path.read_bytes() == stored
    assert alone(path)


def test_a_file_that_was_not_there_is_made_with_the_permissions_of_any_new_file(path: Path) -> None:
    files.replace_file(path.with_name("new.json"), b"x")
    plain = path.with_name("plain")
    plain.write_bytes(b"x")
    assert path.with_name("new.json").stat().st_mode == plain.stat().st_mode


def test_the_old_file_is_read_until_the_block_ends(path: Path) -> None:
    with files.open_replacement(path) as file:
        file.write(b"ne")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b"w")
    assert path.read_bytes() == b"new"
    with files.replacement(path) as beside:
        beside.write_bytes(b"newer")
        assert beside.parent == path.parent and path.read_bytes() == b"new"
    assert path.read_bytes() == b"newer" and alone(path)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_whatever_goes_wrong_in_the_block_leaves_the_old_file_and_nothing_beside_it(
    path: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught, files.open_replacement(path) as file:
        file.write(b"new")
        raise error
    assert caught.value is error
    with pytest.raises(type(error)), files.replacement(path) as beside:
        beside.write_bytes(b"new")
        raise error
    assert path.read_bytes() == b"old" and alone(path)


def fail(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "replace")])
def test_a_disk_that_refuses_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str
) -> None:
    monkeypatch.setattr(owner, call, fail)
    with pytest.raises(OSError, match="No space"):
        files.replace_file(path, b"new")
    assert path.read_bytes() == b"old" and alone(path)


def test_the_first_error_is_the_one_that_is_heard_where_removing_fails_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(ValueError, match="first"), files.replacement(path) as beside:
        beside.write_bytes(b"new")
        raise ValueError("first")


def test_a_block_that_writes_nothing_is_an_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.replacement(path):
        pass
    assert path.read_bytes() == b"old"


def test_a_missing_directory_is_an_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.replace_file(path.parent / "none" / "x", b"new")


def test_durable_means_that_content_is_synced_before_the_rename_and_the_directory_after(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        calls.append("directory" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")  # noqa: PTH112 - a link
        fsync(handle)

    def noted_replace(self: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    files.replace_file(path, b"new")
    assert calls == (["file", "rename", "directory"] if os.path.isdir("/proc/self/fd") else calls)  # noqa: PTH112
    calls.clear()
    files.replace_file(path, b"newer", durable=False)
    assert calls == ["rename"]


def test_threads_that_replace_the_same_file_never_meet(path: Path) -> None:
    contents = [bytes([65 + i]) * 100_000 for i in range(8)]
    path.write_bytes(contents[0])
    seen: list[bytes] = []
    threads = [
        threading.Thread(target=lambda c=c: [files.replace_file(path, c, durable=False) for _ in range(20)])
        for c in contents
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(path.read_bytes())
    assert seen and set(seen) <= set(contents)
    assert alone(path)


def test_a_process_that_leaves_at_once_leaves_nothing_half_written(tmp_path: Path) -> None:
    """`os._exit` unwinds nothing, and other threads are in the midst of it."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pico_schema import files\n"
        "root = Path(sys.argv[1])\n"
        "files.replace_file(root / 'whole', b'new')\n"
        "(root / 'scratch').mkdir()\n"
        "(root / 'scratch' / 'piece').write_bytes(b'x')\n"
        "files.discard_with_process(root / 'scratch')\n"
        "files.discard_with_process(root / 'never made')\n"
        "with files.open_replacement(root / 'half') as file:\n"
        "    file.write(b'ha')\n"
        "    file.flush()\n"
        "    assert len(list(root.glob('.half.*.tmp'))) == 1\n"
        "    files.discard_unfinished()\n"
        "    os._exit(7)\n"
    )
    (tmp_path / "half").write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 7
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"half": b"old", "whole": b"new"}


def test_what_has_its_place_is_not_discarded(tmp_path: Path) -> None:
    files.replace_file(tmp_path / "whole", b"new", durable=False)
    with contextlib.suppress(ZeroDivisionError), files.open_replacement(tmp_path / "whole") as file:
        file.write(b"newer" * (1 // 0))
    files.discard_unfinished()
    assert (tmp_path / "whole").read_bytes() == b"new"


def test_a_file_is_read_whole_or_its_beginning(path: Path) -> None:
    assert files.read_regular(path) == b"old" and files.read_regular(path, 2) == b"ol"
    with files.open_regular(path) as file:
        file.seek(1)
        assert file.read(1) == b"l"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (files.read_regular, files.open_regular):
        with pytest.raises(files.NotRegularError, match="not a regular file"):
            read(tmp_path / "pipe")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        files.read_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.read_regular(tmp_path / "nothing")
    if Path("/dev/zero").exists():
        with pytest.raises(OSError, match="not a regular file"):
            files.read_regular(Path("/dev/zero"))
