"""Models of other architectures, written by hand from known q, k and v: what is read must be those again."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from synthetic import draw

import pico_analyze
from pico_analyze.errors import DataError
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.transformers.architectures import PICO

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
    (path / "model.safetensors").rename(path / "part.safetensors")
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
        ('{"model_type": "llama", "hidden_size": 12}', "not the description of a decoder"),
        (
            '{"model_type": "llama", "hidden_size": 13, "num_attention_heads": 3, "num_hidden_layers": 2, '
            '"vocab_size": 5}',
            "not divisible",
        ),
    ],
)
def test_a_configuration_that_describes_no_decoder_is_named(tmp_path, config, says):
    path, _ = llama(tmp_path / "model")
    (path / "config.json").write_text(config)
    with pytest.raises(DataError, match=says):
        open_store(path)


def test_a_model_whose_tensors_are_not_those_of_its_architecture_is_refused(tmp_path):
    path, _ = neox(tmp_path / "model")
    config = json.loads((path / "config.json").read_text()) | {"model_type": "llama"}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="none of its 13 tensors has a name that those of 'llama' have"):
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
        ("model.layers.0.attention.q_proj.bias", []),
        ("model.layers.0.self_attn.q_proj.weight", []),
        ("layers.0.attention.v_proj.lora_A.weight", []),
        ("x" * 100_000, []),
        ("layers." * 5000, []),
    ],
)
def test_names_map_to_sites_whatever_prefix_a_wrapper_gave_them(name, sites):
    assert [site for site, _ in PICO.sites_of(name)] == sites


def own_heads(path: Path, kind: str, width: int, heads: int, kv_heads: int, head_dim: int, **more) -> tuple[Path, dict]:
    """A Llama-like model whose heads are as wide as its configuration says, whatever d_model / n_heads is."""
    tensors = {"model.embed_tokens.weight": draw((V, width), "embed"), "model.norm.weight": draw((width,), "norm")}
    tensors["lm_head.weight"] = draw((V, width), "head")
    shapes = {"q": (heads * head_dim, width), "k": (kv_heads * head_dim, width), "v": (kv_heads * head_dim, width)}
    shapes |= {"o": (width, heads * head_dim)}
    for layer in range(2):
        for part, shape in shapes.items():
            tensors[f"model.layers.{layer}.self_attn.{part}_proj.weight"] = draw(shape, layer, part)
        for part, shape in {"gate": (FF, width), "up": (FF, width), "down": (width, FF)}.items():
            tensors[f"model.layers.{layer}.mlp.{part}_proj.weight"] = draw(shape, layer, part)
    config = {"model_type": kind, "hidden_size": width, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    config |= {"num_hidden_layers": 2, "intermediate_size": FF, "vocab_size": V, "head_dim": head_dim} | more
    return write(path, {key: value for key, value in config.items() if value is not None}, tensors), tensors


@pytest.mark.parametrize(
    ("kind", "width", "heads", "kv_heads", "head_dim"),
    [
        ("qwen3", 12, 4, 2, 6),
        ("gemma", 12, 4, 1, 8),
        ("llama", 12, 4, 4, 5),
        ("qwen3", 13, 4, 2, 6),
        ("llama", 12, 4, 2, 3),
    ],
)
def test_circuits_of_heads_with_a_width_of_their_own_are_the_products_of_their_weights(
    tmp_path, kind, width, heads, kv_heads, head_dim
):
    """As in Qwen3, Gemma and Mistral-Nemo. Each head's norm is computed here from the stored tensors by hand."""
    path, tensors = own_heads(tmp_path / "model", kind, width, heads, kv_heads, head_dim, tie_word_embeddings=False)
    expected = {}
    for layer in range(2):
        q, k, v, o = (tensors[f"model.layers.{layer}.self_attn.{part}_proj.weight"].astype(float) for part in "qkvo")
        for head in range(heads):
            mine = slice(head * head_dim, (head + 1) * head_dim)
            group = head // (heads // kv_heads)
            shared = slice(group * head_dim, (group + 1) * head_dim)
            expected["attn.ov", layer, head] = np.linalg.norm(o[:, mine] @ v[shared])
            expected["attn.qk", layer, head] = np.linalg.norm(q[mine].T @ k[shared])
    frame = pico_analyze.compute("norm", str(path), component=["ov_circuit", "qk_circuit"], data="weights")
    found = frame[frame["head"] >= 0].set_index(["site", "layer", "head"])["value"]
    assert len(found) == len(expected) == 2 * 2 * heads
    for place, norm in expected.items():
        assert found[place] == pytest.approx(norm, rel=1e-6)  # float32 tensors, float64 products
    simple = pico_analyze.compute("norm", str(path), data="weights").set_index(["site", "layer"])["value"]
    stored = np.linalg.norm(tensors["model.layers.1.self_attn.o_proj.weight"].astype(float))
    assert simple["attn.o", 1] == pytest.approx(stored, rel=1e-6)


def test_an_odd_width_of_heads_is_no_fault_where_nothing_rotates(tmp_path):
    tensors = {
        f"h.0.attn.{part}.weight": draw(shape, part) for part, shape in {"c_attn": (12, 36), "c_proj": (12, 12)}.items()
    }
    config = {"model_type": "gpt2", "n_embd": 12, "n_head": 4, "n_layer": 1, "vocab_size": V, "n_positions": 64}
    store = open_store(write(tmp_path / "model", config, tensors))
    assert store.spec(0).head_dim == 3
    np.testing.assert_array_equal(
        store.read(0, None, "weights", "layers.0.attn.v"), tensors["h.0.attn.c_attn.weight"].T[24:]
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"head_dim": 7},
            r"weights of layers\.\d\.attn\.\w have the shape \(\d+, \d+\), by the model's description it is \(",
        ),
        ({"num_attention_heads": 2}, r"attn\.\w have the shape"),
        ({"vocab_size": V + 1}, r"weights of embed have the shape \(30, 12\)"),
        ({"intermediate_size": FF - 1}, r"mlp\.\w+ have the shape"),
        ({"num_hidden_layers": 0}, "num_hidden_layers or n_layer or n_layers: Input should be greater than 0"),
        ({"head_dim": "wide"}, "head_dim: Input should be a valid integer"),
        ({"head_dim": 0}, "head_dim: Input should be greater than 0"),
        ({"hidden_size": 10**300}, "hidden_size or n_embd or d_model: Input should be less"),
        ({"hidden_size": [12]}, "hidden_size or n_embd or d_model: Input should be a valid integer"),
        ({"hidden_size": True}, "hidden_size or n_embd or d_model: Input should be a valid integer"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings: Input should be a valid boolean"),
        ({"num_key_value_heads": 3}, "not divisible"),
        ({"model_type": ["qwen3"]}, "the sites of a model that names no model_type are not known"),
    ],
)
def test_a_description_that_does_not_fit_the_tensors_is_refused(tmp_path, pico, changes, says):
    path, _ = own_heads(tmp_path / "model", "qwen3", 12, 4, 2, 6)
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps(config))
    answer = pico("compute", "norm", path, "--data", "weights", "--no-plot", "--out", tmp_path / "o")
    assert answer.code == 3
    assert re.search(says, answer.error)
    assert "Traceback" not in answer.error and "PICO_DEBUG" not in answer.error


@pytest.mark.parametrize("value", ["Infinity", "NaN", "-1", '"big"', "1e999", "[]"])
def test_what_weights_do_not_depend_on_may_be_anything(tmp_path, value):
    path, expected = llama(tmp_path / "model")
    config = (path / "config.json").read_text().rstrip("}") + f', "rope_theta": {value}}}'
    (path / "config.json").write_text(config)
    np.testing.assert_array_equal(open_store(path).read(0, None, "weights", "head"), expected["head"])


def test_a_configuration_that_says_two_things_is_refused(tmp_path):
    path, _ = llama(tmp_path / "model")
    (path / "config.json").write_text((path / "config.json").read_text().rstrip("}") + ', "num_attention_heads": 6}')
    with pytest.raises(DataError, match="key 'num_attention_heads' is there twice"):
        open_store(path)


@pytest.mark.parametrize("prefix", ["ema.", "teacher.model.", ""])
def test_two_tensors_for_one_site_are_refused_and_both_named(tmp_path, prefix):
    path, _ = llama(tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    copies = {
        prefix + name.removeprefix("model."): np.full_like(array, 3)
        for name, array in tensors.items()
        if "layers" in name
    }
    save_file(tensors | copies, path / "model.safetensors")
    with pytest.raises(DataError, match="two tensors are there for site") as caught:
        open_store(path)
    names = re.findall("'([^']*)'", str(caught.value))[1:]
    assert len(set(names)) == 2 and len({name[name.index("layers") :] for name in names}) == 1
    assert "keep one model a directory" in str(caught.value)


def test_one_tensor_in_two_files_is_refused_unless_an_index_says_which(tmp_path):
    path, _ = llama(tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    save_file(tensors, path / "a.safetensors")
    save_file({"lm_head.weight": np.zeros_like(HEAD)}, path / "b.safetensors")
    with pytest.raises(DataError, match=r"tensor 'lm_head\.weight' is in two files, a\.safetensors and b\.safetensors"):
        open_store(path)
    index = {"weight_map": dict.fromkeys(tensors, "a.safetensors")}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(open_store(path).read(0, None, "weights", "head"), HEAD)


def test_blocks_beyond_the_model_are_left_out_and_named(tmp_path, pico):
    """As the predictor of further tokens that DeepSeek-V3 and GLM-4.5 have after their last block."""
    path, _ = llama(tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    extra = {name.replace("layers.1", "layers.2"): array for name, array in tensors.items() if "layers.1" in name}
    extra |= {"model.layers.2.embed_tokens.weight": EMBED + 1, "model.layers.2.shared_head.norm.weight": NORM + 1}
    save_file(tensors | extra, path / "model.safetensors")
    store = open_store(path)
    assert "layers.2.attn.q" not in store.steps()[0].weights
    np.testing.assert_array_equal(store.read(0, None, "weights", "embed"), EMBED)
    answer = pico("compute", "norm", path, "--data", "weights", "--no-plot", "--out", tmp_path / "o")
    assert answer.code == 0 and "block 2 is left out: config.json counts 2 blocks" in answer.err


@pytest.mark.parametrize(("make", "kind"), [(gpt2, "gpt2"), (llama, "gemma")])
def test_a_head_that_is_the_embedding_by_the_familys_default_is_there(tmp_path, pico, make, kind):
    path, _ = make(tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    tensors.pop("lm_head.weight", None)
    save_file(tensors, path / "model.safetensors")
    config = json.loads((path / "config.json").read_text()) | {
        "model_type": kind,
        "head_dim": C if kind == "gemma" else None,
    }
    config.pop("tie_word_embeddings", None)
    (path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    answer = pico(
        "compute",
        "norm",
        path,
        "-c",
        "unembedding",
        "--data",
        "weights",
        "--format",
        "json",
        "--no-plot",
        "--out",
        tmp_path / "o",
    )
    (row,) = json.loads(answer.out)
    assert row["value"] == pytest.approx(np.linalg.norm(EMBED.astype(float)), rel=1e-6)
    (path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False, "head_dim": C}))
    assert "head" not in open_store(path).steps()[0].weights  # what the configuration says counts before


def test_a_head_of_its_own_beside_a_tie_is_refused_unless_it_is_the_embedding(tmp_path):
    path, expected = llama(tmp_path / "model")
    config = json.loads((path / "config.json").read_text()) | {"tie_word_embeddings": True}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"the head is the embedding .* lm_head\.weight holds other numbers"):
        open_store(path).read(0, None, "weights", "head")
    np.testing.assert_array_equal(open_store(path).read(0, None, "weights", "embed"), expected["embed"])
    tensors = load_file(path / "model.safetensors")
    save_file(tensors | {"lm_head.weight": EMBED}, path / "model.safetensors")
    np.testing.assert_array_equal(open_store(path).read(0, None, "weights", "head"), EMBED)
