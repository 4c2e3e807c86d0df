"""Documents of a row kept apart: each is what it is by itself, to transformers' Llama and to its own gradients."""

from __future__ import annotations

import json
import random

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.closeness import assert_close
from support.tiny import config as tiny
from support.training_runs import train_again, train_until
from support.worlds import launch
from transformers import LlamaConfig, LlamaForCausalLM

from pico_schema import ModelSpec, documents, layout
from pico_train.model.decoder import Decoder, KVCache, document_mask
from pico_train.model.huggingface import config_json

END = 0
ROUNDING = 512
"""Epsilons of the largest logit or gradient: rotary angles are larger at positions that run on over a row."""
SPEC = ModelSpec(vocab_size=40, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=48, max_seq_len=64)


def build(separator: int | None = END, seed: int = 0) -> Decoder:
    """A decoder whose attention is far from uniform, so that what is read shows."""
    model = Decoder(SPEC, separator=separator)
    model.init_weights(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(15)
    return model


def llama(model: Decoder) -> LlamaForCausalLM:
    reference = LlamaForCausalLM(LlamaConfig(**config_json(SPEC), attn_implementation="eager"))
    reference.load_state_dict(model.state_dict(), strict=True)
    return reference


def starts(row: list[int]) -> list[int]:
    """Where documents of a row begin: at its beginning, and with each token that ends one."""
    return sorted({0, *(place for place, token in enumerate(row) if token == END)})


def row_of(lengths: list[int], seed: int = 0) -> torch.Tensor:
    """A row of documents of these lengths; each but the first begins with the token that ends the one before."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for number, length in enumerate(lengths):
        ids = torch.randint(1, SPEC.vocab_size, (length,), generator=generator)
        if number:
            ids[0] = END
        parts.append(ids)
    return torch.cat(parts)


rows = st.lists(st.integers(0, 5), min_size=1, max_size=24)


@given(st.lists(rows.map(lambda row: (row * 24)[:24]), min_size=1, max_size=3))
def test_a_position_reads_those_of_its_document_up_to_itself(batch):
    mask = document_mask(torch.tensor(batch), END)
    assert mask.shape == (len(batch), 1, 24, 24) and mask.dtype == torch.bool
    for row, of_row in zip(batch, mask[:, 0].tolist(), strict=True):
        for reads, allowed in enumerate(of_row):
            begin = max(start for start in starts(row) if start <= reads)
            assert [place for place, may in enumerate(allowed) if may] == list(range(begin, reads + 1))


@pytest.mark.parametrize("lengths", [[20], [7, 13], [1, 1, 18], [5, 4, 3, 2, 1, 5], [10, 1, 9]])
def test_logits_and_gradients_are_those_of_each_document_by_itself(lengths):
    model, row = build(), row_of(lengths)
    reference = llama(model)
    targets = row_of([20], seed=9)
    logits = model(row[None])[0]
    torch.nn.functional.cross_entropy(logits, targets, reduction="sum").backward()
    begins = starts(row.tolist())
    assert len(begins) == len(lengths)
    for begin, end in zip(begins, [*begins[1:], len(row)], strict=True):
        alone = reference(row[None, begin:end]).logits[0]
        assert_close(logits[begin:end], alone, factor=ROUNDING, name=f"document {begin}:{end}")
        torch.nn.functional.cross_entropy(alone, targets[begin:end], reduction="sum").backward()
    expected = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, expected[name].grad, factor=8 * ROUNDING, name=name)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=2, max_size=5), st.data())
def test_nothing_of_another_document_changes_a_logit(lengths, data):
    model, row = build(), row_of(lengths)
    begins = [*starts(row.tolist()), len(row)]
    chosen = data.draw(st.integers(0, len(begins) - 2))
    other = row_of([len(row)], seed=3)
    changed = torch.where(row == END, row, other)
    begin, end = begins[chosen], begins[chosen + 1]
    changed[begin:end] = row[begin:end]
    with torch.no_grad():
        assert torch.equal(model(row[None])[0, begin:end], model(changed[None])[0, begin:end])


def test_a_row_of_one_document_is_read_as_without_a_mask():
    row = row_of([30])[None]
    with torch.no_grad():
        assert_close(build()(row), build(separator=None)(row), factor=ROUNDING)


def test_the_weights_are_those_of_a_plain_decoder():
    kept, plain = build().state_dict(), build(separator=None).state_dict()
    assert kept.keys() == plain.keys() and all(torch.equal(kept[name], plain[name]) for name in plain)


def test_a_cache_is_refused():
    cache = KVCache(SPEC, 1, 8, device=torch.device("cpu"), dtype=torch.float32)
    with pytest.raises(ValueError, match="reads whole rows"):
        build()(row_of([4])[None], cache)


# -- runs

WORDS = ["a", "one", "two", "cat", "dog", "sees", "finds", "red", "green", "over"]
SHORT = {"training__max_steps": 6, "data__seq_len": 40, "data__document_mask": True}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Many documents of a few words each, so that rows hold several."""
    directory, chance = tmp_path_factory.mktemp("short"), random.Random(2)
    for name, n in (("held_out.jsonl", 40), ("text.jsonl", 160)):
        lines = (" ".join(chance.choices(WORDS, k=7)) for _ in range(n))
        (directory / name).write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return directory / "text.jsonl"


def config(out, text, **changes):
    return tiny(out, text, data__val_paths=[str(text.with_name("held_out.jsonl"))], **changes)


TRACED = {"PICO_TEST_COMPILER": "eager"}


def checkpoint(out, step=6):
    directory = out / "tiny" / layout.checkpoint_dir(step)
    return documents.read_checkpoint(directory), directory


def test_what_is_captured_trained_and_scored_is_of_documents_by_themselves(text, tmp_path):
    """Validation loss, captured loss and gradients, against transformers' Llama document by document."""
    launch(train_until, config(tmp_path, text, **SHORT, captures__per_row_loss=True))
    manifest, directory = checkpoint(tmp_path)
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    end = json.loads((directory / layout.MODEL_CONFIG).read_bytes())["eos_token_id"]
    import pyarrow.parquet as pq

    stored = pq.read_table(tmp_path / "tiny" / layout.VALIDATION_ROWS)["input_ids"].to_pylist()
    batch = pq.read_table(directory / layout.TRAIN_BATCH)["input_ids"].to_pylist()
    for split, read in (("val", stored), ("train", batch)):
        losses, n_documents = [], 0
        for row in map(torch.tensor, read):
            ids, targets = row[:-1], row[1:]
            begins = sorted({0, *torch.nonzero(ids == end).flatten().tolist()})
            n_documents += len(begins)
            parts = [
                torch.nn.functional.cross_entropy(model(ids[None, a:b]).logits[0], targets[a:b], reduction="none")
                for a, b in zip(begins, [*begins[1:], len(ids)], strict=True)
            ]
            losses.append(torch.cat(parts))
        assert n_documents > len(read), "there are rows of several documents"
        each = torch.stack(losses)
        model.zero_grad()
        each.mean().backward()
        entry = manifest.capture(split)
        tensors = safetensors.torch.load_file(directory / entry.file)
        assert_close(tensors["row_loss"], each.mean(1), factor=ROUNDING)
        gradient = model.model.layers[0].self_attn.v_proj.weight.grad
        assert_close(tensors["gradients/layers.0.attn.v"], gradient, factor=ROUNDING)
        if split == "val":
            assert manifest.metrics["val_loss"] == pytest.approx(each.mean().item(), rel=1e-5)


def test_a_run_that_was_stopped_and_compiled_ends_where_the_other_does(text, tmp_path):
    launch(train_until, config(tmp_path / "whole", text, **SHORT))
    for stop_at, compiled in ((3, "off"), (None, "on")):
        wanted = config(tmp_path / "parts", text, **SHORT, training__compile=compiled)
        launch(train_until, wanted, stop_at, environment=TRACED)
    whole, parts = (checkpoint(tmp_path / name)[1] / layout.WEIGHTS for name in ("whole", "parts"))
    expected, found = safetensors.torch.load_file(whole), safetensors.torch.load_file(parts)
    for name, weight in expected.items():
        assert_close(found[name], weight, factor=2**14, name=name)


def test_the_mask_makes_a_difference_and_may_not_change_on_a_resume(text, tmp_path):
    launch(train_until, config(tmp_path, text, **SHORT), 3)
    [refused] = launch(train_again, config(tmp_path, text, **(SHORT | {"data__document_mask": False})))
    assert refused.startswith("ConfigError") and "data.document_mask was True, is now False" in refused
    launch(train_until, config(tmp_path / "off", text, **(SHORT | {"data__document_mask": False})))
    launch(train_until, config(tmp_path / "on", text, **SHORT))
    on, off = (checkpoint(tmp_path / name)[0].metrics["val_loss"] for name in ("on", "off"))
    assert on != off


def test_two_processes_are_one(text, tmp_path):
    launch(train_until, config(tmp_path / "one", text, **SHORT))
    launch(train_until, config(tmp_path / "two", text, **SHORT, distributed__strategy="fsdp"), world=2)
    one, two = (checkpoint(tmp_path / name)[0].metrics["val_loss"] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-3)
