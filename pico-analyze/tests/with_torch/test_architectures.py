"""Every family of the table against the model's own forward pass: what its modules are given and give is the oracle.

One token is put through a tiny random model without biases. At the first position rotary embeddings turn nothing, and
attention to one token gives its value back; so the two operands of the first product inside attention are the query
and the key, those of the second hold the value, whatever the projection that they come from looks like. Norms of
queries and keys are taken out.
"""

import copy
import json
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch
import transformers
from closeness import assert_close
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

import pico_analyze
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.sites import MatrixSite
from pico_analyze.stores.transformers.architectures import (
    ARCHITECTURES,
    NANOGPT,
    PICO,
    architecture_of,
)
from pico_analyze.stores.transformers.parts import PART_DEFAULTS
from pico_schema.sites import WEIGHTED_KINDS

V, D, FF, H, LAYERS = 60, 24, 40, 4, 2
USUAL = {"vocab_size": V, "hidden_size": D, "intermediate_size": FF, "num_hidden_layers": LAYERS}
USUAL |= {"num_attention_heads": H, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1}
USUAL |= {"pad_token_id": 0}
GPT = {"vocab_size": V, "n_embd": D, "n_layer": LAYERS, "n_head": H, "n_positions": 32, "bos_token_id": 0}
GPT |= {"eos_token_id": 1, "pad_token_id": 0}
GROUPED = USUAL | {"num_key_value_heads": 2}
OWN = GROUPED | {"head_dim": 16}
HALF_TURNED = GROUPED | {"hidden_size": 32}
"""Heads of 8: of these, a half or a quarter is turned."""


@dataclass(frozen=True)
class Family:
    """A tiny configuration, and where its blocks have what."""

    config: dict
    kind: str = ""
    attention: str = "self_attn"
    o: str = "o_proj"
    mlp: str | None = "mlp"
    """Module that is the feed-forward; None where a block is."""
    down: str = "down_proj"
    without: frozenset[str] = frozenset()
    """Matrices that have no site."""
    lacks: frozenset[str] = field(default_factory=frozenset)
    """Kinds of sites that it has not."""


UNGATED = frozenset({"mlp.gate"})
WPE = frozenset({"transformer.wpe.weight"})
FAMILIES = {
    **{kind: Family(GROUPED) for kind in ("llama", "mistral", "qwen2", "smollm3", "granite", "cohere", "seed_oss")},
    **{kind: Family(OWN) for kind in ("qwen3", "gemma", "gemma2", "gemma3_text", "cohere2", "vaultgemma")},
    **{kind: Family(GROUPED) for kind in ("olmo2", "olmo3", "exaone4", "cwm")},
    **{kind: Family(OWN) for kind in ("ministral", "ministral3", "hunyuan_v1_dense", "ernie4_5")},
    "helium": Family(GROUPED | {"head_dim": D // H}),
    "stablelm": Family(HALF_TURNED),
    "olmo": Family(GROUPED, lacks=frozenset({"norm.final"})),
    "gemma_multi_query": Family(OWN | {"num_key_value_heads": 1}, "gemma"),
    "qwen3_indivisible": Family(OWN | {"hidden_size": 26, "head_dim": 8}, "qwen3"),
    "cohere_normed": Family(GROUPED | {"use_qk_norm": True}, "cohere"),
    "stablelm_normed": Family(HALF_TURNED | {"qk_layernorm": True, "use_parallel_residual": True}, "stablelm"),
    "nemotron": Family(GROUPED, lacks=UNGATED),
    "arcee": Family(GROUPED, lacks=UNGATED),
    "apertus": Family(GROUPED, lacks=UNGATED),
    "phi": Family(HALF_TURNED, o="dense", down="fc2", lacks=UNGATED),
    "phi3": Family(GROUPED),
    "glm": Family(OWN),
    "glm4": Family(OWN),
    "starcoder2": Family(GROUPED, down="c_proj", lacks=UNGATED),
    "persimmon": Family(USUAL | {"hidden_size": 32}, o="dense", down="dense_4h_to_h", lacks=UNGATED),
    "gpt2": Family(GPT, attention="attn", o="c_proj", down="c_proj", without=WPE, lacks=UNGATED),
    "gpt_bigcode": Family(GPT, attention="attn", o="c_proj", down="c_proj", without=WPE, lacks=UNGATED),
    "gpt_bigcode_many": Family(
        GPT | {"multi_query": False},
        "gpt_bigcode",
        attention="attn",
        o="c_proj",
        down="c_proj",
        without=WPE,
        lacks=UNGATED,
    ),
    "gpt_neo": Family(
        {"vocab_size": V, "hidden_size": D, "num_layers": LAYERS, "num_heads": H, "max_position_embeddings": 32}
        | {"attention_types": [[["global", "local"], 1]], "bos_token_id": 0, "eos_token_id": 1},
        attention="attn.attention",
        o="out_proj",
        down="c_proj",
        without=WPE,
        lacks=UNGATED,
    ),
    "gpt_neox": Family(USUAL, attention="attention", o="dense", down="dense_4h_to_h", lacks=UNGATED),
    "gptj": Family(GPT | {"rotary_dim": 4}, attention="attn", o="out_proj", down="fc_out", lacks=UNGATED),
    "codegen": Family(GPT | {"rotary_dim": 4}, attention="attn", o="out_proj", down="fc_out", lacks=UNGATED),
    "codegen_eight": Family(
        GPT | {"rotary_dim": 2, "n_head": 8}, "codegen", attention="attn", o="out_proj", down="fc_out", lacks=UNGATED
    ),
    "opt": Family(
        {"vocab_size": V, "hidden_size": D, "ffn_dim": FF, "num_hidden_layers": LAYERS, "num_attention_heads": H}
        | {"max_position_embeddings": 32, "word_embed_proj_dim": D, "pad_token_id": 0},
        o="out_proj",
        mlp=None,
        down="fc2",
        without=frozenset({"model.decoder.embed_positions.weight"}),
        lacks=UNGATED,
    ),
    "opt_projected": Family(
        {"vocab_size": V, "hidden_size": D, "ffn_dim": FF, "num_hidden_layers": LAYERS, "num_attention_heads": H}
        | {"max_position_embeddings": 32, "word_embed_proj_dim": 10, "pad_token_id": 0}
        | {"do_layer_norm_before": False},
        "opt",
        o="out_proj",
        mlp=None,
        down="fc2",
        without=frozenset(f"model.decoder.{name}.weight" for name in ("embed_positions", "project_in", "project_out")),
        lacks=UNGATED | {"norm.final"},
    ),
    "biogpt": Family(
        USUAL, o="out_proj", mlp=None, down="fc2", without=frozenset({"biogpt.embed_positions.weight"}), lacks=UNGATED
    ),
    "bloom": Family(
        {"vocab_size": V, "hidden_size": D, "n_layer": LAYERS, "n_head": H, "pad_token_id": 0},
        attention="self_attention",
        o="dense",
        down="dense_4h_to_h",
        lacks=UNGATED,
    ),
    **{
        f"falcon_{name}": Family(
            {"vocab_size": V, "hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": H, **more}
            | {"bos_token_id": 0, "eos_token_id": 1},
            "falcon",
            attention="self_attention",
            o="dense",
            down="dense_4h_to_h",
            lacks=UNGATED,
        )
        for name, more in {
            "7b": {},
            "40b": {"new_decoder_architecture": True, "num_kv_heads": 2},
            "rw": {"multi_query": False, "alibi": True, "parallel_attn": False},
            "wide": {"ffn_hidden_size": 52},
        }.items()
    },
    "mpt": Family(
        {"vocab_size": V, "d_model": D, "n_layers": LAYERS, "n_heads": H, "max_seq_len": 32},
        attention="attn",
        o="out_proj",
        mlp="ffn",
        lacks=UNGATED,
    ),
}


class Products(TorchFunctionMode):
    """Keeps the operands of what is multiplied inside attention."""

    NAMES = frozenset({"matmul", "bmm", "baddbmm", "__matmul__", "scaled_dot_product_attention"})

    def __init__(self):
        super().__init__()
        self.layer, self.seen = None, {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.layer is not None and function.__name__ in self.NAMES:
            operands = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
            if function.__name__ == "scaled_dot_product_attention":
                self.seen.setdefault(self.layer, []).extend([operands[:2], [None, operands[2]]])
            elif all(operand.ndim > 2 for operand in operands[-2:]):  # with two, it is a weight
                self.seen.setdefault(self.layer, []).append(operands[-2:])
        return function(*args, **kwargs)


def random_model(kind: str, config: dict):
    """A model with random weights that bfloat16 holds, without biases and without norms of queries and keys."""
    torch.manual_seed(0)
    made = transformers.CONFIG_MAPPING[kind](**config)
    model = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.3)
            parameter.copy_(parameter.to(torch.bfloat16).float())
            if "bias" in name:
                parameter.zero_()
    return model


def without_head_norms(model):
    for module in model.modules():
        for name in ("q_norm", "k_norm", "q_layernorm", "k_layernorm", "query_layernorm", "key_layernorm"):
            if isinstance(getattr(module, name, None), torch.nn.Module):
                setattr(module, name, torch.nn.Identity())


def blocks_of(model):
    """The list of blocks: the only list of as many modules that each have parts."""
    found = [one for _, one in model.named_modules() if isinstance(one, torch.nn.ModuleList) and len(one) == LAYERS]
    return found[0]


def final_norm(model):
    """The last norm beside the list of blocks."""
    blocks = blocks_of(model)
    base = next(one for one in model.modules() if any(child is blocks for child in one.children()))
    return next((one for one in reversed([*base.children()]) if "Norm" in type(one).__name__), None)


@dataclass
class Observed:
    """What the modules of one forward pass were given and gave."""

    given: dict = field(default_factory=dict)
    gave: dict = field(default_factory=dict)
    products: dict = field(default_factory=dict)

    def watch(self, key, module):
        if module is None:
            return

        def hook(_module, args, kwargs, output):
            first = args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None))
            self.given[key] = first.clone()
            self.gave[key] = (output[0] if isinstance(output, tuple) else output).clone()  # some add to it in place

        module.register_forward_hook(hook, with_kwargs=True)


def observe(model, family: Family) -> Observed:
    seen, products = Observed(), Products()
    for layer, block in enumerate(blocks_of(model)):
        attention = block.get_submodule(family.attention)
        attention.register_forward_pre_hook(lambda *_, layer=layer: setattr(products, "layer", layer))
        attention.register_forward_hook(lambda *_: setattr(products, "layer", None))
        for name in ("q_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv", "q_a_proj"):
            if hasattr(attention, name):
                seen.watch((layer, "x"), getattr(attention, name))
        seen.watch((layer, "o"), attention.get_submodule(family.o))
        feed = block if family.mlp is None else block.get_submodule(family.mlp)
        if hasattr(feed, family.down):
            seen.watch((layer, "down"), getattr(feed, family.down))
        first = feed.fc1 if family.mlp is None else feed
        seen.watch((layer, "mlp"), first)
    seen.watch("embed", model.get_input_embeddings())
    seen.watch("head", model.get_output_embeddings())
    if norm := final_norm(model):
        seen.watch("norm", norm)
    with torch.no_grad(), products:
        model(torch.tensor([[7]]), use_cache=False)
    seen.products = products.seen
    return seen


def flat(tensor) -> np.ndarray:
    return tensor.detach().double().numpy().ravel()


def up_to_a_factor(found: np.ndarray, expected: np.ndarray, factors: tuple[float, ...]) -> None:
    """Families scale before or after a product: the factor must be one of those."""
    factor = float(found @ expected / (found @ found))
    assert min(abs(factor / one - 1) for one in factors) < 1e-4, factor
    assert_close(found * factor, expected, dtype=np.float32, factor=64)


def activation(block, family: Family):
    feed = block if family.mlp is None else block.get_submodule(family.mlp)
    for name in ("act_fn", "act", "activation_fn", "activation", "gelu_impl"):
        if (module := getattr(feed, name, None)) is not None:
            return module
    raise AssertionError(feed)


def assert_attention(store, seen: Observed, layer: int) -> None:
    spec = store.spec(0)
    read = {part: store.read(0, None, "weights", f"layers.{layer}.attn.{part}").astype(float) for part in "qkvo"}
    x = flat(seen.given[layer, "x"])
    (query, key), (_, value) = seen.products[layer][:2]
    width, groups = spec.head_dim, spec.group_size
    root = width**-0.5
    up_to_a_factor(read["q"] @ x, flat(query), (1, root))
    for part, met in (("k", key), ("v", value)):
        own = (read[part] @ x).reshape(spec.n_kv_heads, width)
        every = np.repeat(own, groups, axis=0)
        shared = len(flat(met)) == spec.n_kv_heads * width
        up_to_a_factor((own if shared else every).ravel(), flat(met), (1, root))
    # One token attends to itself: each head gives its value to the output projection.
    mixed = flat(seen.given[layer, "o"]).reshape(spec.n_heads, width)
    values = np.repeat((read["v"] @ x).reshape(spec.n_kv_heads, width), groups, axis=0)
    up_to_a_factor(values.ravel(), mixed.ravel(), (1,))
    parts = sum(read["o"][:, head * width : (head + 1) * width] @ mixed[head] for head in range(spec.n_heads))
    up_to_a_factor(parts, flat(seen.gave[layer, "o"]), (1,))


def assert_feed_forward(store, seen: Observed, layer: int, act, gated: bool) -> None:
    read = {
        part: store.read(0, None, "weights", f"layers.{layer}.mlp.{part}").astype(float)
        for part in ("gate", "up", "down")
        if part != "gate" or gated
    }
    x, inner = flat(seen.given[layer, "mlp"]), flat(seen.given[layer, "down"])
    with torch.no_grad():
        acted = act(torch.tensor(read["gate" if gated else "up"] @ x, dtype=torch.float32)).double().numpy()
    assert_close(acted * (read["up"] @ x) if gated else acted, inner, dtype=np.float32, factor=256)
    up_to_a_factor(read["down"] @ inner, flat(seen.gave[layer, "down"]), (1,))


def assert_edges(store, seen: Observed, model) -> None:
    embed = store.read(0, None, "weights", "embed")
    scale = (1, embed.shape[1] ** 0.5, getattr(model.config, "embedding_multiplier", 1))
    up_to_a_factor(embed[7].astype(float), flat(seen.gave["embed"]), scale)
    head = store.read(0, None, "weights", "head").astype(float)
    up_to_a_factor(head @ flat(seen.given["head"]), flat(seen.gave["head"]), (1,))


def assert_final_norm(store, seen: Observed) -> None:
    """The norm's scale, or one and the scale, times what has a root mean square of one."""
    x, scale = flat(seen.given["norm"]), store.read(0, None, "weights", "norm.final").astype(float)
    centred = x - x.mean()
    expected = flat(seen.gave["norm"])
    possible = [(scale + more) * y / np.sqrt((y**2).mean() + 1e-5) for y in (x, centred) for more in (0, 1)]
    assert min(np.abs(one - expected).max() for one in possible) < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("saved", ["whole", "sharded", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_site_is_what_the_model_computes_with(tmp_path, name, saved):
    family = FAMILIES[name]
    model = random_model(family.kind or name, family.config)
    if saved == "bfloat16":
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    else:
        model.save_pretrained(tmp_path / "model", **({"max_shard_size": "8KB"} if saved == "sharded" else {}))
    assert (len(list((tmp_path / "model").glob("*.safetensors"))) > 1) == (saved == "sharded")
    without_head_norms(model)
    seen = observe(model, family)
    store = open_store(tmp_path / "model")
    kinds = {MatrixSite.parse(site).kind for site in store.steps()[0].weights}
    assert kinds == set(WEIGHTED_KINDS) - family.lacks
    for layer, block in enumerate(blocks_of(model)):
        assert_attention(store, seen, layer)
        assert_feed_forward(store, seen, layer, activation(block, family), "mlp.gate" in kinds)
    assert_edges(store, seen, model)
    if "norm.final" in kinds:
        assert_final_norm(store, seen)
    rest = store.without_site(0)
    assert set(rest.matrices) == family.without and not rest.missing and not rest.quantized


@pytest.mark.parametrize("name", ["gpt_bigcode", "falcon_7b", "falcon_40b", "gemma_multi_query", "codegen", "mpt"])
def test_circuits_of_fused_projections_are_the_models(tmp_path, name):
    """What one head moves is its value, put through the output projection with all other heads still: V and O are the
    model's own modules, fed with one unit vector after the other."""
    family = FAMILIES[name]
    model = random_model(family.kind or name, family.config)
    model.save_pretrained(tmp_path / "model")
    frame = pico_analyze.compute("norm", str(tmp_path / "model"), component="ov_circuit", data="weights")
    found = frame[frame["head"] >= 0].set_index(["layer", "head"])["value"]
    assert len(found) == LAYERS * H
    attention = blocks_of(model)[1].get_submodule(family.attention)
    o, mixed = attention.get_submodule(family.o), []
    o.register_forward_pre_hook(lambda _, given: mixed.append(given[0].detach().reshape(-1)))
    projection = next(
        getattr(attention, one)
        for one in ("v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv")
        if hasattr(attention, one)
    )
    width = projection.weight.shape[1]
    for unit in torch.eye(width):
        names = [one for one in ("q_proj", "k_proj", "v_proj") if hasattr(attention, one)]
        fed = [getattr(attention, one) for one in names] or [projection]
        hooks = [one.register_forward_pre_hook(lambda _, given, unit=unit: (unit.expand_as(given[0]),)) for one in fed]
        with torch.no_grad():
            model(torch.tensor([[7]]), use_cache=False)
        for hook in hooks:
            hook.remove()
    values = torch.stack(mixed).double().reshape(width, H, -1)
    for head in range(H):
        alone = torch.zeros_like(values)
        alone[:, head] = values[:, head]
        moved = alone.reshape(width, -1) @ o.weight.detach().double().T
        assert found[1, head] == pytest.approx(float(moved.norm()), rel=1e-5)  # float32 products


def several_parts():
    text = {"num_key_value_heads": 2, **USUAL}
    eyes = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
    eyes |= {"image_size": 8, "patch_size": 4}
    yield (
        "gemma3",
        transformers.Gemma3Config(
            text_config=transformers.Gemma3TextConfig(head_dim=16, **text).to_dict(),
            vision_config=transformers.SiglipVisionConfig(**eyes).to_dict(),
            mm_tokens_per_image=4,
        ),
        transformers.Gemma3ForConditionalGeneration,
    )
    yield (
        "llava",
        transformers.LlavaConfig(
            text_config=transformers.LlamaConfig(**text).to_dict(),
            vision_config=transformers.CLIPVisionConfig(**eyes, projection_dim=16).to_dict(),
        ),
        transformers.LlavaForConditionalGeneration,
    )
    tiny = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "intermediate_size": 20, "patch_size": 4}
    for kind in ("Qwen2VL", "Qwen2_5_VL", "Qwen3VL"):
        made = getattr(transformers, f"{kind}Config")
        turned = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 1], "rope_theta": 1e4}}
        yield (
            kind,
            made(text_config={**text, **turned, "head_dim": D // H}, vision_config=tiny | {"out_hidden_size": D}),
            getattr(transformers, f"{kind}ForConditionalGeneration"),
        )


@pytest.mark.parametrize(
    ("name", "config", "kind"), list(several_parts()), ids=lambda one: one if isinstance(one, str) else ""
)
def test_the_decoder_of_a_model_that_reads_pictures_is_found(tmp_path, name, config, kind):
    torch.manual_seed(0)
    model = kind(config).eval()
    model.save_pretrained(tmp_path / name)
    store = open_store(tmp_path / name)
    weights = store.steps()[0].weights
    assert {MatrixSite.parse(site).kind for site in weights} == set(WEIGHTED_KINDS)
    decoder = model.model.language_model
    for layer, block in enumerate(decoder.layers):
        for module, site in ((block.self_attn.v_proj, "attn.v"), (block.mlp.down_proj, "mlp.down")):
            held = store.read(0, None, "weights", f"layers.{layer}.{site}")
            np.testing.assert_array_equal(held, module.weight.detach().numpy())
    np.testing.assert_array_equal(store.read(0, None, "weights", "embed"), decoder.embed_tokens.weight.detach().numpy())
    rest = store.without_site(0)
    assert rest.matrices and not any("language_model" in one for one in rest.matrices) and not rest.missing


MOE = {"moe_intermediate_size": 20, "num_experts": 4, "num_experts_per_tok": 4, "num_local_experts": 4}
MIXTURES = {
    "mixtral": (GROUPED | MOE, "mlp", None),
    "phimoe": (GROUPED | MOE | {"head_dim": 6}, "mlp", None),
    "olmoe": (GROUPED | {"num_experts": 4, "num_experts_per_tok": 4}, "mlp", None),
    "qwen2_moe": (GROUPED | MOE | {"shared_expert_intermediate_size": 28}, "mlp", "shared_expert"),
    "qwen3_moe": (OWN | MOE, "mlp", None),
    "granitemoe": (GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 4}, "block_sparse_moe", None),
    "dbrx": (
        {"vocab_size": V, "d_model": D, "n_layers": LAYERS, "n_heads": H, "max_seq_len": 32, "pad_token_id": 0}
        | {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 1e6}}
        | {"ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 4, "moe_top_k": 4, "ffn_act_fn": {"name": "silu"}}},
        "ffn",
        None,
    ),
    "gpt_oss": (
        OWN
        | {"num_local_experts": 4, "num_experts_per_tok": 4, "layer_types": ["full_attention"] * LAYERS}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        "mlp",
        None,
    ),
    "llama4_text": (
        OWN
        | {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size_mlp": 36, "use_qk_norm": False}
        | {"interleave_moe_layer_step": 2, "attn_temperature_tuning": False},
        "feed_forward",
        "shared_expert",
    ),
    "deepseek_v2": (
        USUAL
        | {
            "num_key_value_heads": H,
            "moe_intermediate_size": 20,
            "n_routed_experts": 4,
            "num_experts_per_tok": 4,
            "n_shared_experts": 2,
        }
        | {"q_lora_rank": None, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6}
        | {"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
        "mlp",
        "shared_experts",
    ),
    "deepseek_v3": (
        USUAL
        | {
            "num_key_value_heads": H,
            "moe_intermediate_size": 20,
            "n_routed_experts": 4,
            "num_experts_per_tok": 4,
            "n_shared_experts": 1,
        }
        | {"q_lora_rank": 10, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6}
        | {"first_k_dense_replace": 1, "n_group": 2, "topk_group": 2},
        "mlp",
        "shared_experts",
    ),
}


OBSERVED = {
    "granitemoe": Family({}, mlp="block_sparse_moe"),
    "llama4_text": Family({}, mlp="feed_forward"),
    "dbrx": Family({}, attention="norm_attn_norm.attn", o="out_proj", mlp="ffn"),
}
"""Those whose blocks have other names."""


def feed_forward(store, name: str, place: str, x: np.ndarray) -> np.ndarray:
    """What an expert of layer 1 gives, by its matrices."""
    gate, up, down = (
        store.read(0, None, "weights", f"layers.1.mlp.{place}.{part}").astype(float) for part in ("gate", "up", "down")
    )
    if name == "gpt_oss":
        turned = np.minimum(gate @ x, 7)
        return down @ ((np.clip(up @ x, -7, 7) + 1) * turned / (1 + np.exp(-1.702 * turned)))
    acted = gate @ x / (1 + np.exp(-(gate @ x)))  # SiLU
    return down @ (acted * (up @ x))


def assert_experts(forward, seen, name: str) -> None:
    if name == "llama4_text":  # whose experts are each given the token, already weighted
        given, gave = (one.detach().double().numpy() for one in (seen["given"][0], seen["gave"]))
        assert np.count_nonzero(gave.any(1)) == 2
        for e in range(4):
            assert_close(forward(f"experts.{e}", given[e]), gave[e], dtype=np.float32, factor=256)
        return
    x, chosen, weights = (flat(one) for one in seen["given"])
    assert len({*chosen}) > 1
    expected = sum(weight * forward(f"experts.{int(e)}", x) for e, weight in zip(chosen, weights, strict=True))
    up_to_a_factor(expected, flat(seen["gave"]), (1,))


@pytest.mark.parametrize("saved", ["each", "together"])
@pytest.mark.parametrize("name", MIXTURES)
def test_every_expert_is_what_the_model_computes_with(tmp_path, name, saved):
    """What all experts give together is the sum of each expert's feed-forward by the weights that the router gave it;
    stored each for itself, as published, or all in one tensor, as the model holds them."""
    config, mlp, shared = MIXTURES[name]
    model = random_model(name, config)
    model.save_pretrained(tmp_path / "model")
    if saved == "together":
        held = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        assert name == "dbrx" or any(tensor.ndim == 3 for tensor in held.values())
        save_file(held, tmp_path / "model" / "model.safetensors")
    without_head_norms(model)
    block = blocks_of(model)[1]
    seen_by_experts, seen = {}, Observed()
    experts = block.get_submodule(f"{mlp}.experts")
    experts.register_forward_hook(
        lambda _, given, named, gave: seen_by_experts.update(given=[*given, *named.values()], gave=gave),
        with_kwargs=True,
    )
    for parameter in (one for key, one in model.named_parameters() if key.endswith(".sinks")):
        parameter.data.fill_(-1e9)  # what of attention goes to no token
    if shared:
        seen.watch("shared", block.get_submodule(f"{mlp}.{shared}"))
    if hasattr(getattr(block, "self_attn", None), "q_proj"):
        seen.watch("q", block.self_attn.q_proj)
    passed = observe(model, OBSERVED.get(name, Family(config)))
    store = open_store(tmp_path / "model")

    forward = partial(feed_forward, store, name)
    assert_experts(forward, seen_by_experts, name)
    if shared:
        up_to_a_factor(forward("shared", flat(seen.given["shared"])), flat(seen.gave["shared"]), (1,))
    if name.startswith("deepseek"):  # whose keys and values are made of a latent
        o = store.read(0, None, "weights", "layers.1.attn.o").astype(float)
        up_to_a_factor(o @ flat(passed.given[1, "o"]), flat(passed.gave[1, "o"]), (1,))
        held = "layers.1.attn.q" in store.steps()[0].weights
        assert held == ("q" in seen.gave)
        if held:
            q = store.read(0, None, "weights", "layers.1.attn.q").astype(float)
            up_to_a_factor(q @ flat(seen.given["q"]), flat(seen.gave["q"]), (1,))
    else:
        assert_attention(store, passed, 1)
    assert_edges(store, passed, model)
    for site in store.steps()[0].weights:
        array, kind = store.read(0, None, "weights", site), MatrixSite.parse(site).kind
        assert array.shape == store.spec(0).weight_shape(kind), site
    rest = store.without_site(0)
    assert not rest.missing and not rest.quantized
    latent = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"} if name.startswith("deepseek") else set()
    assert {one.split(".")[-2] for one in rest.matrices} <= {"gate", "router", "layer", "shared_expert_gate", *latent}
    held_experts = {MatrixSite.parse(site).kind for site in store.steps()[0].weights if ".experts." in site}
    assert len(held_experts) == 3 * 4


OWN = (PICO, NANOGPT)
"""Those that transformers does not have: their tests are test_pico_v1.py and test_formats.py."""


def test_each_type_of_the_table_is_checked_against_a_forward_pass():
    checked = {family.kind or name for name, family in FAMILIES.items()} | {*MIXTURES}
    checked |= {config.text_config.model_type for _, config, _ in several_parts()}
    before_transformers = {"RefinedWeb", "RefinedWebModel"}
    assert {kind for one in ARCHITECTURES for kind in one.types if one not in OWN} - checked == before_transformers


@pytest.mark.parametrize("kind", sorted(kind for one in ARCHITECTURES for kind in one.types if one not in OWN))
def test_what_a_configuration_leaves_unsaid_is_what_transformers_takes(kind):
    """The defaults of each family's own configuration class are the oracle."""
    if kind.startswith("RefinedWeb"):
        pytest.skip("the name that Falcon had before transformers had it")
    usual = transformers.CONFIG_MAPPING[kind]()
    name = "n_embd" if hasattr(usual, "n_embd") else "d_model" if hasattr(usual, "d_model") else "hidden_size"
    default = transformers.CONFIG_MAPPING[kind](**{name: 2 * getattr(usual, name)})  # what follows from it moves
    stored = json.loads(default.to_json_string(use_diff=False))
    stored.pop("tie_word_embeddings", None), stored.pop("head_dim", None)
    heads = {"num_key_value_heads": getattr(default, "num_key_value_heads", None)}
    spec = architecture_of({"model_type": kind}).spec(stored | heads, where=kind)
    assert spec.tie_embeddings == getattr(default, "tie_word_embeddings", False)
    if not kind.startswith("deepseek"):  # there it is the width of what is turned
        own = getattr(default, "head_dim", None)
        assert spec.head_dim == (own or default.hidden_size // default.num_attention_heads)


@pytest.mark.parametrize("kind", PART_DEFAULTS)
def test_what_a_part_leaves_unsaid_is_what_transformers_takes(kind):
    default = transformers.CONFIG_MAPPING[kind]()
    assert {name: getattr(default, name) for name in PART_DEFAULTS[kind]} == PART_DEFAULTS[kind]
