"""`pico-train evaluate` finds what the run found and what transformers finds, and goes on where it stopped."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny import config
from support.training_runs import train_again, train_until
from support.worlds import launch
from typer.testing import CliRunner

from pico_schema import Evaluation, documents, layout
from pico_train.cli.app import app
from pico_train.errors import PicoTrainError

EVERY = {
    "evaluation__tasks": ["pairs:{pairs}", "text:{text}"],
    "evaluation__cadence": {"early": 0, "every": 6},
    "training__max_steps": 12,
}


@pytest.fixture(scope="module")
def run(text, tmp_path_factory, held) -> Path:
    """A run that measured them on its way, at steps 0, 6 and 12."""
    out = tmp_path_factory.mktemp("runs")
    tasks = [f"order=pairs:{held / 'pairs.jsonl'}", f"text:{held / 'texts.jsonl'}"]
    launch(train_until, config(out, text, **EVERY | {"evaluation__tasks": tasks}))
    return out / "tiny"


def results(run: Path, step: int) -> dict:
    return documents.read(run / layout.evaluation_file(step), Evaluation).tasks


def call(*words: str | Path) -> tuple[int, str, str]:
    """The command in this process: exit code, what it prints, and what goes wrong as the sentence that is said."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    error = done.exception
    if error is not None and not isinstance(error, SystemExit):
        assert isinstance(error, PicoTrainError) or hasattr(error, "exit_code"), repr(error)
        return error.exit_code, done.output, str(error)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "tiny"))


TASKS = "validation,order=pairs:{0}/pairs.jsonl,text:{0}/texts.jsonl"


def test_what_is_measured_afterwards_is_what_was_measured_on_the_way(copy, held):
    before = {step: results(copy, step) for step in (0, 6, 12)}
    shutil.rmtree(copy / layout.EVALUATIONS)
    code, out, _ = call("evaluate", copy, "--tasks", TASKS.format(held), "--format", "json")
    assert code == 0
    rows = {row["step"]: row["tasks"] for row in json.loads(out)}
    assert {0, 6, 12} <= set(rows)
    for step, expected in before.items():
        assert list(rows[step]) == list(expected) == list(results(copy, step))
        assert "order" in expected and "texts/a" in expected and expected["validation"]["n_tokens"] == 4 * 12
        for task, measures in expected.items():
            found = {name: value for name, value in rows[step][task].items() if name != "task"}
            assert found == pytest.approx(measures, rel=1e-6, abs=1e-9)


def test_metrics_have_the_results_too(run):
    lines = [json.loads(line) for line in (run / layout.METRICS_LOG).read_text().splitlines()]
    for step in (0, 6, 12):
        [row] = [row for row in lines if row["step"] == step]
        assert row["eval/order/accuracy"] == results(run, step)["order"]["accuracy"]
        assert row["eval/validation/bits_per_byte"] == results(run, step)["validation"]["bits_per_byte"]
        assert row["eval/texts/a/loss"] == results(run, step)["texts/a"]["loss"]
        assert not any(name.startswith("eval/") and "/n_" in name for name in row)
    assert [row["step"] for row in lines if "eval/order/accuracy" in row] == [0, 6, 12]


def test_the_loss_is_that_of_transformers_on_the_sealed_checkpoint(run):
    """All rows at once, and the rows' own perplexities for Pico 1.0's number."""
    import pyarrow.parquet as pq
    import transformers

    rows = torch.tensor(pq.read_table(run / layout.VALIDATION_ROWS)["input_ids"].to_pylist())
    model = transformers.LlamaForCausalLM.from_pretrained(run / layout.checkpoint_dir(12), dtype=torch.float32)
    with torch.no_grad():
        loss = model(input_ids=rows, labels=rows).loss.item()
        each = [model(input_ids=row[None], labels=row[None]).loss.item() for row in rows]
    found = results(run, 12)["validation"]
    assert found["loss"] == pytest.approx(loss, rel=1e-6)
    assert found["pico1_perplexity"] == pytest.approx(np.mean(np.exp(each)), rel=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / layout.checkpoint_dir(12))
    n_bytes = sum(len(tokenizer.decode(row[1:], skip_special_tokens=True).encode()) for row in rows)
    assert found["n_bytes"] == n_bytes
    assert found["bits_per_byte"] == pytest.approx(loss * rows[:, 1:].numel() / n_bytes / math.log(2), rel=1e-6)


def test_results_by_source_are_those_of_transformers_on_long_documents(run, held):
    """Token by token in strides of half the context, by hand, with transformers' logits."""
    import transformers

    directory, context = run / layout.checkpoint_dir(12), 12
    model = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    losses, counts = {"a": 0.0, "b": 0.0}, {"a": 0, "b": 0}
    for line in (held / "texts.jsonl").read_text().splitlines():
        record = json.loads(line)
        ids = [tokenizer.eos_token_id, *tokenizer(record["text"], add_special_tokens=False)["input_ids"]]
        end = 0
        while end < len(ids) - 1:
            until = min(end + (context if end == 0 else context // 2), len(ids) - 1)
            begin = max(0, until - context)
            labels = torch.tensor([[-100] * (end + 1 - begin) + ids[end + 1 : until + 1]])
            with torch.no_grad():
                mean = model(input_ids=torch.tensor([ids[begin : until + 1]]), labels=labels).loss.item()
            losses[record["source"]] += mean * (until - end)
            counts[record["source"]] += until - end
            end = until
    found = results(run, 12)
    for source in "ab":
        assert found[f"texts/{source}"]["n_tokens"] == counts[source]
        assert found[f"texts/{source}"]["loss"] == pytest.approx(losses[source] / counts[source], rel=1e-6)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_measure_what_one_does(run, text, tmp_path, held, strategy):
    tasks = [f"order=pairs:{held / 'pairs.jsonl'}", f"text:{held / 'texts.jsonl'}"]
    changes = EVERY | {"evaluation__tasks": tasks, "training__max_steps": 1, "evaluation__cadence": {"early": 0}}
    launch(train_until, config(tmp_path, text, **changes, distributed__strategy=strategy), world=2)
    one, two = results(run, 0), results(tmp_path / "tiny", 0)
    assert list(one) == list(two)
    for task, measures in one.items():
        assert two[task] == pytest.approx(measures, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("strategy", "n_documents", "batch_size"), [("ddp", 3, 1), ("fsdp", 3, 1), ("fsdp", 3, 16), ("fsdp", 2, 1)]
)
def test_all_documents_are_scored_where_they_do_not_divide_by_the_processes(
    text, tmp_path, strategy, n_documents, batch_size
):
    """Three documents of different lengths, one or all of them in a batch, by two processes and by one."""
    words = ["the", "tree", "then", "sees", "one", "small", "dog"]
    lines = [json.dumps({"text": " ".join(words[: 3 + 2 * n])}) for n in range(n_documents)]
    (tmp_path / "some.jsonl").write_text("\n".join(lines))
    changes = {
        "evaluation__tasks": [f"text:{tmp_path}/some.jsonl"],
        "training__max_steps": 1,
        "evaluation__cadence": {"early": 0},
        "evaluation__batch_size": batch_size,
    }
    launch(train_until, config(tmp_path / "one", text, **changes))
    launch(train_until, config(tmp_path / "two", text, **changes, distributed__strategy=strategy), world=2)
    one, two = (results(tmp_path / name / "tiny", 0)["some"] for name in ("one", "two"))
    assert one["n_documents"] == two["n_documents"] == n_documents
    assert two == pytest.approx(one, rel=1e-6, abs=1e-9)


def test_a_set_smaller_than_one_document_for_each_process_is_one_sentence(text, tmp_path):
    (tmp_path / "some.jsonl").write_text(json.dumps({"text": "the tree then sees one small dog."}))
    changes = {"evaluation__tasks": [f"text:{tmp_path}/some.jsonl"], "training__max_steps": 1}
    said = launch(train_again, config(tmp_path, text, **changes), world=2)
    for one in said:
        assert one == (
            "ConfigError: task some: 1 document is fewer than the 2 processes: give more, or evaluate with fewer "
            "processes"
        )


def test_what_is_known_is_not_measured_again_and_a_kill_loses_one_task(copy, held):
    shutil.rmtree(copy / layout.EVALUATIONS)
    words = [sys.executable, "-m", "pico_train", "evaluate", str(copy), "--tasks", TASKS.format(held)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 3: validation"):
            os.kill(process.pid, signal.SIGKILL)
    process.wait()
    first = (copy / layout.evaluation_file(0)).read_bytes()
    assert set(results(copy, 0)) >= {"validation", "order", "texts"}
    code, out, said = call("evaluate", copy, "--tasks", TASKS.format(held))
    assert code == 0 and "step 0:" not in said and "step 12: texts" in said
    assert (copy / layout.evaluation_file(0)).read_bytes() == first
    code, out, _ = call("evaluate", copy, "--tasks", TASKS.format(held))
    assert code == 0 and "0 results measured now" in out


def test_a_series_of_others_is_measured_in_one_command(copy, held, tmp_path, monkeypatch):
    """The same weights under foreign names: transformers' model gives what Pico's own decoder gave."""
    series = tmp_path / "series"
    for step in (6, 12):
        target = series / f"checkpoint-{step}"
        shutil.copytree(copy / layout.checkpoint_dir(step), target)
        shutil.rmtree(target / layout.CAPTURES)
        (target / layout.MANIFEST).unlink()
    monkeypatch.chdir(tmp_path)
    tasks = TASKS.format(held).removeprefix("validation,")
    code, out, _ = call("evaluate", series, "--tasks", tasks, "--format", "json")
    assert code == 0
    rows = json.loads(out)
    assert [row["step"] for row in rows] == [6, 12]
    assert rows[1]["file"] == "evaluated/series/evaluations/step-00000012.json"
    expected = results(copy, 12)
    for task in ("order", "texts", "texts/a"):
        found = {name: value for name, value in rows[1]["tasks"][task].items() if name not in ("task",)}
        wanted = {name: value for name, value in expected[task].items() if not name.startswith("n_near")}
        wanted = {name: value for name, value in wanted.items() if name != "n_rows_compared"}
        assert found == pytest.approx(wanted, rel=1e-5, abs=1e-7)
    code, out, _ = call("evaluate", series, "--tasks", tasks)
    assert "0 results measured now" in out
    code, _, said = call("evaluate", series, "--tasks", "validation")
    assert code == 2 and "belongs to no run of Pico" in said
    code, _, said = call("evaluate", series, "--tasks", f"tokens:{held}")
    assert code == 3 and "give it as text" in said


def test_a_checkpoint_that_does_not_verify_is_told_of_and_the_others_are_measured(copy):
    shutil.rmtree(copy / layout.EVALUATIONS)
    weights = copy / layout.checkpoint_dir(6) / layout.WEIGHTS
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    code, _, said = call("evaluate", copy, "--tasks", "validation")
    assert code == 3 and "step 6: not measured" in said and "does not have the content that was sealed" in said
    assert not (copy / layout.evaluation_file(6)).exists() and (copy / layout.evaluation_file(12)).exists()


@pytest.mark.parametrize(
    ("tasks", "code", "says"),
    [
        ("pairz", 2, "did you mean 'pairs'"),
        ("text", 2, "text needs a place"),
        ("validation:x", 2, "takes no place"),
        ("pairs,pairs", 2, "two tasks are called pairs"),
        ("", 2, "names none"),
        ("text:/nowhere/at/all", 2, "/nowhere/at/all"),
        ("pairs:/nowhere.jsonl", 2, "no such file of JSON lines"),
        ("tokens:/nowhere", 2, "no such directory"),
        ("text:{own}", 3, "stand in the training rows"),
        ("tokens:{other}", 2, "was made with another tokenizer"),
    ],
)
def test_bad_tasks_are_one_sentence(copy, text, corpus_dir, tasks, code, says):
    tasks = tasks.format(own=_copied_part(text, copy), other=corpus_dir)
    shutil.rmtree(copy / layout.EVALUATIONS)
    found, _, said = call("evaluate", copy, "--tasks", tasks, "--steps", "12")
    assert (found, says in said) == (code, True), said
    assert not (copy / layout.EVALUATIONS).exists(), "nothing was kept"


def _copied_part(text: Path, near: Path) -> Path:
    """Some lines of the training text, in a file of their own."""
    path = near.parent / "part.txt"
    path.write_text("\n".join(text.read_text().splitlines()[3:9]))
    return path


def test_an_overlap_is_taken_where_it_is_allowed(copy, text):
    part = _copied_part(text, copy)
    code, out, _ = call("evaluate", f"{copy}@12", "--tasks", f"text:{part}", "--allow-overlap", "--format", "json")
    assert code == 0
    [row] = json.loads(out)
    assert row["tasks"]["part"]["n_near_duplicates"] == 1


def test_steps_that_are_not_there_are_named(copy):
    code, _, said = call("evaluate", copy, "--steps", "5")
    assert code == 2 and "has steps 0, 3, 6" in said
    code, _, said = call("evaluate", copy, "--steps", "5-6")
    assert code == 2 and "write it as 0,1,128" in said
    code, _, said = call("evaluate", copy.parent / "tinny")
    assert code == 3 and "is not a run" in said
