"""Checkpoints in other formats: pickles that are opened where that is allowed, and all others named with a command."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import LLAMA, NEOX, course, files, llama, neox, write, write_series

import pico_analyze
from pico_analyze.errors import DataError, NotARunError
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.pickled.pickles import Pickles
from pico_conformance import Hub
from pico_conformance.published import put_files

Q, STORED = "layers.1.attn.q", "model.layers.1.self_attn.q_proj.weight"
ALLOWED = ReadOptions(allow_pickle=True)
REFUSED = r"its weights are pickled \(.*\), and unpickling can run code: if you trust its makers, give --allow-pickle"


def tensors(arrays):
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def put_bin(path, arrays, config=LLAMA, *, shards=1, name="pytorch_model.bin", more=None):
    """A checkpoint as transformers saved them before safetensors: torch.save of the weights, or of shards of them."""
    path.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    state = tensors(arrays) | (more or {})
    if shards == 1:
        torch.save(state, path / name)
        return path
    names = [f"pytorch_model-{n + 1:05d}-of-{shards:05d}.bin" for n in range(shards)]
    weight_map = {key: names[n * shards // len(state)] for n, key in enumerate(state)}
    for file in names:
        torch.save({key: state[key] for key, of in weight_map.items() if of == file}, path / file)
    (path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


@pytest.fixture
def weights():
    return llama(np.random.default_rng(0))


@pytest.mark.parametrize("shards", [1, 3])
def test_pickled_weights_are_those_of_safetensors_where_that_is_allowed(tmp_path, weights, shards):
    path = put_bin(tmp_path / "bin", weights, shards=shards)
    (path / "training_args.bin").write_bytes(b"not read")
    torch.save({"state": 1}, path / "optimizer.pt")
    plain = open_store(write(tmp_path / "plain", files(LLAMA, weights)))
    with pytest.raises(DataError, match=REFUSED):
        open_store(path)
    store = open_store(path, ALLOWED)
    (info,) = store.steps()
    assert info.weights == plain.steps()[0].weights and not store.unusable()
    for site in info.weights:
        np.testing.assert_array_equal(store.read(0, None, "weights", site), plain.read(0, None, "weights", site))
    names = {one.file for one in store.inputs(0, None, "weights", Q)}
    expected = {"config.json", "pytorch_model.bin"} if shards == 1 else {"config.json", "pytorch_model.bin.index.json"}
    assert expected <= names and all(one.startswith(("config", "pytorch_model")) for one in names)


def test_buffers_of_other_numbers_and_weights_that_share_memory_are_no_fault(tmp_path):
    shared = torch.ones(20, 8)
    more = {
        "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
        "gpt_neox.embed_in.weight": shared,
        "embed_out.weight": shared,
    }
    store = open_store(put_bin(tmp_path / "m", neox(np.random.default_rng(0)), NEOX, more=more), ALLOWED)
    np.testing.assert_array_equal(store.read(0, None, "weights", "head"), np.ones((20, 8)))
    assert "gpt_neox.layers.0.attention.bias" in store.without_site(0).others


def test_half_precision_is_widened(tmp_path, weights):
    half = {name: tensor.bfloat16() for name, tensor in tensors(weights).items()}
    path = put_bin(tmp_path / "m", weights, more=half)
    np.testing.assert_array_equal(open_store(path, ALLOWED).read(0, None, "weights", Q), half[STORED].float().numpy())


def test_a_series_of_pickles_opens_one_to_be_listed_and_each_when_it_is_read(tmp_path, pico):
    by_step = course([1, 2, 3])
    for step, arrays in by_step.items():
        put_bin(tmp_path / "run" / f"step{step}", arrays)
    answer = pico("list", tmp_path / "run")
    assert answer.code == 0 and answer.out.count("--allow-pickle") == 3 and "3 incomplete" in answer.out
    store = open_store(tmp_path / "run", ALLOWED)
    assert [info.step for info in store.steps()] == [1, 2, 3] and not store.unusable()
    pickles = store._checkpoint(1).files._pickles
    assert len(pickles._opened) == 1
    for step, arrays in by_step.items():
        np.testing.assert_array_equal(store.read(step, None, "weights", Q), arrays[STORED])
    assert len(pickles._opened) == 3
    answer = pico(
        *("compute", "norm", tmp_path / "run", "--data", "weights", "--site", "attn.q", "--allow-pickle", "--no-plot"),
        *("--format", "json", "--out", tmp_path / "out"),
    )
    rows = {(row["step"], row["layer"]): row["value"] for row in json.loads(answer.out)}
    assert rows[2, 1] == pytest.approx(np.linalg.norm(by_step[2][STORED]))
    frame = pico_analyze.compute("norm", tmp_path / "run", data="weights", sites="attn.q", allow_pickle=True)
    assert frame["value"].tolist() == pytest.approx([rows[step, layer] for step, layer in rows])
    inputs = json.loads(frame["provenance"].iloc[0])["inputs"]
    assert any("pytorch_model.bin" in str(one) for one in inputs)


def test_weights_that_change_are_computed_again(tmp_path, weights):
    path = put_bin(tmp_path / "run", weights)
    store = open_store(path, ALLOWED)
    store.read(0, None, "weights", Q)
    put_bin(path, course([0, 5])[5])
    with pytest.raises(DataError, match="it was changed during the analysis"):
        store.read(0, None, "weights", Q)
    np.testing.assert_array_equal(open_store(path, ALLOWED).read(0, None, "weights", Q), course([0, 5])[5][STORED])


class Canary:
    """Code that would leave a trace if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {shlex.quote(str(self.path))}",)


@pytest.mark.parametrize("within", ["itself", "state_dict", "beside"])
@pytest.mark.parametrize("form", ["zip", "plain"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "last.ckpt"])
def test_code_in_weights_is_never_run(tmp_path, weights, within, form, name, pico):
    trace = tmp_path / "trace"
    evil = {
        "itself": {"w": Canary(trace)},
        "state_dict": {"state_dict": {"w": Canary(trace)}},
        "beside": {"state_dict": tensors(weights), "callbacks": Canary(trace)},
    }[within]
    path = write(tmp_path / "m", {"config.json": json.dumps(LLAMA).encode()})
    if form == "zip":
        torch.save(evil, path / name)
    else:
        (path / name).write_bytes(pickle.dumps(evil))
    with pytest.raises(DataError, match=REFUSED):
        open_store(path)
    for words in ([], ["--allow-pickle"]):
        answer = pico("list", path, *words)
        assert answer.code == 3
        assert ("refused: it holds more than tensors" in answer.error) == bool(words)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([torch.ones(2)], "it holds a list, not named tensors"),
        ({"state_dict": {"x": "text"}}, "entry 'x' is a str, not a tensor"),
        ({"x": torch.ones(2), "y": {"z": 1}}, "entry 'y' is a dict"),
        ({"x": torch.eye(3).to_sparse()}, "layout torch.sparse_coo"),
        ({"x": torch.ones(1).expand(2**40)}, "memory"),
        ({"model": {}}, "it holds no tensors"),
    ],
)
def test_what_is_no_dict_of_tensors_is_refused(tmp_path, value, says):
    path = write(tmp_path / "m", {"config.json": json.dumps(LLAMA).encode()})
    torch.save(value, path / "model.pt")
    with pytest.raises(DataError, match=r"model\.pt: refused: ") as error:
        open_store(path, ALLOWED).steps()
    assert says in str(error.value)


def test_limits_grow_with_the_file_and_no_further(tmp_path):
    torch.save({"x": torch.ones(16 * 2**20)}, tmp_path / "big.pt")  # 64 MiB
    with pytest.raises(DataError, match=r"memory|limits"):
        Pickles(memory=2**20).open(tmp_path / "big.pt")
    opened = Pickles(model=True, memory=64 * 2**20)
    assert opened.open(tmp_path / "big.pt").read("x").sum() == 16 * 2**20
    torch.save({"x": torch.ones(1).expand(2**28)}, tmp_path / "bomb.pt")  # 1 GiB of some bytes
    with pytest.raises(DataError, match=r"memory|limits"):
        opened.open(tmp_path / "bomb.pt")
    torch.save({"x": torch.ones(2)}, tmp_path / "slow.pt")
    with pytest.raises(DataError, match=r"it took more than 0\.01"):
        Pickles(model=True, seconds=0.01).open(tmp_path / "slow.pt")


class TestCheckpointsOfTrainers:
    """Weights that lie within another dict."""

    def test_one_of_lightning_beside_its_configuration(self, tmp_path, weights):
        state = {f"model.{name}": tensor for name, tensor in tensors(weights).items()}
        whole = {"epoch": 1, "global_step": 70, "state_dict": state, "optimizer_states": [{"state": {}}], "loops": {}}
        path = write(tmp_path / "m", {"config.json": json.dumps(LLAMA).encode()})
        torch.save(whole, path / "last.ckpt")
        for named in (path, path / "last.ckpt"):
            with pytest.raises(DataError, match=REFUSED):
                open_store(named)
            np.testing.assert_array_equal(open_store(named, ALLOWED).read(0, None, "weights", Q), weights[STORED])

    def test_one_without_a_configuration_is_measured_by_the_names_of_its_tensors(self, tmp_path, weights):
        torch.save({"global_step": 70, "state_dict": tensors(weights)}, tmp_path / "epoch=1-step=70.ckpt")
        frame = pico_analyze.compute(
            "norm", tmp_path / "epoch=1-step=70.ckpt", data="weights", tensors=STORED, allow_pickle=True
        )
        assert frame["step"].tolist() == [70]
        assert frame["value"].tolist() == pytest.approx([np.linalg.norm(weights[STORED])])

    def test_one_of_several_is_to_be_named(self, tmp_path, weights):
        for name in ("a.ckpt", "b.ckpt"):
            torch.save({"state_dict": tensors(weights)}, tmp_path / name)
        with pytest.raises(DataError, match=r"it has 2 pickled files \(a\.ckpt, b\.ckpt\): name the one"):
            open_store(tmp_path, ALLOWED)

    @pytest.mark.parametrize("compiled", [False, True])
    def test_one_of_nanogpt_says_its_architecture_itself(self, tmp_path, compiled):
        torch.manual_seed(0)
        numbers = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 16, "bias": False, "vocab_size": 20}
        wte, state = torch.randn(20, 8), {"transformer.wpe.weight": torch.randn(16, 8)}
        state |= {"transformer.wte.weight": wte, "lm_head.weight": wte, "transformer.ln_f.weight": torch.ones(8)}
        for layer in range(2):
            block = f"transformer.h.{layer}"
            shapes = {"attn.c_attn": (24, 8), "attn.c_proj": (8, 8), "mlp.c_fc": (32, 8), "mlp.c_proj": (8, 32)}
            state |= {f"{block}.{name}.weight": torch.randn(*shape) for name, shape in shapes.items()}
            state |= {f"{block}.ln_1.weight": torch.ones(8)}
        named = {f"_orig_mod.{name}": tensor for name, tensor in state.items()} if compiled else state
        whole = {
            "model": named,
            "optimizer": {"state": {}, "param_groups": []},
            "model_args": numbers | {"dropout": 0.0},
            "iter_num": 2000,
            "best_val_loss": torch.tensor(1.5),
            "config": {"out_dir": "out", "learning_rate": 6e-4},
        }
        (tmp_path / "out").mkdir()
        torch.save(whole, tmp_path / "out" / "ckpt.pt")
        with pytest.raises(DataError, match=REFUSED):
            open_store(tmp_path / "out")
        store = open_store(tmp_path / "out", ALLOWED)
        (info,) = store.steps()
        assert info.step == 2000 and {"layers.1.attn.v", "layers.0.mlp.down", "embed", "head"} <= set(info.weights)
        fused = state["transformer.h.1.attn.c_attn.weight"].numpy()
        x = np.random.default_rng(0).standard_normal(8).astype(np.float32)
        for index, part in enumerate("qkv"):  # what `c_attn(x).split(n_embd)` gives
            expected = torch.nn.functional.linear(torch.from_numpy(x), torch.from_numpy(fused)).split(8)[index]
            found = store.read(2000, None, "weights", f"layers.1.attn.{part}") @ x
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
        assert store.spec(2000).n_heads == 2 and store.spec(2000).max_seq_len == 16
        assert not store.without_site(2000).missing


class TestNamedFormats:
    """Formats that are not read: the message has the command that converts them."""

    def said(self, path: Path, options: ReadOptions = ALLOWED) -> str:
        with pytest.raises(DataError) as error:
            open_store(path, options)
        with pytest.raises(DataError) as closed:
            open_store(path)
        assert str(error.value) == str(closed.value)
        return str(error.value)

    def test_deepspeed(self, tmp_path):
        run = write(tmp_path / "run", {"zero_to_fp32.py": b"", "latest": b"global_step5"})
        part = write(run / "global_step5", {"mp_rank_00_model_states.pt": b""})
        write(part, {"zero_pp_rank_0_mp_rank_00_optim_states.pt": b""})
        for path in (run, part):
            assert f"`python {run}/zero_to_fp32.py {run} OUT --safe_serialization`" in self.said(path)
        (run / "config.json").write_text(json.dumps(LLAMA))
        assert "it is a checkpoint of DeepSpeed (ZeRO)" in self.said(run)
        trainer = tmp_path / "out"
        write(trainer / "checkpoint-5", {"config.json": b"{}", "zero_to_fp32.py": b""})
        assert "zero_to_fp32.py" in open_store(trainer).unusable()[0].reason

    def test_litgpt(self, tmp_path, weights):
        path = write(tmp_path / "final", {"config.json": b"{}", "model_config.yaml": b""})
        torch.save({"model": tensors(weights)}, path / "lit_model.pth")
        assert f"`litgpt convert_from_litgpt {path} OUT`" in self.said(path)

    def test_a_folder_of_anything_else_is_no_run(self, tmp_path):
        write(tmp_path / "x", {"data.bin": b"x", "optimizer.pt": b"x"})
        with pytest.raises(NotARunError, match="not a run"):
            open_store(tmp_path / "x")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456\n"


class TestPointersOfGitLfs:
    """What `git clone` leaves without git LFS."""

    SAYS = r"it is a pointer of git LFS, not the file itself: fetch that with `git lfs pull`.*`hf download`"

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
    @pytest.mark.parametrize("options", [ReadOptions(), ALLOWED])
    def test_one_is_called_so_when_it_is_opened(self, tmp_path, weights, name, options):
        path = write(tmp_path / "m", files(LLAMA, weights))
        (path / "model.safetensors").rename(path / name)
        (path / "config.json").touch()
        write(path, {"config.json": json.dumps(LLAMA).encode(), name: POINTER})
        if name == "config.json":
            write(path, files(LLAMA, weights) | {name: POINTER})
        with pytest.raises(DataError, match=self.SAYS) as error:
            open_store(path, options).steps()
        assert name in str(error.value)

    def test_those_of_a_series_are_listed_so(self, tmp_path):
        write_series(tmp_path / "run", {1: "step1", 2: "step2", 3: "step3"})
        (tmp_path / "run" / "step2" / "model.safetensors").write_bytes(POINTER)
        (tmp_path / "run" / "step3" / "model.safetensors").unlink()
        (tmp_path / "run" / "step3" / "pytorch_model.bin").write_bytes(POINTER)
        store = open_store(tmp_path / "run")
        assert [info.step for info in store.steps()] == [1]
        assert all("it is a pointer of git LFS" in lost.reason for lost in store.unusable())
        assert len(store.unusable()) == 2


class TestOnTheHub:
    """Repositories that have `pytorch_model.bin` alone, as early ones do."""

    REPO = "tester/amber"

    @pytest.fixture
    def hub_mode(self) -> str:
        return "lfs"

    @pytest.fixture
    def by_step(self, hub: Hub, tmp_path: Path):
        by_step = course([1, 2, 3])
        for step, arrays in by_step.items():
            path = put_bin(tmp_path / "made" / str(step), arrays)
            content = {file.name: file.read_bytes() for file in path.iterdir()}
            put_files(hub, self.REPO, f"ckpt_{step}", content)
        return by_step

    @pytest.mark.usefixtures("by_step")
    def test_they_are_listed_without_a_download_and_not_opened(self, hub, tmp_path, pico):
        mark = hub.log.mark()
        answer = pico("list", f"hf://{self.REPO}", "--cache-dir", tmp_path / "cache")
        assert answer.code == 0 and "0 checkpoints, 3 incomplete" in answer.out
        assert answer.out.count("its weights are pickled (pytorch_model.bin)") == 3
        assert hub.log.count("resolve/.*bin", since=mark) == 0
        with pytest.raises(DataError, match=REFUSED):
            open_store(f"hf://{self.REPO}@ckpt_2", ReadOptions(cache_dir=tmp_path / "cache"))

    def test_they_are_read_where_that_is_allowed(self, by_step, tmp_path):
        options = ReadOptions(cache_dir=tmp_path / "cache", allow_pickle=True)
        store = open_store(f"hf://{self.REPO}", options)
        assert [info.step for info in store.steps()] == [1, 2, 3] and not store.unusable()
        pickles = store._checkpoint(1).files._repository.pickles
        assert len(pickles._opened) == 1, "the others are not downloaded to be listed"
        for step, arrays in by_step.items():
            np.testing.assert_array_equal(store.read(step, None, "weights", Q), arrays[STORED])
            (file, *_) = store.inputs(step, None, "weights", Q)
            assert file.file == "pytorch_model.bin" and not file.unchecked
        assert not list(pickles.directory.glob("*.pickle")), "what was downloaded is thrown away once it was read"
        frame = pico_analyze.compute(
            "norm",
            f"hf://{self.REPO}",
            data="weights",
            sites="attn.q",
            layers=1,
            cache_dir=tmp_path / "cache",
            allow_pickle=True,
        )
        expected = [np.linalg.norm(arrays[STORED]) for arrays in by_step.values()]
        assert frame["value"].tolist() == pytest.approx(expected)

    def test_code_in_them_is_never_run(self, hub, tmp_path):
        trace = tmp_path / "trace"
        content = {"config.json": json.dumps(LLAMA).encode(), "pytorch_model.bin": pickle.dumps(Canary(trace))}
        put_files(hub, self.REPO, "main", content)
        with pytest.raises(DataError, match=r"pytorch_model\.bin: refused: it holds more than tensors"):
            open_store(f"hf://{self.REPO}", ReadOptions(cache_dir=tmp_path / "cache", allow_pickle=True)).steps()
        assert not trace.exists()

    def test_other_formats_are_named_with_the_commands_that_fetch_and_convert_them(self, hub, tmp_path):
        put_files(hub, self.REPO, "main", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"})
        with pytest.raises(DataError, match=r'from_pretrained\("DIR".*`hf download tester/amber .*--local-dir DIR`'):
            open_store(f"hf://{self.REPO}", ReadOptions(cache_dir=tmp_path / "cache"))


class TestAtPlaces:
    """Pickled weights at places of fsspec."""

    def test_they_are_fetched_and_read_where_that_is_allowed(self, tmp_path):
        import fsspec

        system, by_step = fsspec.filesystem("memory"), course([1, 2])
        for step, arrays in by_step.items():
            path = put_bin(tmp_path / str(step), arrays)
            for file in path.iterdir():
                system.pipe(f"/pickled/step{step}/{file.name}", file.read_bytes())
        try:
            closed = open_store("memory://pickled")
            assert not closed.steps() and all("give --allow-pickle" in one.reason for one in closed.unusable())
            store = open_store("memory://pickled", ALLOWED)
            assert [info.step for info in store.steps()] == [1, 2]
            np.testing.assert_array_equal(store.read(2, None, "weights", Q), by_step[2][STORED])
            (file, *_) = store.inputs(2, None, "weights", Q)
            content = (tmp_path / "2" / "pytorch_model.bin").read_bytes()
            assert file.unchecked == {f"0+{len(content)}": hashlib.sha256(content).hexdigest()}
        finally:
            system.rm("/pickled", recursive=True)
