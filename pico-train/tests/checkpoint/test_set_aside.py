"""What leaves a run's history: which steps, lines and evaluations, into which folder, under which note."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.small_run import WHEN, begin, clone, contents, digest_tree, evaluate

from pico_schema import CheckpointEntry, ConfigChange, documents, layout
from pico_train.checkpoint import metrics_log, set_aside
from pico_train.checkpoint.set_aside import Note, PublishedStep, SetAside, put_aside_after
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.errors import CheckpointError

WHY = "the run went on from step 1"
CHANGE = ConfigChange(step=2, when=WHEN, field="training.max_steps", before=8, after=9)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Checkpoints 0 to 3, a line for each; evaluations of 1, 2, 3, and of a step 5 that was never sealed."""
    run_dir = begin(tmp_path_factory.mktemp("made") / "run")
    with CheckpointWriter(run_dir) as writer:
        for step in range(4):
            writer.save(contents(step, training_state=False))
    for step in (1, 2, 3):
        evaluate(run_dir, step)
    evaluate(run_dir, 5, manifest_sha256="d" * 64)
    write_log(run_dir, range(4))
    return run_dir


@pytest.fixture
def run_dir(made, tmp_path):
    return clone(made, tmp_path / "run")


def write_log(run_dir, steps):
    (run_dir / layout.METRICS_LOG).write_text("".join(json.dumps({"step": step}) + "\n" for step in steps))


def logged(folder):
    return [row["step"] for row in metrics_log.read(folder / layout.METRICS_LOG)]


def evaluated(folder):
    return sorted(layout.parse_step_dir(path.stem) for path in (folder / layout.EVALUATIONS).glob("*.json"))


def indexed(run_dir):
    return [entry.step for entry in documents.read_run(run_dir).checkpoints]


def there(run_dir):
    return [step for step, _ in documents.checkpoint_dirs(run_dir)]


@pytest.mark.parametrize(
    ("step", "stay", "leave", "rows"),
    [(None, [], [0, 1, 2, 3], [0, 1, 2, 3]), (0, [0], [1, 2, 3], [0, 1, 2, 3]), (1, [0, 1], [2, 3], [1, 2, 3]),
     (2, [0, 1, 2], [3], [2, 3]), (3, [0, 1, 2, 3], [], [3])],
)  # fmt: skip
def test_what_was_done_after_a_step_leaves_and_what_led_to_it_stays(run_dir, step, stay, leave, rows):
    """The line of a step tells of the update that follows it, which is done again."""
    entries = {entry.step: entry for entry in documents.read_run(run_dir).checkpoints}
    content = {number: digest_tree(run_dir / layout.checkpoint_dir(number)) for number in leave}
    moved = put_aside_after(run_dir, step, reason=WHY)
    assert moved is not None and moved.folder == run_dir / layout.CHECKPOINTS / "set_aside" / "0001"
    assert indexed(run_dir) == there(run_dir) == stay
    assert {number: digest_tree(path) for number, path in moved.checkpoints.items()} == content
    assert logged(run_dir) == [number for number in range(4) if number not in rows] and logged(moved.folder) == rows
    assert evaluated(run_dir) == [number for number in (1, 2, 3) if number in stay]
    assert evaluated(moved.folder) == [number for number in (1, 2, 3, 5) if number not in stay]
    note = moved.note
    assert (note.reason, note.resumed_from, note.rows) == (WHY, step, len(rows))
    assert note.steps == tuple(entries[number] for number in leave) and note.lost == note.changes == note.files == ()
    assert set_aside.listed(run_dir) == [moved]


def test_the_note_says_what_was_changed_published_and_missing(run_dir):
    shutil.rmtree(run_dir / layout.checkpoint_dir(0))
    shutil.rmtree(run_dir / layout.checkpoint_dir(2))
    entries = documents.read_run(run_dir).checkpoints
    asked = []

    def published(steps):
        asked.append(sorted(steps))
        return [PublishedStep(step=3, repo="org/name", tag="small-step-3", commit=None)]

    moved = put_aside_after(run_dir, 1, reason=WHY, changes=iter([CHANGE]), published=published)
    assert moved is not None and asked == [[3]]
    assert moved.note.lost == (entries[2],), "step 0, which is gone too, stays in the index: it is not done again"
    assert moved.note.changes == (CHANGE,) and moved.note.published[0].tag == "small-step-3"
    assert indexed(run_dir) == [0, 1]


def test_where_nothing_was_done_after_the_step_no_folder_is_made_and_a_torn_line_goes(run_dir):
    write_log(run_dir, range(3))
    with (run_dir / layout.METRICS_LOG).open("a") as log:
        log.write('{"step": 3, "lo')
    before = digest_tree(run_dir)
    assert put_aside_after(run_dir, 3, reason=WHY) is None
    after = digest_tree(run_dir)
    assert before.pop(layout.METRICS_LOG) != after.pop(layout.METRICS_LOG) and before == after
    assert (run_dir / layout.METRICS_LOG).read_text() == '{"step": 0}\n{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("what", ["checkpoint", "lost", "rows", "changes"])
def test_each_thing_alone_that_was_done_after_the_step_is_set_aside(run_dir, what):
    write_log(run_dir, range(4 if what == "rows" else 1))
    step = {"checkpoint": 2, "lost": 2}.get(what, 3)
    if what == "lost":
        shutil.rmtree(run_dir / layout.checkpoint_dir(3))
    moved = put_aside_after(run_dir, step, reason=WHY, changes=[CHANGE] if what == "changes" else [])
    assert moved is not None
    note = moved.note
    assert (len(moved.checkpoints), len(note.lost), note.rows, len(note.changes)) == tuple(
        int(what == each) for each in ("checkpoint", "lost", "rows", "changes")
    )


def test_one_step_is_set_aside_with_its_evaluation_and_no_other(run_dir):
    moved = set_aside.put_step_aside(run_dir, 2, reason="step 2 is damaged")
    assert (moved.note.reason, moved.note.resumed_from) == ("step 2 is damaged", None)
    assert [entry.step for entry in moved.note.steps] == list(moved.checkpoints) == [2]
    assert indexed(run_dir) == there(run_dir) == [0, 1, 3]
    assert evaluated(run_dir) == [1, 3, 5] and evaluated(moved.folder) == [2] and logged(run_dir) == [0, 1, 2, 3]
    other = set_aside.put_step_aside(run_dir, 0, reason="step 0 is damaged")
    assert other.folder.name == "0002" and set_aside.listed(run_dir) == [moved, other]


def test_a_file_that_another_takes_the_place_of_is_kept_and_stays(run_dir):
    before = (run_dir / layout.RUN_MANIFEST).read_bytes()
    set_aside.put_file_aside(run_dir, layout.RUN_MANIFEST, reason="it was rebuilt")
    (moved,) = set_aside.listed(run_dir)
    assert moved.note.files == (layout.RUN_MANIFEST,) and moved.note.reason == "it was rebuilt"
    assert (moved.folder / layout.RUN_MANIFEST).read_bytes() == (run_dir / layout.RUN_MANIFEST).read_bytes() == before


def folder(run_dir: Path, name: str, note: str | None = None) -> Path:
    made = set_aside.root(run_dir) / name
    made.mkdir(parents=True)
    if note is not None:
        (made / layout.SET_ASIDE_NOTE).write_text(note)
    return made


def test_folders_are_listed_in_the_order_of_their_numbers_and_the_next_has_the_next_one(run_dir):
    assert set_aside.listed(run_dir) == []
    folder(run_dir, "0001")  # interrupted before it had a note
    for name in ("9", "0010", "0002", "notes"):
        folder(run_dir, name, f'{{"when": "2025-01-02T03:04:05Z", "reason": "{name}"}}')
    assert [item.note.reason for item in set_aside.listed(run_dir)] == ["0002", "9", "0010"]
    moved = put_aside_after(run_dir, 2, reason=WHY)
    assert moved is not None and moved.folder.name == "0011"


@pytest.mark.parametrize("note", ["", "[]", '{"when": "never", "reason": ""}'])
def test_a_damaged_note_is_named(run_dir, note):
    made = folder(run_dir, "0001", note)
    with pytest.raises(CheckpointError) as caught:
        set_aside.listed(run_dir)
    assert str(caught.value) == (
        f"{made / 'note.json'}: cannot be read: restore it, or move {made} out of the run to forget what was set aside"
    )


def entry(step: int) -> CheckpointEntry:
    return CheckpointEntry(step=step, tokens_seen=8 * step, manifest_sha256=f"{step:064x}")


def aside(here=(), **values) -> SetAside:
    return SetAside(Path("F"), Note(when=WHEN, reason="why", **values), dict.fromkeys(here, Path("P")))


@pytest.mark.parametrize(
    ("item", "notable"),
    [
        (aside(), False),
        (aside(rows=1), False),
        (aside(rows=2), True),
        (aside([2]), True),
        (aside(lost=[entry(2)]), True),
        (aside(changes=[CHANGE]), True),
        (aside(files=["run.json"]), True),
        (aside(steps=[entry(2)]), False),
    ],
)  # fmt: skip
def test_one_line_that_was_written_again_is_not_worth_a_word(item, notable):
    """It may name steps that were taken back."""
    assert item.notable is notable


def on_the_hub(step: int) -> PublishedStep:
    return PublishedStep(step=step, repo="org/name", tag=f"t{step}", commit=None)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (aside([2]), "step 2 set aside in F: why"),
        (aside([3, 2], rows=1), "steps 2, 3 and 1 line of metrics.jsonl set aside in F: why"),
        (aside(rows=2), "2 lines of metrics.jsonl set aside in F: why"),
        (aside(files=["run.json"]), "run.json set aside in F: why"),
        (aside(changes=[CHANGE]), "changes of the configuration set aside in F: why"),
        (aside(range(12)), "steps 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 set aside in F: why"),
        (aside(range(13)), "steps 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (13 in all) set aside in F: why"),
        (aside([2], lost=[entry(4), entry(3)]), "step 2 set aside in F: why; 3, 4 were missing then"),
        (aside([2], steps=[entry(2), entry(3)]), "step 2 set aside in F: why"),
        (aside(rows=1, steps=[entry(2), entry(3)]),
         "1 line of metrics.jsonl and (by now taken back: 2, 3) set aside in F: why"),
        (aside([3], published=[on_the_hub(2), on_the_hub(3)]),
         "step 3 set aside in F: why; step 3 stays published as org/name@t3"),
    ],
)  # fmt: skip
def test_what_was_set_aside_is_one_sentence(item, sentence):
    assert item.sentence == sentence
