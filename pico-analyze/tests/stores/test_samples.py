"""Which token each row of an activation matrix belongs to."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save
from synthetic import list_manifest
from tokenizers import Tokenizer, decoders, models

import pico_analyze
from pico_analyze.errors import DataError
from pico_analyze.stores.base import CountsPositions, Store
from pico_analyze.stores.local import LocalStore
from pico_analyze.stores.samples import COLUMNS, TokenRows, read_token_rows, samples_table
from pico_conformance.rows import CHARACTERS, tokenizer_json
from pico_conformance.runs import write_run
from pico_schema import documents, layout, read_checkpoint, read_run
from pico_schema.digests import sha256_file

GOLDEN = Path(__file__).resolve().parents[3] / "shared-schema" / "conformance" / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir()) if GOLDEN.is_dir() else []


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two checkpoints whose captures keep two positions of every other validation row."""
    return write_run(tmp_path / "runs", steps=(0, 3))


@pytest.mark.parametrize("split", ["train", "val"])
def test_there_is_a_line_for_each_row_of_an_activation_matrix_in_its_order(run: Path, split: str) -> None:
    store = LocalStore(run)
    assert isinstance(store, Store)
    for step in (0, 3):
        samples = store.samples(step, split)
        assert tuple(samples.columns) == COLUMNS
        assert len(samples) == len(store.read(step, split, "activations", "layers.1.attn.v")) == 24
        assert samples.equals(samples.sort_values(["row", "position"]))
        assert set(samples["position"]) == {7, 15}
        assert set(samples["row"]) == set(range(1, 24, 2) if split == "val" else range(12))


@pytest.mark.parametrize(("split", "number"), [("train", "row_id"), ("val", "row")])
def test_ids_texts_and_sources_are_those_stored(run: Path, split: str, number: str) -> None:
    path = layout.VALIDATION_ROWS if split == "val" else f"{layout.checkpoint_dir(3)}/{layout.TRAIN_BATCH}"
    stored = {row[number]: row for row in pq.read_table(run / path).to_pylist()}
    for line in LocalStore(run).samples(3, split).to_dict("records"):
        row = stored[line["row"]]
        assert line["token_id"] == row["input_ids"][line["position"]]
        assert line["token"] == CHARACTERS[line["token_id"]].replace("Ġ", " ")
        assert line["source"] == row["source"]


def test_validation_samples_are_the_same_at_every_step_and_batches_are_not(run: Path) -> None:
    store = LocalStore(run)
    assert store.samples(0, "val").equals(store.samples(3, "val"))
    assert not store.samples(0, "train").equals(store.samples(3, "train"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_so_many_neighbouring_samples_are_of_one_row(run: Path, split: str) -> None:
    store = LocalStore(run)
    assert isinstance(store, CountsPositions)
    rows = store.samples(3, split)["row"].to_numpy().reshape(-1, store.positions(3, split))
    assert rows.shape == (12, 2) and (rows == rows[:, :1]).all() and len(set(rows[:, 0])) == 12
    with pytest.raises(DataError, match="step 3 captured nothing of split 'test'"):
        store.positions(3, "test")


def test_an_opened_run_has_them(run: Path) -> None:
    assert pico_analyze.open_run(run).samples(3, "val").equals(LocalStore(run).samples(3, "val"))


# In the first block nothing has mixed positions yet: the value vector of a position is that of its token alone, so the
# tokens of the samples must give the activations that were captured. Captures are bfloat16 (8 bits of mantissa).
@pytest.mark.parametrize("version", VERSIONS)
def test_the_activations_of_a_trained_run_are_those_of_these_tokens(version: str) -> None:
    run = GOLDEN / version / "golden"
    store, spec = LocalStore(run), read_run(run).model
    for step in (0, 1, 2, 4):
        weights = load_file(run / layout.checkpoint_dir(step) / layout.WEIGHTS)
        embedded = weights["model.embed_tokens.weight"].astype(np.float64)
        scale = np.sqrt((embedded**2).mean(1, keepdims=True) + spec.norm_eps)
        normed = embedded / scale * weights["model.layers.0.input_layernorm.weight"]
        values = normed @ weights["model.layers.0.self_attn.v_proj.weight"].T
        for split in ("train", "val") if read_run(run).validation else ("train",):
            samples = store.samples(step, split)
            captured = store.read(step, split, "activations", "layers.0.attn.v")
            assert len(samples) == len(captured)
            expected = values[samples["token_id"].to_numpy()]
            summed = 32 * np.finfo(np.float32).eps * np.abs(expected).max()  # the model sums 16 products in float32
            np.testing.assert_allclose(captured, expected, rtol=2**-7, atol=summed)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_trained_run_shows_spaces_as_spaces(version: str) -> None:
    run = GOLDEN / version / "golden"
    samples = LocalStore(run).samples(2, "train")
    batch = pq.read_table(run / layout.checkpoint_dir(2) / layout.TRAIN_BATCH).to_pylist()
    for line in samples.to_dict("records"):
        assert line["token"] in batch[line["row"]]["text"] or "\ufffd" in line["token"]
    assert any(token.startswith(" ") for token in samples["token"])
    assert not samples["token"].str.contains("Ġ").any()


def reseal(run: Path, step: int, change: Callable[[Path], None]) -> None:
    """Change files of a checkpoint and write its manifest as if it had been sealed with them."""
    directory = run / layout.checkpoint_dir(step)
    change(directory)
    manifest = read_checkpoint(directory)
    files = {
        path: entry.model_copy(
            update={"size": (directory / path).stat().st_size, "sha256": sha256_file(directory / path)}
        )
        for path, entry in manifest.files.items()
        if (directory / path).is_file()
    }
    documents.write(directory / layout.MANIFEST, manifest.model_copy(update={"files": files}))
    list_manifest(run, step)


def test_without_a_tokenizer_tokens_have_ids_and_no_text(run: Path) -> None:
    reseal(run, 3, lambda directory: (directory / layout.TOKENIZER).unlink())
    samples = LocalStore(run).samples(3, "val")
    assert samples["token"].isna().all()
    assert samples["token_id"].equals(LocalStore(run).samples(0, "val")["token_id"])


class TestRefused:
    def refused(self, run: Path, split: str, says: str, step: int = 3) -> None:
        with pytest.raises(DataError, match=says):
            LocalStore(run).samples(step, split)

    def test_a_run_made_before_rows_were_stored_says_what_to_do(self, run: Path) -> None:
        manifest = read_run(run).model_copy(update={"validation": None})
        documents.write(run / layout.RUN_MANIFEST, manifest)
        self.refused(run, "val", "'demo' was made before validation rows were stored: resume it once")
        assert len(LocalStore(run).samples(3, "train")) == 24

    def test_a_split_that_was_not_captured_names_those_that_were(self, run: Path) -> None:
        self.refused(run, "test", "captured nothing of split 'test': there are train, val")

    def test_a_step_that_is_not_there(self, run: Path) -> None:
        self.refused(run, "val", "no complete checkpoint of step 7", step=7)

    def test_a_missing_file_is_named(self, run: Path) -> None:
        (run / layout.VALIDATION_ROWS).unlink()
        self.refused(run, "val", r"validation\.parquet: it is missing")

    @pytest.mark.parametrize("path", [layout.VALIDATION_ROWS, f"{layout.checkpoint_dir(3)}/{layout.TOKENIZER}"])
    @pytest.mark.parametrize("damage", ["flipped", "cut", "longer"])
    def test_a_damaged_file_is_named(self, run: Path, path: str, damage: str) -> None:
        content = bytearray((run / path).read_bytes())
        if damage == "flipped":
            content[len(content) // 2] ^= 1
        (run / path).write_bytes(content[:-1] if damage == "cut" else content + b"x" * (damage == "longer"))
        self.refused(run, "val", f"{Path(path).name} does not have the content that was stored")

    def test_rows_of_another_run_are_refused(self, run: Path, tmp_path: Path) -> None:
        other = write_run(tmp_path / "other", steps=(0,), seed=9)
        (run / layout.VALIDATION_ROWS).write_bytes((other / layout.VALIDATION_ROWS).read_bytes())
        replaced = read_run(run).model_copy(update={"validation": read_run(other).validation})
        documents.write(run / layout.RUN_MANIFEST, replaced)
        self.refused(run, "val", "are not those that step 3 captured")

    @pytest.mark.parametrize(
        "rows", ["[0, 1", "3", "[[0]]", "[true]", str([*range(1, 23, 2), 99]), str(list(range(12)))]
    )
    def test_metadata_that_does_not_fit_is_refused(self, run: Path, rows: str) -> None:
        def change(directory: Path) -> None:
            path = directory / layout.captures_file("val")
            path.write_bytes(save(load_file(path), metadata={"rows": rows}))

        reseal(run, 3, change)
        self.refused(run, "val", "are not those that step 3 captured")

    def test_a_checkpoint_without_its_batch_says_so(self, run: Path) -> None:
        reseal(run, 3, lambda directory: (directory / layout.TRAIN_BATCH).unlink())
        self.refused(run, "train", r"step 3 does not hold its batch \(captures/train_batch\.parquet\)")

    def test_a_file_that_claims_to_be_huge_is_not_read(self, run: Path) -> None:
        manifest = read_run(run)
        assert manifest.validation is not None
        huge = manifest.validation.model_copy(update={"size": 2**40})
        documents.write(run / layout.RUN_MANIFEST, manifest.model_copy(update={"validation": huge}))
        self.refused(run, "val", "more than the 268435456 that make sense")

    def test_a_tokenizer_that_is_none_is_named(self, run: Path) -> None:
        reseal(run, 3, lambda directory: (directory / layout.TOKENIZER).write_text('{"version": "1.0"}') and None)
        self.refused(run, "val", r"tokenizer\.json is not a tokenizer")


def parquet(**columns: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a file of token rows"),
        (b"PAR1" + bytes(100) + b"PAR1", "not a file of token rows"),
        (parquet(x=[1]), "not a file of token rows"),
        (parquet(input_ids=[[1, 2]]), "not a file of token rows"),
        (parquet(input_ids=[1, 2], source=["a", "b"]), "not a file of token rows"),
        (parquet(input_ids=[[1, 2], [3]], source=["a", "b"]), "differ in length"),
        (parquet(input_ids=[[1, 2], None], source=["a", "b"]), "differ in length"),
        (parquet(input_ids=[[1, None]], source=["a"]), "not integers"),
        (parquet(input_ids=[[1.5, 2]], source=["a"]), "not integers"),
        (parquet(input_ids=[["a"]], source=["a"]), "not integers"),
        (parquet(input_ids=[[2**40]], source=["a"]), "not a file of token rows"),
    ],
)
def test_what_is_no_file_of_rows_is_refused_in_a_sentence(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=f"^here: .*{says}"):
        read_token_rows(content, where="here")


def test_more_tokens_than_make_sense_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pico_analyze.stores.samples.MAX_TOKENS", 100)
    content = parquet(input_ids=[[0] * 101], source=["a"])  # run-length encoded: a few bytes for any number of zeros
    with pytest.raises(DataError, match="claims more than 100 tokens"):
        read_token_rows(content, where="here")


def test_rows_without_a_source_have_an_empty_one() -> None:
    rows = read_token_rows(parquet(input_ids=[[1, 2]], source=pa.array([None], pa.string())), where="here")
    assert rows.sources == [""] and rows.ids_NT.tolist() == [[1, 2]]


ROWS = TokenRows(np.array([[1, 3, 2], [4, 0, 1]], np.int32), ["a", "b"])


def table_with(tokenizer: Tokenizer) -> pd.DataFrame:
    return samples_table(ROWS, [0, 1], [0, 1], tokenizer.to_str().encode(), where="here")


def test_the_words_of_sentencepiece_keep_their_spaces_and_unknown_ids_have_no_text() -> None:
    vocab = {"<unk>": 0, "▁the": 1, "▁": 2, "cat": 3}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokens = table_with(tokenizer)["token"].tolist()
    assert tokens[:2] == [" the", "cat"] and tokens[3] == "<unk>"
    assert pd.isna(tokens[2]), "id 4 is beyond the vocabulary"


def test_a_part_of_a_character_shows_as_the_replacement_character() -> None:
    # é is the two bytes C3 A9, which the byte-level alphabet writes as Ã and ©
    tokenizer = Tokenizer(models.BPE({"<|endoftext|>": 0, "Ã": 1, "©": 2, "Ã©": 3, "Ġx": 4}, [("Ã", "©")]))
    tokenizer.decoder = decoders.ByteLevel()
    assert table_with(tokenizer)["token"].tolist() == ["\ufffd", "é", " x", "<|endoftext|>"]


def test_no_rows_make_an_empty_table() -> None:
    empty = samples_table(ROWS, [], [0, 1], tokenizer_json(), where="here")
    assert tuple(empty.columns) == COLUMNS and len(empty) == 0


def test_a_transformers_model_has_none(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 8, "vocab_size": 16}))
    (tmp_path / "model.safetensors").write_bytes(save({"model.embed_tokens.weight": np.ones((16, 4), np.float32)}))
    with pytest.raises(DataError, match="holds no captures, so step 0 has no val samples"):
        pico_analyze.open_run(tmp_path).samples(0, "val")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"decoder": null}',
        b"\xff\xfe",
        b'{"decoder": 1, "decoder": 2}',
        b"[" * 100_000,
        tokenizer_json().replace(b'"ByteLevel"', b'"Sequence"'),
        tokenizer_json().replace(b'"vocab": {', b'"vocab": {"x": -1, '),
        tokenizer_json()[:-100],
    ],
)
def test_garbage_in_place_of_a_tokenizer_is_one_sentence(content):
    rows = TokenRows(np.array([[1, 2]], np.int32), ["a"])
    with pytest.raises(DataError, match=r"^there: tokenizer\.json is not a tokenizer \(.+\): it is damaged$"):
        samples_table(rows, [0], [0, 1], content, where="there")


@pytest.mark.parametrize(
    "columns",
    [
        {"input_ids": [1, 2], "source": ["a", "b"]},
        {"input_ids": ["ab", "cd"], "source": ["a", "b"]},
        {"input_ids": [[1.5], [2.5]], "source": ["a", "b"]},
        {"input_ids": [[2**40], [1]], "source": ["a", "b"]},
        {"input_ids": [[1, None], [1, 2]], "source": ["a", "b"]},
        {"input_ids": [[[1]], [[2]]], "source": ["a", "b"]},
        {"input_ids": [[1], [2]], "sources": ["a", "b"]},
        {"ids": [[1], [2]], "source": ["a", "b"]},
    ],
)
def test_columns_of_other_types_are_no_token_rows(columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    with pytest.raises(DataError, match=r"^there: .*it is damaged$"):
        read_token_rows(buffer.getvalue(), where="there")


def test_a_text_that_is_none_is_no_source():
    """Parquet does not check that texts are UTF-8."""
    raw = pa.array([b"a\xff", b"b"], pa.binary()).view(pa.string())
    buffer = io.BytesIO()
    pq.write_table(pa.table({"input_ids": [[1], [2]], "source": raw}), buffer)
    with pytest.raises(DataError, match=r"not a file of token rows .*it is damaged"):
        read_token_rows(buffer.getvalue(), where="there")


READ_ALL = """
import sys
import pico_analyze
from pico_analyze.errors import PicoAnalyzeError
try:
    store = pico_analyze.open_run(sys.argv[1])
    print(*store.unusable(), store.steps())
    for info in store.steps():
        for split in ("train", "val"):
            store.samples(info.step, split)
            for data in ("activations", "gradients"):
                store.read(info.step, split, data, info.sites(data, split)[0])
        store.read(info.step, None, "weights", "head")
    store.validation_rows()
except PicoAnalyzeError as error:
    print(error)
"""
IN_RUN = (layout.RUN_MANIFEST, layout.VALIDATION_ROWS)
CAPTURES = ("captures/val.safetensors", "captures/train.safetensors")
IN_STEP = (layout.MANIFEST, layout.WEIGHTS, layout.TRAIN_BATCH, *CAPTURES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize("name", IN_RUN + IN_STEP)
def test_a_named_pipe_in_the_place_of_a_file_is_told_of_and_not_waited_for(run: Path, name: str) -> None:
    path = (run if name in IN_RUN else run / "checkpoints" / "step-00000003") / name
    path.unlink()
    os.mkfifo(path)
    done = subprocess.run([sys.executable, "-c", READ_ALL, run], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.name in done.stdout and "check the disk" not in done.stdout
