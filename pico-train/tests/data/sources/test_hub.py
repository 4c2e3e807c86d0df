"""The hub source against the loopback Hub: same batches as on disk, whatever the connection does."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.corpora import SEQ_LEN, make_text, tokens_config

from pico_train.config import DataConfig
from pico_train.data import retry
from pico_train.data.corpus import open_corpus
from pico_train.data.loader import Loader
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards import shard_cache
from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.errors import ConfigError, DataError, StorageError

pytest.importorskip("pico_conformance", reason="the loopback Hub is installed with the development environment")

REPO = "tester/corpus"


@pytest.fixture
def hub_mode() -> str:
    """Classic downloads, but where a test asks for Xet, whose client pauses for seconds on its own account."""
    return "lfs"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries wait milliseconds, not minutes."""
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.05)


def upload(files: dict[str, Path | bytes], repo: str = REPO) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    api.create_repo(repo, repo_type="dataset", exist_ok=True)
    operations = [CommitOperationAdd(name, str(f) if isinstance(f, Path) else f) for name, f in files.items()]
    return api.create_commit(repo, operations, commit_message="shards", repo_type="dataset").oid


def tree(directory: Path) -> dict[str, Path | bytes]:
    return {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def hub_config(**settings: object) -> DataConfig:
    return DataConfig.model_validate({"source": "hub", "repo": REPO, "seq_len": SEQ_LEN, "val_rows": 8, **settings})


def digests(corpus: ShardCorpus, start: int = 0, stop: int | None = None, **settings: object) -> list[str]:
    values: dict[str, Any] = {"batch_size": 16, "order": "sequential", "seed": 0, **settings}
    last = stop or 2 * corpus.n_rows // 16
    return [batch.digest for batch in Loader(corpus, **values).from_step(start, last)]


def requests(hub: Any, since: int = 0) -> list[str]:
    """Shards asked for, by name; each is asked for several times (its metadata, then its content)."""
    lines = [request.path.split("?")[0] for request in hub.log.matching(r"/resolve/.*\.parquet", since)]
    return sorted({line.rsplit("/", 1)[-1] for line in lines})


@pytest.mark.usefixtures("hub", "hub_mode")
@pytest.mark.parametrize("hub_mode", ["lfs", "xet"])
def test_the_hub_gives_the_batches_of_the_local_corpus(corpus_dir: Path, cache: Path) -> None:
    commit = upload(tree(corpus_dir))
    local = open_corpus(tokens_config(corpus_dir), cache_dir=cache)
    remote = open_corpus(hub_config(), cache_dir=cache)
    assert remote.fingerprint.sha256 == local.fingerprint.sha256
    assert remote.fingerprint.details["revision"] == commit
    assert digests(remote) == digests(local)
    assert np.array_equal(remote.validation(8), local.validation(8))
    assert remote.sources(np.array([0, 5])) == local.sources(np.array([0, 5]))


CONTENT = r"GET .*(_cdn|/v1/|/v2/)"
"""Where the bytes of shards come from: the CDN, or Xet's store."""


@pytest.mark.usefixtures("hub_mode")
@pytest.mark.parametrize(
    ("hub_mode", "fault"),
    [
        ("lfs", {"kind": "status", "status": 503, "times": 3}),
        ("lfs", {"kind": "status", "status": 429, "times": 2, "headers": {"Retry-After": "0"}}),
        ("lfs", {"kind": "drop", "times": 2}),
        ("lfs", {"kind": "truncate", "times": 3}),
        ("xet", {"kind": "status", "status": 503, "times": 1}),
        ("xet", {"kind": "drop", "times": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value['kind']}{value.get('status', '')}",
)
def test_a_bad_connection_changes_no_batch(hub: Any, fault: dict[str, Any], corpus_dir: Path, cache: Path) -> None:
    from pico_conformance.faults import Fault

    upload(tree(corpus_dir))
    expected = digests(open_corpus(tokens_config(corpus_dir), cache_dir=cache))
    hub.faults.add(Fault(CONTENT, **fault))
    remote = open_corpus(hub_config(shards_ahead=3), cache_dir=cache / "other")
    assert digests(remote) == expected
    assert any(request.fault for request in hub.log), "no fault was met"


def test_damaged_content_is_fetched_again(hub: Any, corpus_dir: Path, cache: Path) -> None:
    """One bit flipped on the way: the client accepts it, the sha256 does not."""
    from pico_conformance.faults import Fault

    upload(tree(corpus_dir))
    expected = digests(open_corpus(tokens_config(corpus_dir), cache_dir=cache))
    remote = open_corpus(hub_config(shards_ahead=0), cache_dir=cache)
    hub.faults.add(Fault(r"GET /_cdn", kind="flip", times=2, at=0.5))
    assert digests(remote) == expected
    assert sum(request.fault == "flip" for request in hub.log) == 2


def test_content_that_stays_damaged_is_refused(
    hub: Any, corpus_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pico_conformance.faults import Fault

    monkeypatch.setattr(shard_cache, "ATTEMPTS", 3)
    upload(tree(corpus_dir))
    remote = open_corpus(hub_config(shards_ahead=0), cache_dir=cache)
    hub.faults.add(Fault(r"GET /_cdn", kind="flip", times=10**6, at=0.5))
    with pytest.raises(DataError, match=r"tester/corpus: data/train-00000-of-\d+.parquet: arrived damaged"):
        remote.rows(np.array([0]))


def test_a_hub_that_stays_away_is_a_storage_error(
    hub: Any, corpus_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pico_conformance.faults import Fault

    monkeypatch.setattr(shard_cache, "ATTEMPTS", 3)
    upload(tree(corpus_dir))
    remote = open_corpus(hub_config(), cache_dir=cache)
    hub.faults.add(Fault(r"/_cdn", status=503, times=10**6))
    with pytest.raises(StorageError, match="still failing after 3 attempts"):
        remote.rows(np.array([0]))
    hub.faults.clear()
    assert remote.rows(np.array([0])).shape == (1, SEQ_LEN + 1), "a later try must not be refused for an earlier one"


def test_a_late_step_fetches_nothing_that_earlier_steps_needed(hub: Any, corpus_dir: Path, cache: Path) -> None:
    upload(tree(corpus_dir))
    remote = open_corpus(hub_config(shards_ahead=1), cache_dir=cache)
    names = [shard.file.rsplit("/", 1)[-1] for shard in manifests.read(corpus_dir).splits["train"].shards]  # type: ignore[union-attr]
    assert len(names) > 6
    mark = hub.log.mark()
    step = 4 * 100 // 10  # rows 400 … 409: the first of the fifth shard
    digests(remote, step, step + 2, batch_size=10, prefetch=0)
    wait_for_fetches()
    assert requests(hub, mark) == names[4:6]


def wait_for_fetches() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("pico-fetch"):
            thread.join(60)


@pytest.mark.usefixtures("hub")
def test_the_cache_stays_within_its_bound(corpus_dir: Path, cache: Path) -> None:
    upload(tree(corpus_dir))
    manifest = manifests.read(corpus_dir)
    assert manifest is not None
    shard = max(entry.size for entry in manifest.splits["train"].shards)
    bound = 3.5 * shard
    remote = open_corpus(hub_config(cache_gb=bound / 2**30, shards_ahead=1), cache_dir=cache)
    expected = digests(open_corpus(tokens_config(corpus_dir), cache_dir=cache))
    loader = Loader(remote, batch_size=16, order="sequential", seed=0, prefetch=2)
    seen, largest = [], 0
    for batch in loader.from_step(0, len(expected)):
        seen.append(batch.digest)
        largest = max(largest, sum(sizes(cache / "hub")))
    assert seen == expected
    assert 0 < largest <= bound + shard, "the bound, and one shard on its way"


def sizes(root: Path) -> list[int]:
    found = []
    for directory, _, files in os.walk(root):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                found.append(Path(directory, name).stat().st_size)
    return found


def test_two_corpora_share_one_cache(hub: Any, corpus_dir: Path, cache: Path) -> None:
    """As two ranks of one machine do: every shard is fetched once."""
    upload(tree(corpus_dir))
    one, two = (open_corpus(hub_config(), cache_dir=cache) for _ in range(2))
    mark = hub.log.mark()
    results: dict[int, list[str]] = {}
    threads = [
        threading.Thread(target=lambda number=number, corpus=corpus: results.update({number: digests(corpus)}))
        for number, corpus in enumerate((one, two))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    gets = [r.line for r in hub.log.matching(r"GET /datasets/.*resolve/.*train-00003", mark)]
    assert len(gets) <= 1, gets


def test_reopening_a_pinned_commit_asks_the_hub_for_nothing(hub: Any, corpus_dir: Path, cache: Path) -> None:
    commit = upload(tree(corpus_dir))
    before = open_corpus(hub_config(), cache_dir=cache)
    mark = hub.log.mark()
    again = open_corpus(hub_config(revision=commit), cache_dir=cache)
    assert again.fingerprint == before.fingerprint
    assert hub.log.count(since=mark) == 0


@pytest.mark.usefixtures("hub")
def test_a_moved_branch_is_noticed_and_a_commit_is_not_moved(corpus_dir: Path, cache: Path) -> None:
    from pico_train.data.fingerprint import check_unchanged, pinned

    commit = upload({**tree(corpus_dir), "README.md": b"# one\n"})
    begun = open_corpus(hub_config(), cache_dir=cache).fingerprint
    upload({"README.md": b"# two\n"})
    config = pinned(hub_config(), begun)
    assert config.revision == commit
    assert check_unchanged(begun, open_corpus(config, cache_dir=cache).fingerprint) == []


@pytest.fixture
def bare_files(tmp_path: Path) -> dict[str, Path | bytes]:
    """Shards as others make them: zstd, 64-bit ids, several row groups, no manifest; a held-out split."""
    draw = np.random.default_rng(0)
    files: dict[str, Path | bytes] = {}
    for name, count in (("train-0", 70), ("train-1", 50), ("train-2", 61), ("train-10", 40), ("val-0", 20)):
        ids = draw.integers(0, 300, (count, SEQ_LEN + 1))
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"input_ids": list(ids)}), path, compression="zstd", row_group_size=16)
        files[f"shards/{path.name}"] = path
    return files


def test_shards_without_a_manifest_are_counted_from_their_footers(
    hub: Any, bare_files: dict[str, Path | bytes], corpus_dir: Path, cache: Path, tmp_path: Path
) -> None:
    upload(bare_files)
    tokenizer = str(corpus_dir / "tokenizer")
    config = hub_config(subset="shards", tokenizer=tokenizer, shards_ahead=0)
    mark = hub.log.mark()
    remote = open_corpus(config, cache_dir=cache)
    content = sum(Path(str(path)).stat().st_size for path in bare_files.values())
    assert remote.n_rows == 221
    assert remote.n_validation_rows == 20
    assert hub.log.sent(r"GET", since=mark) < content + 200_000
    local = open_corpus(tokens_config(tmp_path, tokenizer=tokenizer), cache_dir=cache / "local")
    assert digests(remote) == digests(local)
    assert np.array_equal(remote.validation(20), local.validation(20))


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repo": "tester/nothing"}, r"data.repo=tester/nothing: no such dataset repository"),
        ({"revision": "v9"}, r"data.revision=v9: the dataset repository tester/corpus has no such revision"),
        ({"revision": "0" * 40}, r"data.revision=0{40}: the dataset repository tester/corpus has no such revision"),
        ({"subset": "elsewhere"}, r"corpus@[0-9a-f]{8}/elsewhere: holds no Parquet shards"),
        ({"seq_len": 99}, r"its rows hold 16 \+ 1 tokens, data.seq_len is 99: set data.seq_len=16"),
        ({"tokenizer": "gpt2"}, r"data.tokenizer=gpt2, but tester/corpus@.* was made with train:300"),
    ],
)
def test_what_does_not_exist_is_named(corpus_dir: Path, cache: Path, settings: dict[str, Any], message: str) -> None:
    upload(tree(corpus_dir))
    with pytest.raises(ConfigError, match=message):
        open_corpus(hub_config(**settings), cache_dir=cache)


@pytest.mark.usefixtures("hub", "cache")
def test_a_text_dataset_on_the_hub_can_be_prepared() -> None:
    """Through `datasets`, streamed, at the commit that the branch was when it was named."""
    from pico_train.data.prepare.files import find
    from pico_train.data.prepare.inputs import documents
    from pico_train.data.prepare.records import TextLayout

    lines = [json.dumps({"text": make_text(number, 30), "source": "web"}) for number in range(5)]
    upload({"data/train.jsonl": "\n".join(lines).encode()}, repo="tester/text")
    found = find(["hf://datasets/tester/text"]).items
    upload({"data/train.jsonl": b'{"text": "something else"}'}, repo="tester/text")
    texts = ["".join(document.parts()) for document in documents(found, TextLayout())]
    assert texts == [make_text(number, 30) for number in range(5)]
    with pytest.raises(ConfigError, match="hf://datasets/tester/none: no such dataset on the Hub"):
        find(["hf://datasets/tester/none"])
    with pytest.raises(ConfigError, match="hf://datasets/tester/text@v7: the dataset has no revision v7"):
        find(["hf://datasets/tester/text@v7"])


def test_a_tokenizer_is_fetched_by_name_and_kept(hub: Any, corpus_dir: Path, cache: Path, tmp_path: Path) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    api.create_repo("tester/tokenizer")
    files = [CommitOperationAdd(path.name, str(path)) for path in (corpus_dir / "tokenizer").iterdir()]
    api.create_commit("tester/tokenizer", files, commit_message="tokenizer")
    pq.write_table(pa.table({"input_ids": [[1] * (SEQ_LEN + 1)] * 20}), tmp_path / "a.parquet")
    config = tokens_config(tmp_path, tokenizer="tester/tokenizer")
    before = open_corpus(config, cache_dir=cache).fingerprint
    mark = hub.log.mark()
    assert open_corpus(config, cache_dir=cache).fingerprint == before
    assert hub.log.count(since=mark) == 0
    with pytest.raises(ConfigError, match="tokenizer tester/none: neither a directory nor a repository on the Hub"):
        open_corpus(tokens_config(tmp_path, tokenizer="tester/none"), cache_dir=cache)


@pytest.mark.usefixtures("cache")
def test_a_run_on_the_hub_is_the_run_on_the_disk(hub: Any, corpus_dir: Path, tmp_path: Path) -> None:
    """Trained through 503s and dropped connections: every batch, and so every loss, is that of the local run."""
    from pico_conformance.faults import Fault
    from pico_train.config import layers
    from pico_train.run import train

    upload(tree(corpus_dir))

    def run(name: str, *data: str) -> list[tuple[str, float]]:
        small = [
            "data.order=sequential", f"data.seq_len={SEQ_LEN}", "data.val_rows=8", "data.log_digests=true",
            "training.max_steps=30", "training.batch_size=32", "training.schedule.warmup_steps=1",
            "model.d_model=8", "model.d_ff=16", "model.n_layers=1", "model.n_heads=2", "model.n_kv_heads=1",
            "model.vocab_size=300", "checkpoint.captures.early=null", "checkpoint.weights.early=null",
            "checkpoint.training_state.early=null", "evaluation.cadence.early=null",
        ]  # fmt: skip
        train(layers.load_config(set=[*small, *data], name=name, out=tmp_path / "runs"))
        lines = (tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()
        return [(row["batch_sha256"], row["loss"]) for row in map(json.loads, lines) if row.get("batch_sha256")]

    local = run("local", "data.source=tokens", f"data.paths=[{corpus_dir}]")
    hub.faults.add(Fault(CONTENT, status=503, times=2), Fault(CONTENT, kind="drop", times=2, skip=4))
    hub.faults.add(Fault(CONTENT, kind="truncate", times=2, skip=9))
    remote = run("remote", "data.source=hub", f"data.repo={REPO}")
    assert {request.fault for request in hub.log if request.fault} == {"status", "drop", "truncate"}
    assert len(local) >= 30
    assert remote == local
