"""Members as processes: killed and resumed they are what runs made one by one are; one that fails stops no other."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.tiny import SECTIONS, config
from support.training_runs import logged, sealed, what_a_step_holds

from pico_schema import documents, layout
from pico_schema.suites import SuiteManifest
from pico_train.config import RunConfig
from pico_train.config.suites import load_suite
from pico_train.errors import ConfigError, UsageError
from pico_train.run import train
from pico_train.suite import planning, record, running, state, table
from pico_train.training.measure import seconds_per_step


def write(directory: Path, text: Path, **content: Any) -> Path:
    """The file of a suite of two sizes and two seeds of the small run."""
    sections = {name: dict(section) for name, section in SECTIONS.items()}
    sections["data"] |= {"paths": [str(text)], "val_paths": [str(text.with_name("held_out.txt"))]}
    file = directory / "family.yaml"
    whole = {
        "base": sections | {"out": str(directory / "runs")},
        "axes": {"size": {"s": {}, "m": {"model": {"d_model": 32}}}, "seed": [5, 6]},
        "shared_batches": ["size"],
        **content,
    }
    file.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return file


def command(*words: str | Path) -> subprocess.Popen[str]:
    """`pico-train suite …` as a process."""
    line = [sys.executable, "-m", "pico_train", "suite", *map(str, words)]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def test_a_family_that_is_stopped_and_resumed_is_what_its_runs_are_one_by_one(tmp_path: Path, text: Path) -> None:
    file, directory = write(tmp_path, text), tmp_path / "runs" / "family"
    first = command("run", file, "--parallel", "2")
    deadline = time.monotonic() + 120
    while not list(directory.glob("*/checkpoints/step-00000003/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 143, err
    assert f"`pico-train suite resume {directory}` goes on" in err
    suite = record.open_suite(directory)
    assert {each.state for each in state.states(suite)} <= {"stopped", "waiting", "finished"}
    assert not [each for each in state.states(suite) if each.error]

    second = command("resume", directory, "--parallel", "2", "--quiet")
    out, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert "4 of 4 members finished" in out

    digests: dict[tuple[object, int], set[str]] = {}
    for member in suite.members:
        alone = member.config.model_copy(update={"out": str(tmp_path / "alone")})
        train(alone)
        one, other = directory / member.name, tmp_path / "alone" / member.name
        assert sealed(one)[-1] == 14
        for step in (0, 3, 6, 9, 12, 14):
            ours, theirs = (what_a_step_holds(each, step) for each in (one, other))
            for each in (ours, theirs):
                each["manifest"].pop("metrics")  # of the step that was saved because of the signal, none is known
            assert ours == theirs, (member.name, step)
        assert logged(one) == logged(other)
        run = documents.read_run(one)
        assert run.suite is not None and (run.suite.name, run.suite.coordinates) == ("family", member.coordinates)
        assert documents.read_run(other).suite is None
        for row in logged(one):
            digests.setdefault((member.coordinates["seed"], row["step"]), set()).add(row["batch_sha256"])
    assert len(digests) == 2 * 15 and {len(found) for found in digests.values()} == {1}  # equal across sizes

    said: list[str] = []
    report = running.run_members(suite, suite.members, say=said.append)
    assert (said, report.line) == (["4 members of 4 finished already"], "4 of 4 members finished")


def test_a_member_that_fails_stops_no_other_and_is_told_with_its_error(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = begun(tmp_path, text, axes={"seed": [1, 2, 3]}, shared_batches=False)
    codes = {
        "seed1": "print('warning: x'); print('error: the disk is full'); exit(4)",
        "seed2": "import os; os.abort()",
    }

    def stand_in(_: Any, member: Any, **__: bool) -> list[str]:
        return [sys.executable, "-c", codes.get(member.name, "print('fine')")]

    monkeypatch.setattr(running, "command", stand_in)
    report = running.run_members(suite, suite.members, parallel=2)
    assert report.failed == {"seed1": "the disk is full", "seed2": f"ended by signal {int(signal.SIGABRT)}"}
    assert "seed3" not in report.failed
    said = str(running.failure(suite, report))
    assert said.startswith("0 of 3 members finished, 2 failed: ") and "seed1: the disk is full" in said
    assert f"`pico-train suite resume {suite.directory}` tries again" in said
    found = {each.name: each for each in state.states(suite)}
    assert (found["seed1"].state, found["seed1"].error) == ("failed", "the disk is full")
    assert state.log_file(suite, suite.members[0]).read_text().startswith("warning: x")


def test_as_many_processes_as_were_asked_for_run_side_by_side(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of ten, whenever there is another one: nobody waits for anything but a place."""
    suite = begun(tmp_path, text, axes={"seed": list(range(10))}, shared_batches=False)
    told = tmp_path / "told"
    line = f"echo + >> {shlex.quote(str(told))}; sleep 0.2; echo - >> {shlex.quote(str(told))}"
    monkeypatch.setattr(running, "command", lambda *_, **__: ["sh", "-c", line])
    running.run_members(suite, suite.members, parallel=2)
    at_once = list(accumulate(1 if sign == "+" else -1 for sign in told.read_text().split()))
    assert len(at_once) == 20 and at_once[-1] == 0
    assert max(at_once) == 2 and at_once.count(2) >= 5


def begun(tmp_path: Path, text: Path, **content: Any) -> record.OpenSuite:
    return record.begin(load_suite(write(tmp_path, text, **content)))[0]


def test_a_suite_is_recorded_and_grows(tmp_path: Path, text: Path) -> None:
    suite = begun(tmp_path, text)
    document = documents.read(suite.directory / layout.SUITE_MANIFEST, SuiteManifest)
    assert [member.name for member in document.members] == ["s-seed5", "s-seed6", "m-seed5", "m-seed6"]
    assert document.axes == {"size": ("s", "m"), "seed": (5, 6)}
    assert record.open_suite(suite.directory) == suite
    more = {"size": {"s": {}, "m": {"model": {"d_model": 32}}}, "seed": [5, 6, 7]}
    _, told = record.begin(load_suite(write(tmp_path, text, axes=more)))
    assert told == ["member s-seed7 is new", "member m-seed7 is new"]
    changed = documents.read(suite.directory / layout.SUITE_MANIFEST, SuiteManifest)
    assert [change.what for change in changed.changes] == told and changed.created == document.created


def test_a_suite_that_was_changed_says_what_changed(tmp_path: Path, text: Path) -> None:
    suite = begun(tmp_path, text)
    before = (suite.directory / layout.SUITE_MANIFEST).read_bytes()

    def changed(**content: Any) -> Any:
        return load_suite(write(tmp_path, text, **content))

    wider = {"size": {"s": {}, "m": {"model": {"d_model": 64}}}, "seed": [5, 6]}
    with pytest.raises(ConfigError, match=r"otherwise: model\.d_model of m-seed5 was 32 and is 64; .* --override"):
        record.begin(changed(axes=wider))
    with pytest.raises(ConfigError, match=r"model\.d_model was 32, is now 64"):
        record.begin(changed(axes=wider), override=True)  # not even that changes a model
    with pytest.raises(ConfigError, match="member s-seed6 is gone; member m-seed6 is gone"):
        record.begin(changed(axes=wider | {"size": {"s": {}, "m": {"model": {"d_model": 32}}}, "seed": [5]}))
    assert (suite.directory / layout.SUITE_MANIFEST).read_bytes() == before
    sections = yaml.safe_load(write(tmp_path, text).read_text())["base"]
    sections["training"]["optimizer"]["lr"] = 1e-3
    with pytest.raises(ConfigError, match=r"training\.optimizer\.lr of s-seed5 was 0\.003 and is 0\.001"):
        record.begin(changed(base=sections))
    _, told = record.begin(changed(base=sections), override=True)
    assert len(told) == 4
    sections["training"]["max_steps"] = 20  # a run may be made longer, and so may all
    _, told = record.begin(changed(base=sections))
    assert told[0] == "training.max_steps of s-seed5 was 14 and is 20"


def test_what_is_no_suite_or_no_member_is_told_with_the_nearest(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = begun(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    assert record.find("family") == Path("runs/family")
    with pytest.raises(UsageError, match=r"famly is not a suite: .*; did you mean 'family'"):
        record.find("famly")
    with pytest.raises(UsageError, match=r"there is no such file"):
        record.open_or_begin("gone.yaml")
    with pytest.raises(UsageError, match="has no member 's-seed'; did you mean 's-seed"):
        suite.chosen(["s-seed"])
    train(config(tmp_path / "runs", text, name="taken", training__max_steps=1, training__schedule={}))
    with pytest.raises(Exception, match="is a run: give the suite another name"):
        record.begin(load_suite(write(tmp_path, text, name="taken")))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_are_all_members_once_and_about_equal(tmp_path: Path, text: Path, count: int) -> None:
    members = begun(tmp_path, text).members
    shares = [running.shared_out(members, index, count) for index in range(1, count + 1)]
    assert sorted(m.name for share in shares for m in share) == sorted(m.name for m in members)
    if count == 2:  # a large and a small one each
        assert [{member.coordinates["size"] for member in share} for share in shares] == [{"s", "m"}] * 2


@pytest.mark.parametrize("text_of_it", ["", "0/2", "3/2", "1", "1/2/3", "a/b", "-1/2"])
def test_a_share_that_is_none_is_refused(text_of_it: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        running.parse_shard(text_of_it)


def test_the_state_of_a_hundred_runs_is_read_at_once(tmp_path: Path, text: Path) -> None:
    suite = begun(tmp_path, text, axes={"seed": list(range(100))}, shared_batches=False)
    first = suite.members[0]
    train(first.config, suite=suite.membership(first))
    for member in suite.members[1:]:
        run_dir = suite.run_dir(member)
        run_dir.mkdir()
        for name in (layout.RUN_MANIFEST, layout.METRICS_LOG):
            (run_dir / name).write_bytes((suite.run_dir(first) / name).read_bytes())
    started = time.process_time()  # of this process alone: other work on the machine does not count
    found = state.states(suite)
    rows = table.status_rows(suite, found)
    assert time.process_time() - started < 2
    assert {each.state for each in found} == {"finished"} and len(rows) == 100
    assert rows[0]["step"] == "14/14" and found[0].loss is not None


def test_a_sweep_says_the_best_of_each_size(tmp_path: Path, text: Path) -> None:
    sizes = {"s": {}, "m": {"model": {"d_model": 32}}}
    suite = begun(tmp_path, text, axes={"size": sizes, "lr": [1e-3, 3e-3]}, shared_batches=False)
    losses = {"s-lr0.001": 3.0, "s-lr0.003": 2.0, "m-lr0.001": 1.0, "m-lr0.003": 1.5}
    found = [
        state.MemberState(name, "finished", 14, 14, loss, loss, None, 3, None, None) for name, loss in losses.items()
    ]
    assert table.bests(suite, found) == {"s-lr0.003": "best of s", "m-lr0.001": "best of m"}
    unfinished = [state.MemberState(f.name, "running", *list(vars(f).values())[2:]) for f in found]
    assert table.bests(suite, unfinished) == {}


def test_who_has_a_member_is_waited_for_and_then_left_alone(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = begun(tmp_path, text, axes={"seed": [1]}, shared_batches=False)
    run_dir = suite.run_dir(suite.members[0])
    run_dir.mkdir()
    (run_dir / ".lock").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    assert state.states(suite)[0].state == "running"
    monkeypatch.setattr(running, "_WAIT_FOR_OTHERS", 0.1)
    report = running.run_members(suite, suite.members)
    assert report.elsewhere == {"seed1": f"process {os.getpid()}"} and report.failed == {}
    (run_dir / ".lock").write_text(json.dumps({"pid": 2**22 - 1, "host": socket.gethostname()}))
    assert state.states(suite)[0].state == "waiting"  # whoever held it is gone


def test_a_plan_measures_steps_of_each_kind_of_member_once_and_writes_nothing(tmp_path: Path, text: Path) -> None:
    """Two sizes of two seeds are two kinds: what a seed changes takes no time."""
    members = load_suite(write(tmp_path, text)).members
    before, asked = sorted(tmp_path.rglob("*")), []

    def timed(config: RunConfig) -> float:
        asked.append(config.name)
        return seconds_per_step(config, steps=1)

    plan = planning.plan_suite(members, step_seconds=timed)
    assert asked == ["s-seed5", "m-seed5"] and plan.measured
    steps = {each.run.name: each.run.seconds_per_step for each in plan.members}
    assert steps["s-seed5"] == steps["s-seed6"] and steps["m-seed5"] == steps["m-seed6"]
    assert all(each.run.seconds == pytest.approx(14 * steps[each.run.name]) for each in plan.members)
    assert plan.seconds == pytest.approx(sum(each.run.seconds for each in plan.members)) and plan.seconds > 0
    assert sorted(tmp_path.rglob("*")) == before


def test_on_a_terminal_watching_draws_the_table_again_until_it_is_stopped(tmp_path: Path, text: Path) -> None:
    suite, _ = record.open_or_begin(str(write(tmp_path, text)))
    near, far = pty.openpty()
    line = [sys.executable, "-m", "pico_train", "suite", "status", str(tmp_path / "runs" / "family"), "--watch", "0.2"]
    watching = subprocess.Popen(
        line, stdout=far, stderr=far, stdin=subprocess.DEVNULL, env=os.environ | {"TERM": "xterm"}
    )
    os.close(far)
    seen = b""
    while seen.count(b"\x1b[2J") < 3 and (more := os.read(near, 65_536)):
        seen += more
    watching.send_signal(signal.SIGINT)
    with suppress(OSError):  # the other end is closed
        while more := os.read(near, 65_536):
            seen += more
    os.close(near)
    assert watching.wait() == 130
    shown = seen.decode().split("\x1b[2J")[1]
    assert shown.count("waiting") >= 4 and all(member.name in shown for member in suite.members)
    assert "Traceback" not in seen.decode()
