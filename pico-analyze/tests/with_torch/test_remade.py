"""Checkpoints that libraries make models of: distributed ones of torch, and adapters of PEFT merged with their base."""

from __future__ import annotations

import json
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from foreign import LLAMA, course, files, llama, write

import pico_analyze
from pico_analyze.errors import DataError
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.pickled.pickles import Pickles


@pytest.fixture(autouse=True)
def one_process(monkeypatch, shared_pickles):
    """All tests ask one process: what takes time is that it imports torch."""
    monkeypatch.setattr("pico_analyze.stores.pickled.pickles.Pickles", lambda **_: shared_pickles)


@pytest.fixture(scope="module")
def shared_pickles():
    return Pickles(model=True)


Q, STORED = "layers.1.attn.q", "model.layers.1.self_attn.q_proj.weight"
ALLOWED = ReadOptions(allow_pickle=True)


def tensors(arrays):
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class Canary:
    """Code that would leave a trace if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {shlex.quote(str(self.path))}",)


class TestDistributed:
    """Directories of `torch.distributed.checkpoint`."""

    def put(self, path, arrays, *, config=LLAMA, **more):
        whole = {"model": tensors(arrays), "optimizer": {"state": {0: {"exp_avg": torch.ones(4)}}, "lr": 0.1}, **more}
        dcp.save(whole, checkpoint_id=str(path))
        if config is not None:
            (path / "config.json").write_text(json.dumps(config))
        return path

    def test_a_series_is_read_where_pickles_are_allowed(self, tmp_path, pico):
        by_step = course([1, 2, 3])
        for step, arrays in by_step.items():
            self.put(tmp_path / "run" / f"step-{step}", arrays)
        answer = pico("list", tmp_path / "run")
        assert answer.code == 0 and answer.out.count("give --allow-pickle") == 3 and "3 incomplete" in answer.out
        store = open_store(tmp_path / "run", ALLOWED)
        assert [info.step for info in store.steps()] == [1, 2, 3] and not store.unusable()
        plain = open_store(write(tmp_path / "plain", files(LLAMA, by_step[2])))
        assert store.steps()[1].weights == plain.steps()[0].weights
        for site in plain.steps()[0].weights:
            expected, found = plain.read(0, None, "weights", site), store.read(2, None, "weights", site)
            np.testing.assert_array_equal(found, expected)
        assert store.provenance(2)["made_of"] == ".metadata, __0_0.distcp"

    def test_one_without_a_configuration_is_measured_by_names_and_tells_its_step(self, tmp_path):
        arrays = llama(np.random.default_rng(0))
        self.put(tmp_path / "x", arrays, config=None, step=9)
        frame = pico_analyze.compute("norm", tmp_path / "x", data="weights", tensors=STORED, allow_pickle=True)
        assert frame["step"].tolist() == [9]
        assert frame["value"].tolist() == pytest.approx([np.linalg.norm(arrays[STORED])])

    def test_names_that_are_not_within_a_dict_stay(self, tmp_path):
        arrays = llama(np.random.default_rng(0))
        dcp.save(tensors(arrays), checkpoint_id=str(tmp_path / "x"))
        (tmp_path / "x" / "config.json").write_text(json.dumps(LLAMA))
        np.testing.assert_array_equal(open_store(tmp_path / "x", ALLOWED).read(0, None, "weights", Q), arrays[STORED])

    def test_another_shard_makes_other_rows(self, tmp_path):
        first, second = course([1, 2]).values()
        path = self.put(tmp_path / "x", first)
        before = open_store(path, ALLOWED).inputs(0, None, "weights", Q)[0].sha256
        self.put(path, second)
        assert open_store(path, ALLOWED).inputs(0, None, "weights", Q)[0].sha256 != before

    @pytest.mark.parametrize("where", ["metadata", "value", "tensor"])
    def test_code_in_one_is_never_run(self, tmp_path, pico, where):
        trace, path = tmp_path / "trace", tmp_path / "x"
        arrays = llama(np.random.default_rng(0))
        self.put(path, arrays, **({"step": Canary(trace)} if where == "value" else {}))
        if where == "metadata":
            (path / ".metadata").write_bytes(pickle.dumps(Canary(trace)))
        if where == "tensor":
            metadata = pickle.loads((path / ".metadata").read_bytes())  # noqa: S301 - written above
            evil, content = pickle.dumps(Canary(trace)), bytearray((path / "__0_0.distcp").read_bytes())
            for info in metadata.storage_data.values():
                content[info.offset : info.offset + len(evil)] = evil
            (path / "__0_0.distcp").write_bytes(content)
        trace.unlink(missing_ok=True)  # saving one runs nothing, and this test would not see it
        words = ("--data", "weights", "--site", "attn.q", "--allow-pickle", "--no-plot", "--out", tmp_path / "out")
        answer = pico("compute", "norm", path, *words)
        assert not trace.exists()
        assert answer.code == 3 and "Traceback" not in answer.error
        if where == "metadata":
            assert "names posix.system, which none of torch does: not opened" in answer.error

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda path: (path / "__0_0.distcp").unlink(), "incomplete: it has no weights|not a run"),
            (lambda path: (path / "__0_0.distcp").rename(path / "__1_0.distcp"), r"\.metadata names __0_0\.distcp"),
            (lambda path: (path / "__0_0.distcp").write_bytes(b"x" * 200), r"refused: "),
            (lambda path: (path / ".metadata").write_bytes(b"x"), r"refused: "),
            (lambda path: (path / ".metadata").write_bytes(pickle.dumps({})), r"its \.metadata is none"),
        ],
        ids=["shard away", "shard of another name", "shard cut", "no metadata", "another pickle"],
    )
    def test_a_damaged_one_is_one_sentence(self, tmp_path, spoil, says):
        path = self.put(tmp_path / "x", llama(np.random.default_rng(0)))
        spoil(path)
        with pytest.raises(DataError, match=says) as error:
            open_store(path, ALLOWED).read(0, None, "weights", Q)
        assert "\n" not in str(error.value)

    def test_one_that_claims_more_than_it_holds_is_refused(self, tmp_path):
        path = self.put(tmp_path / "x", llama(np.random.default_rng(0)))
        metadata = pickle.loads((path / ".metadata").read_bytes())  # noqa: S301 - written above
        key = f"model.{STORED}"
        metadata.state_dict_metadata[key].size = torch.Size([2**20, 2**20])
        (path / ".metadata").write_bytes(pickle.dumps(metadata))
        with pytest.raises(DataError, match="its files hold no such number"):
            open_store(path, ALLOWED).read(0, None, "weights", Q)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A base, two adapters of a training, and the weights that they come to, by the definition of LoRA."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("adapted")
    base = write(root / "base", files(LLAMA, llama(np.random.default_rng(0))))
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    wanted = peft.LoraConfig(r=3, lora_alpha=12, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    adapter, expected = peft.get_peft_model(model, wanted), {}
    for step in (10, 20):
        torch.manual_seed(step)
        factors = {name: one for name, one in adapter.named_parameters() if "lora_" in name}
        for one in factors.values():
            one.data.normal_(0, 0.2)
        adapter.save_pretrained(root / "run" / f"checkpoint-{step}")
        begin = "base_model.model.model.layers.1.self_attn.q_proj"
        a, b = (factors[f"{begin}.lora_{x}.default.weight"].detach().double().numpy() for x in "AB")
        plain = model.get_parameter(begin.removeprefix("base_model.model.") + ".base_layer.weight")
        expected[step] = plain.detach().double().numpy() + 12 / 3 * (b @ a)
    return base, root / "run", expected


class TestAdapters:
    """Differences to a base, in directories as Trainer saves them."""

    def test_a_series_is_listed_without_merging_and_read_merged(self, adapted, pico):
        base, run, expected = adapted
        store = open_store(run)
        assert [info.step for info in store.steps()] == [10, 20] and not store.unusable()
        assert store.steps()[0].weights == open_store(base).steps()[0].weights
        for step, weight in expected.items():
            np.testing.assert_allclose(store.read(step, None, "weights", Q), weight, rtol=1e-5, atol=1e-6)
            untouched = open_store(base).read(0, None, "weights", "layers.1.attn.k")
            np.testing.assert_array_equal(store.read(step, None, "weights", "layers.1.attn.k"), untouched)
        said = store.provenance(10)
        assert said["made_of"] == "adapter_config.json, adapter_model.safetensors" and said["base"] == str(base)
        answer = pico("list", run)
        assert answer.code == 0 and "2 checkpoints" in answer.out

    def test_without_its_base_one_says_which_and_what_to_give(self, adapted, tmp_path, pico):
        import shutil

        base, run, _ = adapted
        alone = tmp_path / "alone"
        shutil.copytree(run / "checkpoint-10", alone)
        config = json.loads((alone / "adapter_config.json").read_text())
        for name in ("someone/nowhere", "/no/such/base"):
            (alone / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": name}))
            answer = pico("list", alone)
            assert answer.code == 3 and f"its base '{name}' is not on this machine: give --base-model" in answer.error
            answer = pico("list", alone, "--base-model", base)
            assert answer.code == 0 and "1 checkpoint" in answer.out
        answer = pico("list", alone, "--base-model", tmp_path / "none")
        assert answer.code == 3 and "there is no such path" in answer.error
        (alone / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
        answer = pico("list", alone)
        assert answer.code == 3 and "it names no base model: give --base-model" in answer.error
        (alone / "adapter_model.safetensors").unlink()
        answer = pico("list", alone)
        assert answer.code == 3 and "it has adapter_config.json, and no adapter_model.safetensors" in answer.error

    def test_a_base_that_changes_is_found_out(self, adapted, tmp_path):
        import shutil

        base, run, _ = adapted
        other = write(tmp_path / "base", files(LLAMA, llama(np.random.default_rng(5))))
        shutil.copytree(run / "checkpoint-10", tmp_path / "a")
        digests = {
            open_store(tmp_path / "a", ReadOptions(base_model=str(one))).inputs(0, None, "weights", Q)[0].sha256
            for one in (base, other)
        }
        assert len(digests) == 2

    def test_an_adapter_that_does_not_fit_is_one_sentence(self, adapted, tmp_path):
        import shutil

        _, run, _ = adapted
        wide = LLAMA | {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 4}
        import transformers

        made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**wide))
        made.save_pretrained(tmp_path / "wide")
        shutil.copytree(run / "checkpoint-10", tmp_path / "a")
        read = ReadOptions(base_model=str(tmp_path / "wide"))
        with pytest.raises(DataError, match=r"no model could be made of it: .*size mismatch") as error:
            open_store(tmp_path / "a", read).read(0, None, "weights", Q)
        assert "\n" not in str(error.value)

    def test_what_would_import_other_modules_is_refused(self, adapted, tmp_path):
        import shutil

        _, run, _ = adapted
        shutil.copytree(run / "checkpoint-10", tmp_path / "a")
        config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
        config |= {"megatron_config": {"x": 1}, "megatron_core": "antigravity"}
        (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(DataError, match="has megatron_config, which is not followed"):
            open_store(tmp_path / "a").read(0, None, "weights", Q)
