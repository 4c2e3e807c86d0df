import json
import shutil

import numpy as np
import pytest
from synthetic import N_ROWS, POSITIONS, SPEC, STEPS, make_run, moving

from pico_analyze.errors import DataError, NotARunError
from pico_analyze.stored import stored_type
from pico_analyze.stores.base import Store
from pico_analyze.stores.opening import local_runs, newest_run, open_store
from pico_schema import Evaluation, Producer, documents, layout


def test_a_run_tells_what_it_holds(run_dir):
    store = open_store(run_dir)
    assert isinstance(store, Store)
    assert (store.kind, store.run, store.unusable()) == ("pico", "demo", ())
    assert [info.step for info in store.steps()] == list(STEPS)
    last = store.steps()[-1]
    assert last.tokens_seen == 8 * 16 * 32
    assert last.splits["val"].n_samples == N_ROWS * len(POSITIONS)
    assert "layers.1.attn.o" in last.sites("activations", "val")
    assert last.sites("gradients", "test") == ()
    assert "embed" in last.sites("weights", None)
    assert store.spec(8) == SPEC
    assert store.provenance(8)["manifest_sha256"] == last.digest


def test_tensors_are_those_that_were_written(run_dir):
    store, site = open_store(run_dir), "layers.1.attn.v"
    n = N_ROWS * len(POSITIONS)
    expected = moving((n, SPEC.kv_dim), 0.25, 42, "val", "a", site)
    np.testing.assert_array_equal(store.read(2, "val", "activations", site), expected)
    gradient = moving((SPEC.kv_dim, SPEC.d_model), 0.25, 42, "train", "g", site)
    np.testing.assert_array_equal(store.read(2, "train", "gradients", site), gradient)
    np.testing.assert_array_equal(
        store.read(2, None, "weights", site), moving((SPEC.kv_dim, SPEC.d_model), 0.25, 42, "w", site)
    )


def test_bfloat16_captures_come_out_as_float32(runs):
    store = open_store(make_run(runs, "half", bf16=True, steps=(0, 4)))
    read = store.read(4, "val", "activations", "layers.0.attn.v")
    assert read.dtype == np.float32 and stored_type(read) == "bfloat16"
    exact = moving(read.shape, 1.0, 42, "val", "a", "layers.0.attn.v")
    np.testing.assert_allclose(read, exact, rtol=2**-7)


def test_what_is_not_there_is_named(run_dir):
    with pytest.raises(DataError, match=r"run 'demo' step 8 holds no val activations at site 'embed'"):
        open_store(run_dir).read(8, "val", "activations", "embed")
    with pytest.raises(DataError, match="no complete checkpoint of step 3"):
        open_store(run_dir).read(3, "val", "activations", "layers.0.attn.v")


def test_half_written_checkpoints_are_named_with_the_reason(runs):
    run = make_run(runs)
    checkpoints = run / layout.CHECKPOINTS
    (checkpoints / "step-00000001" / layout.MANIFEST).unlink()
    capture = checkpoints / "step-00000002" / "captures/val.safetensors"
    capture.write_bytes(capture.read_bytes()[:100])
    (checkpoints / "step-00000004" / layout.MANIFEST).write_text('{"kind": "checkpoint"')
    shutil.copytree(checkpoints / "step-00000008", checkpoints / "step-00000016")
    (checkpoints / ".tmp-step-00000032-17").mkdir()
    store = open_store(run)
    assert [info.step for info in store.steps()] == [0, 8]
    reasons = {lost.step: lost.reason for lost in store.unusable()}
    assert "no manifest.json" in reasons[1]
    assert reasons[2].startswith("captures/val.safetensors has 100 bytes, the manifest says")
    assert "not valid JSON" in reasons[4]
    assert reasons[16] == "its manifest is that of step 8"
    assert "being written" in reasons[32]


def test_a_checkpoint_that_the_index_lists_and_that_is_gone_is_named(runs):
    run = make_run(runs)
    shutil.rmtree(run / layout.checkpoint_dir(2))
    store = open_store(run)
    assert [info.step for info in store.steps()] == [step for step in STEPS if step != 2]
    (lost,) = store.unusable()
    assert (lost.step, lost.reason) == (2, "missing: run.json lists it, but it is gone")


def test_a_manifest_of_another_run_is_not_used(runs):
    run, other = make_run(runs, "a"), make_run(runs, "b", seed=7)
    step = layout.checkpoint_dir(4)
    shutil.copy(other / step / layout.MANIFEST, run / step / layout.MANIFEST)
    assert [lost.reason for lost in open_store(run).unusable()] == ["its manifest belongs to another run"]


def test_a_symbolic_link_out_of_the_checkpoint_is_not_followed(runs, tmp_path):
    run = make_run(runs)
    capture = run / layout.checkpoint_dir(4) / "captures/val.safetensors"
    outside = tmp_path / "outside.safetensors"
    shutil.move(capture, outside)
    capture.symlink_to(outside)
    assert [lost.step for lost in open_store(run).unusable()] == [4]


def test_evaluations_are_the_manifest_scalars_and_the_files_beside_the_seal(runs):
    run = make_run(runs)
    store = open_store(run)
    info = store.steps()[2]
    evaluation = Evaluation(
        run_id=store.provenance(2)["run_id"],
        step=2,
        manifest_sha256=info.digest,
        created="2025-01-01T00:00:00Z",
        producer=Producer(name="pico-train", version="2.0.0"),
        tasks={"paloma": {"perplexity": 123.0, "note": "text"}},
    )
    (run / layout.EVALUATIONS).mkdir()
    documents.write(run / layout.evaluation_file(2), evaluation)
    results = open_store(run).evaluations()
    assert results[2]["paloma.perplexity"] == 123.0
    assert results[2]["val_loss"] == pytest.approx(4.1 - 0.25)
    assert "paloma.perplexity" not in results[4]


def test_a_newer_major_schema_is_refused_with_the_upgrade_command(runs):
    run = make_run(runs)
    raw = json.loads((run / layout.RUN_MANIFEST).read_text())
    (run / layout.RUN_MANIFEST).write_text(json.dumps(raw | {"schema_version": "9.0"}))
    with pytest.raises(DataError, match="pip install --upgrade"):
        open_store(run)


def test_a_path_that_is_no_run_says_what_was_looked_for(tmp_path):
    (tmp_path / "things").mkdir()
    with pytest.raises(NotARunError, match=r"looked for run\.json \(Pico\), checkpoints/step_<N>/ \(Pico 1\.0\)"):
        open_store(tmp_path / "things")
    with pytest.raises(NotARunError, match=r"thing: there is no such path; did you mean 'things'\?"):
        open_store(tmp_path / "thing")


def test_a_run_without_its_index_is_told_how_to_get_it_back(tmp_path):
    run = make_run(tmp_path)
    (run / layout.RUN_MANIFEST).unlink()
    with pytest.raises(NotARunError, match=r"run\.json is gone and checkpoints are there: `pico-train repair .*demo`"):
        open_store(run)


def test_a_checkpoint_and_a_folder_of_runs_hint_at_the_run(runs):
    run = make_run(runs)
    with pytest.raises(NotARunError, match=r"it lies inside the run .*demo: name that"):
        open_store(run / layout.CHECKPOINTS)
    with pytest.raises(NotARunError, match="it contains the runs demo: name one"):
        open_store(runs)


def test_the_newest_run_is_the_one_that_changed_last(runs):
    import os

    first, second = make_run(runs, "b"), make_run(runs, "a")
    os.utime(first / layout.RUN_MANIFEST, (2e9, 2e9))
    os.utime(second / layout.RUN_MANIFEST, (1e9, 1e9))
    assert newest_run() == first.relative_to(runs.parent)
    assert [path.name for path in local_runs()] == ["b", "a"]


class TestLinks:
    """A link that leads out of the run is not followed: what it names is no part of what was sealed there."""

    @pytest.mark.parametrize("what", [layout.CHECKPOINTS, f"{layout.CHECKPOINTS}/step-00000004"])
    def test_of_a_directory_of_checkpoints_or_of_one(self, runs, tmp_path, what):
        run = make_run(runs)
        outside = tmp_path / "outside"
        shutil.move(run / what, outside)
        (run / what).symlink_to(outside)
        store = open_store(run)
        lost = {item.step: item.reason for item in store.unusable()}
        assert set(lost) == (set(STEPS) if what == layout.CHECKPOINTS else {4})
        assert all("a symbolic link that leaves the run: it is not followed" in reason for reason in lost.values())
        assert {info.step for info in store.steps()} == set(STEPS) - set(lost)

    def test_that_leads_nowhere_is_named(self, runs):
        run = make_run(runs)
        shutil.rmtree(run / layout.checkpoint_dir(4))
        (run / layout.checkpoint_dir(4)).symlink_to("/nowhere")
        assert [lost.step for lost in open_store(run).unusable()] == [4]

    def test_of_a_manifest_is_named(self, runs, tmp_path):
        run = make_run(runs)
        manifest = run / layout.checkpoint_dir(4) / layout.MANIFEST
        shutil.move(manifest, tmp_path / "outside.json")
        manifest.symlink_to(tmp_path / "outside.json")
        (lost,) = open_store(run).unusable()
        assert lost.step == 4 and "through a symbolic link" in lost.reason

    def test_of_the_run_itself_is_a_name_for_it(self, runs):
        run = make_run(runs)
        (runs / "other").symlink_to(run)
        assert [info.step for info in open_store(runs / "other").steps()] == list(STEPS)

    def test_of_evaluations_is_refused(self, runs, tmp_path):
        run = make_run(runs)
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "step-00000002.json").write_text("{}")
        (run / layout.EVALUATIONS).symlink_to(tmp_path / "outside")
        with pytest.raises(DataError, match=r"leaves .* through a symbolic link"):
            open_store(run).evaluations()


def evaluated(run, step, **changes):
    store = open_store(run)
    (info,) = (info for info in store.steps() if info.step == step)
    facts = {"run_id": store.provenance(step)["run_id"], "step": step, "manifest_sha256": info.digest} | changes
    (run / layout.EVALUATIONS).mkdir(exist_ok=True)
    documents.write(
        run / layout.evaluation_file(step),
        Evaluation(
            **facts,
            created="2025-01-01T00:00:00Z",
            producer=Producer(name="pico-train", version="2.0.0"),
            tasks={"paloma": {"perplexity": 123.0}},
        ),
    )


@pytest.mark.parametrize("change", [{"run_id": "0" * 32}, {"manifest_sha256": "0" * 64}])
def test_results_of_another_checkpoint_are_refused(runs, change):
    run = make_run(runs)
    evaluated(run, 2)
    assert open_store(run).evaluations()[2]["paloma.perplexity"] == 123.0
    evaluated(run, 2, **change)
    with pytest.raises(DataError, match=r"step-00000002\.json: results of another checkpoint than the one at step 2"):
        open_store(run).evaluations()


@pytest.mark.parametrize(
    "damage", [b'{"tasks": ' + b"[" * 100_000, b"9" * 5000, b"[]", b"\xff\xfe", b"", b'{"tasks": {"a": {"b": 1e999}}}']
)
def test_damaged_results_are_refused_by_name(runs, damage):
    run = make_run(runs)
    evaluated(run, 2)
    (run / layout.evaluation_file(2)).write_bytes(damage)
    with pytest.raises(DataError, match=r"step-00000002\.json: [^\n]*$"):
        open_store(run).evaluations()


def test_a_result_that_no_float_holds_is_refused_by_name(runs):
    run = make_run(runs)
    evaluated(run, 2)
    path = run / layout.evaluation_file(2)
    path.write_text(path.read_text().replace("123.0", "1" + "0" * 400))
    with pytest.raises(DataError, match=r"step-00000002\.json: "):
        open_store(run).evaluations()


def test_a_manifest_that_run_json_does_not_list_is_not_used(runs):
    """One digit of one number of it, such as the digest of its samples, would pass for another run's."""
    run = make_run(runs)
    path = run / layout.checkpoint_dir(4) / layout.MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"loss": 3.5', b'"loss": 3.4'))
    (lost,) = open_store(run).unusable()
    assert (lost.step, lost.reason) == (4, "manifest.json is not the one that run.json lists: it was altered")


def test_a_disk_that_does_not_give_a_manifest_is_no_checkpoint_that_lacks_one(runs, monkeypatch):
    from pico_analyze.errors import StorageError
    from pico_analyze.stores import local

    run, real = make_run(runs), local.read_small

    def broken(path, limit):
        if path.name == layout.MANIFEST:
            raise StorageError(f"{path}: reading failed (Input/output error): check the disk")
        return real(path, limit)

    monkeypatch.setattr(local, "read_small", broken)
    with pytest.raises(StorageError, match="Input/output error"):
        open_store(run).steps()
