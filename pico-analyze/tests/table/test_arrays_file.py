"""Arrays beside a table: what was written is read, what was not is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pico_analyze.errors import DataError
from pico_analyze.table.arrays_file import read_arrays, write_arrays
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
