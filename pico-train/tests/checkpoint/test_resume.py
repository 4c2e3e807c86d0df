"""Which checkpoint a run goes on from, what a crash left behind, and what belongs to the run."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace

import pytest
from support.small_run import begin, clone, contents, digest_tree

from pico_schema import documents, layout
from pico_train.checkpoint import resume, set_aside
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.errors import CheckpointError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Checkpoints 0 to 3; the last has no training state."""
    run_dir = begin(tmp_path_factory.mktemp("made") / "run")
    with CheckpointWriter(run_dir) as writer:
        for step in range(4):
            writer.save(contents(step, training_state=step < 3))
    return run_dir


@pytest.fixture
def run_dir(made, tmp_path):
    return clone(made, tmp_path / "run")


def place(run_dir, step):
    return run_dir / layout.checkpoint_dir(step)


def put(path, content):
    """The clone shares its files: a new one takes the place."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def index(run_dir, *steps):
    """Let run.json list these steps only."""
    run = documents.read_run(run_dir)
    kept = tuple(entry for entry in run.checkpoints if entry.step in steps)
    documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"checkpoints": kept}))


def damage(directory, **options):
    return [(item.problem, item.path) for item in resume.damage(directory, **options)]


class TestDamage:
    def test_a_whole_checkpoint_has_none_wherever_it_lies_and_whatever_was_added(self, run_dir, tmp_path):
        directory = place(run_dir, 1)
        digest = resume.digests(run_dir)[1]
        assert damage(directory) == damage(directory, manifest_sha256=digest) == []
        (directory / "notes.txt").write_text("mine")
        shutil.rmtree(directory / layout.TRAINING_STATE)
        assert damage(directory) == [], "pruned, and a file more"
        shutil.copytree(directory, tmp_path / "elsewhere")
        assert damage(tmp_path / "elsewhere") == []

    def test_a_manifest_that_is_gone_unreadable_or_not_the_listed_one(self, run_dir):
        assert damage(place(run_dir, 1), manifest_sha256="0" * 64) == [("altered", layout.MANIFEST)]
        put(place(run_dir, 1) / layout.MANIFEST, (place(run_dir, 2) / layout.MANIFEST).read_bytes())
        (finding,) = resume.damage(place(run_dir, 1))
        assert finding.detail == "manifest.json is that of step 2"
        put(place(run_dir, 1) / layout.MANIFEST, b"{}")
        assert damage(place(run_dir, 1)) == [("altered", layout.MANIFEST)]
        (place(run_dir, 1) / layout.MANIFEST).unlink()
        assert damage(place(run_dir, 1)) == [("missing", layout.MANIFEST)]

    def test_every_file_is_named(self, run_dir):
        (place(run_dir, 3) / layout.WEIGHTS).unlink()
        put(place(run_dir, 3) / layout.TOKENIZER, b'{"version": "2.0"}\n')
        assert damage(place(run_dir, 3)) == [("missing", layout.WEIGHTS), ("altered", layout.TOKENIZER)]


class TestNewestComplete:
    def newest(self, run_dir, **options):
        """Its step, without a warning on the way."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = resume.newest_complete(run_dir, **options)
        return None if found is None else found.step

    def test_the_newest_that_training_can_go_on_from_or_that_has_weights(self, run_dir):
        assert self.newest(run_dir) == 2 and self.newest(run_dir, training_state=False) == 3
        found = resume.newest_complete(run_dir)
        assert found.directory == place(run_dir, 2) and found.manifest == documents.read_checkpoint(place(run_dir, 2))
        shutil.rmtree(place(run_dir, 2) / layout.TRAINING_STATE)
        assert self.newest(run_dir) == 1
        assert self.newest(run_dir, step=0) == 0 and self.newest(run_dir, step=2, training_state=False) == 2

    def test_there_is_none_before_the_first_and_where_none_had_a_training_state(self, run_dir, tmp_path):
        assert self.newest(begin(tmp_path / "new")) is None
        for step in range(3):
            shutil.rmtree(place(run_dir, step))
        assert self.newest(run_dir) is None

    @pytest.mark.parametrize(("step", "training_state"), [(2, True), (3, True), (9, False)])
    def test_a_step_that_is_not_there_is_an_error(self, run_dir, step, training_state):
        shutil.rmtree(place(run_dir, 2) / layout.TRAINING_STATE)
        with pytest.raises(CheckpointError) as caught:
            resume.newest_complete(run_dir, step=step, training_state=training_state)
        what = " with a training state" if training_state else ""
        says = f"{run_dir} has no checkpoint of step {step}{what}: see `pico-train inspect {run_dir}`"
        assert str(caught.value) == says

    def test_damaged_ones_are_named_and_passed_over(self, run_dir):
        (place(run_dir, 2) / layout.WEIGHTS).unlink()
        put(place(run_dir, 1) / layout.MANIFEST, b"")
        with pytest.warns(RuntimeWarning) as caught:
            found = resume.newest_complete(run_dir)
        assert found.step == 0
        assert [str(item.message).startswith(f"checkpoint damaged: {place(run_dir, step)}: ") for step, item in
                zip((2, 1), caught, strict=True)] == [True, True]  # fmt: skip
        assert str(caught[0].message).endswith("; trying an earlier one") and caught[0].filename == __file__

    def test_a_damaged_one_that_was_asked_for_is_an_error_without_falling_back(self, run_dir):
        (place(run_dir, 1) / layout.WEIGHTS).unlink()
        with warnings.catch_warnings(), pytest.raises(CheckpointError) as caught:
            warnings.simplefilter("error")
            resume.newest_complete(run_dir, step=1)
        says = str(caught.value)
        assert says.startswith(f"no usable checkpoint in {run_dir}: {place(run_dir, 1)}: ") and ";" not in says

    def test_where_all_are_damaged_each_is_named(self, run_dir):
        for step in range(3):
            (place(run_dir, step) / layout.WEIGHTS).unlink()
        with pytest.warns(RuntimeWarning), pytest.raises(CheckpointError) as caught:
            resume.newest_complete(run_dir)
        assert [str(place(run_dir, step)) in str(caught.value) for step in range(4)] == [True, True, True, False]

    def test_a_checkpoint_whose_manifest_is_not_the_listed_one_is_damaged(self, run_dir):
        path = place(run_dir, 2) / layout.MANIFEST
        put(path, path.read_bytes() + b"\n")
        with pytest.warns(RuntimeWarning, match="does not have the digest that run.json lists"):
            assert resume.newest_complete(run_dir).step == 1


class TestBelonging:
    """Whether run.json is that of the checkpoints beside it."""

    def check(self, run_dir):
        resume.check_belongs(run_dir, documents.read_run(run_dir))

    def test_one_checkpoint_more_than_the_index_lists_is_what_a_crash_leaves(self, run_dir):
        index(run_dir, 0, 1, 2)
        self.check(run_dir)

    def test_two_more_are_not(self, run_dir):
        index(run_dir, 0, 2)
        with pytest.raises(CheckpointError) as caught:
            self.check(run_dir)
        assert str(caught.value) == (
            f"{run_dir}: run.json is older than its checkpoints: it does not list steps 1, 3: put the newest run.json "
            f"back, or list them with `pico-train repair {run_dir}`"
        )

    def test_of_many_the_first_twelve_are_named(self, tmp_path):
        run_dir = begin(tmp_path / "run")
        with CheckpointWriter(run_dir) as writer:
            for step in range(13):
                writer.save(replace(contents(step, training_state=False), captures=(), batch=None))
        index(run_dir)
        with pytest.raises(CheckpointError, match=r"steps 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11: put"):
            self.check(run_dir)

    def test_those_that_were_being_set_aside_do_not_count(self, run_dir):
        moved = set_aside.put_aside_after(run_dir, 1, reason="the run went on from step 1")
        for path in moved.checkpoints.values():  # as if it had been interrupted before they were moved
            path.rename(run_dir / layout.CHECKPOINTS / path.name)
        self.check(run_dir)

    def test_another_runs_checkpoint_is_named_whatever_else_is_damaged(self, run_dir):
        put(place(run_dir, 0) / layout.MANIFEST, b"{}")
        put(place(run_dir, 1) / layout.MANIFEST, (place(run_dir, 2) / layout.MANIFEST).read_bytes())
        index(run_dir)
        with pytest.raises(CheckpointError, match="does not list steps 2, 3:"):
            self.check(run_dir)
        path = place(run_dir, 3) / layout.MANIFEST
        put(path, json.dumps({**json.loads(path.read_bytes()), "run_id": "f" * 32}).encode())
        with pytest.raises(CheckpointError) as caught:
            self.check(run_dir)
        run_id = documents.read_run(run_dir).id
        assert str(caught.value) == (
            f"{run_dir}: run.json is that of run {run_id}, step 3 is of run {'f' * 32}: put the right run.json back, "
            f"or see `pico-train repair {run_dir}`"
        )


LITTER = [
    "checkpoints/.tmp-step-00000004", ".run.json.7.tmp", "evaluations/.step-00000001.json.7.tmp",
    "checkpoints/set_aside/0001/.note.json.7.tmp", "checkpoints/set_aside/0001/evaluations/.a.7.tmp",
    "checkpoints/step-00000001/.config.json.7.tmp",
]  # fmt: skip
NO_LITTER = [
    "checkpoints/tmp-mine", "notes.tmp", ".hidden", "evaluations/a.tmp", "checkpoints/.mine.tmp",
    "checkpoints/set_aside/.mine.tmp", "checkpoints/step-00000001/captures/.mine.tmp", "more/.mine.tmp",
]  # fmt: skip


class TestReconcile:
    def test_what_was_being_written_goes_and_nothing_else(self, run_dir, tmp_path):
        for name in (*LITTER, *NO_LITTER):
            path = run_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("half")
        (run_dir / ".directory.tmp").mkdir()
        (run_dir / LITTER[0]).unlink()
        (run_dir / LITTER[0] / "captures").mkdir(parents=True)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / ".mine.tmp").touch()
        (run_dir / "checkpoints/step-00000009").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        before = digest_tree(run_dir)
        assert sorted(resume.reconcile(run_dir)) == sorted(name.rpartition("/")[2] for name in LITTER)
        gone = {name for name in before if any(name.startswith(each) for each in LITTER)}
        after = {name for name in digest_tree(run_dir) if not name.endswith("/")}
        assert {name for name in before if not name.endswith("/")} - after == gone - {f"{LITTER[0]}/captures/"}
        assert not (run_dir / LITTER[0]).exists() and (run_dir / ".directory.tmp").is_dir()
        assert (tmp_path / "elsewhere" / ".mine.tmp").exists()

    def test_a_run_without_any_checkpoint_needs_nothing(self, tmp_path):
        run_dir = begin(tmp_path / "run")
        shutil.rmtree(run_dir / layout.CHECKPOINTS)
        before = digest_tree(run_dir)
        assert resume.reconcile(run_dir) == [] and digest_tree(run_dir) == before

    @pytest.mark.parametrize("step", [1, 3])
    def test_the_checkpoint_that_was_sealed_just_before_is_listed_in_its_place(self, run_dir, step):
        wanted = (run_dir / layout.RUN_MANIFEST).read_bytes()
        index(run_dir, *({0, 1, 2, 3} - {step}))
        assert resume.reconcile(run_dir) == []
        assert (run_dir / layout.RUN_MANIFEST).read_bytes() == wanted

    def test_an_index_that_is_right_is_not_written_again_and_a_loss_stays_in_it(self, run_dir):
        shutil.rmtree(place(run_dir, 1))
        path = run_dir / layout.RUN_MANIFEST
        before = path.read_bytes(), path.stat().st_ino
        resume.reconcile(run_dir)
        assert (path.read_bytes(), path.stat().st_ino) == before

    @pytest.mark.parametrize("manifest", [b"{}", None])
    def test_a_directory_without_a_manifest_of_its_step_is_not_listed(self, run_dir, manifest):
        index(run_dir, 0, 1, 2)
        put(place(run_dir, 3) / layout.MANIFEST, manifest or (place(run_dir, 2) / layout.MANIFEST).read_bytes())
        resume.reconcile(run_dir)
        assert list(resume.digests(run_dir)) == [0, 1, 2]

    def test_an_index_that_is_older_than_its_checkpoints_is_left_to_a_person(self, run_dir):
        index(run_dir, 0, 2)
        before = (run_dir / layout.RUN_MANIFEST).read_bytes()
        with pytest.raises(CheckpointError, match="it does not list steps 1, 3"):
            resume.reconcile(run_dir)
        assert (run_dir / layout.RUN_MANIFEST).read_bytes() == before
