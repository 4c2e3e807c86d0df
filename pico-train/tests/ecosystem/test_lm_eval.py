"""lm-evaluation-harness reads a checkpoint as any Llama: what it scores is what the decoder here computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed: make test-ecosystem installs it")

import torch
from tokenizers import Tokenizer

from pico_train import load_decoder

DOCUMENTS = [
    {"question": "a dog sees the", "choices": [" cat", " tree under and then"], "answer": 0},
    {"question": "two red dogs and", "choices": [" a small one", " likes"], "answer": 1},
    {"question": "the tree finds", "choices": [" green", " an over then"], "answer": 0},
]


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


def test_the_command_gives_what_the_harness_gives(tmp_path: Path, checkpoint: Path, model) -> None:
    """A task in a local file, on one checkpoint: the same numbers, with their errors, beside the seal."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from typer.testing import CliRunner

    from pico_train.cli.app import app

    data = tmp_path / "test.jsonl"
    data.write_text("\n".join(map(json.dumps, DOCUMENTS)))
    (tmp_path / "tiny.yaml").write_text(
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
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    expected = simple_evaluate(model=model, tasks=["tiny_questions"], task_manager=manager, verbosity="ERROR")
    run = checkpoint.parent.parent
    words = ["evaluate", f"{run}@6", "--include-path", str(tmp_path), "--device", "cpu", "--format", "json"]
    done = CliRunner().invoke(app, [*words, "--tasks", "validation,tiny_questions"])
    assert done.exit_code == 0, done.output
    [row] = json.loads(done.stdout)
    theirs = expected["results"]["tiny_questions"]
    ours = row["tasks"]["tiny_questions"]
    assert (ours["acc"], ours["acc_norm"]) == (theirs["acc,none"], theirs["acc_norm,none"])
    assert ours["acc_se"] == pytest.approx(theirs["acc_stderr,none"])
    done = CliRunner().invoke(app, [*words, "--tasks", "tiny_question"])
    assert done.exception.exit_code == 2 and "did you mean 'tiny_questions'" in str(done.exception)
