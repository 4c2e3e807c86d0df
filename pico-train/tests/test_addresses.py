"""What a name of a run means, on this disk and on the Hub."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from support.publishing import QUICK, REPO
from support.small_run import begin, contents
from typer.testing import CliRunner

from pico_conformance import Hub
from pico_conformance.runs import write_run
from pico_schema import documents, layout
from pico_train.addresses import checkpoint_directory, newest_run, open_run
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.cli.app import app
from pico_train.data import retry
from pico_train.errors import CheckpointError, StorageError, UsageError
from pico_train.model.sampling import read_decoder
from pico_train.publish.command import publish_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./runs/m1 with steps 0 and 4, and ./runs/empty; the working directory is beside them."""
    monkeypatch.chdir(tmp_path)
    for name, steps in (("m1", (0, 4)), ("empty", ())):
        run = begin(tmp_path / "runs" / name)
        with CheckpointWriter(run) as writer:
            for step in steps:
                writer.save(contents(step))
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("place", "step"),
    [
        ("m1", None),
        ("runs/m1", None),
        ("m1@4", 4),
        ("m1@step-4", 4),
        ("runs/m1@00000004", 4),
        ("m1@first", 0),
        ("m1@last", 4),
        ("m1@12", 12),
        ("runs/m1/checkpoints/step-00000004", 4),
        ("m1/checkpoints/step-00000000", 0),
        ("m1/checkpoints/step-00000004@4", 4),
    ],
)
def test_names_of_a_run_on_this_disk(runs: Path, place: str, step: int | None) -> None:
    found = open_run(place)
    assert (found.run_dir.resolve(), found.step, found.on_hub) == (runs.resolve() / "m1", step, False)


def test_a_directory_here_goes_before_one_under_runs(runs: Path) -> None:
    here = begin(runs.parent / "m1")
    assert open_run("m1").run_dir.resolve() == here.resolve()


def test_a_directory_whose_name_has_an_at_sign_is_itself(runs: Path) -> None:
    odd = begin(runs / "m1@4")
    assert open_run("m1@4").run_dir.resolve() == odd.resolve()


@pytest.mark.parametrize(
    ("place", "code", "says"),
    [
        ("m2", 3, r"m2 is not a run: it has no run\.json; did you mean 'm1'; in runs/ there are empty, m1"),
        ("nothing@4", 3, "nothing is not a run"),
        ("m1@latest", 3, "after the @ a step is expected"),
        ("m1@step8", 3, "after the @ a step is expected"),
        ("runs/m1/checkpoints/step-00000004@0", 2, "this directory is step 4"),
        ("runs", 3, "runs is not a run"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_what_names_no_run_is_one_sentence(place: str, code: int, says: str) -> None:
    """pico-analyze ends with the same exit codes."""
    with pytest.raises({2: UsageError, 3: CheckpointError}[code], match=says) as caught:
        open_run(place)
    assert caught.value.exit_code == code


@pytest.mark.usefixtures("runs")
def test_a_checkpoint_that_is_not_there_is_named() -> None:
    assert checkpoint_directory("m1").name == "step-00000004"
    with pytest.raises(UsageError, match="has no checkpoint of step 12: there are 0, 4"):
        checkpoint_directory("m1@12")
    for command in ("inspect", "verify", "generate"):
        ended = CliRunner().invoke(app, [command, "m1@12"]).exception
        assert isinstance(ended, UsageError) and ended.exit_code == 2, command
    with pytest.raises(CheckpointError, match="no complete checkpoint yet"):
        open_run("empty@last")


def test_a_checkpoint_of_another_step_or_run_in_its_place_is_refused(runs: Path) -> None:
    """Each is sound by its own manifest: that it is not the one of this step, the name or the index says."""
    place = runs / "m1" / "checkpoints"
    first, last, between = (place / name for name in ("step-00000000", "step-00000004", "between"))
    first.rename(between)
    last.rename(first)
    between.rename(last)
    for command in ("generate", "inspect"):
        error = CliRunner().invoke(app, [command, "m1@4"]).exception
        assert isinstance(error, CheckpointError) and "is that of step 0" in str(error), command
    assert CliRunner().invoke(app, ["verify", "m1"]).exit_code == 3
    with pytest.raises(CheckpointError, match=r"manifest\.json is that of step 0"):
        read_decoder(checkpoint_directory("m1@4"))
    other = begin(runs / "m2")
    with CheckpointWriter(other) as writer:
        writer.save(contents(4, training_state=False))
    shutil.rmtree(last)
    shutil.copytree(runs / "m2" / "checkpoints" / "step-00000004", last)
    with pytest.raises(CheckpointError, match=r"is not the one that run\.json lists"):
        checkpoint_directory("m1@4")


def test_the_newest_run_is_the_one_that_changed_last(runs: Path) -> None:
    (runs / "m1" / layout.RUN_MANIFEST).touch()
    assert newest_run() == Path("runs/m1")


def test_no_run_at_all_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"there is no run in \./runs: name one") as caught:
        newest_run()
    assert caught.value.exit_code == 3


def test_a_hub_that_cannot_be_reached_is_told_of_each_time_and_given_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setenv("PICO_CACHE", str(tmp_path))
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_refs", unreachable)
    for command in ("inspect", "verify", "generate"):
        done = CliRunner().invoke(app, [command, "hf://org/name"])
        assert isinstance(done.exception, StorageError) and "still failing after 6 attempts" in str(done.exception)
        told = [line.partition(" in ")[0] for line in done.stderr.splitlines()]
        assert told == [f"repository org/name: ConnectionError; attempt {number} of 6" for number in range(2, 7)]


class TestOnTheHub:
    """The same names on a Hub, for a run with steps 0, 1, 2."""

    @pytest.fixture
    def hub_mode(self) -> str:
        return "lfs"

    @pytest.fixture
    def published(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        del hub  # it is there, and this process talks to it
        monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
        run = write_run(tmp_path / "runs")
        assert publish_run(run, QUICK).error is None
        return run

    def test_names(self, published: Path) -> None:
        names = {
            "@demo": None,
            "@demo:step-1": 1,
            "@demo-step-1": 1,
            "@demo@first": 0,
            "@demo@last": 2,
            "@demo@1": 1,
            "": None,
        }
        for suffix, step in names.items():
            found = open_run(f"hf://{REPO}{suffix}")
            assert (found.step, found.on_hub) == (step, True), suffix
            assert documents.read_run(found.run_dir).id == documents.read_run(published).id, suffix

    def test_a_checkpoint_is_brought_as_it_was_sealed(self, published: Path) -> None:
        brought = checkpoint_directory(f"hf://{REPO}@demo:step-1", "everything")
        manifest = documents.read_checkpoint(brought)
        assert brought.name == "step-00000001" and documents.verify_checkpoint(brought, manifest) == []
        original = published / layout.checkpoint_dir(1) / layout.WEIGHTS
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (brought / layout.WEIGHTS, original)]
        assert digests[0] == digests[1]

    def test_no_more_is_fetched_than_is_needed(self, hub: Hub, published: Path) -> None:
        del published
        found = open_run(f"hf://{REPO}@demo")
        assert not list(found.run_dir.rglob("*.safetensors"))
        assert [step for step, _ in documents.checkpoint_dirs(found.run_dir)] == [0, 1, 2]
        model = checkpoint_directory(f"hf://{REPO}@demo:step-2")
        assert (model / layout.WEIGHTS).is_file() and not (model / layout.CAPTURES).exists()
        assert hub is not None

    @pytest.mark.usefixtures("published")
    def test_commands_take_addresses(self) -> None:
        call = CliRunner().invoke
        sound = call(app, ["verify", f"hf://{REPO}@demo"])
        assert sound.exit_code == 0 and "3 checkpoints" in sound.output and "sound" in sound.output
        shown = call(app, ["inspect", f"hf://{REPO}@demo"])
        assert shown.exit_code == 0 and "train captures, val captures, batch" in shown.output
        one = call(app, ["inspect", f"hf://{REPO}@demo:step-1"])
        assert one.exit_code == 0 and "activations/" in one.output

    @pytest.mark.usefixtures("published")
    def test_what_is_not_there_is_one_sentence(self) -> None:
        for address, kind, says in (
            (f"hf://{REPO}@dmeo", CheckpointError, "no branch or tag 'dmeo'; did you mean 'demo'"),
            (f"hf://{REPO}@demo:step-7", UsageError, "has no step 7 on the Hub: it has 0, 1, 2"),
            ("hf://tester/nothing", CheckpointError, "no such repository"),
            ("hf://tester", UsageError, "is not an address on the Hub"),
            (f"hf://{REPO}@demo:step-1@2", UsageError, "names two steps"),
        ):
            with pytest.raises(kind, match=says) as caught:
                open_run(address)
            assert caught.value.exit_code == {UsageError: 2, CheckpointError: 3}[kind]
