"""What is one is told of as one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pico_train.cli.app import main
from pico_train.counting import counted


def test_a_number_goes_with_its_noun() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 2048)] == ["0 rows", "1 row", "2 rows", "2,048 rows"]
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]


def test_a_corpus_of_one_text_is_told_of_in_the_singular(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"text": "' + "a small text of twenty words " * 12 + '"}\n{"text": ""}\n')
    said = ""
    prepare = ["prepare", "a.jsonl", "--tokenizer", "train:257", "--seq-len", "256", "--workers", "1"]
    for words in (prepare, ["verify", "corpus"], ["stats", "corpus"]):
        monkeypatch.setattr("sys.argv", ["pico-train", "data", *words])
        with pytest.raises(SystemExit):
            main()
        printed = capsys.readouterr()
        said += printed.out + printed.err
    assert "1 row of 256 + 1 tokens in 1 shard, from 1 document (" in said
    assert "left out: 1 document: empty" in said
    assert "corpus: 1 shard, 1 row, " in said and "-of-00001.parquet: 1 row" in said, said
    # a number of one before a plural, such as "1 rows"; not "0.1 rows", "4,001 rows", "1 is" or "1 + 1 tokens"
    assert re.findall(r"(?<![\d.,+] )(?<![\d.,])1 (?!is\b|has\b|was\b|ids\b)\w+s\b", said) == []
