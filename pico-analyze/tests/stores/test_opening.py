"""Which places are runs, and which paths are refused before anything is read."""

import os
import shutil
from pathlib import Path

import pytest

from pico_analyze.errors import DataError, NotARunError
from pico_analyze.stores.opening import open_store


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="file names are text there")
def test_a_path_that_is_no_text_is_refused_since_no_table_could_hold_it(run_dir, tmp_path, pico):
    bad = Path(os.fsdecode(bytes(tmp_path) + b"/r\xff"))
    shutil.copytree(run_dir, bad)
    for path in (bad, bad / "..", bad / "checkpoints"):
        with pytest.raises(DataError, match=r"r\\udcff.*: the path is not UTF-8.*rename it"):
            open_store(path)
    answer = pico("compute", "norm", bad, "--data", "weights", "--no-plot", "--out", tmp_path / "o")
    assert answer.code == 3 and "rename it" in answer.error


def test_a_path_with_a_zero_byte_is_no_path():
    with pytest.raises(NotARunError, match="no such path"):
        open_store("runs/a\0b")
