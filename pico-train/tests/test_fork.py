"""Forks: a run that begins at another's checkpoint goes on bit for bit where nothing was changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.tiny import config
from support.training_runs import logged, sealed, train_again, training_state, weights, what_a_step_holds
from typer.testing import CliRunner

from pico_conformance import Hub
from pico_conformance.published import put_run
from pico_schema import RunManifest, documents, layout
from pico_schema.digests import sha256_file
from pico_train import fork as forking
from pico_train.checkpoint.verify import verify_run
from pico_train.cli.app import app
from pico_train.errors import CheckpointError, ConfigError, PicoTrainError, UsageError
from pico_train.run import train

CASES = {"training__schedule": {"name": "wsd", "warmup_steps": 2, "decay_fraction": 0.2}}


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    """A run of 14 steps under warm-up, stable, decay: it decays from step 11 on."""
    out = tmp_path_factory.mktemp("trunk")
    train(config(out, text, name="trunk", **CASES))
    return out / "trunk"


def forked(place: str, name: str, out: Path, *settings: str, **options: Any) -> Path:
    """Fork and train; returns the run's directory."""
    cooldown = options.pop("cooldown", None)
    found = forking.open_trunk(place, state=options.get("optimizer", "kept") == "kept")
    made = forking.forked_config(found, name, out=str(out), assignments=settings, cooldown=cooldown)
    run_dir, _ = forking.fork(found, made, **options)
    train(made)
    return run_dir


def run_of(run_dir: Path) -> RunManifest:
    return documents.read_run(run_dir)


def test_with_nothing_changed_it_goes_on_bit_for_bit(
    trunk: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    made = forked(f"{trunk}@6", "again", tmp_path)
    assert sealed(made) == [6, 9, 12, 14]
    for step in (6, 9, 12, 14):
        ours, theirs = (what_a_step_holds(each, step) for each in (made, trunk))
        ours["manifest"].pop("origin"), theirs["manifest"].pop("origin")
        assert ours == theirs, step
    assert logged(made) == [row for row in logged(trunk) if row["step"] >= 6]
    parent = run_of(made).parent
    assert parent is not None
    assert (parent.run_id, parent.run_name, parent.step) == (run_of(trunk).id, "trunk", 6)
    assert parent.manifest_sha256 == sha256_file(trunk / layout.checkpoint_dir(6) / layout.MANIFEST)
    assert (parent.optimizer, parent.data, parent.location) == ("kept", "continued", str(trunk))
    assert run_of(made).id != run_of(trunk).id
    assert verify_run(made).sound
    assert [str(item.message) for item in recwarn if item.category is RuntimeWarning] == []


def test_a_cooldown_of_a_trunk_is_one_command(trunk: Path, tmp_path: Path) -> None:
    made = forked(f"{trunk}@9", "cooled", tmp_path, cooldown=4)
    assert sealed(made)[-1] == 13
    rates = {row["step"]: row.get("lr") for row in logged(made)}
    assert rates[9] == pytest.approx(3e-3)  # of half a cosine, the first step is at the peak
    assert rates[11] == pytest.approx(3e-3 * (0.5 + 0.5 * 4e-6), rel=1e-6)  # half way
    assert rates[9] > rates[10] > rates[11] > rates[12]
    # the trunk itself is at its peak until step 11, and was not touched
    assert logged(trunk)[10]["lr"] == pytest.approx(3e-3)


def test_without_the_optimizer_s_state_it_begins_with_none(trunk: Path, tmp_path: Path) -> None:
    made = forked(f"{trunk}@6", "fresh", tmp_path, optimizer="fresh")
    first = training_state(made / layout.checkpoint_dir(6))
    assert first["optimizer"]["state"] == {}
    groups = first["optimizer"]["param_groups"]
    own = training_state(trunk / layout.checkpoint_dir(6))["optimizer"]["param_groups"]
    assert [group["param_names"] for group in groups] == [group["param_names"] for group in own]
    # the update of step 6 is that of step 0 of AdamW: every entry moves by about the learning rate
    before, after = weights(made, 6), weights(made, 9)
    assert any((before[name] != after[name]).any() for name in before)
    assert not all((weights(trunk, 9)[name] == after[name]).all() for name in after)
    assert logged(made)[0]["loss"] == logged(trunk)[6]["loss"]  # the same batch at the same weights
    assert run_of(made).parent.optimizer == "fresh"  # type: ignore[union-attr]


def test_other_settings_of_the_optimizer_hold_from_the_fork_on(trunk: Path, tmp_path: Path) -> None:
    made = forked(f"{trunk}@6", "decayed", tmp_path, "training.optimizer.weight_decay=0.5")
    for step in (6, 9):
        state = training_state(made / layout.checkpoint_dir(step))["optimizer"]
        assert [group["weight_decay"] for group in state["param_groups"]] == [0.5, 0.0]
    then = training_state(trunk / layout.checkpoint_dir(6))["optimizer"]["state"]
    assert training_state(made / layout.checkpoint_dir(6))["optimizer"]["state"] == then


def test_another_seed_begins_the_data_anew_unless_they_are_to_go_on(trunk: Path, tmp_path: Path) -> None:
    anew = forked(f"{trunk}@6", "anew", tmp_path, "seed=9")
    on = forked(f"{trunk}@6", "on", tmp_path, "seed=9", data="continued")
    places = [documents.read_checkpoint(each / layout.checkpoint_dir(6)).cursor for each in (anew, on, trunk)]
    assert [(each.epoch, each.row) for each in places if each] == [(0, 0), (0, 24), (0, 24)]
    assert run_of(anew).parent.data == "anew"  # type: ignore[union-attr]
    digests = [[row["batch_sha256"] for row in logged(each)] for each in (anew, on)]
    assert digests[0] != digests[1] and digests[0][0] != logged(trunk)[6]["batch_sha256"]
    assert documents.read_checkpoint(anew / layout.checkpoint_dir(6)).captures == ()  # they were of another batch


def test_other_text_begins_at_its_first_row_and_keeps_the_tokenizer(trunk: Path, tmp_path: Path, text: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(text.read_text().replace("cat", "frog") * 2, encoding="utf-8")
    with pytest.raises(ConfigError, match="the data have another tokenizer than trunk@6") as refused:
        forked(f"{trunk}@6", "other", tmp_path, f"data.paths=[{other}]")
    tokenizer = str(refused.value).rpartition("data.tokenizer=")[2]
    settings = (f"data.paths=[{other}]", f"data.tokenizer={tokenizer}")
    made = forked(f"{trunk}@6", "other", tmp_path, *settings)
    assert run_of(made).parent.data == "anew"  # type: ignore[union-attr]
    assert run_of(made).data.sha256 != run_of(trunk).data.sha256
    with pytest.raises(ConfigError, match="--data continued: trunk@6 was trained on other data"):
        forked(f"{trunk}@6", "another", tmp_path, *settings, data="continued")


def test_inspect_says_the_parent(trunk: Path, tmp_path: Path) -> None:
    found = forking.open_trunk(f"{trunk}@6", state=True)
    run_dir, _ = forking.fork(found, forking.forked_config(found, "told", out=str(tmp_path)))
    told = CliRunner().invoke(app, ["inspect", str(run_dir)]).output
    assert f"forked  from trunk@6 ({trunk}), optimizer kept, data continued" in told


def test_a_second_call_goes_on(trunk: Path, tmp_path: Path) -> None:
    found = forking.open_trunk(f"{trunk}@6", state=True)
    made = forking.forked_config(found, "twice", out=str(tmp_path))
    run_dir, first = forking.fork(found, made)
    before = run_of(run_dir).id
    assert forking.fork(found, made) == (run_dir, first)
    train(made)
    assert run_of(run_dir).id == before and sealed(run_dir)[-1] == 14
    assert train_again(made) == ""


def test_a_fork_of_a_fork_names_its_own_parent(trunk: Path, tmp_path: Path) -> None:
    first = forked(f"{trunk}@6", "first", tmp_path)
    second = forked(f"{first}@9", "second", tmp_path)
    assert run_of(second).parent.run_id == run_of(first).id  # type: ignore[union-attr]
    assert (weights(second, 14)["lm_head.weight"] == weights(trunk, 14)["lm_head.weight"]).all()


REFUSED = {
    "another shape": (["model.d_model=32"], "of another shape: model.d_model is 16 there and 32 here"),
    "another length of rows": (["data.seq_len=16"], "of another shape: data.seq_len is 12 there and 16 here"),
    "no step left": (["training.max_steps=6"], "training.max_steps=6 leaves nothing to train after step 6"),
    "an unknown setting": (["training.max_step=9"], "did you mean 'max_steps'"),
    "other groups": (["training.optimizer.decay=all"], "groups the parameters otherwise"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_and_leaves_nothing(trunk: Path, tmp_path: Path, case: str) -> None:
    settings, said = REFUSED[case]
    with pytest.raises(PicoTrainError, match=said):
        forked(f"{trunk}@6", "refused", tmp_path, *settings)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_not_whole_or_has_no_state_is_refused(trunk: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trunk, copy)
    with pytest.raises(CheckpointError, match="has no checkpoint of step 7"):
        forking.open_trunk(f"{copy}@7", state=True)
    shutil.rmtree(copy / layout.checkpoint_dir(6) / layout.TRAINING_STATE)
    with pytest.raises(CheckpointError, match="has no checkpoint of step 6 with a training state"):
        forking.open_trunk(f"{copy}@6", state=True)
    assert forking.open_trunk(f"{copy}@6", state=False).checkpoint.step == 6
    weights_file = copy / layout.checkpoint_dir(9) / layout.WEIGHTS
    weights_file.write_bytes(weights_file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        forking.open_trunk(f"{copy}@9", state=True)


def test_a_name_that_is_taken_is_refused(trunk: Path, tmp_path: Path) -> None:
    found = forking.open_trunk(f"{trunk}@6", state=True)
    with pytest.raises(UsageError, match="give the fork a name of its own"):
        forking.check_name("trunk", found)
    made = forking.forked_config(found, "trunk", out=None)
    with pytest.raises(CheckpointError, match="is there already and is no fork: choose another --name"):
        forking.fork(found, made)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="is there already and is no run"):
        forking.fork(found, forking.forked_config(found, "taken", out=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"--cooldown is the decay of training\.schedule\.name=wsd"):
        forking.forked_config(found, "x", out=None, assignments=["training.schedule.name=cosine"], cooldown=3)


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


def test_a_run_on_the_hub_is_forked_with_its_optimizer(
    trunk: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    put_run(hub, trunk, "org/name")
    made = forked("hf://org/name@trunk:step-6", "mine", tmp_path)
    for step in (9, 14):
        ours, theirs = (what_a_step_holds(each, step) for each in (made, trunk))
        assert ours == theirs, step
    run = run_of(made)
    assert run.parent is not None and run.parent.location == "hf://org/name@trunk"
    assert run.config["publish"]["repo"] is None  # whoever published it decides about their repository
    found = forking.open_trunk("hf://org/name@trunk", state=True)
    assert found.checkpoint.step == 14
