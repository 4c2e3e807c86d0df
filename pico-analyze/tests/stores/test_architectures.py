"""Which tensor is which site, and what is said of all others: two towers, experts, quantized and unknown models."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from synthetic import draw

import pico_analyze
from pico_analyze.errors import DataError, UsageError
from pico_analyze.stored import marked, stored_type
from pico_analyze.stores.opening import ReadOptions, open_store
from pico_analyze.stores.sites import MatrixSite, nameable
from pico_analyze.stores.transformers.architectures import ARCHITECTURES, architecture_of
from pico_analyze.stores.transformers.cuts import PARTS, TRANSPOSED, grouped, half, in_four, stacked, stacked_transposed
from pico_schema import ForeignSpec

V, D, FF, H, LAYERS = 30, 12, 20, 3, 2
GEOMETRY = {"hidden_size": D, "num_attention_heads": H, "num_hidden_layers": LAYERS, "intermediate_size": FF}
GEOMETRY |= {"vocab_size": V}


def block(layer: int, **more: tuple[int, ...]) -> dict[str, np.ndarray]:
    """One block with the names of Llama."""
    shapes = {f"self_attn.{x}_proj.weight": (D, D) for x in "qkvo"}
    shapes |= {"mlp.gate_proj.weight": (FF, D), "mlp.up_proj.weight": (FF, D), "mlp.down_proj.weight": (D, FF)}
    shapes |= {"input_layernorm.weight": (D,), "self_attn.q_proj.bias": (D,), **more}
    return {f"layers.{layer}.{name}": draw(shape, layer, name) for name, shape in shapes.items()}


def decoder(prefix: str = "model.", seed: str = "", **more: tuple[int, ...]) -> dict[str, np.ndarray]:
    inside = {"embed_tokens.weight": draw((V, D), "embed"), "norm.weight": draw((D,), "norm")}
    for layer in range(LAYERS):
        inside |= block(layer, **more)
    return {f"{prefix}{name}": array + len(seed) for name, array in inside.items()}


def write(path, tensors, config=None, kind="llama"):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": kind} | GEOMETRY if config is None else config))
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path / "model.safetensors")
    return path


HEAD = {"lm_head.weight": draw((V, D), "head")}


@pytest.mark.parametrize(
    ("layout", "kv", "heads"), [("stacked", 2, 4), ("grouped", 4, 4), ("grouped", 2, 4), ("grouped", 1, 4)]
)
def test_a_cut_gives_back_what_was_fused(layout, kv, heads):
    """The fused tensor is written by a loop over heads."""
    spec = ForeignSpec(vocab_size=V, d_model=8, n_layers=1, n_heads=heads, n_kv_heads=kv, d_ff=FF)
    own = {"q": draw((heads * 2, 8), "q"), "k": draw((kv * 2, 8), "k"), "v": draw((kv * 2, 8), "v")}
    if layout == "stacked":
        fused = np.concatenate([own[part] for part in PARTS])
    else:
        rows = []
        for group in range(kv):
            for head in range(heads // kv):
                rows += [own["q"][(group * (heads // kv) + head) * 2 + i] for i in range(2)]
            rows += [own[part][group * 2 + i] for part in "kv" for i in range(2)]
        fused = np.array(rows)
    for part in PARTS:
        cut = {"stacked": stacked, "grouped": grouped}[layout](part)
        np.testing.assert_array_equal(cut(fused, spec), own[part])
        if layout == "stacked":
            np.testing.assert_array_equal(stacked_transposed(part)(fused.T, spec), own[part])
        with pytest.raises(DataError, match=r"a fused projection has .* rows for 4 heads of 2"):
            cut(fused[1:], spec)


def test_what_is_cut_out_of_a_tensor_was_stored_as_the_tensor_was():
    spec = ForeignSpec(vocab_size=V, d_model=8, n_layers=1, n_heads=4, n_kv_heads=4, d_ff=FF)
    fused = marked(draw((24, 8), "fused"), "bfloat16")
    for part in PARTS:
        for cut in (stacked(part), grouped(part), in_four(part)):
            assert stored_type(cut(fused, spec)) == "bfloat16"
        assert stored_type(stacked_transposed(part)(fused.T, spec)) == "bfloat16"
    assert stored_type(TRANSPOSED(fused, spec)) == stored_type(half(1)(fused, spec)) == "bfloat16"


def test_codegens_blocks_hold_queries_values_and_keys():
    spec = ForeignSpec(vocab_size=V, d_model=8, n_layers=1, n_heads=4, n_kv_heads=4, d_ff=FF)
    own = {part: draw((8, 8), part) for part in PARTS}
    fused = np.concatenate([own[part][2 * i : 2 * i + 2] for i in range(4) for part in "qvk"])
    for part in PARTS:
        np.testing.assert_array_equal(in_four(part)(fused, spec), own[part])
    with pytest.raises(DataError, match="needs heads in fours, and there are 3"):
        in_four("q")(fused, spec.model_copy(update={"n_heads": 3}))
    with pytest.raises(DataError, match="5 rows has no halves"):
        half(0)(fused[:5], spec)


def test_each_type_is_in_one_entry_of_the_table():
    types = [kind for one in ARCHITECTURES for kind in one.types]
    assert len(set(types)) == len(types)
    for one in ARCHITECTURES:
        for kind in one.types:
            assert architecture_of({"model_type": kind}) is one


def test_names_of_another_architecture_are_not_taken_for_sites(tmp_path):
    """Names as those of GPT-2, in a model that says that it is a Llama, mean nothing."""
    path = write(tmp_path / "model", decoder() | HEAD | {"h.0.attn.c_attn.weight": draw((D, 3 * D), "x")})
    store = open_store(path)
    assert store.without_site(0).matrices == ("h.0.attn.c_attn.weight",)
    assert len(store.steps()[0].weights) == 7 * LAYERS + 3


def test_biases_and_norms_are_counted_and_matrices_are_named(tmp_path, pico):
    more = {"mlp.router.weight": (4, D), "self_attn.q_norm.weight": (H, D // H), "self_attn.rotary.inv_freq": (2,)}
    path = write(tmp_path / "model", decoder(**more) | HEAD | {"model.wpe.weight": draw((8, D), "wpe")})
    rest = open_store(path).without_site(0)
    routers = tuple(f"model.layers.{layer}.mlp.router.weight" for layer in range(LAYERS))
    assert set(rest.matrices) == {*routers, "model.wpe.weight"}
    assert len(rest.others) == 4 * LAYERS and not rest.missing and not rest.quantized
    answer = pico("list", path)
    assert "no site: 3 matrices: model.layers.*.mlp.router.weight (2), model.wpe.weight" in answer.out
    assert "no site: 8 biases, norms and buffers" in answer.out
    (record,) = json.loads(pico("list", path, "--format", "json").out)
    assert record["complete"] and set(record["without_site"]["matrices"]) == {*routers, "model.wpe.weight"}
    assert len(record["without_site"]["others"]) == 8
    answer = pico("compute", "norm", path, "--data", "weights", "--no-plot", "--out", tmp_path / "o")
    assert answer.code == 0 and "model: no site: 3 matrices: model.layers.*.mlp.router.weight (2)" in answer.err


def test_a_model_that_lacks_a_matrix_is_not_complete(tmp_path, pico):
    tensors = decoder() | HEAD
    del tensors["model.layers.1.mlp.up_proj.weight"]
    path = write(tmp_path / "model", tensors)
    assert open_store(path).without_site(0).missing == ("layers.1.mlp.up",)
    (record,) = json.loads(pico("list", path, "--format", "json").out)
    assert not record["complete"] and record["reason"] == "1 matrix is missing"
    assert "missing: layers.1.mlp.up: no tensor is there" in pico("list", path).out
    write(path, decoder())
    assert open_store(path).without_site(0).missing == ("head",)


def test_one_of_two_towers_is_chosen_by_its_prefix(tmp_path, pico):
    ema = {
        f"ema.{name}": array
        for name, array in (decoder(seed="x") | {"lm_head.weight": HEAD["lm_head.weight"] + 1}).items()
    }
    path = write(tmp_path / "model", decoder() | HEAD | ema)
    with pytest.raises(DataError, match=r"two tensors are there for site .* --prefix ema\.model or --prefix model, or"):
        open_store(path)
    site, name = "layers.1.attn.v", "model.layers.1.self_attn.v_proj.weight"
    for prefix, begin, run in (
        ("model", "", "model+model"),
        ("ema", "ema.", "model+ema"),
        ("ema.model.", "ema.", "model+ema.model"),
    ):
        store = open_store(path, ReadOptions(prefix=prefix))
        assert store.run == run
        np.testing.assert_array_equal(store.read(0, None, "weights", site), (decoder() | ema)[begin + name])
        np.testing.assert_array_equal(store.read(0, None, "weights", "head"), (HEAD | ema)[f"{begin}lm_head.weight"])
        assert len(store.without_site(0).matrices) == 7 * LAYERS + 2
    with pytest.raises(DataError, match="no tensor of a block begins with 'emma': there are --prefix ema"):
        open_store(path, ReadOptions(prefix="emma"))
    with pytest.raises(UsageError, match=r"prefix '\.\./ema' is no beginning of a name"):
        open_store(path, ReadOptions(prefix="../ema"))
    values = []
    for prefix in ("model", "ema", "model"):
        args = ("compute", "norm", path, "--data", "weights", "--site", site, "--prefix", prefix, "--format", "json")
        (row,) = json.loads(pico(*args, "--no-plot", "--out", tmp_path / "o").out)
        values.append(row["value"])
        assert json.loads(row["provenance"])["prefix"] == prefix
    assert values[0] == values[2] != values[1]
    assert values[1] == pytest.approx(np.linalg.norm(ema["ema." + name].astype(float)), rel=1e-6)
    assert {entry.name for entry in (tmp_path / "o").iterdir()} == {"model+model", "model+ema"}


def test_two_heads_for_one_decoder_are_an_error_too(tmp_path):
    path = write(tmp_path / "model", decoder() | HEAD | {"ema.lm_head.weight": HEAD["lm_head.weight"]})
    with pytest.raises(DataError, match=r"for site 'head', .* choose with --prefix model"):
        open_store(path)
    assert "head" in open_store(path, ReadOptions(prefix="model")).steps()[0].weights


@pytest.mark.parametrize("prefix", ["model.language_model.", "language_model.model."])
def test_the_decoder_of_a_model_of_several_parts_is_found(tmp_path, prefix):
    """Beside it a part that reads pictures, some of whose matrices are called the same."""
    eyes = {f"vision_tower.layers.{i}.self_attn.{x}_proj.weight": draw((8, 8), i, x) for i in range(3) for x in "qkv"}
    head = {"language_model.lm_head.weight" if prefix.endswith("model.model.") else "lm_head.weight": draw((V, D), "h")}
    config = {"model_type": "llava", "text_config": {"model_type": "llama"} | GEOMETRY, "vision_config": {}}
    path = write(tmp_path / "model", decoder(prefix) | head | eyes, config)
    store = open_store(path)
    assert len(store.steps()[0].weights) == 7 * LAYERS + 3
    np.testing.assert_array_equal(
        store.read(0, None, "weights", "layers.1.attn.q"), decoder(prefix)[f"{prefix}layers.1.self_attn.q_proj.weight"]
    )
    assert set(store.without_site(0).matrices) == set(eyes) and not store.unusable()


def test_an_unknown_architecture_says_what_can_be_done(tmp_path, pico):
    path = write(tmp_path / "model", decoder() | HEAD, kind="lama")
    answer = pico("compute", "norm", path, "--data", "weights", "--out", tmp_path / "o")
    assert answer.code == 3 and "the sites of model_type 'lama' are not known; did you mean 'llama'?" in answer.error
    assert "--tensor 'model.layers.*.mlp.up_proj.weight'" in answer.error and "gpt_neox" in answer.error
    listed = pico("list", path)
    assert listed.code == 0 and "no: its architecture is not known" in listed.out
    args = ("compute", "norm", path, "--data", "weights", "--no-plot", "--format", "json", "--out", tmp_path / "o")
    rows = json.loads(pico(*args, "--architecture", "llama").out)
    assert len(rows) == 7 * LAYERS + 3
    answer = pico(*args, "--architecture", "lamma")
    assert answer.code == 2 and "no architecture is called 'lamma'; did you mean 'llama'?" in answer.error


@pytest.mark.parametrize("kind", ["lama", "llama"])
def test_whole_tensors_are_measured_by_their_names(tmp_path, pico, kind):
    tensors = decoder() | HEAD
    path = write(tmp_path / "model", tensors, {"model_type": kind} | (GEOMETRY if kind == "llama" else {}))
    args = ("compute", "norm", path, "--no-plot", "--format", "json", "--out", tmp_path / "o")
    rows = json.loads(pico(*args, "--tensor", "model.layers.*.mlp.up_proj.weight", "--tensor", "lm_head.*").out)
    found = {(row["site"], row["layer"]): row["value"] for row in rows}
    up = "model.layers.{}.mlp.up_proj.weight"
    expected = {(f"tensor:{up.format('*')}", layer): tensors[up.format(layer)] for layer in range(LAYERS)}
    expected[("tensor:lm_head.weight", None)] = tensors["lm_head.weight"]
    assert found.keys() == expected.keys()
    for place, array in expected.items():
        assert found[place] == pytest.approx(np.linalg.norm(array.astype(float)), rel=1e-6)
    rows = json.loads(pico(*args, "--tensor", "*.mlp.*", "--layers", "1").out)
    assert {row["layer"] for row in rows} == {1} and len(rows) == 3
    answer = pico(*args, "--tensor", "model.layers.*.mlp.up_proj")
    assert answer.code == 2 and "did you mean 'model.layers.*.mlp.up_proj.weight'?" in answer.error
    frame = pico_analyze.compute("norm", str(path), tensors="model.norm.weight")
    assert frame["value"][0] == pytest.approx(np.linalg.norm(tensors["model.norm.weight"].astype(float)), rel=1e-6)
    answer = pico(*args, "--tensor", "lm_head.weight", "-c", "ov_circuit")
    assert answer.code in (2, 3) and "Traceback" not in answer.error


def test_a_tensor_by_name_and_a_site_do_not_stand_for_each_other(tmp_path):
    """Both questions are of one file; their rows stand beside each other, and neither is taken for the other."""
    path = write(tmp_path / "model", decoder() | HEAD)
    first = pico_analyze.compute("norm", str(path), data="weights", sites="head", out=tmp_path / "o")
    second = pico_analyze.compute("norm", str(path), tensors="lm_head.weight", out=tmp_path / "o")
    rows = pico_analyze.read_rows(tmp_path / "o" / "model")
    assert len(rows) == 2 and set(rows["site"]) == {"head", "tensor:lm_head.weight"}
    assert first["value"][0] == second["value"][0]


def test_rows_of_another_cut_are_computed_again(tmp_path):
    """What a tensor is cut by is part of what rows are known by."""
    path = write(tmp_path / "model", decoder() | HEAD)
    before = pico_analyze.compute("norm", str(path), data="weights", sites="head", out=tmp_path / "o")
    (input_,) = {one.of for one in open_store(path).inputs(0, None, "weights", "head")} - {""}
    assert input_ == "lm_head.weight (whole)"
    again = pico_analyze.compute(
        "norm", str(path), data="weights", sites="head", out=tmp_path / "o", architecture="qwen2"
    )
    assert before["digest"].tolist() == again["digest"].tolist()  # the same tensor, cut the same way


def experts(count: int, together: bool) -> dict[str, np.ndarray]:
    tensors = {name: array for name, array in decoder().items() if ".mlp." not in name} | HEAD
    for layer in range(LAYERS):
        gate, up = (draw((count, 6, D), layer, part) for part in ("gate", "up"))
        down = draw((count, D, 6), layer, "down")
        place = f"model.layers.{layer}.mlp.experts"
        if together:
            tensors |= {f"{place}.gate_up_proj": np.concatenate([gate, up], axis=1), f"{place}.down_proj": down}
        else:
            for e in range(count):
                tensors |= {f"{place}.{e}.gate_proj.weight": gate[e], f"{place}.{e}.up_proj.weight": up[e]}
                tensors |= {f"{place}.{e}.down_proj.weight": down[e]}
        tensors[f"model.layers.{layer}.mlp.gate.weight"] = draw((count, D), layer)
    return tensors


def test_experts_are_sites_of_their_own_however_they_are_stored(tmp_path, pico):
    config = {"model_type": "qwen3_moe", "num_experts": 12, "moe_intermediate_size": 6, "head_dim": 4} | GEOMETRY
    stores = [
        open_store(write(tmp_path / name, experts(12, together), config))
        for name, together in (("each", False), ("together", True))
    ]
    sites = list(stores[0].steps()[0].weights)
    assert sites == list(stores[1].steps()[0].weights)
    assert sites[5:9] == [
        f"layers.0.mlp.experts.{e}.{part}" for e, part in ((0, "down"), (0, "gate"), (0, "up"), (1, "down"))
    ]
    for site in sites:
        np.testing.assert_array_equal(*(store.read(0, None, "weights", site) for store in stores))
    np.testing.assert_array_equal(
        stores[1].read(0, None, "weights", "layers.1.mlp.experts.11.up"), draw((12, 6, D), 1, "up")[11]
    )
    args = ("compute", "norm", tmp_path / "together", "--data", "weights", "--format", "json", "--no-plot")
    rows = json.loads(pico(*args, "--site", "mlp.experts.up", "--out", tmp_path / "o").out)
    assert len({(row["site"], row["layer"]) for row in rows}) == 12 * LAYERS
    rows = json.loads(pico(*args, "--site", "mlp.experts.10.up", "--out", tmp_path / "o").out)
    assert [(row["site"], row["layer"]) for row in rows] == [("mlp.experts.10.up", 0), ("mlp.experts.10.up", 1)]
    assert set(stores[0].without_site(0).matrices) == {f"model.layers.{i}.mlp.gate.weight" for i in range(LAYERS)}
    tensors = experts(12, False)
    del tensors["model.layers.1.mlp.experts.7.down_proj.weight"]
    assert open_store(write(tmp_path / "each", tensors, config)).without_site(0).missing == (
        "layers.1.mlp.experts.7.down",
    )


def test_a_block_of_a_mixture_without_its_experts_is_not_complete(tmp_path):
    config = {"model_type": "qwen2_moe", "num_experts": 2, "moe_intermediate_size": 6, "head_dim": 4} | GEOMETRY
    config |= {"shared_expert_intermediate_size": 5}
    tensors = experts(2, False)
    for layer in range(LAYERS):
        for part, shape in {"gate": (5, D), "up": (5, D), "down": (D, 5)}.items():
            tensors[f"model.layers.{layer}.mlp.shared_expert.{part}_proj.weight"] = draw(shape, layer, part)
    assert open_store(write(tmp_path / "model", tensors, config)).without_site(0).missing == ()
    tensors = {name: array for name, array in tensors.items() if "layers.1.mlp" not in name}
    missing = open_store(write(tmp_path / "model", tensors, config)).without_site(0).missing
    parts = ("down", "gate", "up")
    experts_lost = [f"layers.1.mlp.experts.{e}.{part}" for part in parts for e in range(2)]
    assert list(missing) == experts_lost + [f"layers.1.mlp.shared.{part}" for part in parts]


@pytest.mark.parametrize("count", [11, 4096, None])
def test_experts_that_are_not_as_many_as_the_configuration_counts_are_refused(tmp_path, count):
    config = {"model_type": "qwen3_moe", "num_experts": count, "moe_intermediate_size": 6, "head_dim": 4} | GEOMETRY
    path = write(tmp_path / "model", experts(12, together=True), config)
    with pytest.raises(DataError, match=rf"holds 12 experts, and config\.json counts {count or 'none'}"):
        open_store(path)


def test_a_configuration_that_counts_more_than_there_is_costs_little(tmp_path):
    config = {"model_type": "qwen3_moe", "num_experts": 4096, "moe_intermediate_size": 6, "head_dim": 4} | GEOMETRY
    path = write(tmp_path / "model", experts(2, together=False), config | {"num_hidden_layers": 4096})
    assert len(open_store(path).without_site(0).missing) == 10_000


def test_the_defaults_of_an_architecture_that_is_said_hold(tmp_path):
    tensors = decoder()
    path = write(tmp_path / "model", tensors, {"model_type": "gemini", "head_dim": 4} | GEOMETRY)
    assert not open_store(path, ReadOptions(architecture="llama")).spec(0).tie_embeddings
    store = open_store(path, ReadOptions(architecture="gemma"))
    assert store.spec(0).tie_embeddings and "head" in store.steps()[0].weights


QUANTIZED = {
    "gptq": ("qweight", (D // 8, D), np.int32, {"qzeros": np.int32, "scales": np.float16, "g_idx": np.int32}),
    "compressed-tensors": ("weight_packed", (D, D // 8), np.int32, {"weight_scale": np.float16}),
    "bitsandbytes": (
        "weight",
        (D * D // 2, 1),
        np.uint8,
        {"weight.absmax": np.float32, "weight.quant_map": np.float32},
    ),
    "plain": ("weight", (D, D), np.int8, {}),
    "int8": ("weight", (D, D), np.int8, {"SCB": np.float32}),
}


@pytest.mark.parametrize("method", QUANTIZED)
def test_quantized_matrices_are_named(tmp_path, pico, method):
    last, shape, dtype, beside = QUANTIZED[method]
    tensors = decoder() | HEAD
    for layer in range(LAYERS):
        module = f"model.layers.{layer}.self_attn.q_proj"
        del tensors[f"{module}.weight"]
        tensors[f"{module}.{last}"] = np.ones(shape, dtype)
        tensors |= {f"{module}.{name}": np.ones(D, of) for name, of in beside.items()}
    config = {"model_type": "llama", "quantization_config": {"quant_method": method}} | GEOMETRY
    path = write(tmp_path / "model", tensors, config)
    rest = open_store(path).without_site(0)
    assert rest.quantized == tuple(f"model.layers.{layer}.self_attn.q_proj.{last}" for layer in range(LAYERS))
    assert not rest.missing and not rest.matrices and rest.method == method
    answer = pico("list", path)
    assert f"quantized ({method}): model.layers.*.self_attn.q_proj.{last} (2)" in answer.out
    assert "no: 2 matrices are quantized" in answer.out
    answer = pico("compute", "norm", path, "--data", "weights", "--site", "attn.q", "--out", tmp_path / "o")
    assert answer.code != 0 and "attn.q" in answer.error
    answer = pico("compute", "norm", path, "--data", "weights", "--no-plot", "--out", tmp_path / "o")
    assert answer.code == 0 and f"quantized ({method})" in answer.err


def test_names_of_tensors_are_taken_apart_and_put_together_again():
    for name, layer, kind in (
        ("tensor:model.layers.3.mlp.experts.5.up", 3, "tensor:model.layers.*.mlp.experts.5.up"),
        ("tensor:lm_head.weight", None, "tensor:lm_head.weight"),
        ("tensor:h.03.w_0", None, "tensor:h.03.w_0"),
        ("tensor:0.weight", 0, "tensor:*.weight"),
        ("layers.3.mlp.experts.5.up", 3, "mlp.experts.5.up"),
        ("layers.3.mlp.shared.up", 3, "mlp.shared.up"),
        ("embed", None, "embed"),
    ):
        site = MatrixSite.parse(name)
        assert (site.layer, site.kind, str(site)) == (layer, kind, name)
    assert not nameable("a.*.b") and not nameable("a\nb") and nameable("model.layers.3.weight")


@pytest.mark.parametrize("site", ["mlp.experts.5.side", "mlp.expert.up", "layers.0.mlp.experts.05.up"])
def test_a_site_that_no_model_has_is_an_error(tmp_path, site):
    path = write(tmp_path / "model", decoder() | HEAD)
    with pytest.raises(UsageError, match="is not a site"):
        pico_analyze.compute("norm", str(path), data="weights", sites=site)


def test_an_index_that_names_what_is_not_there_is_refused(tmp_path):
    path = write(tmp_path / "model", decoder() | HEAD)
    names = dict.fromkeys(load_file(path / "model.safetensors"), "a.safetensors")
    (path / "model.safetensors").rename(path / "a.safetensors")
    index = {"weight_map": names | {"model.layers.0.extra.weight": "a.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"tensor 'model\.layers\.0\.extra\.weight' is not in a\.safetensors"):
        open_store(path)


@pytest.mark.parametrize(
    ("config", "kv"),
    [
        ({"model_type": "falcon"}, 1),
        ({"model_type": "falcon", "multi_query": False}, 4),
        ({"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 2}, 2),
        ({"model_type": "falcon", "new_decoder_architecture": True}, 4),
        ({"model_type": "RefinedWeb", "n_head_kv": 2}, 2),
        ({"model_type": "RefinedWebModel", "multi_query": True}, 1),
        ({"model_type": "gpt_bigcode"}, 1),
        ({"model_type": "gpt_bigcode", "multi_query": False}, 4),
        ({"model_type": "bloom"}, 4),
    ],
)
def test_heads_of_keys_and_values_are_counted_as_the_family_counts_them(config, kv):
    numbers = {"vocab_size": V, "hidden_size": 8, "n_embd": 8, "n_layer": 2, "n_head": 4}
    architecture = architecture_of(config)
    assert architecture is not None
    assert architecture.spec(config | numbers, where="here").n_kv_heads == kv
