"""Runs of Pico 1.0: laid out as that program does, and hostile ones."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from pico_v1_run import KV, LAYERS, PREFIX, H, captured, write_pico_v1
from safetensors.torch import save_file

from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Settings
from pico_analyze.errors import DataError, SamplesError
from pico_analyze.questions.question import Question, Target, Use
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.pickled import pickles
from pico_analyze.stores.pickled.pickles import Pickles
from pico_conformance.rows import tokenizer_json


@pytest.fixture
def v1(tmp_path) -> Path:
    return write_pico_v1(tmp_path / "runs" / "old")


def test_a_run_of_1_0_tells_what_it_holds(v1):
    store = open_store(v1)
    assert (store.kind, store.run) == ("pico-v1", "old-run")
    steps = store.steps()
    assert [(info.step, info.tokens_seen) for info in steps] == [(0, 0), (10, 320), (20, 640)]
    assert sorted(steps[0].splits) == ["train", "val"] and sorted(steps[2].splits) == ["val"]
    assert steps[0].sites("activations", "val") == tuple(
        f"layers.{layer}.{kind}" for layer in range(LAYERS) for kind in ("attn.v", "attn.o", "mlp.down")
    )
    assert store.spec(0).n_kv_heads == KV
    assert store._pickles._process is None  # nothing was unpickled for that


def test_tensors_are_those_that_were_pickled_and_bfloat16_is_widened(v1):
    store = open_store(v1)
    exact = captured(10, "val", "activations", torch.bfloat16)[f"{PREFIX}layers.1.attention.v_proj"].float().numpy()
    read = store.read(10, "val", "activations", "layers.1.attn.v")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, exact)
    gradient = captured(10, "train", "gradients")[f"{PREFIX}layers.0.swiglu.w_2"].numpy()
    np.testing.assert_array_equal(store.read(10, "train", "gradients", "layers.0.mlp.down"), gradient)
    weight = captured(10, "val", "weights")[f"{PREFIX}layers.0.attention.o_proj"].numpy()
    np.testing.assert_array_equal(store.read(10, None, "weights", "layers.0.attn.o"), weight)


def test_weights_come_from_the_pickles_where_safetensors_are_missing(v1):
    for file in v1.rglob("model.safetensors"):
        file.unlink()
    weight = captured(10, "val", "weights")[f"{PREFIX}layers.0.attention.o_proj"].numpy()
    np.testing.assert_array_equal(open_store(v1).read(10, None, "weights", "layers.0.attn.o"), weight)


def test_circuits_and_metrics_of_a_run_of_1_0(v1, pico, tmp_path):
    answer = pico(
        *("compute", "cka", "per", v1, "-c", "ov_circuit", "--format", "json", "--out", tmp_path / "o", "--no-plot")
    )
    rows = json.loads(answer.out)
    assert "old-run: a run of Pico 1.0" in answer.err
    assert len(rows) == 2 * 3 * LAYERS * (1 + H)
    assert all(row["value"] == pytest.approx(1) for row in rows if row["metric"] == "cka" and row["step"] == 20)
    listed = pico("list", v1).out
    assert "old-run (pico-v1" in listed and "train, val: attn.v attn.o mlp.down" in listed


def test_a_split_that_the_last_step_lacks_is_skipped_and_counted(v1, tmp_path):
    question = Question((Use("cosine"),), data="gradients", split="train")
    outcome = analyze([(v1, question)], Settings(out=tmp_path / "o"))
    assert set(outcome.frame["step"]) == {0, 10} and set(outcome.frame["target_step"]) == {10}
    assert outcome.skipped == {"step 20 of run 'old-run' has no train gradients": 6}


def test_batches_of_different_steps_are_told_apart_by_their_tokens(v1, tmp_path):
    with pytest.raises(SamplesError, match="are of different samples"):
        analyze([(v1, Question((Use("cka"),), split="train"))], Settings(out=tmp_path / "o"))


def test_samples_of_a_batch_are_the_tokens_that_the_model_read_last(v1):
    # Pico 1.0 took gradients on rows without their last token, and captured the last position of what was read.
    (v1 / "checkpoints/step_10/tokenizer.json").write_bytes(tokenizer_json())
    store = open_store(v1)
    samples = store.samples(10, "train")
    assert len(samples) == len(store.read(10, "train", "activations", "layers.0.attn.v")) == 16
    assert store.positions(10, "train") == 1 == len(samples) // samples["row"].nunique()
    assert samples["row"].tolist() == list(range(16)) and set(samples["position"]) == {1}
    assert samples["token_id"].tolist() == [1, *range(15)]
    assert samples["token"].tolist()[:5] == [" ", "<|endoftext|>", " ", "!", '"']
    assert store.samples(0, "train")["token"].isna().all(), "step 0 has no tokenizer"
    for gradients in v1.rglob("train_gradients.pt"):
        gradients.unlink()
    assert open_store(v1).samples(10, "train")["token_id"].tolist() == [2] + [5] * 15


def test_samples_that_1_0_did_not_keep_are_refused_in_a_sentence(v1):
    store = open_store(v1)
    for step, split, says in [
        (10, "val", "Pico 1.0 kept no validation rows"),
        (20, "train", "holds no train activations"),
        (30, "train", "no checkpoint of step 30"),
    ]:
        with pytest.raises(DataError, match=says):
            store.samples(step, split)
    shard = v1 / "checkpoints/step_0/learning_dynamics/train_data/data-00000-of-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(DataError, match="not a file of token rows"):
        store.samples(0, "train")
    for column, says in [([1, 2], "not a file of token rows"), ([[1], [2, 3]], "differ in length")]:
        table = pa.table({"input_ids": column})
        with pa.OSFile(str(shard), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(DataError, match=says):
            store.samples(0, "train")
    config = yaml.safe_load((v1 / "training_config.yaml").read_text())
    config["checkpointing"]["learning_dynamics"]["sequence_idx"] = 5
    (v1 / "training_config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="sequence_idx 5 is no position of rows of 2 tokens"):
        open_store(v1).samples(10, "train")


def test_runs_without_digests_are_compared_with_a_warning(v1, tmp_path):
    shutil.copytree(v1, tmp_path / "twin")
    question = Question((Use("cka"),), target=Target("same", str(tmp_path / "twin")))
    outcome = analyze([(v1, question)], Settings(out=tmp_path / "o"))
    assert outcome.frame["value"].to_numpy() == pytest.approx(1)
    assert any("captured the same samples cannot be verified" in warning for warning in outcome.tally.warnings)
    alone = analyze([(v1, Question((Use("cka"),)))], Settings(out=tmp_path / "p"))
    assert not any("verified" in warning for warning in alone.tally.warnings)


def test_a_run_name_from_the_configuration_cannot_lead_elsewhere(v1):
    config = yaml.safe_load((v1 / "training_config.yaml").read_text())
    config["checkpointing"]["run_name"] = "../../../etc"
    (v1 / "training_config.yaml").write_text(yaml.safe_dump(config))
    assert open_store(v1).run == "old"


def test_a_directory_without_a_model_is_named(v1):
    (v1 / "checkpoints" / "step_10" / "config.json").unlink()
    store = open_store(v1)
    assert [(lost.name, lost.reason) for lost in store.unusable()] == [("step_10", "incomplete: it has no config.json")]


def test_evaluation_results_are_found_by_their_step(v1):
    (v1 / "eval_results").mkdir()
    (v1 / "eval_results" / "step_10.json").write_text('{"paloma": 123.5, "more": {"x": 1, "text": "y"}}')
    assert open_store(v1).evaluations() == {10: {"paloma": 123.5, "more.x": 1.0}}


class _Canary:
    """Code that would leave a trace if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["zip", "plain"])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, form):
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    evil = {"layers.0.attention.v_proj": _Canary(trace)}
    if form == "zip":
        torch.save({"x": torch.ones(2)}, path)
        with zipfile.ZipFile(path) as archive:
            names = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in names.items():
                archive.writestr(name, pickle.dumps(evil) if name.endswith("data.pkl") else content)
    else:
        path.write_bytes(pickle.dumps(evil))
    with pytest.raises(DataError, match=r"evil\.pt: refused: it holds more than tensors"):
        Pickles().open(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([torch.ones(2)], "it holds a list, not named tensors"),
        ({"x": "text"}, "entry 'x' is a str, not a tensor"),
        ({3: torch.ones(2)}, "entry '3' is a Tensor"),
        ({"x": torch.arange(3)}, "tensor 'x' is of type torch.int64"),
        ({"x": torch.eye(3).to_sparse()}, "layout torch.sparse_coo"),
    ],
)
def test_what_is_no_dict_of_tensors_is_refused(tmp_path, value, says):
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(DataError, match="refused") as error:
        Pickles().open(tmp_path / "x.pt")
    assert says in str(error.value)


def test_a_damaged_pickle_is_one_sentence_and_the_next_one_is_still_read(tmp_path):
    opened = Pickles()
    (tmp_path / "bad.pt").write_bytes(b"not a pickle at all")
    torch.save({"x": torch.ones(2)}, tmp_path / "good.pt")
    with pytest.raises(DataError, match=r"bad\.pt: refused"):
        opened.open(tmp_path / "bad.pt")
    np.testing.assert_array_equal(opened.open(tmp_path / "good.pt").read("x"), [1, 1])
    with pytest.raises(DataError, match=r"gone\.pt: it is missing"):
        opened.open(tmp_path / "gone.pt")


def test_memory_is_limited(tmp_path):
    torch.save({"x": torch.ones(64 * 2**20)}, tmp_path / "big.pt")  # 256 MiB
    with pytest.raises(DataError, match=r"memory|limits"):
        Pickles(memory=64 * 2**20).open(tmp_path / "big.pt")


def test_time_is_limited(tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / "slow.pt")
    opened = Pickles(seconds=0.01)  # less than torch takes to be imported
    with pytest.raises(DataError, match=r"it took more than 0\.01 s"):
        opened.open(tmp_path / "slow.pt")
    assert opened._process is None


def test_without_torch_the_extra_is_named(tmp_path, monkeypatch):
    torch.save({"x": torch.ones(2)}, tmp_path / "x.pt")
    monkeypatch.setattr(pickles.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'pico-analyze\[torch\]'"):
        Pickles().open(tmp_path / "x.pt")


def test_what_came_out_of_the_pickles_goes_with_the_analysis(v1):
    store = open_store(v1)
    store.read(10, "val", "activations", "layers.1.attn.v")
    directory = store._pickles._directory
    process = store._pickles._process
    assert directory.is_dir() and process.poll() is None
    del store
    import gc

    gc.collect()
    assert not directory.exists() and process.poll() is not None


@pytest.mark.parametrize("suffixes", [7, "attention.v_proj", [["attention.v_proj"]], {"a": 1}])
def test_suffixes_that_are_no_list_of_names_are_refused(v1, suffixes):
    config = yaml.safe_load((v1 / "training_config.yaml").read_text())
    config["checkpointing"]["learning_dynamics"]["layer_suffixes"] = suffixes
    (v1 / "training_config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="layer_suffixes is not a list of names"):
        open_store(v1).steps()


@pytest.mark.parametrize("batch_size", [True, -4, 10**30, "4", [4], 0])
def test_tokens_are_not_counted_with_a_batch_size_that_is_none(v1, batch_size):
    config = yaml.safe_load((v1 / "training_config.yaml").read_text())
    config["data"]["dataloader"]["batch_size"] = batch_size
    (v1 / "training_config.yaml").write_text(yaml.safe_dump(config))
    assert [info.tokens_seen for info in open_store(v1).steps()] == [None] * 3


def test_a_step_that_is_there_twice_and_one_that_is_a_link_are_refused(v1):
    (v1 / "checkpoints" / "step_30").symlink_to(v1 / "checkpoints" / "step_10")
    store = open_store(v1)
    assert [info.step for info in store.steps()] == [0, 10, 20]
    assert [(lost.name, "symbolic link" in lost.reason) for lost in store.unusable()] == [("step_30", True)]
    shutil.copytree(v1 / "checkpoints" / "step_10", v1 / "checkpoints" / "step_010")
    with pytest.raises(DataError, match="step 10 is there twice, as step_010 and step_10"):
        open_store(v1).steps()


def test_a_batch_of_something_else_than_lists_is_named(v1):
    shard = str(v1 / "checkpoints" / "step_10" / "learning_dynamics" / "train_data" / "data-00000-of-00001.arrow")
    batch = pa.table({"input_ids": [1, 2, 3]})
    with pa.OSFile(shard, "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_table(batch)
    store = open_store(v1)
    assert {info.step: info.splits["train"].samples_sha256 for info in store.steps() if "train" in info.splits}[
        10
    ] is None
    with pytest.raises(DataError, match="not a file of token rows"):
        store.samples(10, "train")


@pytest.mark.parametrize(
    ("name", "step"), [("a_step_10", 10), ("step_10_x", 10), ("step_123456789", None), ("overstep_10", None)]
)
def test_results_belong_to_the_step_that_their_name_says(v1, name, step):
    (v1 / "eval_results").mkdir()
    (v1 / "eval_results" / f"{name}.json").write_text('{"paloma": 3.5}')
    assert open_store(v1).evaluations() == ({} if step is None else {step: {"paloma": 3.5}})


def test_two_tensors_for_one_site_are_refused_in_a_run_of_1_0_too(v1):
    from safetensors.torch import load_file

    path = v1 / "checkpoints" / "step_10" / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {f"ema.{name}": value + 1 for name, value in tensors.items()}, path)
    with pytest.raises(DataError, match="two tensors are there for site"):
        open_store(v1).steps()


class TestLinks:
    """What is behind a symbolic link is another checkpoint's, or may change with it: as in the other kinds of run."""

    @pytest.fixture
    def outside(self, v1, tmp_path):
        shutil.copytree(v1 / "checkpoints" / "step_20", tmp_path / "outside" / "step_20")
        return tmp_path / "outside"

    def refused(self, run, step, why):
        """Whether each reader refuses the step, and the listing names it with the reason."""
        store = open_store(run)
        assert step not in [info.step for info in store.steps()]
        (lost,) = [item for item in store.unusable() if item.step == step]
        assert why in lost.reason
        readers = [
            lambda: store.spec(step),
            lambda: store.read(step, "val", "activations", "layers.0.attn.v"),
            lambda: store.read(step, None, "weights", "layers.0.attn.v"),
            lambda: store.inputs(step, None, "weights", "layers.0.attn.v"),
            lambda: store.samples(step, "train"),
            lambda: store.provenance(step),
        ]
        for read in readers:
            with pytest.raises(DataError, match="symbolic link"):
                read()
        return True

    @pytest.mark.parametrize("where", ["outside", "inside", "nowhere", "itself"])
    def test_a_checkpoint_that_is_a_link_is_refused_by_every_reader(self, v1, outside, where):
        places = {"outside": outside / "step_20", "inside": v1 / "checkpoints" / "step_20", "nowhere": Path("/nowhere")}
        link = v1 / "checkpoints" / "step_30"
        link.symlink_to(places.get(where, link), target_is_directory=True)
        assert self.refused(v1, 30, "a symbolic link, not a checkpoint's own directory")
        assert [info.step for info in open_store(v1).steps()] == [0, 10, 20]

    @pytest.mark.parametrize("what", ["config.json", "model.safetensors", "learning_dynamics"])
    def test_a_part_of_a_checkpoint_that_is_a_link_out_of_it_is_refused(self, v1, outside, what):
        part = v1 / "checkpoints" / "step_20" / what
        shutil.rmtree(part) if part.is_dir() else part.unlink()
        part.symlink_to(outside / "step_20" / what)
        assert self.refused(v1, 20, f"{what} is a symbolic link that leaves it")
        assert [info.step for info in open_store(v1).steps()] == [0, 10]

    def test_a_capture_of_another_step_is_not_taken_for_its_own(self, v1):
        dynamics = v1 / "checkpoints" / "step_20" / "learning_dynamics"
        (dynamics / "val_activations.pt").unlink()
        (dynamics / "val_activations.pt").symlink_to("../../step_10/learning_dynamics/val_activations.pt")
        assert self.refused(v1, 20, "learning_dynamics/val_activations.pt is a symbolic link that leaves it")

    def test_a_link_that_stays_in_its_checkpoint_is_followed(self, v1):
        dynamics = v1 / "checkpoints" / "step_20" / "learning_dynamics"
        (dynamics / "val_activations.pt").rename(dynamics / "there.pt")
        (dynamics / "val_activations.pt").symlink_to("there.pt")
        assert [info.step for info in open_store(v1).steps()] == [0, 10, 20]

    def test_all_checkpoints_behind_a_link_are_refused(self, v1, tmp_path):
        (v1 / "checkpoints").rename(tmp_path / "elsewhere")
        (v1 / "checkpoints").symlink_to(tmp_path / "elsewhere")
        assert open_store(v1).steps() == ()
        assert all(self.refused(v1, step, "behind a symbolic link that leaves the run") for step in (0, 10, 20))

    def test_a_run_that_is_itself_named_through_a_link_is_read(self, v1, tmp_path):
        (tmp_path / "linked").symlink_to(v1)
        assert [info.step for info in open_store(tmp_path / "linked").steps()] == [0, 10, 20]

    def test_settings_and_results_behind_a_link_are_refused(self, v1, tmp_path):
        (v1 / "training_config.yaml").rename(tmp_path / "training_config.yaml")
        (v1 / "training_config.yaml").symlink_to(tmp_path / "training_config.yaml")
        with pytest.raises(DataError, match="leaves the run through a symbolic link"):
            open_store(v1)
        (v1 / "training_config.yaml").unlink()
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "old_step_10.json").write_text('{"loss": 1.0}')
        (v1 / "eval_results").symlink_to(tmp_path / "results")
        with pytest.raises(DataError, match="through a symbolic link"):
            open_store(v1).evaluations()
