"""Arrays beside a table: what was written is read, what was not is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from pico_analyze.errors import DataError, StorageError
from pico_analyze.table.arrays_file import read_arrays, write_arrays
from pico_analyze.table.checksum import PLACE, is_sound, sealed
from pico_analyze.table.rows_file import read_rows_file

ARRAYS = {"losses": np.arange(6, dtype=np.float32).reshape(2, 3), "correct": np.array([[1, 0]], np.uint8)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_arrays(tmp_path / "a" / "step.safetensors", ARRAYS, "0123456789abcdef")
    return tmp_path / "a" / "step.safetensors"


def test_arrays_come_back(file: Path) -> None:
    found = read_arrays(file, "0123456789abcdef")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_any_program_reads_them(file: Path) -> None:
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(file)["losses"], ARRAYS["losses"])


def test_a_changed_byte_is_found_wherever_it_is(file: Path) -> None:
    content = file.read_bytes()
    for at in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[at] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="it is not as it was written"):
            read_arrays(file)
    file.write_bytes(content[:-1])
    with pytest.raises(DataError, match="it is not as it was written"):
        read_arrays(file)


def test_the_answer_to_another_question_is_refused(file: Path) -> None:
    with pytest.raises(DataError, match="answers another question"):
        read_arrays(file, "fedcba9876543210")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_no_file(tmp_path: Path) -> None:
    for read, says in ((read_arrays, "a file is needed, and this is a pipe"), (read_rows_file, "not a regular file")):
        path = tmp_path / read.__name__
        os.mkfifo(path)
        with pytest.raises(DataError, match=says):
            read(path)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.safetensors: it is gone"):
        read_arrays(tmp_path / "x.safetensors")


def test_folders_are_made_and_what_was_there_gives_way(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c" / "x.safetensors"
    write_arrays(path, ARRAYS, "1" * 16)
    write_arrays(path, {"other": ARRAYS["losses"]}, "2" * 16)
    assert read_arrays(path, "2" * 16).keys() == {"other"}


@pytest.mark.parametrize("before", [b"", b"\0"])
def test_arrays_that_hold_the_words_of_a_checksum_are_read_and_guarded(tmp_path: Path, before: bytes) -> None:
    """The place of the checksum is the first of a file of arrays, and the last of a file of rows."""
    words = np.frombuffer(before + PLACE.encode(), np.uint8)
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"words": words}, "1" * 16)
    np.testing.assert_array_equal(read_arrays(path)["words"], words)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="not as it was written"):
        read_arrays(path)


@pytest.mark.parametrize("at_end", [False, True])
def test_the_place_of_a_checksum(at_end: bool) -> None:
    one, two = f"{PLACE}, {PLACE}.".encode(), PLACE.encode()
    for content in (one, two, b"before " + one, one + b" after"):
        done = sealed(content, at_end=at_end)
        assert len(done) == len(content) and is_sound(done, at_end=at_end) is True
        assert is_sound(done[:-1] + b"\1", at_end=at_end) is False
        places = [at for at in range(len(content)) if content.startswith(two, at)]
        chosen = places[-1] if at_end else places[0]
        digest = done[chosen + len(two) - 64 : chosen + len(two)]
        assert digest == hashlib.sha256(content).hexdigest().encode(), "of the whole with zeros in its place"
        assert content[: chosen + len(two) - 64] + b"0" * 64 + content[chosen + len(two) :] == content
    assert is_sound(b"nothing of the kind", at_end=at_end) is None


@pytest.mark.parametrize(
    ("fault", "says"), [(OSError(5, "Input/output error"), "Input/output error"), (OSError("odd"), "odd")]
)
def test_what_the_disk_refuses_is_said_in_its_words(tmp_path: Path, monkeypatch, fault: OSError, says: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise fault

    write_arrays(tmp_path / "x", ARRAYS, "1" * 16)
    monkeypatch.setattr("pico_analyze.table.arrays_file.read_regular", refuse)
    with pytest.raises(StorageError, match=rf"x: reading failed \({says}\): check the disk"):
        read_arrays(tmp_path / "x")
    monkeypatch.setattr("pico_analyze.table.arrays_file.replace_file", refuse)
    with pytest.raises(StorageError, match=rf"x: cannot be written \({says}\): check the disk"):
        write_arrays(tmp_path / "x", ARRAYS, "1" * 16)
