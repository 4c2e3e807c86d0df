"""What rows were computed from: it is checked, it stands in them, and when it changes they are computed again."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save, save_file
from synthetic import list_manifest, make_run

from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Settings
from pico_analyze.errors import DataError
from pico_analyze.questions.question import Question, Selection, Use
from pico_analyze.stores.base import StepInfo
from pico_analyze.stores.local import LocalStore
from pico_analyze.table.store import PARTS, ROWS
from pico_schema import documents, layout
from pico_schema.digests import sha256_file

CKA = Question((Use("cka"),), sites=("attn.o",), layers=Selection("0"))
PER = Question((Use("per"),), data="weights", split=None, sites=("attn.o",), layers=Selection("0"))
VAL = "captures/val.safetensors"


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(out=tmp_path / "analysis", threads=1)


def flip_in(path: Path, tensor: str) -> None:
    """One bit of the exponent of a tensor's first number."""
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    at = 8 + length + json.loads(content[8 : 8 + length])[tensor]["data_offsets"][0] + 3
    content[at] ^= 4
    path.write_bytes(content)


def facts(frame) -> list[dict]:
    return [json.loads(text) for text in frame["provenance"]]


@pytest.mark.parametrize("how", [{"threads": 1}, {"threads": 2}, {"jobs": 2}])
def test_a_flipped_bit_in_a_capture_is_refused_and_once_it_is_mended_the_row_is_right(runs, settings, how):
    run = make_run(runs)
    right = analyze([(run, CKA)], Settings()).frame
    capture = run / layout.checkpoint_dir(2) / VAL
    sound = capture.read_bytes()
    flip_in(capture, "activations/layers.0.attn.o")
    with pytest.raises(DataError, match=rf"{capture}: it does not have the content that was sealed"):
        analyze([(run, CKA)], replace(settings, **how))
    capture.write_bytes(sound)
    assert analyze([(run, CKA)], replace(settings, **how)).frame.equals(right)


@pytest.mark.parametrize("what", ["weights", "captures", "manifest"])
def test_no_flipped_bit_of_what_is_read_gives_another_number(runs, what):
    """Twenty bits of each file: refused, or the checkpoint is left out and its rows with it; never another value."""
    run = make_run(runs, steps=(0, 1))
    name = {"weights": layout.WEIGHTS, "captures": VAL, "manifest": layout.MANIFEST}[what]
    question = PER if what == "weights" else replace(CKA, metrics=(Use("per"),))
    right = analyze([(run, question)]).frame
    path, draw = run / layout.checkpoint_dir(1) / name, random.Random(what)
    sound = path.read_bytes()
    for _ in range(20):
        damaged = bytearray(sound)
        at = draw.randrange(8 * len(damaged))
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            frame = analyze([(run, question)]).frame
        except DataError as refused:
            assert str(path) in str(refused)
        else:
            assert what == "manifest" and frame.equals(right[right["step"] == 0])


def test_rows_name_the_files_that_they_were_made_of_with_their_digests(run_dir, settings):
    frame = analyze([(run_dir, replace(CKA, steps=Selection("2"))), (run_dir, PER)], settings).frame
    by_metric = dict(list(frame.groupby("metric")))
    (row,) = facts(by_metric["cka"])
    assert row["inputs"] == {VAL: sha256_file(run_dir / layout.checkpoint_dir(2) / VAL)}
    assert row["target"]["inputs"] == {VAL: sha256_file(run_dir / layout.checkpoint_dir(8) / VAL)}
    for step, row in zip(by_metric["per"]["step"], facts(by_metric["per"]), strict=True):
        path = run_dir / layout.checkpoint_dir(step) / layout.WEIGHTS
        assert row["inputs"] == {layout.WEIGHTS: sha256_file(path)} and "unchecked" not in row


def test_a_component_of_several_files_names_each(run_dir):
    ov = Question((Use("cka"),), component=Use("ov_circuit"), layers=Selection("0"), steps=Selection("2"))
    (named,) = {json.dumps(row["inputs"]) for row in facts(analyze([(run_dir, ov)]).frame)}
    assert set(json.loads(named)) == {VAL, layout.WEIGHTS}


def test_a_row_that_an_earlier_version_computed_of_what_it_did_not_check_does_not_stay(runs, settings):
    """Its digest stands for the content that was meant, not for the one that was read."""
    run = make_run(runs)
    right = analyze([(run, CKA)], settings).frame
    path = settings.out / "demo" / ROWS
    table = pq.read_table(path).to_pandas()
    table["value"], table["digest"] = 0.2371, [f"{n:016x}" for n in range(len(table))]
    import pyarrow as pa

    old = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(old.replace_schema_metadata({"pico_analyze.columns": "1"}), path)
    outcome = analyze([(run, CKA)], settings)
    assert outcome.reused == 0 and outcome.frame.equals(right)
    assert 0.2371 not in set(pq.read_table(path)["value"].to_pylist())


def test_a_table_without_a_checksum_has_one_afterwards_though_nothing_was_computed(run_dir, settings):
    from pico_analyze.table.rows_file import read_rows_file

    analyze([(run_dir, CKA)], settings)
    path = settings.out / "demo" / ROWS
    pq.write_table(pq.read_table(path).replace_schema_metadata({"pico_analyze.columns": "1"}), path)
    assert not read_rows_file(path)[1]
    outcome = analyze([(run_dir, CKA)], settings)
    assert outcome.computed == 0 and read_rows_file(path)[1]


def test_a_damaged_table_is_refused_before_anything_is_computed_and_computed_again_once_it_is_away(
    run_dir, settings, monkeypatch
):
    right = analyze([(run_dir, CKA)], settings).frame
    path = settings.out / "demo" / ROWS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "read", None)
        for again in (settings, replace(settings, fresh=True)):
            with pytest.raises(DataError, match=rf"{path}: it is not as it was written .*: move it away, and the same"):
                analyze([(run_dir, CKA)], again)
    assert path.read_bytes() == content  # nothing lost, nothing hidden
    path.rename(path.with_name("aside"))
    assert analyze([(run_dir, CKA)], settings).frame.equals(right)


def test_a_damaged_part_is_put_aside_and_computed_again_and_sound_ones_are_kept(run_dir, settings):
    from pico_analyze.engine.tasks import Shard

    right = analyze([(run_dir, CKA)], replace(settings, out=settings.out / "right")).frame
    analyze([(run_dir, CKA)], replace(settings, shard=Shard(1, 1)))  # leaves parts, one a step
    parts = sorted((settings.out / "demo" / PARTS).glob("*.parquet"))
    assert len(parts) == 5
    content = bytearray(parts[2].read_bytes())
    content[300] ^= 1
    parts[2].write_bytes(content)
    outcome = analyze([(run_dir, CKA)], settings)
    assert (outcome.computed, outcome.reused) == (1, 4) and outcome.frame.equals(right)
    (said,) = (text for text in outcome.tally.warnings if "damaged" in text)
    assert f"{parts[2]}.damaged" in said and Path(f"{parts[2]}.damaged").read_bytes() == content


def test_a_checkpoint_sealed_anew_gives_new_rows_where_its_files_changed(runs, settings):
    run = make_run(runs)
    before = analyze([(run, PER)], settings)
    directory = run / layout.checkpoint_dir(4)
    weights = {name: 2 * array for name, array in load_file(directory / layout.WEIGHTS).items()}
    weights["model.layers.0.self_attn.o_proj.weight"][0] = 0
    save_file(weights, directory / layout.WEIGHTS)
    manifest = documents.read_checkpoint(directory)
    path = directory / layout.WEIGHTS
    entry = manifest.files[layout.WEIGHTS].model_copy(update={"size": path.stat().st_size, "sha256": sha256_file(path)})
    documents.write(
        directory / layout.MANIFEST, manifest.model_copy(update={"files": manifest.files | {layout.WEIGHTS: entry}})
    )
    list_manifest(run, 4)
    after = analyze([(run, PER)], settings)
    assert (after.computed, after.reused) == (1, len(before.frame) - 1)
    changed = after.frame["value"] != before.frame["value"]
    assert list(after.frame["step"][changed]) == [4]


LLAMA = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 12,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
}
V = "model.layers.0.self_attn.v_proj.weight"
V_PROJ = Question((Use("per"),), data="weights", split=None, sites=("attn.v",))


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / layout.MODEL_CONFIG).write_text(json.dumps(LLAMA))
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    (folder / layout.WEIGHTS).write_bytes(save({V: weight, "model.embed_tokens.weight": np.ones((12, 8), np.float32)}))
    return folder


class TestWithoutAManifest:
    """Of a model of transformers nothing says which content it should have: rows say which it had."""

    def test_rows_name_file_and_configuration_with_their_digests(self, model):
        (row,) = facts(analyze([(model, V_PROJ)]).frame)
        assert row["inputs"] == {name: sha256_file(model / name) for name in (layout.MODEL_CONFIG, layout.WEIGHTS)}
        assert "unchecked" not in row

    def test_another_content_gives_new_rows_and_touching_or_moving_it_does_not(self, model, settings):
        first = analyze([(model, V_PROJ)], settings)
        (model / layout.WEIGHTS).touch()
        assert analyze([(model, V_PROJ)], settings).computed == 0
        sound = (model / layout.WEIGHTS).read_bytes()
        flip_in(model / layout.WEIGHTS, V)
        second = analyze([(model, V_PROJ)], settings)
        assert second.computed == 1 and (second.frame["value"] != first.frame["value"]).all()
        (model / layout.WEIGHTS).write_bytes(sound)
        third = analyze([(model, V_PROJ)], settings)
        assert third.computed == 1 and third.frame.equals(first.frame)

    def test_another_configuration_gives_new_rows_too(self, model, settings):
        analyze([(model, V_PROJ)], settings)
        (model / layout.MODEL_CONFIG).write_text(json.dumps(LLAMA | {"rms_norm_eps": 1e-4}))
        assert analyze([(model, V_PROJ)], settings).computed == 1

    def test_a_link_to_the_file_as_in_the_cache_of_huggingface_hub_is_followed(self, model, settings):
        blob = model.parent / "blob"
        shutil.move(model / layout.WEIGHTS, blob)
        (model / layout.WEIGHTS).symlink_to(blob)
        (row,) = facts(analyze([(model, V_PROJ)], settings).frame)
        assert row["inputs"][layout.WEIGHTS] == sha256_file(blob)


class _Silent:
    """A kind of run whose store does not say what it reads."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        if name == "inputs":
            raise AttributeError(name)
        return getattr(self._store, name)


@pytest.mark.parametrize("thread_safe", [True, False])
def test_of_a_store_that_does_not_say_what_it_reads_rows_say_that(run_dir, monkeypatch, thread_safe):
    from pico_analyze.engine import runs, worker

    monkeypatch.setattr(runs, "open_store", lambda *_: _Silent(LocalStore(run_dir)))
    monkeypatch.setattr(worker, "may_be_shared", lambda _: thread_safe)
    for row in facts(analyze([(run_dir, replace(CKA, steps=Selection("2")))], Settings(threads=2)).frame):
        assert row["unchecked"] == row["target"]["unchecked"] == "this kind of run does not say what it reads"


def test_what_stands_for_the_inputs_is_part_of_every_digest(run_dir, monkeypatch):
    """Each side by itself; see test_tasks for each field of a question."""
    from pico_analyze.engine.plan import Plan, extend

    def digests() -> dict[int, str]:
        plan = Plan()
        extend(plan, CKA, LocalStore(run_dir))
        return {job.x.step: job.digests[0] for job in plan.jobs}

    before, real = digests(), LocalStore.steps

    def changed(step: int):
        def steps(self) -> tuple[StepInfo, ...]:
            return tuple(replace(info, digest="f" * 64) if info.step == step else info for info in real(self))

        return steps

    monkeypatch.setattr(LocalStore, "steps", changed(2))
    assert {step for step, digest in digests().items() if digest != before[step]} == {2}
    monkeypatch.setattr(LocalStore, "steps", changed(8))  # what all of them are compared with
    assert {step for step, digest in digests().items() if digest != before[step]} == set(before)
