"""The exported tokenizer, as transformers loads it: it gives a model what its training gave it, and pads for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.exported import SPEC, export
from support.tokenizers_of_all_kinds import CUT, TEXTS, save
from tokenizers import Tokenizer, processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline

from pico_train.model.generation import generate
from pico_train.model.huggingface import checkpoint_files
from pico_train.model.tokenizer_export import export_tokenizer

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported") / "step"
    export(directory)
    return directory


def test_all_files_name_the_same_tokens(checkpoint: Path) -> None:
    tokenizer, config = AutoTokenizer.from_pretrained(checkpoint), AutoConfig.from_pretrained(checkpoint)
    generation = GenerationConfig.from_pretrained(checkpoint)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (END, END, END)
    assert tokenizer.bos_token_id == config.bos_token_id == generation.bos_token_id == 0
    assert tokenizer.eos_token_id == config.eos_token_id == generation.eos_token_id == 0
    assert tokenizer.pad_token_id == generation.pad_token_id == 0
    assert tokenizer.padding_side == "left"
    assert tokenizer.model_max_length == SPEC.max_seq_len


def test_end_of_text_goes_on_learning_though_it_fills_up_batches(checkpoint: Path) -> None:
    """`pad_token_id` in config.json would take its embedding's gradient away."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    ids = torch.tensor([[0, 5, 7, 0, 9]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.get_input_embeddings().weight.grad[0].abs().max() > 0


def test_a_pipelines_batch_of_two_is_the_text_of_each_alone(checkpoint: Path) -> None:
    """And both are what `generate` here makes of it: prompts of different lengths, padded on the left."""
    prompts = ["The quick brown", "def f(x): return the lazy dog and the fox, 123"]
    pipe = pipeline("text-generation", str(checkpoint), device="cpu")
    settings = {"max_new_tokens": 12, "do_sample": False, "return_full_text": False}
    together = [result[0]["generated_text"] for result in pipe(prompts, batch_size=2, **settings)]
    assert together == [pipe(prompt, **settings)[0]["generated_text"] for prompt in prompts]
    ours = export(checkpoint)
    tokens = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    for prompt, text in zip(prompts, together, strict=True):
        ids = torch.tensor([tokens.encode(prompt).ids])
        out = generate(ours, ids, 12, eos_id=0)[0, ids.shape[1] :]
        assert text == tokens.decode(out.tolist())


@pytest.mark.parametrize("kind", CUT)
def test_transformers_encodes_as_training_did(tmp_path: Path, kind: str) -> None:
    """Whatever the class was that the tokenizer came with, and whatever it put around a text."""
    tokenizer = CUT[kind]()
    expected = [tokenizer.encode(text).ids for text in TEXTS[:3]]
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.Sequence(
        [processors.TemplateProcessing(single=f"{END} $A {END}", special_tokens=[(END, end)])]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16, pad_id=end, pad_token=END)
    save(tokenizer, tmp_path / "it", tokenizer_class="LlamaTokenizer", add_bos_token=True, bos_token="<unk>")
    for name, content in checkpoint_files(SPEC, "float32", tmp_path / "it").items():
        (tmp_path / name).write_bytes(content)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert [theirs(text).input_ids for text in TEXTS[:3]] == expected
    assert theirs.bos_token == END
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [plain.encode(text).ids for text in TEXTS[:3]] == expected
    assert theirs.get_vocab() == plain.get_vocab(with_added_tokens=True)


def test_a_padding_token_of_its_own_stays(tmp_path: Path) -> None:
    tokenizer = CUT["gpt2"]()
    tokenizer.add_special_tokens(["<|padding|>"])
    pad = tokenizer.token_to_id("<|padding|>")
    directory = save(tokenizer, tmp_path, pad_token={"content": "<|padding|>", "lstrip": False})
    files = checkpoint_files(SPEC, "float32", directory)
    read = {
        name: json.loads(files[name]) for name in ("config.json", "generation_config.json", "tokenizer_config.json")
    }
    assert read["config.json"]["pad_token_id"] == read["generation_config.json"]["pad_token_id"] == pad
    assert read["tokenizer_config.json"]["pad_token"] == "<|padding|>"
    assert read["config.json"]["bos_token_id"] == read["config.json"]["eos_token_id"] == 0


def test_what_needs_no_change_is_not_changed(tmp_path: Path) -> None:
    directory = save(CUT["gpt2"](), tmp_path / "a", unk_token=END, chat_template="{{ messages }}")
    (directory / "special_tokens_map.json").write_text('{"eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}')
    files = export_tokenizer(directory, max_seq_len=64).files
    assert files["tokenizer.json"] == (directory / "tokenizer.json").read_bytes()
    config = json.loads(files["tokenizer_config.json"])
    assert (config["unk_token"], config["chat_template"]) == (END, "{{ messages }}")
    assert json.loads(files["special_tokens_map.json"])["pad_token"] == END
    nameless = save(CUT["gpt2"](), tmp_path / "b", eos_token=None)
    exported = export_tokenizer(nameless, max_seq_len=64)
    assert (exported.eos_id, exported.pad_id) == (None, None)
    assert exported.files == {path.name: path.read_bytes() for path in nameless.iterdir()}
