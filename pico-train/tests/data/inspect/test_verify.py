"""What `data verify` finds in a corpus on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from typer.testing import CliRunner

from pico_train.cli.data import app
from pico_train.data.inspect.verify import verify
from pico_train.data.shards import manifest as manifests

runner = CliRunner()


def call(*arguments: object, code: int = 0) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def fails(*arguments: object) -> str:
    """The message of the error that a command ends with."""
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exception is not None
    assert hasattr(result.exception, "exit_code"), result.exception
    return str(result.exception)


def test_verify_names_every_damage(corpus_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    shutil.copytree(corpus_dir, out)
    shards = sorted((out / "data").glob("train-*"))
    shards[0].unlink()
    with shards[1].open("r+b") as file:
        file.truncate(500)
    content = bytearray(shards[2].read_bytes())
    content[1000] ^= 1
    shards[2].write_bytes(content)
    shutil.copy(shards[3], out / "data" / "extra.parquet")
    (out / "tokenizer/tokenizer_config.json").write_text("{}")
    text = call("verify", out, code=3)
    for word in ("missing     data/train-00000", "truncated   data/train-00001", "altered     data/train-00002"):
        assert word in text
    assert "unexpected  data/extra.parquet" in text
    assert "altered     tokenizer/tokenizer_config.json" in text
    assert "5 problems" in text


def test_verify_rows_even_where_the_hashes_were_forged(corpus_dir: Path, tmp_path: Path) -> None:
    """An id beyond the vocabulary, with every digest of the file corrected to fit."""
    from pico_schema.digests import sha256_file

    out = tmp_path / "c"
    shutil.copytree(corpus_dir, out)
    raw = json.loads((out / manifests.FILE).read_text())
    shard = raw["splits"]["train"]["shards"][0]
    path = out / shard["file"]
    content = bytearray(path.read_bytes())
    content[1000:1004] = (70_000).to_bytes(4, "little")
    path.write_bytes(content)
    shard["sha256"] = sha256_file(path)
    (out / manifests.FILE).write_text(json.dumps(raw))
    problems = {finding.problem for finding in verify(out).problems}
    assert problems == {"vocabulary", "altered"}


def test_verify_shards_without_a_manifest(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"input_ids": [[1, 2, 3]] * 5}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"input_ids": [[1, 2, 3], [1, 2]]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"input_ids": [[1, 2, 900]]}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"input_ids": [[1, 2, 3]], "more": [1]}), tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    found = json.loads(call("verify", tmp_path, "--vocab-size", 300, "--format", "json", code=3))["findings"]
    assert [(each["problem"], each["file"]) for each in found] == [
        ("length", "b.parquet"),
        ("vocabulary", "c.parquet"),
        ("schema", "d.parquet"),
        ("truncated", "e.parquet"),
    ]
    assert "holds neither pico-data.json nor Parquet shards" in fails("verify", make_empty(tmp_path))


def make_empty(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"
