"""Numbers on the command line: whatever is none, or is larger than anything there is, is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pico_conformance.options import numeric_options
from pico_train.cli.app import app, main

NO_NUMBERS = ("nan", "inf", "-inf", "1e400", "-1e400", str(10**30), str(-(10**30)), "9" * 5000, "-1", "")


OPTIONS = list(numeric_options(app))


def test_the_walk_finds_the_options_there_are() -> None:
    found = {f"{' '.join(path)} {option}" for path, option in OPTIONS}
    assert {"generate --seed", "data prepare --sample", "import pico-v1 --step", "publish --max-attempts"} <= found
    assert len(found) >= 20


@pytest.mark.parametrize(
    ("path", "option"), OPTIONS, ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
def test_every_numeric_option_refuses_what_is_no_number_of_its_kind(
    path: tuple[str, ...], option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in NO_NUMBERS:
        said = refusal([*path, f"{option}={text}"], capsys, monkeypatch)
        assert f"'{option}'" in said, f"{text[:40]}: {said}"


@pytest.mark.parametrize("memory", ["nan", "inf", "1e400", "-1GB", "9" * 400 + "GB", "9" * 5000, ""])
def test_an_amount_of_memory_is_a_size_or_is_refused(
    memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    assert "not a size" in refusal(["data", "prepare", "a.txt", f"--memory={memory}"], capsys, monkeypatch)


@pytest.mark.parametrize("size", ["nan", "inf", "1e400", str(10**30), "9" * 5000, "-1", "\u0664\u0660\u0669\u0666", ""])
def test_a_vocabulary_to_train_is_a_number_or_is_refused(
    size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    words = ["data", "prepare", "a.txt", f"--tokenizer=train:{size}"]
    assert "the vocabulary to train has 257 to 1048576 tokens" in refusal(words, capsys, monkeypatch)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e400", str(10**40), str(-(10**40)), "9" * 5000, "-1"])
def test_no_number_of_a_configuration_takes_what_is_none(
    value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pico_train.config.layers import load_config

    numbers = [
        path for path, given in leaves(json.loads(load_config().model_dump_json())) if type(given) in (int, float)
    ]
    assert len(numbers) > 30
    for path in numbers:
        said = refusal(["config", "show", "--set", f"{path}={value}"], capsys, monkeypatch)
        assert path.rpartition(".")[2] in said, said


@pytest.mark.parametrize("command", ["verify", "inspect", "generate", "publish", "repair", "data stats", "data verify"])
def test_a_name_that_no_file_can_have_is_refused_in_one_sentence(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "too long" in refusal([*command.split(), "9" * 5000], capsys, monkeypatch)


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def refusal(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The sentence that a command line is refused with."""
    monkeypatch.setattr("sys.argv", ["pico-train", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, ""), (words, said)
    *before, sentence = said.err.splitlines()
    assert sentence.startswith("error: ") and all(line.startswith("reading ") for line in before), (words, said)
    return sentence


@pytest.mark.parametrize("count", ["", "four", "nan", "9" * 5000, "-2", "1"])
def test_a_count_of_processes_that_is_none_does_not_hide_what_went_wrong(
    count: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"WORLD_SIZE": count, "RANK": "1", "SLURM_NTASKS": count, "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert "did you mean 'demo'" in refusal(["run", "--preset", "demmo"], capsys, monkeypatch)
