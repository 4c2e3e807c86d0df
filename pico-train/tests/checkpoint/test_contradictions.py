"""Documents of a run that tell two histories: which step, which file, in which words."""

from __future__ import annotations

import json

import pytest
from support.small_run import RUN_ID, begin, clone, contents, evaluate

from pico_schema import documents, layout
from pico_train.checkpoint import history
from pico_train.checkpoint.history import Problem
from pico_train.checkpoint.writer import CheckpointWriter


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Checkpoints 1 and 2: 8 and 16 tokens, a loss of 1.5 each."""
    directory = begin(tmp_path_factory.mktemp("made") / "run")
    with CheckpointWriter(directory) as writer:
        for step in (1, 2):
            writer.save(contents(step, training_state=False))
    return directory


@pytest.fixture
def run_dir(made, tmp_path):
    return clone(made, tmp_path / "run")


def contradictions(run_dir, *rows, **manifest):
    """With these lines of the log, and these values in the manifest of step 2."""
    (run_dir / layout.METRICS_LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifests = {step: documents.read_checkpoint(path) for step, path in documents.checkpoint_dirs(run_dir)}
    manifests[2] = manifests[2].model_copy(update=manifest)
    return list(history.contradictions(run_dir, documents.read_run(run_dir), manifests))


@pytest.mark.parametrize(
    "row",
    [
        {"step": 2},
        {"step": 2, "tokens_seen": 16, "loss": 1.5},
        {"step": 2, "tokens_seen": None, "loss": None},
        {"step": 2, "loss": 1.5 * 1.0099},
        {"step": 2, "loss": "large", "val_loss": 2.0},
        {"step": 3, "tokens_seen": 3, "loss": 99.0},
    ],
)
def test_a_line_that_agrees_or_says_nothing_is_no_problem(run_dir, row):
    assert contradictions(run_dir, row) == []


def test_losses_of_the_same_rows_are_compared_with_those_of_the_seal(run_dir):
    says = "metrics.jsonl says a {} of {}, manifest.json {}: they are of two trajectories"
    found = contradictions(
        run_dir,
        {"step": 2, "loss": 1.5 * 1.011, "val_loss": 12.3456},
        metrics={"train_loss": 1.5, "val_loss": 11.0},
    )
    assert found == [
        Problem(2, "altered", "metrics.jsonl", says.format("loss", "1.516", "1.5")),
        Problem(2, "altered", "metrics.jsonl", says.format("val_loss", "12.35", "11")),
    ]


def test_tokens_are_compared_with_the_log_the_index_and_the_step_before(run_dir):
    assert contradictions(run_dir, {"step": 1, "tokens_seen": 9}, {"step": 2, "tokens_seen": "9" * 30}) == [
        Problem(1, "altered", "metrics.jsonl", "metrics.jsonl says 9 tokens, manifest.json 8"),
        Problem(2, "altered", "metrics.jsonl", f"metrics.jsonl says {'9' * 20} tokens, manifest.json 16"),
    ]
    says = "run.json says 16 tokens, manifest.json {}"
    assert contradictions(run_dir, tokens_seen=8) == [Problem(2, "altered", "manifest.json", says.format(8))]
    assert contradictions(run_dir, tokens_seen=7) == [
        Problem(2, "altered", "manifest.json", says.format(7)),
        Problem(2, "altered", "manifest.json", "7 tokens were seen, fewer than at the step before"),
    ]


def test_a_checkpoint_that_the_index_does_not_list_is_compared_with_what_there_is(run_dir):
    run = documents.read_run(run_dir)
    documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"checkpoints": run.checkpoints[:1]}))
    assert contradictions(run_dir, tokens_seen=17) == []


def damaged(run_dir, log=b""):
    (run_dir / layout.METRICS_LOG).write_bytes(log)
    return list(history.damaged_documents(run_dir, documents.read_run(run_dir)))


def test_a_torn_last_line_is_none_and_the_first_may_be_of_any_step(run_dir):
    assert damaged(run_dir, b'{"step": 0}\n{"step": 1}\n{"st') == []
    assert damaged(run_dir, b'{"step": 7}\n{"step": 9}\n') == []
    (run_dir / layout.METRICS_LOG).unlink()
    assert list(history.damaged_documents(run_dir, documents.read_run(run_dir))) == []


def test_lines_are_counted_from_one_and_compared_with_the_latest_before_them(run_dir):
    log = b'{"step": 4}\nx\n{"step": 3}\n{"step": 4}\n{"step": 5}\n'
    assert damaged(run_dir, log) == [
        Problem(None, "altered", "metrics.jsonl", "line 2 is not the line of a step"),
        Problem(None, "altered", "metrics.jsonl", "line 3 is of step 3, after one of step 4"),
        Problem(None, "altered", "metrics.jsonl", "line 4 is of step 4, after one of step 4"),
    ]


def test_each_evaluation_must_be_readable_of_this_run_and_of_the_step_of_its_name(run_dir):
    evaluate(run_dir, 1)
    assert damaged(run_dir) == []
    place = run_dir / layout.EVALUATIONS
    good = json.loads((place / "step-00000001.json").read_text())
    (place / "step-00000000.json").write_text("{}")
    (place / "step-00000002.json").write_text(json.dumps({**good, "run_id": "f" * 32, "step": 2}))
    (place / "step-00000003.json").write_text(json.dumps(good))
    found = damaged(run_dir)
    assert {(item.step, item.problem) for item in found} == {(None, "altered")}
    assert [item.path for item in found] == [f"evaluations/step-0000000{step}.json" for step in (0, 2, 3)]
    assert [item.detail for item in found[1:]] == [
        f"evaluations/step-00000002.json is of step 2 of run {'f' * 32}",
        f"evaluations/step-00000003.json is of step 1 of run {RUN_ID}",
    ]
