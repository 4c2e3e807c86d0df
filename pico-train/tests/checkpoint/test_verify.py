import json
import shutil

import pytest
import typer
from support.small_run import begin, contents
from typer.testing import CliRunner

from pico_schema import digests, documents, layout
from pico_train.checkpoint.verify import verify_run
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.cli import checkpoint as cli_checkpoint
from pico_train.config import KeepPolicy, RunConfig
from pico_train.errors import UsageError


@pytest.fixture
def run_dir(tmp_path):
    directory = begin(tmp_path / "run")
    with CheckpointWriter(directory) as writer:
        for step in (0, 1, 4):
            writer.save(contents(step))
    return directory


def found(run_dir, **options):
    return [(item.step, item.problem, item.path) for item in verify_run(run_dir, **options).problems]


def test_a_sound_run_has_no_problems(run_dir):
    report = verify_run(run_dir)
    assert report.sound and report.steps == [0, 1, 4] and report.n_files == 21
    assert report.n_bytes == sum(documents.read_checkpoint(path).size for _, path in documents.checkpoint_dirs(run_dir))


def test_everything_wrong_is_reported_not_only_the_first(run_dir):
    first, second = run_dir / layout.checkpoint_dir(0), run_dir / layout.checkpoint_dir(1)
    (first / layout.TOKENIZER).unlink()
    (first / layout.MODEL_CONFIG).write_bytes(b"{")
    (second / layout.MODEL_CONFIG).write_bytes(b"[]\n")
    (second / "captures" / "more.bin").write_bytes(b"x")
    assert found(run_dir) == [
        (0, "truncated", layout.MODEL_CONFIG),
        (0, "missing", layout.TOKENIZER),
        (1, "unexpected", "captures/more.bin"),
        (1, "altered", layout.MODEL_CONFIG),
    ]
    assert found(run_dir, step=4) == []


def test_two_steps_with_the_same_weights_are_reported(run_dir):
    from dataclasses import replace

    with CheckpointWriter(run_dir) as writer:
        writer.save(replace(contents(8), weights=contents(4).weights))
    assert found(run_dir) == [(8, "duplicate", layout.WEIGHTS)]
    assert "identical to that of step 4" in verify_run(run_dir, step=8).problems[0].detail
    assert found(run_dir, step=4) == []


def test_the_index_and_the_directories_are_compared(run_dir):
    shutil.rmtree(run_dir / layout.checkpoint_dir(1))
    shutil.copytree(run_dir / layout.checkpoint_dir(4), run_dir / layout.checkpoint_dir(5))
    (run_dir / layout.checkpoint_dir(6)).mkdir()
    assert found(run_dir) == [
        (1, "missing", ""),
        (5, "unexpected", ""),
        (5, "altered", layout.MANIFEST),
        (5, "duplicate", layout.WEIGHTS),
        (6, "missing", layout.MANIFEST),
    ]


def test_a_manifest_that_was_rewritten_to_match_altered_files_is_found_out(run_dir):
    directory = run_dir / layout.checkpoint_dir(4)
    (directory / layout.MODEL_CONFIG).write_bytes(b"[]\n")
    manifest = documents.read_checkpoint(directory)
    entry = manifest.files[layout.MODEL_CONFIG].model_copy(
        update={"sha256": digests.sha256_file(directory / layout.MODEL_CONFIG)}
    )
    forged = manifest.model_copy(update={"files": {**manifest.files, layout.MODEL_CONFIG: entry}})
    (directory / layout.MANIFEST).write_bytes(documents.dump(forged))
    assert found(run_dir) == [(4, "altered", layout.MANIFEST)]


def test_training_states_that_the_policy_removed_are_no_damage(tmp_path):
    run_dir = begin(tmp_path / "run")
    config = RunConfig(checkpoint={"keep": {"last": 1}}).model_dump(mode="json")
    documents.write(run_dir / layout.RUN_MANIFEST, documents.read_run(run_dir).model_copy(update={"config": config}))
    (run_dir / layout.METRICS_LOG).write_bytes(b'{"step": 0}\n')
    with CheckpointWriter(run_dir, keep=KeepPolicy(last=1)) as writer:
        for step in (0, 1, 4):
            writer.save(contents(step))
    report = verify_run(run_dir)
    assert report.sound and report.pruned == [0, 1]
    shutil.rmtree(run_dir / layout.checkpoint_dir(4) / layout.TRAINING_STATE)
    assert found(run_dir) == [(4, "missing", layout.TRAINING_STATE)]


def test_a_step_that_is_not_there_is_an_error(run_dir):
    with pytest.raises(UsageError, match="no checkpoint of step 3: there are 0, 1, 4"):
        verify_run(run_dir, step=3)


app = typer.Typer()
app.command()(cli_checkpoint.verify)
app.command()(cli_checkpoint.inspect)
app.command()(cli_checkpoint.repair)


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_ends_with_3_and_names_the_file(run_dir):
    assert call("verify", run_dir).exit_code == 0
    (run_dir / layout.checkpoint_dir(1) / layout.WEIGHTS).write_bytes(b"")
    result = call("verify", run_dir)
    assert result.exit_code == 3
    assert "model.safetensors" in result.stdout and "1 problem" in result.stdout
    assert call("verify", f"{run_dir}@step-4").exit_code == 0
    result = call("verify", f"{run_dir}@1", "--format", "json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["problems"][0]["path"] == layout.WEIGHTS


def test_repair_says_what_it_did_and_ends_with_3_while_something_is_lost(run_dir):
    assert call("repair", run_dir).exit_code == 0
    (run_dir / layout.checkpoint_dir(1) / layout.TOKENIZER).unlink()
    result = call("repair", run_dir)
    assert result.exit_code == 0 and "rebuilt tokenizer.json of step 1 from step 0" in result.stdout
    shutil.rmtree(run_dir / layout.checkpoint_dir(1))
    result = call("repair", run_dir)
    assert result.exit_code == 3 and "step 1 is listed in run.json" in result.stdout
    assert f"pico-train repair {run_dir} --accept-losses" in result.stderr
    assert "lost: step 1 is listed" in call("inspect", run_dir).stdout
    result = call("repair", run_dir, "--accept-losses", "--format", "json")
    content = json.loads(result.stdout)
    assert result.exit_code == 0 and content["sound"] and len(content["accepted"]) == 1
    assert "accepted loss: step 1" in call("verify", run_dir).stdout
    assert "accepted loss: step 1" in call("inspect", run_dir).stdout


def test_repair_leaves_alone_what_is_no_run(tmp_path):
    result = call("repair", tmp_path)
    assert getattr(result.exception, "exit_code", None) == 3 and list(tmp_path.iterdir()) == []


def test_a_run_without_run_json_says_how_to_rebuild_it(run_dir):
    (run_dir / layout.RUN_MANIFEST).unlink()
    for command in ("verify", "inspect"):
        result = call(command, run_dir)
        assert getattr(result.exception, "exit_code", None) == 3
        assert f"pico-train repair {run_dir}" in str(result.exception)


def test_inspect_prints_what_a_run_and_a_checkpoint_hold(run_dir):
    result = call("inspect", run_dir)
    assert result.exit_code == 0
    assert "weights, training state, train captures, val captures, batch" in result.stdout
    content = json.loads(call("inspect", run_dir, "--format", "json").stdout)
    assert [line["step"] for line in content["checkpoints"]] == [0, 1, 4]
    result = call("inspect", f"{run_dir}@step-4")
    assert result.exit_code == 0 and "activations/layers.0.attn.v" in result.stdout
    content = json.loads(call("inspect", f"{run_dir}@step-4", "--format", "json").stdout)
    assert content["tensors"][layout.WEIGHTS]["model.norm.weight"] == "F32 [8]"
    assert content["captures"][0]["n_samples"] == 2
