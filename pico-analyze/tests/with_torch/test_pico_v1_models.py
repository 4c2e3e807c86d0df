"""Models of Pico 1.0, run: their code lies beside their weights, and is run where it is trusted."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from pico_v1_code import CODE
from safetensors.torch import save_file

from pico_analyze.stores.opening import open_store

SIZE = {"d_model": 16, "n_layers": 2, "vocab_size": 50, "max_seq_len": 8, "attention_n_heads": 4}
SIZE |= {"attention_n_kv_heads": 2, "activation_hidden_dim": 24, "norm_eps": 1e-6, "position_emb_theta": 10000.0}
IDS = [[(5 * row + 3 * position) % 50 for position in range(9)] for row in range(4)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run as Pico 1.0 laid it out, and the model of each step."""
    root = tmp_path_factory.mktemp("v1") / "old-run"
    root.mkdir()
    (root / "training_config.yaml").write_text("checkpointing: {run_name: old-run}\n")
    (root / "pico_decoder.py").write_text(CODE)
    spec = importlib.util.spec_from_file_location("pico_decoder_of_a_test", root / "pico_decoder.py")
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    models = {}
    for step in (0, 10):
        torch.manual_seed(step)
        models[step] = code.PicoDecoderHF(code.PicoDecoderHFConfig(**SIZE)).eval()
        path = root / "checkpoints" / f"step_{step}"
        path.mkdir(parents=True)
        named = {"AutoConfig": "PicoDecoderHFConfig", "AutoModelForCausalLM": "PicoDecoderHF"}
        config = SIZE | {"auto_map": {key: f"pico_decoder.{name}" for key, name in named.items()}}
        config |= {"model_type": "pico_decoder", "architectures": ["PicoDecoderHF"]}
        (path / "config.json").write_text(json.dumps(config))
        (path / "pico_decoder.py").write_text(CODE)
        save_file(models[step].state_dict(), path / "model.safetensors", {"format": "pt"})
    rows = root.parent / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": one}) + "\n" for one in IDS))
    return root, rows, models


def test_code_is_not_run_unless_it_is_trusted(run, tmp_path, pico):
    root, rows, _ = run
    answer = pico("capture", root, "--data", rows, "--out", tmp_path / "out")
    assert answer.code == 2 and "read it, then give --trust-remote-code" in answer.error


def test_activations_and_gradients_are_those_of_hooks(run, tmp_path, pico, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    root, rows, models = run
    answer = pico(
        *("capture", root, "--data", rows, "--out", tmp_path / "out", "--sites", "attn.q,attn.v,mlp.down,resid"),
        *("--positions", "all", "--gradients", "--trust-remote-code"),
    )
    assert answer.code == 0, answer.error
    store = open_store(tmp_path / "out")
    assert [info.step for info in store.steps()] == [0, 10]
    for step, model in models.items():
        ids, seen = torch.tensor(IDS), {}
        for layer, block in enumerate(model.pico_decoder.layers):
            inside = {"attn.q": block.attention.q_proj, "attn.v": block.attention.v_proj, "mlp.down": block.swiglu.w_2}
            for kind, module in (inside | {"resid": block}).items():
                name = f"layers.{layer}.{kind}"
                module.register_forward_hook(lambda _, __, gave, name=name, seen=seen: seen.update({name: gave}))
        model.zero_grad()
        logits = model(ids[:, :-1]).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        for name, gave in seen.items():
            expected = (gave[0] if isinstance(gave, tuple) else gave).detach().flatten(0, 1).numpy()
            found = store.read(step, "val", "activations", name)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)
        gradient = model.pico_decoder.layers[1].attention.v_proj.weight.grad.numpy()
        found = store.read(step, "val", "gradients", "layers.1.attn.v")
        np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-7)


def test_without_its_code_one_says_what_is_needed(run, tmp_path, pico):
    root, rows, _ = run
    import shutil

    shutil.copytree(root, tmp_path / "bare")
    for code in (tmp_path / "bare").rglob("*.py"):
        code.unlink()
    answer = pico("capture", tmp_path / "bare", "--data", rows, "--out", tmp_path / "out", "--trust-remote-code")
    assert answer.code == 3 and "pico_decoder.py" in answer.error
    assert len(answer.error.strip().splitlines()[-1]) < 900
