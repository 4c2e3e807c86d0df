from __future__ import annotations

import hashlib
import json
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_schema.digests import git_blob_id, samples_sha256, sha256_file


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 3 * 2**20 + 5])
def test_a_file_is_hashed_whole_whatever_its_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(i % 251 for i in range(size)))
    assert sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_file(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "blob"),  # said by `git hash-object`, version 2.39
    [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
        (b"\0\xff" * 3000, "808744c0abae054a412e80d7db7921b6f9f05345"),
    ],
)
def test_a_blob_id_is_the_one_that_git_gives(content: bytes, blob: str) -> None:
    assert git_blob_id(content) == blob


# A run that pico-train 2.0.0 wrote: its train batches are stored, and each manifest holds the digest of their samples.
GOLDEN = Path(__file__).parents[1] / "conformance" / "golden" / "1.0" / "golden" / "checkpoints"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the conformance suite is not beside this package")
def test_the_digest_of_samples_is_the_one_that_captures_recorded() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for step in (0, 1, 2, 4):
        directory = GOLDEN / f"step-{step:08d}"
        manifest = json.loads((directory / "manifest.json").read_text())
        recorded = next(capture for capture in manifest["captures"] if capture["split"] == "train")
        rows = parquet.read_table(directory / "captures/train_batch.parquet")["input_ids"].to_pylist()
        ids = array("i", [token for row in rows for token in row]).tobytes()
        shape = (len(rows), len(rows[0]))
        assert samples_sha256(ids, shape, recorded["positions"]) == recorded["samples_sha256"]


@given(st.lists(st.integers(0, 2**31 - 1), min_size=6, max_size=6), st.integers(0, 5))
def test_another_token_another_shape_and_other_positions_give_another_digest(ids: list[int], at: int) -> None:
    content = array("i", ids).tobytes()
    digest = samples_sha256(content, (2, 3), (0, 2))
    other = [*ids[:at], ids[at] ^ 1, *ids[at + 1 :]]
    assert digest not in {
        samples_sha256(array("i", other).tobytes(), (2, 3), (0, 2)),
        samples_sha256(content, (3, 2), (0, 2)),
        samples_sha256(content, (2, 3), (1, 2)),
    }
    assert digest == samples_sha256(memoryview(content), (2, 3), [0, 2])


def test_rows_that_do_not_fit_their_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows of 3 tokens take 24 bytes, not 20"):
        samples_sha256(b"\0" * 20, (2, 3), (0,))
