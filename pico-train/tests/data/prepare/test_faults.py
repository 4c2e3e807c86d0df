"""Each call of a preparation that reaches the disk fails once, or from then on: what is done is kept, one sentence says
what failed, and a second call ends with the bytes of an undisturbed one."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
from pathlib import Path

import pytest
from support.corpora import SEQ_LEN, make_text
from support.failing_calls import READS, FailingCalls

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.prepare import encode, opening, tokenize
from pico_train.data.prepare.inputs import text_inputs
from pico_train.data.prepare.pipeline import prepare
from pico_train.data.prepare.recipe import Recipe
from pico_train.data.prepare.records import TextLayout
from pico_train.errors import PicoTrainError, StorageError


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer that need not be trained at every call."""
    from pico_train.data import tokenizer

    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_trained(tokenizer.train([make_text(1, 700)], 280), directory, max_length=SEQ_LEN)
    return str(directory)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file that is read in blocks, and JSON lines that are compressed."""
    root = tmp_path_factory.mktemp("texts")
    (root / "a.txt").write_text(make_text(1, 500))
    with gzip.open(root / "b.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": make_text(number, 60)}) + "\n" for number in range(8))
    return root


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "BATCH_CHARS", 2000)
    monkeypatch.setattr(tokenize, "BATCH_CHARS", 2000)
    monkeypatch.setattr(tokenize, "COMMIT_EVERY", 4000)
    monkeypatch.setattr(opening, "BLOCK", 2048)


def make(texts: Path, out: Path, tokenizer: str = "train:280") -> None:
    recipe = Recipe(tokenizer=tokenizer, seq_len=SEQ_LEN, rows_per_shard=100, val_fraction=0.3)
    prepare(text_inputs([str(texts)], [], TextLayout()), recipe, out)


def content(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def calls(
    texts: Path, tokenizer_dir: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], dict[str, str]]:
    """The calls of an undisturbed preparation, and what it makes."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (encode, "BATCH_CHARS", 2000), (tokenize, "BATCH_CHARS", 2000), (tokenize, "COMMIT_EVERY", 4000),
            (opening, "BLOCK", 2048),
        ):  # fmt: skip
            patch.setattr(module, name, value)
        out = tmp_path_factory.mktemp("undisturbed") / "c"
        with FailingCalls((out, texts), lambda _n, _kind: False, errno.EIO).active() as counted:
            make(texts, out, tokenizer_dir)
        return counted.calls, content(out)


def test_the_calls_are_those_of_every_stage(calls: tuple[list[str], dict[str, str]]) -> None:
    kinds = set(calls[0])
    assert kinds == {
        "open",
        "open to read",
        "read",
        "pread",
        "write",
        "fsync",
        "ftruncate",
        "replace",
        "rename",
        "mkdir",
    }
    assert len(ends_of_runs(calls[0])) > 50
    assert len([name for name in calls[1] if name.endswith(".parquet")]) >= 3


def ends_of_runs(kinds: list[str]) -> list[int]:
    """Numbers, from 1, of the calls that come before or after one of another kind.

    A hundred rows that are read one after another are one call, many times.
    """
    places = range(len(kinds))
    return [i + 1 for i in places if i in (0, len(kinds) - 1) or not kinds[i - 1] == kinds[i] == kinds[i + 1]]


@pytest.mark.parametrize(
    ("number", "persistent"), [(errno.EIO, False), (errno.ENOSPC, True), (errno.EIO, True), (errno.ENOSPC, False)]
)
def test_whichever_call_fails(
    number: int,
    persistent: bool,
    texts: Path,
    tokenizer_dir: str,
    tmp_path: Path,
    calls: tuple[list[str], dict[str, str]],
) -> None:
    kinds, expected = calls
    wanted = [n for n in ends_of_runs(kinds) if number == errno.EIO or kinds[n - 1] not in READS]
    if (number == errno.EIO) is persistent:
        wanted = wanted[::7]  # the two others take them all
    for n in wanted:
        out = tmp_path / str(n)

        def fails(here: int, kind: str, n: int = n) -> bool:
            return (here == n or (persistent and here > n)) and (number == errno.EIO or kind not in READS)

        with FailingCalls((out, texts), fails, number).active() as failing:
            try:
                make(texts, out, tokenizer_dir)
            except PicoTrainError as error:
                message = str(error)
                assert error.exit_code == 4, (n, kinds[n - 1], message)
                assert "\n" not in message
                assert ("the disk is full" if number == errno.ENOSPC else "Input/output error") in message, message
                assert str(out) in message or str(texts) in message
                told = True
            else:
                told = False
        assert failing.failed
        assert told or "pico-data.json" in content(out), "only what comes after the manifest may fail unsaid"
        make(texts, out, tokenizer_dir)
        assert content(out) == expected, (n, kinds[n - 1])


def test_what_was_tokenized_before_a_disk_failed_is_not_tokenized_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last file cannot be read: what came before it is committed on the way out, not only up to the last point."""
    out, texts = tmp_path / "c", tmp_path / "texts"
    texts.mkdir()
    for number in range(4):
        (texts / f"{number}.txt").write_text(make_text(number, 700))
    make(texts, tmp_path / "straight")
    monkeypatch.setattr(tokenize, "COMMIT_EVERY", 10**9)

    def last_file(_n: int, _kind: str) -> bool:
        return failing.paths[-1].endswith("3.txt") and (out / "tokenizer").exists()

    failing = FailingCalls((texts,), last_file, errno.EIO)
    with failing.active(), pytest.raises(StorageError, match=r"3\.txt: cannot be read \(Input/output error\): see to"):
        make(texts, out)
    assert json.loads((out / ".prepare" / "journal.json").read_text())["point"]["position"][0] >= 2
    encoded: list[str] = []
    real = tokenize.encode

    def noting(batches, *more, **named):  # type: ignore[no-untyped-def]
        for each in real(batches, *more, **named):
            encoded.extend(piece.text for piece in each.pieces)
            yield each

    monkeypatch.setattr(tokenize, "encode", noting)
    make(texts, out)
    assert 0 < sum(map(len, encoded)) <= 2.1 * len(make_text(3, 700)), "the first two were not tokenized again"
    assert content(out)["pico-data.json"] == content(tmp_path / "straight")["pico-data.json"]


@pytest.mark.parametrize("blocked", ["out", "cache"])
def test_a_place_that_cannot_be_written_is_named(
    blocked: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the place of the folder: that holds for root, too."""
    (tmp_path / blocked).write_text("")
    if blocked == "out":
        with pytest.raises(StorageError, match=r"out/c: cannot be written \(Not a directory\): choose another --out"):
            make(texts, tmp_path / "out" / "c")
        return
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    for source, paths in (("text", [str(texts)]), ("stdlib", [])):
        settings = {"source": source, "paths": paths, "tokenizer": "train:280", "seq_len": SEQ_LEN}
        with pytest.raises(StorageError, match=r"cannot be written \(Not a directory\): choose .* with PICO_CACHE"):
            open_corpus(DataConfig.model_validate(settings))


def test_a_read_only_disk_is_named(texts: Path, tmp_path: Path) -> None:
    with (
        FailingCalls((tmp_path,), lambda _n, kind: kind not in READS, errno.EROFS).active(),
        pytest.raises(StorageError, match=r"c: cannot be written \(Read-only file system\): choose another --out"),
    ):
        make(texts, tmp_path / "c")
