"""`pico-train data …` as people call it: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.corpora import SEQ_LEN, make_text
from typer.testing import CliRunner

from pico_train.cli.data import app
from pico_train.config import layers
from pico_train.data.inspect.batches import batch_of_run
from pico_train.data.order import batch_digest
from pico_train.data.shards import manifest as manifests
from pico_train.errors import DataError, UsageError

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


@pytest.fixture(scope="module")
def run_dir(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps on the prepared corpus, checkpoints at 0, 1, 2, 4, 6."""
    from pico_train.run import train

    out = tmp_path_factory.mktemp("runs")
    config = layers.load_config(
        set=[
            "data.source=tokens", f"data.paths=[{corpus_dir}]", "data.order=shuffled", f"data.seq_len={SEQ_LEN}",
            "data.val_rows=8", "training.max_steps=6", "training.batch_size=8", "training.schedule.warmup_steps=1",
            "model.d_model=16", "model.d_ff=32", "model.n_layers=1", "model.n_heads=2", "model.n_kv_heads=1",
            "model.vocab_size=300", "data.log_digests=true", "checkpoint.captures.every=2",
        ],
        name="seen",
        out=out,
    )  # fmt: skip
    train(config)
    return out / "seen"


@pytest.mark.usefixtures("corpus_dir")
def test_show_prints_the_captured_batch(run_dir: Path) -> None:
    for step in (0, 1, 2, 4):
        shown = json.loads(call("show", run_dir, "--step", step, "--format", "json"))
        directory = run_dir / "checkpoints" / f"step-{step:08}"
        captured = pq.read_table(directory / "captures/train_batch.parquet")
        assert [row["text"] for row in shown["rows"]] == captured.column("text").to_pylist()
        assert [row["row_id"] for row in shown["rows"]] == captured.column("row_id").to_pylist()
        assert [row["input_ids"] for row in shown["rows"]] == captured.column("input_ids").to_pylist()
        assert [row["source"] for row in shown["rows"]] == captured.column("source").to_pylist()
        assert shown["batch_sha256"] == json.loads((directory / "manifest.json").read_text())["batch_sha256"]
        assert shown["captured_sha256"] == shown["batch_sha256"]


def test_the_log_holds_the_digest_of_every_batch(run_dir: Path) -> None:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    digests = {line["step"]: line["batch_sha256"] for line in lines if "batch_sha256" in line}
    assert set(digests) >= set(range(6))
    for step, digest in digests.items():
        assert batch_of_run(run_dir, step).sha256 == digest


def test_show_for_people(run_dir: Path) -> None:
    text = call("show", run_dir, "--step", 2, "--chars", 20)
    assert text.count("── row ") == 8
    assert "equal to what was captured" in text
    one = call("show", f"{run_dir}@step-2", "--row", 3)
    assert one.count("── row 3 · id ") == 1
    assert "web/" in one or "books/" in one
    beyond = json.loads(call("show", run_dir, "--step", 123_456, "--row", 0, "--format", "json"))
    assert beyond["epoch"] == 123_456 * 8 // 1675
    assert beyond["batch_sha256"] is None


def test_what_show_is_told_twice_or_misspelt_is_one_sentence(run_dir: Path) -> None:
    for words, says in (
        ((f"{run_dir}@2", "--step", 3), "seen@2 names step 2 already: leave that or --step 3 out"),
        ((f"{run_dir}@2", "--step", 0), "seen@2 names step 2 already: leave that or --step 0 out"),
        ((run_dir, "--split", "val", "--step", 0), "the validation rows are the same at every step: leave --step out"),
        ((f"{run_dir}@8", "--split", "val"), "the validation rows are the same at every step: leave @8 out"),
        ((run_dir, "--split", "vl"), "--split 'vl' is none: there are train, val; did you mean 'val'"),
    ):
        ended = runner.invoke(app, ["show", *map(str, words)]).exception
        assert isinstance(ended, UsageError) and str(ended).endswith(says), (words, ended)
    assert json.loads(call("show", run_dir, "--format", "json"))["step"] == 0


def test_show_without_a_name_takes_the_newest_run(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "runs").symlink_to(run_dir.parent)
    monkeypatch.chdir(tmp_path)
    assert json.loads(call("show", "--format", "json"))["run"] == "seen"
    (tmp_path / "runs").unlink()
    assert "there is no run in ./runs: name one" in fails("show")


def test_what_cannot_be_shown(run_dir: Path, tmp_path: Path) -> None:
    assert "row 8 does not exist: a batch of this run has rows 0 to 7" in fails("show", run_dir, "--row", 8)
    with pytest.raises(UsageError, match="step -1 does not exist"):
        batch_of_run(run_dir, -1)
    assert "is not a run" in fails("show", tmp_path)
    changed = tmp_path / "changed"
    shutil.copytree(run_dir, changed)
    raw = json.loads((changed / "run.json").read_text())
    raw["data"]["sha256"] = "0" * 64
    (changed / "run.json").write_text(json.dumps(raw))
    with pytest.raises(DataError, match=r"the data are not those that the run was begun with: data\.sha256 was 0"):
        batch_of_run(changed, 0)


def test_prepare_stats_verify(text_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    text = call(
        "prepare", text_dir, "--out", out, "--tokenizer", "train:300", "--seq-len", 32, "--val-fraction", 0.1,
        "--workers", 1, "--license", "CC0-1.0", "--source", "made up", "--rows-per-shard", 200,
    )  # fmt: skip
    assert "rows of 32 + 1 tokens in" in text
    assert f"next  pico-train run --set data.source=tokens --set data.paths=[{out}]" in text
    manifest = manifests.read(out)
    assert manifest is not None
    assert (manifest.license, manifest.source) == ("CC0-1.0", "made up")
    stats = json.loads(call("stats", out, "--format", "json"))
    train = stats["splits"][0]
    rows = np.concatenate(
        [np.array(pq.read_table(out / s.file).column("input_ids").to_pylist()) for s in manifest.splits["train"].shards]
    )
    assert train["rows"] == len(rows)
    assert train["tokens"] == rows.size
    assert train["ends"] == (rows == 0).sum()
    counts = np.array(list(Counter(rows.reshape(-1).tolist()).values())) / rows.size
    assert train["entropy"] == pytest.approx(-(counts * np.log2(counts)).sum())
    assert train["distinct"] == len(counts)
    assert dict(train["sources"]) == manifest.splits["train"].sources
    assert "bits per token" in call("stats", out)
    assert "(of " in call("stats", out, "--limit", 10)
    assert "sound" in call("verify", out)
    assert json.loads(call("verify", out, "--format", "json"))["findings"] == []


def test_verify_and_stats_of_a_run(run_dir: Path) -> None:
    assert "sound" in call("verify", run_dir)
    assert json.loads(call("stats", run_dir, "--limit", 5, "--format", "json"))["splits"][0]["rows"] == 5


def test_the_newest_batch_is_what_its_digest_says(run_dir: Path) -> None:
    batch = batch_of_run(run_dir, 3)
    assert batch.sha256 == batch_digest(np.stack([row.input_ids for row in batch.rows]))


def test_wrong_calls_are_explained(tmp_path: Path, text_dir: Path) -> None:
    assert "nothing to prepare: name files" in fails("prepare")
    both = fails("prepare", text_dir, "--val-input", text_dir, "--val-fraction", 0.1, "--out", tmp_path / "c")
    assert "--val-fraction and --val-input cannot be combined" in both
    assert "too little" in fails("prepare", text_dir, "--memory", "1MB", "--out", tmp_path / "c")
    nothing = fails("prepare", text_dir, "--tokenizer", "./none", "--out", tmp_path / "c")
    assert "tokenizer ./none: no tokenizer.json there" in nothing


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pico_train.cli.data import app\n"
        "app(['--help'], standalone_mode=False); print(sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "prepare" in done.stdout
    for module in ("torch", "numpy", "pyarrow", "transformers", "datasets", "tokenizers", "huggingface_hub"):
        assert f"'{module}'" not in done.stdout


def test_documents_of_the_recipe(tmp_path: Path) -> None:
    """The recipes of docs/data.md, on small stand-ins: a corpus, its subset, an evaluation set per source."""
    for name in ("dolma", "paloma"):
        (tmp_path / name).mkdir()
    for number in range(30):
        with (tmp_path / "dolma" / f"part-{number % 3}.jsonl").open("a") as file:
            file.write(json.dumps({"text": make_text(number, 200), "source": "cc"}) + "\n")
    for source in ("c4", "wiki"):
        (tmp_path / "paloma" / source).mkdir()
        with (tmp_path / "paloma" / source / "val.jsonl").open("w") as file:
            file.writelines(json.dumps({"text": make_text(n + len(source), 200)}) + "\n" for n in range(100, 110))
    common = ["--seq-len", 32, "--workers", 1]
    held = ["--val-input", tmp_path / "paloma", "--source-is-folder", "--val-rows-per-source", 20]
    call("prepare", tmp_path / "dolma", "--tokenizer", "train:300", "--out", tmp_path / "full", *common)
    tokenizer = ["--tokenizer", tmp_path / "full" / "tokenizer"]
    call("prepare", tmp_path / "dolma", "--max-rows", 50, "--out", tmp_path / "tinsy", *tokenizer, *common)
    call("prepare", *held, "--out", tmp_path / "evaluation", *tokenizer, *common)
    evaluation = manifests.read(tmp_path / "evaluation")
    assert evaluation is not None
    assert evaluation.splits["val"].sources == {"c4": 20, "wiki": 20}
    tinsy = manifests.read(tmp_path / "tinsy")
    assert tinsy is not None
    assert tinsy.splits["train"].n_rows == 50
