"""What is held out of a single file, or of few documents: the end, and nothing of it is trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.corpora import SEQ_LEN, make_text

from pico_train.data import tokenizer
from pico_train.data.prepare.documents import Document, fraction
from pico_train.data.prepare.holding_out import HoldingOut, Rule, choose
from pico_train.data.prepare.recipe import Inputs, Recipe
from pico_train.data.prepare.training_text import TrainingText
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.manifest import CorpusManifest
from pico_train.errors import DataError

Prepare = Callable[..., CorpusManifest]


def rows_of(directory: Path, split: str) -> np.ndarray:
    """Rows as an independent reader sees them: pyarrow, through Python lists."""
    manifest = manifests.read(directory)
    assert manifest is not None
    tables = [pq.read_table(directory / shard.file) for shard in manifest.splits[split].shards]
    return np.array([row for table in tables for row in table.column("input_ids").to_pylist()])


def inputs_of(*texts: str, size: int | None = None) -> Inputs:
    documents = [Document.of(text, source=f"{number}.txt") for number, text in enumerate(texts)]
    return Inputs("", train=lambda: documents, bytes=size)


def recipe(**settings: object) -> Recipe:
    return Recipe(**{"tokenizer": "train:300", "seq_len": SEQ_LEN, "val_fraction": 0.1, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(12))  # whatever the hash of the one text says: of twelve, some fall below 0.4
def test_of_a_single_file_the_last_rows_are_held_out(seed: int, tmp_path: Path, prepare_text: Prepare) -> None:
    (tmp_path / "one.txt").write_text(make_text(seed, 600))
    manifest = prepare_text([tmp_path / "one.txt"], tmp_path / "c", shuffle_seed=None, val_fraction=0.4)
    train, val = rows_of(tmp_path / "c", "train"), rows_of(tmp_path / "c", "val")
    encoder = tokenizer.load(tmp_path / "c" / "tokenizer")
    ids = [*encoder.encode(make_text(seed, 600), add_special_tokens=False).ids, manifest.tokenizer.eos_id]
    n_rows = len(ids) // (SEQ_LEN + 1)
    whole = np.array(ids[: n_rows * (SEQ_LEN + 1)]).reshape(n_rows, SEQ_LEN + 1)
    assert len(val) == round(0.4 * n_rows)
    assert np.array_equal(train, whole[: len(train)])
    assert {tuple(row) for row in val} == {tuple(row) for row in whole[len(train) :]}, "no row on both sides, none lost"
    parts = manifest.splits
    assert (parts["train"].n_documents, parts["val"].n_documents) == (1, 1)
    assert parts["train"].n_tokens + parts["val"].n_tokens == len(ids)
    assert str(manifest.settings["held_out"]).startswith("the end of the text, 0.4 of its rows")


def test_both_sides_of_the_hash_are_met_by_the_seeds_above() -> None:
    places = [fraction(Document.of(make_text(seed, 600), source="").digest) for seed in range(12)]
    assert min(places) < 0.4 < max(places)


def test_of_few_files_one_at_most_is_cut_and_none_is_on_both_sides(tmp_path: Path, prepare_text: Prepare) -> None:
    texts = [make_text(seed, 200) for seed in range(5)]
    for number, text in enumerate([*texts, texts[1], texts[4]]):
        (tmp_path / f"{number}.txt").write_text(text)
    manifest = prepare_text([tmp_path], tmp_path / "c", shuffle_seed=None, val_fraction=1e-9)
    assert manifest.counts == {"repeated": 2}
    assert manifest.splits["val"].n_rows == 1, "at least one row is held out"
    train, val = (rows_of(tmp_path / "c", split) for split in ("train", "val"))
    line = np.concatenate([train.reshape(-1), val.reshape(-1)])
    encoder = tokenizer.load(tmp_path / "c" / "tokenizer")
    expected = [i for text in texts for i in [*encoder.encode(text, add_special_tokens=False).ids, 0]]
    assert line.tolist() == expected[: len(line)]


def test_documents_and_tokens_are_counted_where_they_lie(tmp_path: Path, prepare_text: Prepare) -> None:
    """Five short documents; how many of them the held-out rows touch is counted by hand."""
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(make_text(300 + number, 60))
    manifest = prepare_text([tmp_path], tmp_path / "c", shuffle_seed=None, val_fraction=1e-9)
    fractions = [Document.of(make_text(300 + number, 60), source="").digest for number in range(5)]
    assert min(map(fraction, fractions)) > 0.1
    for part in (0.05, 0.1):
        out = tmp_path.with_name(f"{tmp_path.name}-{part}")
        manifest = prepare_text(
            [tmp_path], out, shuffle_seed=None, val_fraction=part, tokenizer=str(tmp_path / "c" / "tokenizer")
        )
        train, val = rows_of(out, "train"), rows_of(out, "val")
        in_train = (train == 0).sum() + (train[-1, -1] != 0)
        in_val = (val == 0).sum() + (val[-1, -1] != 0) - (0 if len(val) else 1)
        assert manifest.splits["train"].n_documents == in_train
        assert manifest.splits["val"].n_documents == in_val


def test_one_row_cannot_be_parted(tmp_path: Path, prepare_text: Prepare) -> None:
    (tmp_path / "a.txt").write_text(
        "the model learns a step then another gradient flows through layers while loss falls slowly, again and again"
    )
    with pytest.raises(DataError, match=r"makes 1 row of 33 tokens, of which no part can be held out: give more text"):
        prepare_text([tmp_path], tmp_path / "c", val_fraction=0.1, seq_len=32)


def test_who_decides() -> None:
    many = [make_text(seed, 20) for seed in range(200)]
    assert choose(inputs_of(*many), recipe()).rule is Rule.HASH
    assert choose(inputs_of(many[0], "", many[0]), recipe()) == HoldingOut(Rule.END, len(many[0]))
    assert choose(inputs_of(many[0]), recipe(val_fraction=0.0)).rule is Rule.NOTHING
    assert choose(Inputs("", train=list, val=list), recipe(val_fraction=0.0)).rule is Rule.FILES


def test_of_too_many_documents_the_end_is_not_held_out_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    from pico_train.data.prepare import holding_out

    monkeypatch.setattr(holding_out, "FEW_DOCUMENTS", 20)
    many = [make_text(seed, 20) for seed in range(30)]
    assert choose(inputs_of(*many), recipe(val_fraction=1e-9)).rule is Rule.HASH
    assert choose(inputs_of(*many[:20]), recipe(val_fraction=1e-9)).rule is Rule.END


def test_a_tokenizer_is_not_trained_on_the_end_that_is_held_out() -> None:
    text = "".join(chr(0x4E00 + i) for i in range(1000))
    inputs = inputs_of(text)
    seen = "".join(TrainingText(inputs, recipe(), choose(inputs, recipe()), 10**6))
    assert seen == text[:800]
    few = "".join(TrainingText(inputs, recipe(), choose(inputs, recipe()), 10))
    assert few == text[:10]


def test_few_large_documents_train_a_tokenizer_all_the_same() -> None:
    """The hash takes a thousandth of a corpus a thousand times its limit: of three documents, none."""
    texts = [make_text(seed, 100) for seed in range(3)]
    inputs = inputs_of(*texts, size=10**9)
    for holding_out in (HoldingOut(Rule.NOTHING), HoldingOut(Rule.HASH)):
        text = TrainingText(inputs, recipe(val_fraction=0.0), holding_out, 500)
        assert "".join(text) == "".join(texts)[:500]
    with pytest.raises(DataError, match="the corpus is empty: no document of it holds text to train a tokenizer on"):
        list(TrainingText(inputs_of("", ""), recipe(), HoldingOut(Rule.HASH), 500))
