"""What comes back of the steps that a run has set aside, and what need not be kept of them."""

from __future__ import annotations

import json

import pytest
from support.small_run import WHEN, begin, clone, contents, digest_tree, evaluate

from pico_schema import CheckpointEntry, ConfigChange, documents, layout
from pico_train.checkpoint import set_aside
from pico_train.checkpoint.set_aside import Note, forget_repeated, put_aside_after, put_step_aside
from pico_train.checkpoint.writer import CheckpointWriter


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Checkpoints 1 and 2, the second evaluated."""
    run_dir = begin(tmp_path_factory.mktemp("made") / "run")
    with CheckpointWriter(run_dir) as writer:
        for step in (1, 2):
            writer.save(contents(step, training_state=False))
    evaluate(run_dir, 2)
    return run_dir


@pytest.fixture
def run_dir(made, tmp_path):
    return clone(made, tmp_path / "run")


def digest(run_dir, step):
    return next(entry.manifest_sha256 for entry in documents.read_run(run_dir).checkpoints if entry.step == step)


def seal(run_dir, step, **changes):
    """Arrive at a step with another loss: another manifest, the same weights."""
    given = contents(step, training_state=False)
    given.manifest.update(changes)
    with CheckpointWriter(run_dir) as writer:
        writer.save(given)
    return digest(run_dir, step)


def test_copies_of_a_step_are_the_newest_first_each_with_its_digest(run_dir):
    first = digest(run_dir, 2)
    put_aside_after(run_dir, 0, reason="once")
    second = seal(run_dir, 2, tokens_seen=99)
    put_aside_after(run_dir, 0, reason="twice")
    root = set_aside.root(run_dir)
    assert set_aside.copies(run_dir, 2) == [
        (root / "0002" / layout.checkpoint_dir(2), second),
        (root / "0001" / layout.checkpoint_dir(2), first),
    ]
    assert len(set_aside.copies(run_dir, 1)) == 1 and set_aside.copies(run_dir, 3) == []
    known = set_aside.known_digests(run_dir)
    assert {(2, first), (2, second)} < known and len(known) == 3
    set_aside.take_back(run_dir, root / "0002" / layout.checkpoint_dir(2))
    assert [path.parts[-3] for path, _ in set_aside.copies(run_dir, 2)] == ["0001"]
    assert set_aside.known_digests(run_dir) == known, "taken back or not"


def test_a_checkpoint_comes_back_with_its_evaluation(run_dir):
    before = digest_tree(run_dir / layout.checkpoint_dir(2)), digest_tree(run_dir / layout.EVALUATIONS)
    moved = put_aside_after(run_dir, 1, reason="the run went on from step 1")
    found = set_aside.take_back(run_dir, moved.checkpoints[2])
    assert found == run_dir / layout.checkpoint_dir(2)
    assert (digest_tree(found), digest_tree(run_dir / layout.EVALUATIONS)) == before
    (item,) = set_aside.listed(run_dir)
    assert item.checkpoints == {} and not list((moved.folder / layout.EVALUATIONS).iterdir())


def test_an_evaluation_that_was_made_anew_stays(run_dir):
    moved = put_aside_after(run_dir, 1, reason="the run went on from step 1")
    path = evaluate(run_dir, 2, manifest_sha256="e" * 64)
    before = path.read_bytes()
    set_aside.take_back(run_dir, moved.checkpoints[2])
    assert path.read_bytes() == before
    assert (moved.folder / layout.EVALUATIONS / path.name).is_file()


@pytest.mark.parametrize("newer", ["none", "damaged", "another checkpoint's"])
def test_of_several_evaluations_that_of_this_very_checkpoint_is_taken(run_dir, newer):
    path = run_dir / layout.evaluation_file(2)
    wanted = path.read_bytes()
    put_aside_after(run_dir, 1, reason="once")
    seal(run_dir, 2, tokens_seen=99)
    if newer == "damaged":
        path.write_bytes(b"{}")
    elif newer == "another checkpoint's":
        evaluate(run_dir, 2)
    put_step_aside(run_dir, 2, reason="twice")
    set_aside.take_back(run_dir, set_aside.root(run_dir) / "0001" / layout.checkpoint_dir(2))
    assert path.read_bytes() == wanted


def test_an_evaluation_of_another_checkpoint_alone_is_left(run_dir):
    put_aside_after(run_dir, 1, reason="once")
    seal(run_dir, 2, tokens_seen=99)
    set_aside.take_back_evaluation(run_dir, run_dir / layout.checkpoint_dir(2))
    assert not (run_dir / layout.evaluation_file(2)).exists()


ROW = {"step": 1, "loss": 2.5, "lr": 0.1}
ENTRY = CheckpointEntry(step=2, tokens_seen=8, manifest_sha256="a" * 64)
CHANGE = ConfigChange(step=2, when=WHEN, field="training.max_steps", before=8, after=9)


def put(run_dir, rows=(), *, files=(), name="0001", **note):
    """A folder of steps that were set aside, as it is found later."""
    folder = set_aside.root(run_dir) / name
    folder.mkdir(parents=True)
    (folder / layout.SET_ASIDE_NOTE).write_text(Note(when=WHEN, reason="why", **note).model_dump_json())
    write_log(folder, rows)
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def write_log(folder, rows):
    (folder / layout.METRICS_LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [ROW],
        [{"step": 0, "loss": 3.0}, ROW],
        [{**ROW, "seconds/compute": 9.0, "tokens_per_second": 1.0, "memory_bytes": 7, "mfu": 0.5}],
        [{"step": 1, "loss": 2.5}],  # the last line of a run that was made longer: it had no rate
    ],
)
def test_a_folder_of_which_nothing_differs_from_the_history_is_removed(run_dir, rows):
    write_log(run_dir, [{"step": 0, "loss": 3.0}, {**ROW, "seconds/compute": 1.0}])
    folder = put(run_dir, rows, steps=[ENTRY])
    forget_repeated(run_dir)
    assert not folder.exists() and set_aside.root(run_dir).is_dir()


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([{**ROW, "loss": 2.75}], {}),
        ([{"step": 0, "loss": 3.0}, {**ROW, "lr": 0.2}], {}),
        ([{**ROW, "val_loss": 1.0}], {}),
        ([{**ROW, "step": 7}], {}),
        ([{"step": 7}], {}),
        ([ROW], {"lost": [ENTRY]}),
        ([ROW], {"changes": [CHANGE]}),
        ([ROW], {"files": [layout.RUN_MANIFEST]}),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_a_folder_of_which_something_differs_is_kept_and_the_others_are_not(run_dir, rows, note, first):
    write_log(run_dir, [{"step": 0, "loss": 3.0}, ROW])
    folder = put(run_dir, rows, name="0001" if first else "0002", **note)
    other = put(run_dir, [ROW], name="0002" if first else "0001")
    before = digest_tree(folder)
    forget_repeated(run_dir)
    assert digest_tree(folder) == before and not other.exists()


@pytest.mark.parametrize("name", ["checkpoints/step-00000002/manifest.json", "evaluations/step-00000002.json"])
def test_a_folder_that_holds_a_checkpoint_or_an_evaluation_is_kept(run_dir, name):
    write_log(run_dir, [ROW])
    folder = put(run_dir, [ROW], files=[name])
    forget_repeated(run_dir)
    assert (folder / name).is_file()


def test_a_folder_that_an_interruption_left_empty_is_removed(run_dir):
    write_log(run_dir, [ROW])
    empty, kept = set_aside.root(run_dir) / "0001", put(run_dir, [{**ROW, "loss": 0.5}], name="0002")
    empty.mkdir()
    forget_repeated(run_dir)
    assert not empty.exists() and kept.exists()
