"""lm-evaluation-harness reads a checkpoint as any Llama: what it scores is what the decoder here computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed: make test-ecosystem installs it")

import torch
from tokenizers import Tokenizer
from typer.testing import CliRunner

from pico_train import load_decoder
from pico_train.cli.app import app

DOCUMENTS = [
    {"question": "a dog sees the", "choices": [" cat", " tree under and then"], "answer": 0},
    {"question": "two red dogs and", "choices": [" a small one", " likes"], "answer": 1},
    {"question": "the tree finds", "choices": [" green", " an over then"], "answer": 0},
]


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


@pytest.fixture(scope="module")
def model(checkpoint: Path):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(checkpoint), device="cpu", batch_size=2, dtype="float32")


def score(checkpoint: Path, context: str, continuation: str) -> float:
    """Log-probability of a continuation, in nats: the plain way."""
    tokens = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    before = tokens.encode(context).ids or [tokens.token_to_id("<|endoftext|>")]
    ids = torch.tensor([before + tokens.encode(context + continuation).ids[len(before) if context else 0 :]])
    with torch.inference_mode():
        logits = load_decoder(checkpoint)(ids)[0].double().log_softmax(-1)
    return sum(float(logits[place - 1, ids[0, place]]) for place in range(len(before), ids.shape[1]))


def test_loglikelihoods_are_those_of_the_decoder(checkpoint: Path, model) -> None:
    """The empty context too: there the harness begins with what stood before every document of training."""
    from lm_eval.api.instance import Instance

    pairs = [(item["question"], choice) for item in DOCUMENTS for choice in item["choices"]] + [("", "a dog sees")]
    requests = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(pairs)]
    found = [value for value, _ in model.loglikelihood(requests, disable_tqdm=True)]
    # float32 sums of a dozen logarithms, of magnitude 10 to 100.
    assert found == pytest.approx([score(checkpoint, *pair) for pair in pairs], rel=1e-5)


def test_a_local_task_is_evaluated(tmp_path: Path, checkpoint: Path, model) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    data = tmp_path / "test.jsonl"
    data.write_text("\n".join(map(json.dumps, DOCUMENTS)))
    task = {
        "task": "tiny",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    result = simple_evaluate(
        model=model,
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
        verbosity="ERROR",
    )
    best = [
        max(range(2), key=lambda place: score(checkpoint, item["question"], item["choices"][place]))
        for item in DOCUMENTS
    ]
    right = [place == item["answer"] for place, item in zip(best, DOCUMENTS, strict=True)]
    assert result["results"]["tiny"]["acc,none"] == pytest.approx(sum(right) / len(right))


def write_task(folder: Path) -> None:
    """A task of multiple choice in a local file, and a group of it: no network is asked for anything."""
    data = folder / "test.jsonl"
    data.write_text("\n".join(map(json.dumps, DOCUMENTS)))
    (folder / "tiny.yaml").write_text(
        f"""task: tiny_questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
    )
    (folder / "group.yaml").write_text(
        "group: tiny_group\ntask: [tiny_questions]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )


def expected_of(folder: Path, model, name: str = "tiny_questions"):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = simple_evaluate(model=model, tasks=[name], task_manager=manager, verbosity="ERROR")
    return found["results"]


def test_the_command_gives_what_the_harness_gives(tmp_path: Path, checkpoint: Path, model) -> None:
    """A task in a local file, on one checkpoint: the same numbers, with their errors, beside the seal."""
    write_task(tmp_path)
    run = checkpoint.parent.parent
    words = ["evaluate", f"{run}@6", "--include-path", str(tmp_path), "--device", "cpu", "--format", "json"]
    done = CliRunner().invoke(app, [*words, "--tasks", "validation,tiny_questions,tiny_group"])
    assert done.exit_code == 0, done.output
    [row] = json.loads(done.stdout)
    theirs = expected_of(tmp_path, model)["tiny_questions"]
    ours = row["tasks"]["tiny_questions"]
    assert (ours["acc"], ours["acc_norm"]) == (theirs["acc,none"], theirs["acc_norm,none"])
    assert ours["acc_se"] == pytest.approx(theirs["acc_stderr,none"])
    assert row["tasks"]["tiny_group"]["acc"] == theirs["acc,none"]
    done = CliRunner().invoke(app, [*words, "--tasks", "tiny_question"])
    assert done.exception.exit_code == 2 and "did you mean 'tiny_questions'" in str(done.exception)


def test_a_foreign_series_on_the_hub_by_tasks_of_the_harness(tmp_path: Path, hub, monkeypatch) -> None:
    """Two branches of a small GPT-NeoX: the numbers of the harness on each model's own files."""
    pytest.importorskip("pico_conformance", reason="the loopback Hub is installed with the development environment")
    from lm_eval.models.huggingface import HFLM

    from pico_conformance.pythia import put_pythia

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    put_pythia(hub, "EleutherAI/pythia-70m", steps=(0, 512))
    (tmp_path / "tasks").mkdir()
    write_task(tmp_path / "tasks")
    place = "hf://EleutherAI/pythia-70m@step0,step512"
    words = ["evaluate", place, "--include-path", str(tmp_path / "tasks"), "--device", "cpu", "--format", "json"]
    done = CliRunner().invoke(app, [*words, "--tasks", "tiny_questions"])
    assert done.exit_code == 0, done.output + str(done.exception)
    rows = json.loads(done.stdout)
    assert [row["step"] for row in rows] == [0, 512]
    for row in rows:
        revision = f"step{row['step']}"
        model = HFLM("EleutherAI/pythia-70m", revision=revision, device="cpu", batch_size=2, dtype="float32")
        theirs = expected_of(tmp_path / "tasks", model)["tiny_questions"]
        assert row["tasks"]["tiny_questions"]["acc_norm"] == theirs["acc_norm,none"]
    again = CliRunner().invoke(app, [*words, "--tasks", "tiny_questions"])
    assert again.exit_code == 0 and "step 0:" not in again.stderr


def test_the_names_that_the_documentation_gives_are_the_harness_s() -> None:
    """BLiMP's own tasks are the harness's; the folders of BabyLM's pipeline are not."""
    from lm_eval.tasks import TaskManager

    known = set(TaskManager().all_tasks)
    assert "blimp" in known and len([name for name in known if name.startswith("blimp_") and name != "blimp_nl"]) >= 67
    assert "blimp_anaphor_number_agreement" in known
    assert not known & {"blimp_fast", "supplement_fast", "ewok_fast", "entity_tracking_fast", "wug_past_tense", "ewok"}
