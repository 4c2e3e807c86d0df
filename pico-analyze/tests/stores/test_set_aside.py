"""Steps that a run has set aside are named, with the reason, whatever state their notes are in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic import make_run

from pico_analyze.stores.set_aside import MAX_NOTE, SetAside, set_aside
from pico_schema import layout

REASON = "the run went on from step 8 under training.max_steps=48"


def aside(run: Path, number: int, *steps: int, note: object = REASON) -> Path:
    """A folder of checkpoints that were set aside, with a note: its reason, or its whole content."""
    folder = run / "checkpoints" / "set_aside" / f"{number:04d}"
    for step in steps:
        (folder / "checkpoints" / layout.step_dir(step)).mkdir(parents=True)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"version": 1, "reason": note, "when": "2026-01-01T00:00:00Z"}
    (folder / "note.json").write_bytes(note if isinstance(note, bytes) else json.dumps(content).encode())
    return folder


def test_list_names_them_below_the_checkpoints(runs, pico):
    run = make_run(runs)
    aside(run, 1, 16, 14)
    aside(run, 2, 8, note="the weights were damaged")
    answer = pico("list")
    assert answer.code == 0
    assert "5 checkpoints" in answer.out and "incomplete" not in answer.out
    assert answer.out.splitlines()[-2:] == [
        f"set aside: steps 14, 16 ({REASON})",
        "set aside: step 8 (the weights were damaged)",
    ]


def test_programs_get_a_record_for_each(runs, pico):
    aside(make_run(runs), 1, 16, 8)
    records = json.loads(pico("list", "--format", "json").out)
    assert [(record["step"], record["complete"], record["set_aside"]) for record in records] == [
        *((step, True, False) for step in (0, 1, 2, 4, 8)),
        (8, False, True),
        (16, False, True),
    ]
    assert records[-1]["reason"] == REASON and len({tuple(record) for record in records}) == 1
    assert pico("list", "--format", "csv").out.count("\n") == 8


def test_what_was_taken_back_is_not_named(runs, pico):
    run = make_run(runs)
    aside(run, 1)
    (run / "checkpoints" / "set_aside" / "0002").mkdir()  # interrupted before its note
    assert set_aside(run) == ()
    assert "set aside" not in pico("list").out


def test_one_checkpoint_of_a_run_has_none(runs, pico):
    aside(make_run(runs), 1, 16)
    assert "set aside" not in pico("list", "demo@8").out


def test_they_are_never_measured(runs, pico):
    aside(make_run(runs), 1, 16)
    assert "step 16 does not exist" in pico("compute", "norm", "--steps", "16").error


@pytest.mark.parametrize(
    ("note", "says"),
    [
        (b"", "not a readable JSON object"),
        (b"{", "not a readable JSON object"),
        (b"[]", "not a note of what was set aside"),
        (b"null", "not a note of what was set aside"),
        (b"{}", "(reason: Field required)"),
        (b'{"reason": 3}', "(reason: Input should be a valid string)"),
        (b'{"reason": ""}', "not a note"),
        (b'{"reason": "a", "reason": "b"}', "key 'reason' is there twice"),
        (b'{"reason": "a", "rows": 1' + b"0" * 5000 + b"}", "a number has 5001 digits"),
        (b'{"reason": "a", "rows": NaN}', "not finite"),
        (b'{"reason": "\\ud800"}', "half a surrogate pair"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b" " * (MAX_NOTE + 1), "refusing to read it"),
    ],
)
def test_a_note_that_cannot_be_read_is_said_and_its_steps_are_named(note, says, runs, pico):
    aside(make_run(runs), 1, 14, 16, note=note)
    answer = pico("list")
    assert (answer.code, answer.err) == (0, "")
    line = answer.out.splitlines()[-1]
    assert line.startswith("set aside: steps 14, 16 (why cannot be read: ") and says in line
    assert json.loads(pico("list", "--format", "json").out)[-1]["set_aside"]


def test_a_note_without_checkpoints_that_cannot_be_read_is_said(runs, pico):
    aside(make_run(runs), 1, note=b"{")
    assert "set aside: an unknown step (why cannot be read: " in pico("list").out
    assert json.loads(pico("list", "--format", "json").out)[-1]["step"] is None


def test_a_reason_stays_on_its_line_and_moves_no_cursor(runs, pico):
    aside(make_run(runs), 1, 14, note="a\nb\x1b[2J\u202ec" + "d" * 1000)
    line = pico("list").out.splitlines()[-1]
    assert line == "set aside: step 14 (a b [2J c" + "d" * 291 + "…)"


def test_links_and_strange_names_are_not_followed(runs, tmp_path):
    run, elsewhere = make_run(runs), tmp_path / "elsewhere"
    root = run / "checkpoints" / "set_aside"
    (elsewhere / "checkpoints" / layout.step_dir(3)).mkdir(parents=True)
    (elsewhere / "note.json").write_text(json.dumps({"reason": "another run's"}))
    root.mkdir()
    (root / "0001").symlink_to(elsewhere)
    (root / ("9" * 200)).mkdir()
    (root / "\u0661").mkdir()
    assert set_aside(run) == ()
    folder = aside(run, 2, 5)
    (folder / "note.json").unlink()
    (folder / "note.json").symlink_to(elsewhere / "note.json")
    (folder / "checkpoints" / layout.step_dir(7)).symlink_to(elsewhere / "checkpoints" / layout.step_dir(3))
    (found,) = set_aside(run)
    assert found.steps == (5,) and "a symbolic link: it is not followed" in found.reason


def test_a_folder_in_place_of_a_note_is_said(runs):
    run = make_run(runs)
    folder = aside(run, 1, 5)
    (folder / "note.json").unlink()
    (folder / "note.json").mkdir()
    (found,) = set_aside(run)
    assert found.steps == (5,) and found.reason.startswith("why cannot be read")
    (folder / "note.json").rmdir()
    (folder / "note.json").write_text(json.dumps({"reason": REASON}))
    assert set_aside(run) == (SetAside((5,), REASON),)
