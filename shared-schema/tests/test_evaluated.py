"""Names and digests under which results of models of other makers are kept: other files, other digests."""

from __future__ import annotations

import hashlib

import pytest

from pico_schema import evaluated

FILES = {"config.json": "a" * 40, "model.safetensors": "b" * 64, "tokenizer.json": "c" * 40}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("hf://EleutherAI/pythia-70m", "EleutherAI--pythia-70m"),
        ("hf://EleutherAI/pythia-70m@main", "EleutherAI--pythia-70m-main"),
        ("/data/runs/my models", "my-models"),
        ("/data/...", "model"),
    ],
)
def test_folders_are_named_after_places(place, name):
    assert evaluated.folder_name(place) == name


def test_the_digest_of_a_model_is_that_of_its_files_in_the_order_of_their_names():
    lines = "\n".join(f"{name} {digest}" for name, digest in FILES.items())
    assert evaluated.model_digest(FILES) == hashlib.sha256(lines.encode()).hexdigest()
    assert evaluated.model_digest(dict(reversed(FILES.items()))) == evaluated.model_digest(FILES)


@pytest.mark.parametrize("name", FILES)
def test_another_file_is_another_model(name):
    assert evaluated.model_digest(FILES | {name: "d" * 64}) != evaluated.model_digest(FILES)
    assert evaluated.model_digest({k: v for k, v in FILES.items() if k != name}) != evaluated.model_digest(FILES)


@pytest.mark.parametrize("name", ["README.md", "generation_config.json", "sub/model.safetensors", "trainer_state.json"])
def test_what_does_not_make_the_model_does_not_count(name):
    assert evaluated.model_digest(FILES | {name: "d" * 64}) == evaluated.model_digest(FILES)


def test_series_are_told_apart_by_their_places():
    first, second = (evaluated.series_id(f"hf://a/{name}") for name in "bc")
    assert first != second and len(first) == 32 and set(first) <= set("0123456789abcdef")
