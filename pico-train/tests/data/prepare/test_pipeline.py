"""Preparation: the rows are the documents' tokens, the same bytes every time, and nothing half-written counts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import PROGRAMS
from support.corpora import SEQ_LEN, make_text, tokens_config
from tokenizers import Tokenizer

from pico_train.data import tokenizer
from pico_train.data.corpus import open_corpus
from pico_train.data.inspect.verify import verify
from pico_train.data.prepare import encode, opening, plain_text, tokenize
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.manifest import CorpusManifest
from pico_train.errors import DataError

Prepare = Callable[..., CorpusManifest]


def content(directory: Path) -> dict[str, str]:
    """sha256 of each file of a corpus."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def all_rows(directory: Path, split: str = "train") -> np.ndarray:
    """Rows as an independent reader sees them: pyarrow, through Python lists."""
    manifest = manifests.read(directory)
    assert manifest is not None
    tables = [pq.read_table(directory / shard.file) for shard in manifest.splits[split].shards]
    return np.array([row for table in tables for row in table.column("input_ids").to_pylist()])


def by_hand(paths: list[Path], directory: Path) -> np.ndarray:
    """What packing means, written the plain way: each document whole, end-of-text after it, cut."""
    encoder = Tokenizer.from_file(str(directory / "tokenizer" / "tokenizer.json"))
    line: list[int] = []
    for path in paths:
        line += encoder.encode(path.read_text(encoding="utf-8"), add_special_tokens=False).ids
        line.append(encoder.token_to_id("<|endoftext|>"))
    n_rows = len(line) // (SEQ_LEN + 1)
    return np.array(line[: n_rows * (SEQ_LEN + 1)]).reshape(n_rows, SEQ_LEN + 1)


def test_rows_are_the_documents_end_to_end(text_dir: Path, tmp_path: Path, prepare_text: Prepare) -> None:
    prepare_text([text_dir], tmp_path / "c", shuffle_seed=None)
    paths = sorted((text_dir / "books").iterdir()) + sorted((text_dir / "web").iterdir())
    assert np.array_equal(all_rows(tmp_path / "c"), by_hand(paths, tmp_path / "c"))


def test_pieces_of_a_large_document_make_no_difference(
    tmp_path: Path, prepare_text: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document of many pieces, batches and commits, streamed because it is larger than may be read at once."""
    monkeypatch.setattr(plain_text, "IN_MEMORY", 1000)
    monkeypatch.setattr(opening, "BLOCK", 777)
    monkeypatch.setattr(encode, "BATCH_CHARS", 5000)
    monkeypatch.setattr(tokenize, "COMMIT_EVERY", 10_000)
    (tmp_path / "big.txt").write_text(
        "\ufeff" + make_text(1, 40_000) + "ünïcödé \U0001f600\n\n  indented\r\nend", "utf-8"
    )
    (tmp_path / "small.txt").write_text("small")
    prepare_text([tmp_path], tmp_path / "c", shuffle_seed=None)
    (tmp_path / "big.txt").write_text((tmp_path / "big.txt").read_text("utf-8-sig"), "utf-8")
    expected = by_hand([tmp_path / "big.txt", tmp_path / "small.txt"], tmp_path / "c")
    assert np.array_equal(all_rows(tmp_path / "c"), expected)


def test_the_shuffle_moves_every_row_once(text_dir: Path, tmp_path: Path, prepare_text: Prepare) -> None:
    for name, seed in (("plain", None), ("one", 1), ("two", 2)):
        prepare_text([text_dir], tmp_path / name, shuffle_seed=seed)
    plain, one, two = (list(map(tuple, all_rows(tmp_path / name))) for name in ("plain", "one", "two"))
    assert Counter(plain) == Counter(one) == Counter(two)
    assert plain != one
    assert one != two
    neighbours = sum(one.index(a) + 1 == one.index(b) for a, b in pairwise(plain[:201]))
    assert neighbours < 10, "the shuffle is global, not within blocks"


def test_workers_change_nothing_but_the_time(text_dir: Path, tmp_path: Path, prepare_text: Prepare) -> None:
    for workers in (1, 2, 3):
        prepare_text([text_dir], tmp_path / str(workers), workers=workers, val_fraction=0.1)
    assert content(tmp_path / "1") == content(tmp_path / "2") == content(tmp_path / "3")


def interrupted(text: Path, out: Path, saves: str, *, workers: int = 1, limit: int | None = None) -> int:
    command = [sys.executable, str(PROGRAMS / "interrupted_prepare.py"), str(text), str(out)]
    command += [str(workers), saves] + ([str(limit)] if limit else [])
    environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, timeout=120).returncode


def test_a_killed_preparation_goes_on_and_ends_with_the_same_bytes(
    text_dir: Path, tmp_path: Path, prepare_text: Prepare
) -> None:
    """Killed after its first point, in mid-tokenizing twice, in mid-sharding twice: six starts in all."""
    prepare_text([text_dir], tmp_path / "straight", val_fraction=0.1)
    out = tmp_path / "killed"
    for saves in ("2", "4", "9", "6", "3"):
        assert interrupted(text_dir, out, saves) == -signal.SIGKILL
        assert manifests.read(out) is None, "an unfinished corpus must not look finished"
    assert interrupted(text_dir, out, "none", workers=2) == 0
    assert content(out) == content(tmp_path / "straight")
    assert not (out / ".prepare").exists()


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read from /proc")
def test_workers_do_not_outlive_a_killed_command(text_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAMS / "interrupted_prepare.py"), str(text_dir), str(tmp_path)]
    with subprocess.Popen([*command, "2", "20"], stderr=subprocess.DEVNULL) as process:
        seen: set[int] = set()
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                seen |= set(children(process.pid))
            time.sleep(0.005)
    assert process.returncode == -signal.SIGKILL
    assert len(seen) >= 2
    while any(running(pid) for pid in seen):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.05)


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_full_disk_leaves_nothing_that_looks_whole(text_dir: Path, tmp_path: Path, prepare_text: Prepare) -> None:
    """Files may not grow beyond a limit: first the tokenizer, then the spool, then a shard cannot be written."""
    prepare_text([text_dir], tmp_path / "straight", val_fraction=0.1)
    out = tmp_path / "full"
    largest = max(path.stat().st_size for path in (tmp_path / "straight").rglob("*") if path.is_file())
    for limit in (2000, 20_000, largest - 1000):
        assert interrupted(text_dir, out, "none", limit=limit) == 4
        assert manifests.read(out) is None
    assert interrupted(text_dir, out, "none") == 0
    assert content(out) == content(tmp_path / "straight")


def test_a_finished_corpus_is_left_as_it_is(text_dir: Path, tmp_path: Path, prepare_text: Prepare) -> None:
    first = prepare_text([text_dir], tmp_path / "c")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.parquet")}
    assert prepare_text([text_dir], tmp_path / "c") == first
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.parquet")}
    with pytest.raises(DataError, match=r"c: holds another corpus: choose another --out, or delete it"):
        prepare_text([text_dir], tmp_path / "c", shuffle_seed=5)


def test_an_unfinished_preparation_of_something_else_is_not_continued(
    text_dir: Path, tmp_path: Path, prepare_text: Prepare
) -> None:
    assert interrupted(text_dir, tmp_path / "c", "4") == -signal.SIGKILL
    with pytest.raises(DataError, match="holds an unfinished preparation of other inputs or settings"):
        prepare_text([text_dir], tmp_path / "c", seq_len=8)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("do not touch")
    with pytest.raises(DataError, match="mine: is not empty: choose another --out, or empty it"):
        prepare_text([text_dir], tmp_path / "mine")
    assert interrupted(text_dir, tmp_path / "hardly", "1") == -signal.SIGKILL
    assert prepare_text([text_dir], tmp_path / "hardly", seq_len=8).seq_len == 8, "nothing had been done for the other"


def test_a_smaller_corpus_is_the_beginning_of_the_larger(text_dir: Path, tmp_path: Path, prepare_text: Prepare) -> None:
    prepare_text([text_dir], tmp_path / "all")
    manifest = prepare_text([text_dir], tmp_path / "small", max_rows=150)
    assert manifest.splits["train"].n_rows == 150
    assert np.array_equal(all_rows(tmp_path / "small"), all_rows(tmp_path / "all")[:150])


def test_equal_rows_have_equal_identity_however_they_are_stored(
    text_dir: Path, tmp_path: Path, prepare_text: Prepare
) -> None:
    plain = prepare_text([text_dir], tmp_path / "plain")
    zstd = prepare_text([text_dir], tmp_path / "zstd", compression="zstd")
    assert plain.sha256 == zstd.sha256
    assert np.array_equal(all_rows(tmp_path / "plain"), all_rows(tmp_path / "zstd"))
    ids = np.random.default_rng(0).integers(0, plain.splits["train"].n_rows, 50)
    one, two = (open_corpus(tokens_config(tmp_path / name)) for name in ("plain", "zstd"))
    assert np.array_equal(one.rows(ids), two.rows(ids))


def test_the_manifest_says_what_was_made(corpus_dir: Path) -> None:
    manifest = manifests.read(corpus_dir)
    assert manifest is not None
    assert [shard.n_rows for shard in manifest.splits["train"].shards[:-1]] == [100] * (
        len(manifest.splits["train"].shards) - 1
    )
    assert manifest.tokenizer.vocab_size == 300
    assert manifest.tokenizer.eos_id == 0
    split = manifest.splits["train"]
    assert split.n_tokens == split.n_rows * (SEQ_LEN + 1) + split.dropped_tokens
    assert split.dropped_tokens <= SEQ_LEN
    assert split.sources is not None
    assert sum(split.sources.values()) == split.n_rows
    assert verify(corpus_dir).problems == ()
    assert str(corpus_dir) not in (corpus_dir / manifests.FILE).read_text()


def test_other_programs_read_the_shards(corpus_dir: Path, tmp_path: Path) -> None:
    """`datasets` finds both splits by name; transformers loads the tokenizer."""
    import datasets
    from transformers import AutoTokenizer

    loaded = datasets.load_dataset(str(corpus_dir), cache_dir=str(tmp_path))
    assert set(loaded) == {"train", "val"}
    assert np.array_equal(np.array(loaded["train"]["input_ids"]), all_rows(corpus_dir))
    fast = AutoTokenizer.from_pretrained(corpus_dir / "tokenizer")
    assert fast.eos_token == "<|endoftext|>"
    text = make_text(3, 50)
    assert fast(text)["input_ids"] == tokenizer.load(corpus_dir / "tokenizer").encode(text).ids
    assert fast.decode(fast(text)["input_ids"]) == text


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_a_corpus_larger_than_its_memory(tmp_path: Path) -> None:
    """310 MB of JSON lines within 290 MB; most documents are passed over, so that the test is short.

    The benchmark `data_prepare.py` tokenizes all of a corpus larger than --memory.
    """
    block = [json.dumps({"text": make_text(number, 2000)}) for number in range(100)]
    with (tmp_path / "big.jsonl").open("w") as file:
        for repeat in range(325):
            file.writelines(line[:-2] + f' {repeat}"}}\n' for line in block)
    size = (tmp_path / "big.jsonl").stat().st_size
    assert size > 300e6
    code = (
        "import sys; from pico_train.cli.data import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    arguments = ["prepare", str(tmp_path / "big.jsonl"), "--out", str(tmp_path / "c"), "--memory", "290MB"]
    arguments += ["--workers", "1", "--sample", "0.004", "--seq-len", "128", "--tokenizer", "train:300"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) * 1024 < 290e6
