"""Preparation: the rows are the documents' tokens, the same bytes every time, and nothing half-written counts."""

from __future__ import annotations

import contextlib
import gzip
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
from corpora import SEQ_LEN, make_text, tokens_config
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pico_train.data import tokenizer
from pico_train.data.corpus import open_corpus
from pico_train.data.inspect.verify import verify
from pico_train.data.prepare import encode, tokenize
from pico_train.data.prepare.budget import parse_size, plan_memory
from pico_train.data.prepare.pack import Packer
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.manifest import CorpusManifest
from pico_train.errors import ConfigError, DataError

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
    from pico_train.data.prepare import reading

    monkeypatch.setattr(reading, "IN_MEMORY", 1000)
    monkeypatch.setattr(reading, "PART", 777)
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


@given(
    text=st.text(alphabet="ab \n\r\té", max_size=400),
    cuts=st.lists(st.integers(0, 400), max_size=5),
)
def test_how_a_text_is_parted_makes_no_difference_to_its_pieces(text: str, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(bounds)]
    pieces = list(tokenizer.pieces(parts, limit=8))
    assert "".join(pieces) == text
    assert pieces == list(tokenizer.pieces([text], limit=8))
    assert max(map(len, pieces)) <= 17 * 8


@given(lengths=st.lists(st.integers(1, 40), max_size=30), chunks=st.integers(1, 7), row_len=st.integers(2, 9))
def test_packing_in_chunks_is_packing_at_once(lengths: list[int], chunks: int, row_len: int) -> None:
    tokens = np.arange(sum(lengths), dtype=np.int32)
    begins = np.concatenate([[0], np.cumsum(lengths)])[: len(lengths)].astype(np.int64)
    sources = np.arange(len(lengths), dtype=np.int32)
    packer, got, got_sources = Packer(row_len), [], []
    bounds = np.linspace(0, len(tokens), chunks + 1).astype(int)
    for first, last in pairwise(bounds):
        here = (begins >= first) & (begins < last)
        found, owners = packer.add(tokens[first:last], begins[here] - first, sources[here])
        got.append(found)
        got_sources.append(owners)
    k = len(tokens) // row_len
    assert np.array_equal(np.concatenate(got), tokens[: k * row_len].reshape(k, row_len))
    expected = np.searchsorted(begins, np.arange(k) * row_len, side="right") - 1
    assert np.array_equal(np.concatenate(got_sources), expected)


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
    command = [sys.executable, str(Path(__file__).with_name("interrupted_prepare.py")), str(text), str(out)]
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
    command = [sys.executable, str(Path(__file__).with_name("interrupted_prepare.py")), str(text_dir), str(tmp_path)]
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


def test_copies_share_their_split(tmp_path: Path, prepare_text: Prepare) -> None:
    """Held out by hash: whatever is held out, no copy of it is trained on."""
    for number in range(60):
        for copy in ("a", "b"):
            (tmp_path / f"{number}{copy}.txt").write_text(make_text(number, 60))
    manifest = prepare_text([tmp_path], tmp_path / "c", val_fraction=0.3)
    train, val = set(map(tuple, all_rows(tmp_path / "c"))), set(map(tuple, all_rows(tmp_path / "c", "val")))
    assert manifest.splits["val"].n_documents % 2 == 0
    assert manifest.splits["val"].n_documents + manifest.splits["train"].n_documents == 120
    assert len(val) > 0
    assert len(train & val) < 0.05 * len(val)


def test_documents_that_are_also_held_out_are_left_out_of_train(tmp_path: Path, prepare_text: Prepare) -> None:
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
    for number in range(20):
        (tmp_path / "train" / f"{number}.txt").write_text(make_text(number, 100))
    for number in (3, 7, 50):
        (tmp_path / "val" / f"renamed-{number}.txt").write_text(make_text(number, 100))
    (tmp_path / "train" / "empty.txt").write_text("")
    manifest = prepare_text([tmp_path / "train"], tmp_path / "c", val=(tmp_path / "val",), tokenizer="train:300")
    assert manifest.counts == {"also_held_out": 2, "empty": 1}
    assert manifest.splits["train"].n_documents == 18
    assert manifest.splits["val"].n_documents == 3


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """JSON lines, gzipped, of three sources, as evaluation sets come."""
    path = tmp_path / "eval.jsonl.gz"
    with gzip.open(path, "wt") as file:
        for number in range(60):
            record = {"text": make_text(number, 80), "source": ("c4", "wiki", "code")[number % 3], "id": number}
            file.write(json.dumps(record) + "\n")
    return path


def test_held_out_rows_have_one_source_each_and_at_most_k_per_source(
    lines: Path, tmp_path: Path, prepare_text: Prepare
) -> None:
    out = tmp_path / "paloma"
    prepare_text([lines], tmp_path / "for-its-tokenizer")
    manifest = prepare_text(
        [], out, val=(lines,), val_rows_per_source=15, tokenizer=str(tmp_path / "for-its-tokenizer" / "tokenizer")
    )
    assert manifest.splits["val"].sources == {"c4": 15, "code": 15, "wiki": 15}
    assert manifest.splits["train"].n_rows == 0
    encoder = tokenizer.load(out / "tokenizer")
    table = pq.read_table(out / manifest.splits["val"].shards[0].file)
    sources = dict(zip(("c4", "wiki", "code"), range(3), strict=True))
    for row, source in zip(table.column("input_ids").to_pylist(), table.column("source").to_pylist(), strict=True):
        documents = [number for number in range(60) if number % 3 == sources[source]]
        stream = "<|endoftext|>".join(make_text(number, 80) for number in documents)
        assert encoder.decode(row, skip_special_tokens=False) in stream
    with pytest.raises(DataError, match="holds no rows to train on, only a held-out split"):
        open_corpus(tokens_config(out))


def test_a_smaller_corpus_is_the_beginning_of_the_larger(text_dir: Path, tmp_path: Path, prepare_text: Prepare) -> None:
    prepare_text([text_dir], tmp_path / "all")
    manifest = prepare_text([text_dir], tmp_path / "small", max_rows=150)
    assert manifest.splits["train"].n_rows == 150
    assert np.array_equal(all_rows(tmp_path / "small"), all_rows(tmp_path / "all")[:150])


def test_a_sample_takes_documents_by_hash(text_dir: Path, tmp_path: Path, prepare_text: Prepare) -> None:
    manifest = prepare_text([text_dir], tmp_path / "c", sample=0.5)
    taken = manifest.splits["train"].n_documents
    assert taken + manifest.counts["not_sampled"] == 40
    assert 10 <= taken <= 30  # binomial(40, 0.5): outside with a chance of 1 in 1,000, and fixed by the texts


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


@pytest.mark.parametrize(
    ("text", "size"), [("512MB", 512 * 10**6), ("2GiB", 2 * 2**30), ("1.5g", 15 * 10**8), ("1000", 1000)]
)
def test_sizes_are_understood(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("memory", "workers", "message"),
    [
        ("lots", None, "--memory lots: not a size: write it as 512MB or 2GB"),
        ("100MB", None, "--memory 100MB: too little: at least 284MB"),
        ("400MB", 8, "--memory 400MB: too little for 8 workers, which need 1091MB: 2 would fit"),
    ],
)
def test_impossible_budgets_are_refused(memory: str, workers: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_memory(memory, workers)
