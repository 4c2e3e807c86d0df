"""Models of other architectures, written by hand from known q, k and v: what is read must be those again."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from synthetic import draw

from pico_analyze.errors import DataError
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.transformers.architectures import sites_of

D, H, FF, V = 12, 3, 20, 30
C = D // H


def write(path: Path, config: dict, tensors: dict[str, np.ndarray]) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path / "model.safetensors")
    return path


def parts(layer: int, kv: int = D) -> dict[str, np.ndarray]:
    """The canonical weights of one layer, (out, in)."""
    shapes = {"attn.q": (D, D), "attn.k": (kv, D), "attn.v": (kv, D), "attn.o": (D, D)}
    shapes |= {"mlp.gate": (FF, D), "mlp.up": (FF, D), "mlp.down": (D, FF)}
    return {f"layers.{layer}.{kind}": draw(shape, layer, kind) for kind, shape in shapes.items()}


EMBED, HEAD, NORM = draw((V, D), "embed"), draw((V, D), "head"), draw((D,), "norm")


def gpt2(path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    expected, tensors = {"embed": EMBED, "norm.final": NORM, "head": EMBED}, {}
    for layer in range(2):
        w = parts(layer)
        place = f"transformer.h.{layer}"
        q, k, v = (w[f"layers.{layer}.attn.{x}"] for x in "qkv")
        tensors[f"{place}.attn.c_attn.weight"] = np.concatenate([q, k, v]).T
        tensors[f"{place}.attn.c_attn.bias"] = draw((3 * D,), "bias")
        tensors[f"{place}.attn.c_proj.weight"] = w[f"layers.{layer}.attn.o"].T
        tensors[f"{place}.mlp.c_fc.weight"] = w[f"layers.{layer}.mlp.up"].T
        tensors[f"{place}.mlp.c_proj.weight"] = w[f"layers.{layer}.mlp.down"].T
        tensors[f"{place}.ln_1.weight"] = NORM
        del w[f"layers.{layer}.mlp.gate"]
        expected |= w
    tensors |= {"transformer.wte.weight": EMBED, "transformer.ln_f.weight": NORM, "transformer.wpe.weight": EMBED}
    config = {"model_type": "gpt2", "n_embd": D, "n_head": H, "n_layer": 2, "n_inner": FF, "vocab_size": V}
    return write(path, config | {"n_positions": 64, "tie_word_embeddings": True}, tensors), expected


def neox(path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    expected, tensors = {"embed": EMBED, "norm.final": NORM, "head": HEAD}, {}
    for layer in range(2):
        w = parts(layer)
        place = f"gpt_neox.layers.{layer}"
        by_head = [w[f"layers.{layer}.attn.{x}"][head * C : (head + 1) * C] for head in range(H) for x in "qkv"]
        tensors[f"{place}.attention.query_key_value.weight"] = np.concatenate(by_head)
        tensors[f"{place}.attention.dense.weight"] = w[f"layers.{layer}.attn.o"]
        tensors[f"{place}.mlp.dense_h_to_4h.weight"] = w[f"layers.{layer}.mlp.up"]
        tensors[f"{place}.mlp.dense_4h_to_h.weight"] = w[f"layers.{layer}.mlp.down"]
        tensors[f"{place}.input_layernorm.weight"] = NORM
        del w[f"layers.{layer}.mlp.gate"]
        expected |= w
    tensors |= {"gpt_neox.embed_in.weight": EMBED, "embed_out.weight": HEAD, "gpt_neox.final_layer_norm.weight": NORM}
    config = {"model_type": "gpt_neox", "hidden_size": D, "num_attention_heads": H, "num_hidden_layers": 2}
    return write(path, config | {"intermediate_size": FF, "vocab_size": V}, tensors), expected


def llama(path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    expected, tensors = {"embed": EMBED, "norm.final": NORM, "head": HEAD}, {}
    names = {"attn.": "self_attn.{}_proj", "mlp.": "mlp.{}_proj"}
    for layer in range(2):
        w = parts(layer, kv=C)
        for site, array in w.items():
            group, kind = site.split(".")[2:]
            tensors[f"model.layers.{layer}.{names[f'{group}.'].format(kind)}.weight"] = array
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = NORM
        expected |= w
    tensors |= {"model.embed_tokens.weight": EMBED, "model.norm.weight": NORM, "lm_head.weight": HEAD}
    config = {"model_type": "llama", "hidden_size": D, "num_attention_heads": H, "num_key_value_heads": 1}
    return write(path, config | {"num_hidden_layers": 2, "intermediate_size": FF, "vocab_size": V}, tensors), expected


def phi3(path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    expected, tensors = {"embed": EMBED, "norm.final": NORM, "head": HEAD}, {}
    for layer in range(2):
        w = parts(layer, kv=C)
        place = f"model.layers.{layer}"
        tensors[f"{place}.self_attn.qkv_proj.weight"] = np.concatenate([w[f"layers.{layer}.attn.{x}"] for x in "qkv"])
        tensors[f"{place}.mlp.gate_up_proj.weight"] = np.concatenate(
            [w[f"layers.{layer}.mlp.{x}"] for x in ("gate", "up")]
        )
        tensors[f"{place}.self_attn.o_proj.weight"] = w[f"layers.{layer}.attn.o"]
        tensors[f"{place}.mlp.down_proj.weight"] = w[f"layers.{layer}.mlp.down"]
        expected |= w
    tensors |= {"model.embed_tokens.weight": EMBED, "model.norm.weight": NORM, "lm_head.weight": HEAD}
    config = {"model_type": "phi3", "hidden_size": D, "num_attention_heads": H, "num_key_value_heads": 1}
    return write(path, config | {"num_hidden_layers": 2, "intermediate_size": FF, "vocab_size": V}, tensors), expected


@pytest.mark.parametrize("make", [gpt2, neox, llama, phi3])
def test_weights_come_out_under_their_sites_as_out_by_in(tmp_path, make):
    path, expected = make(tmp_path / "model")
    store = open_store(path)
    (info,) = store.steps()
    assert store.kind == "transformers" and store.run == "model"
    assert set(info.weights) == set(expected)
    for site, array in expected.items():
        np.testing.assert_array_equal(store.read(0, None, "weights", site), array)
    assert info.weights[0] == "embed" and info.weights[-1] == "head"
    assert store.spec(0).n_layers == 2


def test_a_model_in_several_files_is_read_through_its_index(tmp_path):
    path, expected = llama(tmp_path / "model")
    from safetensors.numpy import load_file

    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, some in shards.items():
        save_file({name: tensors[name] for name in some}, path / file)
    index = {"weight_map": {name: file for file, some in shards.items() for name in some}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    store = open_store(path)
    for site, array in expected.items():
        np.testing.assert_array_equal(store.read(0, None, "weights", site), array)


def test_a_snapshot_in_the_cache_of_huggingface_hub_is_a_model(tmp_path):
    made, expected = llama(tmp_path / "made")
    root = tmp_path / "models--org--tiny-llama"
    (root / "blobs").mkdir(parents=True)
    snapshot = root / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(made.iterdir())):
        blob = root / "blobs" / f"blob{number}"
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob)
    store = open_store(snapshot)
    assert store.run == "tiny-llama-01234567"
    np.testing.assert_array_equal(store.read(0, None, "weights", "layers.0.attn.v"), expected["layers.0.attn.v"])


def test_an_index_that_points_outside_is_refused(tmp_path):
    path, _ = llama(tmp_path / "model")
    (tmp_path / "outside.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    index = {"weight_map": {"model.layers.0.self_attn.v_proj.weight": "../outside.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="refusing to use it"):
        open_store(path).read(0, None, "weights", "layers.0.attn.v")


def test_a_model_without_steps_is_described_and_is_a_target(tmp_path, pico):
    path, _ = neox(tmp_path / "model")
    rows = json.loads(
        pico("compute", "per", path, "--component", "ov_circuit", "--format", "json", "--out", tmp_path / "o").out
    )
    assert len(rows) == 2 * (1 + H) and {row["data"] for row in rows} == {"weights"}
    other, _ = gpt2(tmp_path / "other")
    answer = pico(
        *("compute", "cosine", path, "--target", other, "--data", "weights", "--format", "json", "--no-plot"),
        *("--site", "attn.v", "--out", tmp_path / "o"),
    )
    values = [row["value"] for row in json.loads(answer.out)]
    assert values == pytest.approx([1, 1], abs=1e-6)  # the same v in both
    answer = pico("compute", "cka", path, "--out", tmp_path / "o")
    assert answer.code == 3 and "run 'model' holds no val activations: it holds weights" in answer.error


def test_pickled_weights_are_not_opened(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "pytorch_model.bin").write_bytes(b"canary")
    with pytest.raises(DataError, match=r"its weights are pickled \(pytorch_model\.bin\), and unpickling can run code"):
        open_store(path)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "not a readable JSON object"),
        ('{"hidden_size": 12}', "not the description of a decoder"),
        ('{"hidden_size": 13, "num_attention_heads": 3, "num_hidden_layers": 2, "vocab_size": 5}', "not divisible"),
    ],
)
def test_a_configuration_that_describes_no_decoder_is_named(tmp_path, config, says):
    path, _ = llama(tmp_path / "model")
    (path / "config.json").write_text(config)
    with pytest.raises(DataError, match=says):
        open_store(path)


def test_a_model_with_unknown_names_is_refused(tmp_path):
    config = {"hidden_size": D, "num_attention_heads": H, "num_hidden_layers": 1, "vocab_size": V, "model_type": "bert"}
    path = write(tmp_path / "model", config, {"encoder.layer.0.attention.self.query.weight": EMBED})
    with pytest.raises(DataError, match="a bert model whose matrices have unknown names"):
        open_store(path)


@pytest.mark.parametrize(
    ("name", "sites"),
    [
        ("_forward_module.layers.3.attention.v_proj", ["layers.3.attn.v"]),
        ("layers.0.attention.o_proj", ["layers.0.attn.o"]),
        ("pico_decoder.layers.11.swiglu.w_2.weight", ["layers.11.mlp.down"]),
        ("a.b.c.layers.1.swiglu.w_0", ["layers.1.mlp.gate"]),
        ("pico_decoder.de_embedding_proj.weight", ["head"]),
        ("pico_decoder.embedding_proj.weight", ["embed"]),
        ("pico_decoder.output_norm.weight", ["norm.final"]),
        ("pico_decoder.layers.0.attention_norm.weight", []),
        ("model.layers.0.self_attn.q_proj.bias", []),
        ("model.layers.0.post_attention_layernorm.weight", []),
        ("model.layers.0.self_attn.q_norm.weight", []),
        ("layers.0.attention.v_proj.lora_A.weight", []),
        ("x" * 100_000, []),
        ("layers." * 5000, []),
    ],
)
def test_names_map_to_sites_whatever_prefix_a_wrapper_gave_them(name, sites):
    assert [site for site, _ in sites_of(name)] == sites
