"""Whatever stands in a run's directory, each command says in one sentence what is wrong, and loses nothing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from support.small_run import begin, clone, contents, digest_tree
from typer.testing import CliRunner

from pico_schema import documents, layout
from pico_train import load_decoder
from pico_train.checkpoint import metrics_log, resume, set_aside
from pico_train.checkpoint.inspect import inspect_run
from pico_train.checkpoint.repair import repair_run
from pico_train.checkpoint.retention import prune
from pico_train.checkpoint.storage import Disk
from pico_train.checkpoint.verify import verify_run
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.cli.app import app
from pico_train.config import KeepPolicy, RunConfig
from pico_train.errors import CheckpointError, StorageError
from pico_train.publish.revision import package
from pico_train.run import train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run_dir = begin(tmp_path_factory.mktemp("made") / "run")
    with CheckpointWriter(run_dir) as writer:
        for step in (0, 1, 2):
            writer.save(contents(step))
    return run_dir


@pytest.fixture
def run_dir(made, tmp_path):
    return clone(made, tmp_path / "run")


def replace(path: Path, content: bytes) -> None:
    """The clone shares its files: a new one takes the place."""
    path.unlink()
    path.write_bytes(content)


class TestLinkedCheckpoints:
    """A link in a checkpoint's place shows something that was not sealed there."""

    @pytest.fixture
    def elsewhere(self, run_dir, tmp_path):
        target = tmp_path / "elsewhere"
        (run_dir / layout.checkpoint_dir(2)).rename(target)
        (run_dir / layout.checkpoint_dir(2)).symlink_to(target, target_is_directory=True)
        return target

    @pytest.mark.usefixtures("elsewhere")
    def test_every_reader_refuses_it(self, run_dir):
        (problem,) = verify_run(run_dir).problems
        assert (problem.step, problem.problem) == (2, "altered") and "symbolic link" in problem.detail
        assert "symbolic link" in inspect_run(run_dir)["checkpoints"][-1]["holds"]
        with pytest.warns(RuntimeWarning, match=r"step-00000002.*symbolic link"):
            found = resume.newest_complete(run_dir)
        assert found is not None and found.step == 1
        with pytest.raises(CheckpointError, match="symbolic link"):
            package(run_dir, 2)
        for name in (f"{run_dir}@2", f"{run_dir}@last", run_dir / layout.checkpoint_dir(2)):
            with pytest.raises(CheckpointError, match="symbolic link"):
                load_decoder(name)
        for command in (["generate", f"{run_dir}@2"], ["generate", str(run_dir)], ["inspect", f"{run_dir}@2"]):
            result = CliRunner().invoke(app, command)
            assert getattr(result.exception, "exit_code", 0) == 3 and "symbolic link" in str(result.exception)
        assert CliRunner().invoke(app, ["verify", str(run_dir)]).exit_code == 3
        assert not repair_run(run_dir).sound

    def test_nothing_is_done_to_what_it_points_to(self, run_dir, elsewhere):
        before = digest_tree(elsewhere)
        prune(run_dir, KeepPolicy(last=1, every=1), disk=Disk(), protected=set())
        prune(run_dir, KeepPolicy(last=1), disk=Disk(), protected=set())
        set_aside.put_aside_after(run_dir, 1, reason="the run went on from step 1")
        assert digest_tree(elsewhere) == before
        with CheckpointWriter(run_dir) as writer:
            writer.save(contents(2))
        assert writer.sealed == [2], "what a link shows is not taken back"
        assert not (run_dir / layout.checkpoint_dir(2)).is_symlink()


LINES = [
    b"\xff\xfe\n",
    b"[1, 2]\n",
    b'{"step": true}\n',
    b'{"step": -1}\n',
    b'{"step": 1e400}\n',
    b'{"step": "3"}\n',
    b'{"step": ' + b"9" * 5000 + b"}\n",
    b'{"step": 3, "loss": ' + b"[" * 100_000 + b"\n",
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: repr(line[:20]))
def test_a_line_of_the_log_that_is_none_is_named_and_does_not_end_a_command(run_dir, line):
    log = run_dir / layout.METRICS_LOG
    log.write_bytes(b'{"step": 0}\n' + line + b'{"step": 1}\n')
    assert [row["step"] for row in metrics_log.read(log)] == [0, 1]
    (problem,) = verify_run(run_dir).problems
    assert (problem.path, problem.detail) == (layout.METRICS_LOG, "line 2 is not the line of a step")
    moved = set_aside.put_aside_after(run_dir, 1, reason="the run went on from step 1")
    assert moved is not None and line in (moved.folder / layout.METRICS_LOG).read_bytes(), "it is kept"
    assert log.read_bytes() == b'{"step": 0}\n'


@pytest.mark.parametrize(
    "value, number",
    [("1.5", 1.5), ("2", 2.0), ("true", None), ('"x"', None), ("null", None), ("NaN", None), ("1e400", None),
     ("9" * 400, None), ("[1]", None)],
)  # fmt: skip
def test_a_value_that_is_no_finite_number_is_none(value, number):
    row = metrics_log.parse_line(b'{"step": 1, "loss": ' + value.encode() + b"}\n")
    assert row is not None and metrics_log.number(row, "loss") == number


def test_lines_twice_or_out_of_order_are_two_histories(run_dir):
    (run_dir / layout.METRICS_LOG).write_bytes(b'{"step": 0}\n{"step": 2}\n{"step": 1}\n{"step": 2}\n')
    assert [item.detail for item in verify_run(run_dir).problems] == [
        "line 3 is of step 1, after one of step 2",
        "line 4 is of step 2, after one of step 2",
    ]


DOCUMENTS = [b"", b"null", b"[" * 100_000, b'{"a":' * 50_000, b'{"step": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"{}"]


@pytest.mark.parametrize("content", DOCUMENTS, ids=lambda content: repr(content[:12]))
@pytest.mark.parametrize("name", [layout.MANIFEST, layout.RUN_MANIFEST, "evaluation", "note", "weights"])
def test_a_document_that_is_none_is_one_sentence_and_code_2_to_4(run_dir, name, content):
    if name == "note":
        set_aside.put_step_aside(run_dir, 2, reason="the test says so")
    path = {
        layout.MANIFEST: run_dir / layout.checkpoint_dir(1) / layout.MANIFEST,
        layout.RUN_MANIFEST: run_dir / layout.RUN_MANIFEST,
        "evaluation": run_dir / layout.evaluation_file(1),
        "note": set_aside.root(run_dir) / "0001" / layout.SET_ASIDE_NOTE,
        "weights": run_dir / layout.checkpoint_dir(1) / layout.WEIGHTS,
    }[name]
    path.parent.mkdir(exist_ok=True)
    path.touch()
    replace(path, content)
    for command in ("verify", "repair", "inspect", "generate"):
        result = CliRunner().invoke(app, [command, f"{run_dir}@1" if command == "generate" else str(run_dir)])
        code = getattr(result.exception, "exit_code", result.exit_code)
        assert code in (0, 2, 3, 4), (command, result.exception)
        if command == "verify":
            assert code == 3
        if code and not isinstance(result.exception, SystemExit):
            assert re.fullmatch(r"[^\n]{10,1000}", str(result.exception)), command
    assert path.read_bytes() == content or name == layout.RUN_MANIFEST


@pytest.mark.parametrize("field, value", [("tokens_seen", 2**70), ("step", 10**9), ("cursor", []), ("files", {"a": 1})])
def test_a_manifest_of_impossible_values_is_damage_of_that_step(run_dir, field, value):
    path = run_dir / layout.checkpoint_dir(2) / layout.MANIFEST
    raw = json.loads(path.read_bytes())
    replace(path, json.dumps({**raw, field: value}).encode())
    (problem,) = verify_run(run_dir).problems
    assert (problem.step, problem.problem, problem.path) == (2, "altered", layout.MANIFEST)
    with pytest.warns(RuntimeWarning, match="step-00000002"):
        found = resume.newest_complete(run_dir)
    assert found is not None and found.step == 1


class TestReadOnly:
    """A directory that may only be read: what reads works, what writes says so in one sentence."""

    @pytest.fixture(autouse=True)
    def read_only(self, monkeypatch, run_dir):
        """Whoever the tests run as: opening a file under the run for writing is refused, as by a read-only mount."""
        real = os.open

        def refusing(path, flags, *rest, **options):
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(str(run_dir)):
                raise OSError(30, "Read-only file system", str(path))
            return real(path, flags, *rest, **options)

        monkeypatch.setattr(os, "open", refusing)

    def test_what_reads_works_and_leaves_no_trace(self, run_dir):
        before = digest_tree(run_dir)
        assert verify_run(run_dir).sound
        inspect_run(run_dir)
        assert digest_tree(run_dir) == before

    def test_repair_and_run_say_so(self, run_dir):
        with pytest.raises(StorageError, match=r"cannot be written \(Read-only file system\)") as caught:
            repair_run(run_dir)
        assert caught.value.exit_code == 4
        with pytest.raises(StorageError, match=r"cannot be written \(Read-only file system\)"):
            train(RunConfig.model_validate({"name": run_dir.name, "out": str(run_dir.parent)}))


def test_overlapping_doubled_and_misshapen_weights_are_refused_before_they_are_read(run_dir):
    import torch

    from pico_train.checkpoint import state
    from pico_train.model.decoder import Decoder

    directory = run_dir / layout.checkpoint_dir(1)
    decoder = Decoder(documents.read_run(run_dir).model)
    entry = '{"dtype":"F32","shape":[8],"data_offsets":[0,32]}'
    doubled = f'{{"model.norm.weight":{entry},"model.norm.weight":{entry}}}'
    overlapping = f'{{"model.norm.weight":{entry},"other":{entry}}}'
    misshapen = '{"model.norm.weight":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    for header, size, says in (
        (doubled, 32, "twice|valid JSON"),
        (overlapping, 32, "overlap"),
        (misshapen, 16, "has shape \\(4,\\)"),
    ):
        content = len(header).to_bytes(8, "little") + header.encode() + b"\0" * size
        replace(directory / layout.WEIGHTS, content)
        with pytest.raises(CheckpointError, match=says) as caught:
            state.load_weights(decoder, directory)
        assert "\n" not in str(caught.value) and layout.WEIGHTS in str(caught.value)
        with pytest.raises(CheckpointError):
            load_decoder(directory)
    assert all(torch.isfinite(tensor).all() for tensor in decoder.state_dict().values())
