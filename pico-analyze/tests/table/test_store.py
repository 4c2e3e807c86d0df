"""Where the table of a run lies, and whose it is."""

import pytest

from pico_analyze.table.store import SOURCE, directory_for


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"identity": 7}', b'{"identity": ' + b"[" * 100_000, b"\xff"])
def test_a_directory_that_does_not_say_whose_table_it_holds_is_taken_and_says_so_again(tmp_path, content):
    directory = directory_for(tmp_path, "run", "a run", "runs/run")
    said = (directory / SOURCE).read_bytes()
    (directory / SOURCE).write_bytes(content)
    assert directory_for(tmp_path, "run", "a run", "runs/run") == directory
    assert (directory / SOURCE).read_bytes() == said
