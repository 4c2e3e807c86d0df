"""What a corpus is made of."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from pico_train.cli.data import app

runner = CliRunner()


def call(*arguments: object, code: int = 0) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_repeated_rows_are_counted(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("the very same text " * 30)
    out = tmp_path / "c"
    call("prepare", tmp_path / "*.txt", "--out", out, "--tokenizer", "train:257", "--seq-len", 570, "--seed", 1)
    stats = json.loads(call("stats", out, "--format", "json"))["splits"][0]
    assert (stats["rows"], stats["repeated_rows"]) == (4, 3)
