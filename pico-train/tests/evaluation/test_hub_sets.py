"""Sets of tokens on the Hub: Paloma by its names, and a corpus of the user's own, scored as transformers does."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch
from typer.testing import CliRunner

from pico_conformance.published import put_files
from pico_schema import layout
from pico_train.cli.app import app

CONTEXT, ROW = 12, 31
SOURCES = ["4chan_meta_sep", "c4_en", "ptb"]
OLMO = "allenai/OLMo-7B-0724-hf"


@pytest.fixture(scope="module")
def run(text, tmp_path_factory, corpus_dir) -> Path:
    """A run with the tokenizer of a corpus that was prepared beforehand."""
    out = tmp_path_factory.mktemp("runs")
    launch(train_until, config(out, text, training__max_steps=6, data__tokenizer=str(corpus_dir / "tokenizer")))
    return out / "tiny"


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))


def rows(seed: int = 0, n: int = 15) -> np.ndarray:
    """(n, 31) token ids: rows longer than the model reads, as Paloma's 2,048 are for many small models."""
    return np.random.default_rng(seed).integers(1, 290, (n, ROW))


def shard(ids: np.ndarray) -> bytes:
    """As pico-lm/pretokenized-paloma has them: ids, their text, and where it is from."""
    columns = {
        "input_ids": pa.array(ids.tolist(), pa.list_(pa.int64())),
        "text": ["…"] * len(ids),
        "source": [SOURCES[i % 3] for i in range(len(ids))],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def put_dataset(repo: str, files: dict[str, bytes]) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    api.create_repo(repo, repo_type="dataset", exist_ok=True)
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    return str(api.create_commit(repo, operations, commit_message="rows", repo_type="dataset").oid)


@pytest.fixture
def paloma(hub, corpus_dir) -> None:
    """Both sets, and the tokenizer that they were made with, which here is the run's."""
    put_dataset("pico-lm/pretokenized-paloma-tinsy", {"data/val-00000-of-00001.parquet": shard(rows())})
    halves = {f"data/val-0000{i}-of-00002.parquet": shard(rows(seed=i)) for i in range(2)}
    put_dataset("pico-lm/pretokenized-paloma", halves)
    put_files(hub, OLMO, "main", {p.name: p.read_bytes() for p in (corpus_dir / "tokenizer").iterdir()})


def evaluate(*words: str | Path) -> tuple[int, dict[str, dict], str]:
    done = CliRunner().invoke(app, ["evaluate", *map(str, words), "--format", "json"])
    if done.exit_code:
        return getattr(done.exception, "exit_code", done.exit_code), {}, str(done.exception) + done.stderr
    [row] = json.loads(done.stdout)
    return 0, row["tasks"], done.stderr


def by_source(directory: Path, ids: np.ndarray) -> dict[str, float]:
    """Loss by source with transformers: strides of half the context, each token but the first of a row once."""
    import transformers

    model = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float64)
    losses: dict[str, list[float]] = {source: [] for source in SOURCES}
    for number, row in enumerate(torch.from_numpy(ids)):
        done = 0
        while done < ROW - 1:
            until = min(done + (CONTEXT if done == 0 else CONTEXT // 2), ROW - 1)
            window = row[max(0, until - CONTEXT) : until]
            with torch.no_grad():
                logs = model(window[None]).logits[0].log_softmax(-1)
            for place in range(done + 1, until + 1):
                losses[SOURCES[number % 3]].append(-float(logs[place - 1 - max(0, until - CONTEXT), row[place]]))
            done = until
    return {source: float(np.mean(of)) for source, of in losses.items()}


@pytest.mark.usefixtures("paloma")
def test_paloma_by_its_name_is_scored_by_source_as_transformers_does(run):
    code, found, said = evaluate(f"{run}@3", "--tasks", "paloma-tinsy")
    assert code == 0 and "hub:pico-lm/pretokenized-paloma-tinsy: commit" in said, said
    expected = by_source(run / layout.checkpoint_dir(3), rows())
    for source in SOURCES:
        of = found[f"paloma-tinsy/{source}"]
        assert (of["n_documents"], of["n_tokens"]) == (5, 5 * (ROW - 1))
        assert of["loss"] == pytest.approx(expected[source], rel=1e-6)
    whole = found["paloma-tinsy"]
    mean = np.mean(list(expected.values()))
    assert (whole["loss"], whole["macro_loss"]) == (pytest.approx(mean, rel=1e-6), pytest.approx(mean, rel=1e-6))
    assert (whole["n_sources"], whole["n_documents"]) == (3, 15) and whole["n_near_duplicates"] == 0


@pytest.mark.usefixtures("paloma")
def test_both_sets_and_a_repository_of_ones_own_in_one_command(run):
    put_dataset("me/held-out", {"train/a.parquet": shard(rows(seed=7)), "val/a.parquet": shard(rows(seed=1, n=6))})
    tasks = "paloma,own=hub:me/held-out,one=hub:pico-lm/pretokenized-paloma/data"
    code, found, said = evaluate(f"{run}@3", "--tasks", tasks, "--tokenizer", OLMO)
    assert code == 0, said
    assert found["paloma"]["n_documents"] == 30
    assert found["one"]["loss"] == found["paloma"]["loss"]
    assert found["own"]["n_documents"] == 6, "the held-out split alone"


@pytest.mark.usefixtures("hub")
def test_a_prepared_corpus_on_the_hub_says_its_own_tokenizer(run, corpus_dir):
    """Its held-out split, scored as the one on the disk is."""
    files = {p.relative_to(corpus_dir).as_posix(): p.read_bytes() for p in corpus_dir.rglob("*") if p.is_file()}
    put_dataset("me/prepared", files)
    code, found, said = evaluate(f"{run}@3", "--tasks", f"hub:me/prepared,local=tokens:{corpus_dir}")
    assert code == 0, said
    there, here = ({k: v for k, v in found[name].items() if k != "task"} for name in ("prepared", "local"))
    assert there == here and there["n_documents"] > 0


@pytest.mark.usefixtures("hub")
def test_a_set_of_another_tokenizer_is_refused(run, text_dir, prepare_text, tmp_path):
    prepare_text([text_dir], tmp_path / "other", tokenizer="train:290", val_fraction=0.1)
    files = {p.relative_to(tmp_path / "other").as_posix(): p for p in (tmp_path / "other").rglob("*") if p.is_file()}
    put_dataset("me/other", {name: path.read_bytes() for name, path in files.items()})
    code, _, said = evaluate(f"{run}@3", "--tasks", "hub:me/other")
    assert code == 2 and "was made with another tokenizer" in said


@pytest.mark.usefixtures("paloma")
@pytest.mark.parametrize(
    ("task", "code", "says"),
    [
        ("hub:me/nothing", 2, "hub:me/nothing: no such dataset repository on the Hub"),
        ("hub:pico-lm/pretokenized-paloma@v9", 2, "no such revision"),
        ("hub:pico-lm/pretokenized-paloma/nowhere", 3, "holds no Parquet shards"),
        ("hub:me/own", 2, "says nothing of its tokenizer: name it with --tokenizer"),
        ("hub:me", 2, "a repository is written as hub:org/name"),
    ],
)
def test_sets_that_cannot_be_used_are_one_sentence(run, task, code, says):
    put_dataset("me/own", {"a.parquet": shard(rows())})
    found, _, said = evaluate(f"{run}@3", "--tasks", task)
    assert (found, says in said) == (code, True), said
    assert "data." not in said
