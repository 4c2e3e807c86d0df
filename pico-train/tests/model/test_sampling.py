"""What is loaded is what was sealed, or it is refused: by `generate` and by `load_decoder`."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.exported import SPEC, export, seal

from pico_schema import SchemaError
from pico_train import load_decoder
from pico_train.errors import CheckpointError, PicoTrainError, UsageError
from pico_train.model.sampling import continue_text, generation_ends, read_decoder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a manifest: a model of others."""
    directory = tmp_path_factory.mktemp("exported") / "model"
    export(directory)
    return directory


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "model"))


def text_of(directory: Path, prompt: str = "The quick") -> str:
    return continue_text(directory, prompt, max_new_tokens=6, temperature=0.0)


def test_a_sealed_checkpoint_loads_as_the_model_it_holds(model: Path) -> None:
    expected = export(model)
    for directory in (model, seal(model)):
        loaded = load_decoder(directory)
        assert loaded.spec == SPEC
        for name, parameter in expected.named_parameters():
            assert torch.equal(dict(loaded.named_parameters())[name], parameter), name
    assert text_of(model)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"])
def test_one_flipped_bit_in_what_is_read_is_refused(model: Path, name: str) -> None:
    seal(model)
    content = bytearray((model / name).read_bytes())
    content[-9] ^= 4
    (model / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} does not have the content that was sealed"):
        text_of(model)


def test_what_was_added_taken_away_or_linked_after_sealing_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "generation_config.json").rename(tmp_path / "later.json")
    seal(model)
    (model / "generation_config.json").write_text('{"eos_token_id": 5}')
    with pytest.raises(CheckpointError, match=r"generation_config\.json is not in the checkpoint's manifest\.json"):
        text_of(model)
    (model / "generation_config.json").unlink()
    (model / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        read_decoder(model)
    (model / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(SchemaError, match="through a symbolic link"):
        read_decoder(model)


def test_a_linked_checkpoint_is_refused(model: Path, tmp_path: Path) -> None:
    seal(model)
    (tmp_path / "linked").symlink_to(model)
    with pytest.raises(SchemaError, match="link"):
        read_decoder(tmp_path / "linked")


def test_a_manifest_of_another_model_or_type_is_refused(model: Path) -> None:
    seal(model, model=SPEC.model_copy(update={"rope_theta": 5000.0}))
    with pytest.raises(CheckpointError, match=r"config\.json describes another model than manifest\.json"):
        read_decoder(model)
    seal(model, weights_dtype="bfloat16")
    with pytest.raises(CheckpointError, match=r"is of type float32, not bfloat16 as manifest\.json says"):
        read_decoder(model)
    (model / "manifest.json").write_text("{")
    with pytest.raises(SchemaError, match=r"manifest\.json"):
        read_decoder(model)


def change_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = safetensors.torch.load_file(directory / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, directory / "model.safetensors")


def change_header(directory: Path, change: Callable[[dict[str, dict]], object]) -> None:
    content = (directory / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    text = change(header) or json.dumps(header)
    assert isinstance(text, str)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text.encode() + content[8 + length :])


NORM, HEAD = "model.norm.weight", "lm_head.weight"
TENSORS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "nan": (
        lambda t: t[NORM].view(-1)[3:4].fill_(float("nan")),
        "'model.norm.weight' holds values that are not finite",
    ),
    "infinity": (lambda t: t[HEAD].view(-1)[-1:].fill_(float("-inf")), "'lm_head.weight' holds values that are not"),
    "too large": (
        lambda t: t.update({NORM: t[NORM].double() * 1e300}),
        "'model.norm.weight' holds values beyond float32",
    ),
    "missing": (lambda t: t.pop(NORM), "has no tensor 'model.norm.weight'"),
    "all missing": (lambda t: [t.pop(name) for name in list(t)[1:]], "and 17 more: it is not a model of this geometry"),
    "extra": (lambda t: t.update(bias=t[NORM].clone()), "has a tensor 'bias' that this model has no place for"),
    "shape": (lambda t: t.update({NORM: t[NORM][:-1].clone()}), r"has shape \(31,\), the model needs \(32,\)"),
    "transposed": (lambda t: t.update({HEAD: t[HEAD].T.contiguous()}), r"has shape \(32, 704\)"),
    "integers": (lambda t: t.update({NORM: t[NORM].int()}), "is of type I32, not floating-point"),
}
HEADERS: dict[str, Callable[[dict[str, dict]], object]] = {
    "overlapping": lambda h: h[NORM].update(data_offsets=h["model.layers.0.input_layernorm.weight"]["data_offsets"]),
    "doubled": lambda h: json.dumps(h)[:-1] + f', "{NORM}": {json.dumps(h[NORM])}}}',
    "list as type": lambda h: h[NORM].update(dtype=["F32"]),
    "negative": lambda h: h[NORM].update(shape=[-32]),
    "huge": lambda h: h[NORM].update(shape=[2**62, 2**62]),
    "deep": lambda _: "[" * 60_000,
    "no object": lambda _: "[]",
}


@pytest.mark.parametrize("name", TENSORS)
def test_weights_that_are_not_this_models_are_refused_by_name(model: Path, name: str) -> None:
    """Also where no manifest tells: a model of others."""
    change, says = TENSORS[name]
    change_tensors(model, change)
    with pytest.raises(CheckpointError, match=says):
        load_decoder(model)


@pytest.mark.parametrize("name", HEADERS)
def test_a_damaged_header_is_one_sentence(model: Path, name: str) -> None:
    change_header(model, HEADERS[name])
    with pytest.raises(CheckpointError, match=r"model\.safetensors") as refused:
        load_decoder(model)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "value", ["1e999", "-1e999", "NaN", "Infinity", "0", "-1", "1e-300", "0.5", '"1e4"', "true", "[1]"]
)
@pytest.mark.parametrize("field", ["rope_theta", "rms_norm_eps"])
def test_a_number_in_the_configuration_that_no_model_has_is_named(model: Path, field: str, value: str) -> None:
    if (field, value) == ("rms_norm_eps", "0.5"):
        value = "1.5"
    config = json.loads((model / "config.json").read_text())
    del config["rope_parameters"]
    text = json.dumps(config | {field: "here"}).replace('"here"', value)
    (model / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=rf"config\.json: {field.removeprefix('rms_')}: .*found"):
        load_decoder(model)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds no JSON object"),
        ('{"eos_token_id": "x"}', "eos_token_id is x, not the id of a token"),
        ('{"eos_token_id": [1, -2]}', "not the id of a token"),
        ('{"eos_token_id": 1, "eos_token_id": 2}', "twice"),
    ],
)
def test_a_damaged_generation_config_is_named(model: Path, content: str, says: str) -> None:
    (model / "generation_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=rf"generation_config\.json.*{says}"):
        generation_ends(model)


def test_ends_of_texts_are_one_several_or_none(model: Path) -> None:
    assert generation_ends(model) == (0,)
    (model / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert generation_ends(model) == (7, 9)
    (model / "generation_config.json").unlink()
    assert generation_ends(model) == ()


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("", "--prompt is empty"),
        ("\udcff", "--prompt is not UTF-8"),
        ("the fox " * 40, "the model takes 64: shorten it"),
    ],
)
def test_prompts_that_cannot_be_continued_are_refused(model: Path, prompt: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        text_of(model, prompt)


def test_a_tokenizer_that_does_not_go_with_the_model_is_refused(model: Path) -> None:
    config = json.loads((model / "config.json").read_text()) | {"vocab_size": 20}
    (model / "config.json").write_text(json.dumps(config))

    def cut(tensors: dict[str, torch.Tensor]) -> None:
        for name in (HEAD, "model.embed_tokens.weight"):
            tensors[name] = tensors[name][:20].clone()

    change_tensors(model, cut)
    with pytest.raises(CheckpointError, match="the tokenizer has more tokens than the model's 20"):
        text_of(model)
    (model / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(PicoTrainError, match=r"tokenizer\.json: not valid JSON") as refused:
        text_of(model)
    assert refused.value.exit_code == 3
