"""Folders of checkpoints of other makers are runs: each name that tells a step, the Trainer's, the cache of the Hub."""

import json
import os
import shutil

import numpy as np
import pytest
from foreign import LLAMA, NEOX, course, files, llama, neox, write, write_series
from synthetic import make_run

import pico_analyze
from pico_analyze.errors import DataError, NotARunError, UsageError
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.transformers.step_names import StepPattern
from pico_conformance.runs import write_run

Q = "layers.1.attn.q"
STORED = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("name", "step", "tokens"),
    [
        ("checkpoint-500", 500, None),
        ("step0", 0, None),
        ("step143000", 143000, None),
        ("step-00001000", 1000, None),
        ("step_7", 7, None),
        ("step1000-tokens4B", 1000, 4_000_000_000),
        ("step1000-tokens0.5T", 1000, 500_000_000_000),
        ("stage1-step1000-tokens5B", 1000, 5_000_000_000),
        ("ckpt_100", 100, None),
        ("global_step42", 42, None),
        ("iter-001000", 1000, None),
        ("step1250-seed-default", 1250, None),
        ("main", None, None),
        ("final", None, None),
        ("misstep12", None, None),
        ("step", None, None),
        ("step12a", None, None),
        ("checkpoint-" + "9" * 16, None, None),
        ("v" * 400 + "-step1", None, None),
    ],
)
def test_a_name_tells_its_step_or_nothing(name, step, tokens):
    found = StepPattern().parse(name)
    assert (step, tokens) == (None, None) if found is None else (found.step, found.tokens) == (step, tokens)


@pytest.mark.parametrize(
    "form",
    ["checkpoint-{}", "step{}", "ckpt_{}", "step-{:08d}", "global_step{}", "step{}-tokens4B", "stage1-step{}-tokens5B"],
)
@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_of_checkpoints_is_one_run(tmp_path, form, shards):
    weights = write_series(tmp_path / "run", {step: form.format(step) for step in (0, 2, 10, 100)}, shards=shards)
    store = open_store(tmp_path / "run")
    assert store.run == "run" and [info.step for info in store.steps()] == [0, 2, 10, 100]
    assert not store.unusable()
    for step, expected in weights.items():
        np.testing.assert_array_equal(store.read(step, None, "weights", Q), expected[STORED])
    tokens = {info.tokens_seen for info in store.steps()}
    assert tokens == ({4_000_000_000} if "4B" in form else {5_000_000_000} if "5B" in form else {None})


def test_tokens_that_are_not_known_are_empty_in_the_table(tmp_path):
    write_series(tmp_path / "run", {1: "step1", 2: "step2"})
    frame = pico_analyze.compute("norm", tmp_path / "run", data="weights", out=tmp_path / "out")
    assert set(frame["step"]) == {1, 2} and frame["tokens_seen"].isna().all()


def test_one_of_its_checkpoints_is_named_by_its_directory_or_by_its_step(tmp_path, pico):
    write_series(tmp_path / "run", {1: "step1", 2: "step2"})
    for name in (tmp_path / "run" / "step2", f"{tmp_path / 'run'}@2"):
        answer = pico(
            "compute", "norm", name, "--data", "weights", "--format", "json", "--no-plot", "--out", tmp_path / "o"
        )
        assert {(row["run"], row["step"]) for row in json.loads(answer.out)} == {("run", 2)}


def trainer(root, *, steps=(2, 4), final=None, own_state=True, tokens=0, max_steps=6):
    """A folder as transformers' Trainer leaves it."""
    weights = course([*steps, *([final] if final else [])])
    history = [
        {"step": step, "epoch": step / 10, "loss": 5 / step, "learning_rate": 1e-3, "grad_norm": 1.5}
        for step in (2, 4, 6)
    ]
    history += [{"step": 4, "epoch": 0.4, "eval_loss": 1.25, "eval_runtime": 3.0}]

    def state(step):
        known = [row for row in history if row["step"] <= step]
        facts = {
            "global_step": step,
            "max_steps": max_steps,
            "num_input_tokens_seen": tokens * step,
            "log_history": known,
        }
        return {"trainer_state.json": json.dumps(facts).encode()}

    for step in steps:
        write(root / f"checkpoint-{step}", files(LLAMA, weights[step]) | state(step))
        (root / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"not read")
    (root / "runs").mkdir()
    if final:
        write(root, files(LLAMA, weights[final]) | (state(final) if own_state else {}))
    return weights


@pytest.mark.parametrize("own_state", [True, False])
def test_the_model_in_a_trainers_folder_is_the_last_step(tmp_path, own_state):
    weights = trainer(tmp_path / "out", final=6, own_state=own_state, tokens=100)
    store = open_store(tmp_path / "out")
    assert [info.step for info in store.steps()] == [2, 4, 6]
    np.testing.assert_array_equal(store.read(6, None, "weights", Q), weights[6][STORED])
    assert [info.tokens_seen for info in store.steps()] == [200, 400, 600 if own_state else None]
    assert store.steps()[1].metrics == {"train_loss": 1.25, "val_loss": 1.25}
    assert store.evaluations()[4] == {"train_loss": 1.25, "val_loss": 1.25, "lr": 1e-3, "grad_norm": 1.5}


def test_a_final_model_that_is_the_last_checkpoint_is_counted_once_and_one_of_no_step_is_named(tmp_path):
    trainer(tmp_path / "same", final=4, max_steps=4)
    assert [info.step for info in open_store(tmp_path / "same").steps()] == [2, 4]
    trainer(tmp_path / "none", final=6)
    for path in (tmp_path / "none").rglob("trainer_state.json"):
        path.unlink()
    store = open_store(tmp_path / "none")
    assert [info.step for info in store.steps()] == [2, 4]
    (lost,) = store.unusable()
    assert lost.step is None and "nothing tells its step" in lost.reason


def test_a_checkpoint_whose_state_is_of_another_step_is_no_part_of_the_run(tmp_path):
    trainer(tmp_path / "out")
    state = tmp_path / "out" / "checkpoint-4" / "trainer_state.json"
    state.write_text(state.read_text().replace('"global_step": 4', '"global_step": 3'))
    store = open_store(tmp_path / "out")
    assert [info.step for info in store.steps()] == [2]
    assert [(lost.step, lost.reason) for lost in store.unusable()] == [(4, "its trainer_state.json is that of step 3")]


def test_a_damaged_state_names_its_file_and_the_others_stay(tmp_path):
    trainer(tmp_path / "out")
    (tmp_path / "out" / "checkpoint-4" / "trainer_state.json").write_text("[1")
    store = open_store(tmp_path / "out")
    assert [info.step for info in store.steps()] == [2]
    assert "trainer_state.json: not a readable JSON object" in store.unusable()[0].reason


def test_names_that_tell_no_step_are_refused_and_a_pattern_tells_them(tmp_path):
    write_series(tmp_path / "run", {3: "model-3", 5: "model-5"})
    with pytest.raises(NotARunError, match=r"names of the models in it \(model-3, model-5\) tell no step"):
        open_store(tmp_path / "run")
    store = open_store(tmp_path / "run", ReadOptions(step_pattern=r"model-(\d+)"))
    assert [info.step for info in store.steps()] == [3, 5]
    store = open_store(tmp_path / "run", ReadOptions(step_pattern=r"(?P<name>m.*)-(?P<step>\d+)"))
    assert [info.step for info in store.steps()] == [3, 5]
    with pytest.raises(UsageError, match="is no regular expression"):
        open_store(tmp_path / "run", ReadOptions(step_pattern="("))
    with pytest.raises(UsageError, match="has no group"):
        open_store(tmp_path / "run", ReadOptions(step_pattern="model-.*"))


def test_a_model_among_checkpoints_whose_name_tells_no_step_is_named(tmp_path, pico):
    write_series(tmp_path / "run", {1: "step1", 2: "step2", 3: "final"})
    (tmp_path / "run" / "notes").mkdir()
    store = open_store(tmp_path / "run")
    assert [info.step for info in store.steps()] == [1, 2]
    assert [(lost.name, lost.step, lost.reason) for lost in store.unusable()] == [
        ("final", None, "its name tells no step")
    ]
    assert "no: final: its name tells no step" in pico("list", tmp_path / "run").out
    chosen = open_store(tmp_path / "run", ReadOptions(step_pattern=r"step(\d+)"))
    assert not chosen.unusable()


def test_two_runs_in_one_folder_are_refused_and_the_message_says_how_to_choose(tmp_path):
    names = {1: "stage1-step1", 2: "stage1-step2", 3: "stage2-step3"}
    write_series(tmp_path / "run", names)
    with pytest.raises(DataError, match="checkpoints of 2 series") as caught:
        open_store(tmp_path / "run")
    pattern = str(caught.value).rpartition("--step-pattern '")[2].rstrip("'")
    store = open_store(tmp_path / "run", ReadOptions(step_pattern=pattern))
    assert [info.step for info in store.steps()] == [1, 2]


def test_one_step_twice_is_refused(tmp_path):
    write_series(tmp_path / "run", {1: "step1", 2: "step2"})
    shutil.copytree(tmp_path / "run" / "step2", tmp_path / "run" / "step0002")
    with pytest.raises(DataError, match="step 2 is there twice, as step0002 and step2"):
        open_store(tmp_path / "run")


def test_architectures_that_differ_in_one_series_are_refused(tmp_path):
    write_series(tmp_path / "run", {1: "step1", 2: "step2"})
    write(tmp_path / "run" / "step3", files(NEOX, neox(np.random.default_rng(0))))
    with pytest.raises(
        DataError, match=r"step1 and step3 are models of different architectures \(llama and gpt_neox\)"
    ):
        open_store(tmp_path / "run")
    wider = LLAMA | {"intermediate_size": 16}
    write(tmp_path / "run" / "step3", files(wider, llama(np.random.default_rng(0))))
    with pytest.raises(DataError, match="d_ff 12 and 16"):
        open_store(tmp_path / "run")


def test_what_lacks_a_shard_or_is_cut_short_is_listed_as_incomplete(tmp_path, pico):
    write_series(tmp_path / "run", {step: f"step{step}" for step in (1, 2, 3, 4, 5, 6)}, shards=3)
    shard = "model-00002-of-00003.safetensors"
    (tmp_path / "run" / "step2" / shard).unlink()
    whole = (tmp_path / "run" / "step3" / shard).read_bytes()
    (tmp_path / "run" / "step3" / shard).write_bytes(whole[:-40])
    index = tmp_path / "run" / "step4" / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(shard, "../step1/" + shard))
    (tmp_path / "run" / "step5" / "config.json").unlink()
    for file in (tmp_path / "run" / "step6").glob("*.safetensors*"):
        file.unlink()
    (tmp_path / "run" / "step6" / "pytorch_model.bin").write_bytes(b"x")
    store = open_store(tmp_path / "run")
    assert [info.step for info in store.steps()] == [1]
    reasons = {lost.step: lost.reason for lost in store.unusable()}
    assert f"names {shard}, and there is no such file" in reasons[2]
    assert shard in reasons[3] and "does not fit the file: it is damaged" in reasons[3]
    assert "unsafe" in reasons[4] or "leaves" in reasons[4] or ".." in reasons[4]
    assert reasons[5] == "incomplete: it has no config.json"
    assert "its weights are pickled (pytorch_model.bin)" in reasons[6]
    answer = pico("list", tmp_path / "run")
    assert answer.code == 0 and "1 checkpoint, 5 incomplete" in answer.out


def test_a_checkpoint_of_pico_away_from_its_run_opens_as_what_it_is(tmp_path):
    run = write_run(tmp_path / "runs", steps=(0, 1, 2))
    whole = open_store(run)
    alone = shutil.copytree(run / "checkpoints" / "step-00000002", tmp_path / "copied")
    store = open_store(alone)
    assert (store.kind, store.run, [info.step for info in store.steps()]) == ("pico", "demo", [2])
    for data, split in (("weights", None), ("activations", "val"), ("gradients", "train")):
        for site in store.steps()[0].sites(data, split):
            np.testing.assert_array_equal(store.read(2, split, data, site), whole.read(2, split, data, site))
    assert store.provenance(2) == whole.provenance(2)


def snapshot(cache, commit, content):
    """A revision as huggingface_hub keeps it: links to blobs."""
    for name, data in content.items():
        blob = cache / "blobs" / f"{commit[:8]}-{name.replace('/', '-')}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link = cache / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))


def test_checkpoints_of_pico_in_a_folder_are_one_run(tmp_path, pico):
    """Copied out of their run, which they tell of themselves."""
    run = make_run(tmp_path / "runs")
    for name in ("step-00000002", "step-00000008"):
        shutil.copytree(run / "checkpoints" / name, tmp_path / "copied" / name)
    (tmp_path / "copied" / ".step-00000004.tmp").mkdir()
    store = open_store(tmp_path / "copied")
    assert (store.kind, store.run, [info.step for info in store.steps()]) == ("pico", "demo", [2, 8])
    site = "layers.1.attn.v"
    np.testing.assert_array_equal(
        store.read(2, "val", "activations", site), open_store(run).read(2, "val", "activations", site)
    )
    shutil.copytree(
        make_run(tmp_path / "more", "other", seed=7) / "checkpoints/step-00000004", tmp_path / "copied/other"
    )
    done = pico("list", tmp_path / "copied")
    assert done.code == 3 and "checkpoints of 2 runs are in it (demo, other): name the directory of one" in done.err


def test_the_cache_of_the_hub_is_a_run_of_the_refs_in_it(tmp_path):
    cache, weights = tmp_path / "models--org--pythia", course([1, 2])
    for step, commit in ((1, "a" * 40), (2, "b" * 40)):
        snapshot(cache, commit, files(LLAMA, weights[step]))
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / f"step{step}").write_text(commit)
    snapshot(cache, "c" * 40, files(LLAMA, weights[2]))
    (cache / "refs" / "main").write_text("c" * 40)
    for path in (cache, cache / "snapshots"):
        store = open_store(path)
        assert store.run == "pythia" and [info.step for info in store.steps()] == [1, 2]
        np.testing.assert_array_equal(store.read(2, None, "weights", Q), weights[2][STORED])
        assert [lost.reason for lost in store.unusable()] == ["nothing tells its step: main names it"]


def test_downloaded_revisions_of_pico_open_as_what_they_are(tmp_path):
    run = write_run(tmp_path / "runs", steps=(0, 1, 2))
    cache, whole = tmp_path / "models--org--demo", open_store(run)
    for step, commit in ((1, "a" * 40), (2, "b" * 40)):
        directory = run / "checkpoints" / f"step-{step:08d}"
        content = {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
        beside = {
            name: (run / name).read_bytes() for name in ("run.json", "validation.parquet") if (run / name).is_file()
        }
        snapshot(cache, commit, content | beside)
    both = open_store(cache)
    assert (both.kind, both.run, [info.step for info in both.steps()]) == ("pico", "demo", [1, 2])
    assert not both.unusable()
    one = open_store(cache / "snapshots" / ("b" * 40))
    assert [info.step for info in one.steps()] == [2]
    for store in (both, one):
        site = store.steps()[-1].sites("activations", "val")[0]
        np.testing.assert_array_equal(
            store.read(2, "val", "activations", site), whole.read(2, "val", "activations", site)
        )
        assert len(store.samples(2, "val")) == len(whole.samples(2, "val"))


def test_a_link_that_leads_out_of_the_cache_is_not_followed(tmp_path):
    run = write_run(tmp_path / "runs", steps=(1,))
    cache, directory = tmp_path / "models--org--demo", run / "checkpoints" / "step-00000001"
    content = {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    snapshot(cache, "a" * 40, content)
    link = cache / "snapshots" / ("a" * 40) / "model.safetensors"
    link.unlink()
    link.symlink_to(directory / "model.safetensors")
    store = open_store(cache)
    assert not store.steps() and "model.safetensors is missing" in store.unusable()[0].reason


def test_a_model_by_itself_has_the_step_that_it_tells(tmp_path):
    weights = llama(np.random.default_rng(0))
    assert open_store(write(tmp_path / "alone", files(LLAMA, weights))).steps()[0].step == 0
    assert open_store(write(tmp_path / "a" / "step700", files(LLAMA, weights))).steps()[0].step == 700
    state = {"trainer_state.json": b'{"global_step": 12, "log_history": []}'}
    assert open_store(write(tmp_path / "b", files(LLAMA, weights) | state)).steps()[0].step == 12
