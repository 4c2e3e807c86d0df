import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import N_ROWS, POSITIONS, SPEC, list_manifest, make_run

from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Settings, Silence
from pico_analyze.errors import DataError, SamplesError, UsageError
from pico_analyze.metrics import activations
from pico_analyze.metrics.spec import METRICS
from pico_analyze.questions.builder import between_runs
from pico_analyze.questions.question import Question, Selection, Target, Use
from pico_analyze.statistics import uncertainty
from pico_analyze.stores.local import LocalStore
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.run_names import resolve
from pico_analyze.table.columns import CORE, KEY
from pico_schema import layout

CKA = Question((Use("cka"),))
N = N_ROWS * len(POSITIONS)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(out=tmp_path / "analysis", threads=1)


def direct_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, equation 5, in feature space."""
    x, y = (a.astype(np.float64) - a.mean(axis=0, dtype=np.float64) for a in (x, y))
    return np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def test_each_step_is_compared_with_the_last_at_each_captured_site_and_layer(run_dir, settings):
    frame = analyze([(run_dir, CKA)], settings).frame
    assert tuple(frame.columns)[:16] == CORE
    assert len(frame) == 5 * 3 * 2
    assert frame["value"].between(0, 1 + 1e-12).all()
    np.testing.assert_allclose(frame.loc[frame["step"] == 8, "value"], 1.0, rtol=1e-12)
    assert set(frame["target_step"]) == {8} and set(frame["target_run"]) == {"demo"}
    assert set(frame["n_samples"]) == {N}
    assert frame["head"].isna().all() and frame["reason"].isna().all()
    store, site = open_store(run_dir), "layers.1.mlp.down"
    row = frame[(frame["step"] == 2) & (frame["site"] == "mlp.down") & (frame["layer"] == 1)].iloc[0]
    a, b = (store.read(step, "val", "activations", site) for step in (2, 8))
    assert row["value"] == pytest.approx(direct_cka(a, b), rel=1e-10)
    assert row["tokens_seen"] == 2 * 16 * 32


def test_each_tensor_is_read_once_by_all_that_needs_it(run_dir, settings):
    questions = [
        Question((Use("cka"), Use("per"))),
        Question((Use("cka"),), component=Use("ov_circuit")),
        Question((Use("cka"),), target=Target("prev")),
        Question((Use("cka"),), pairs="steps"),
        Question((Use("per"), Use("gini")), component=Use("ov_circuit"), data="weights"),
        Question((Use("norm"), Use("cosine")), data="gradients"),
    ]
    tally = analyze([(run_dir, question) for question in questions], settings).tally
    assert max(tally.reads.values()) == 1
    # 5 steps x 2 layers x (3 activations, 3 gradients, weights of v and o)
    assert sum(tally.reads.values()) == 5 * 2 * 8


def test_layers_against_layers_reads_each_tensor_once_too(run_dir, settings):
    tally = analyze([(run_dir, replace(CKA, pairs="layers", target=Target("last")))], settings).tally
    assert max(tally.reads.values()) == 1


def test_a_small_memory_bound_gives_the_same_rows(run_dir, settings, tmp_path):
    question = replace(CKA, pairs="steps")
    plenty = analyze([(run_dir, question)], settings)
    tight = analyze([(run_dir, question)], replace(settings, out=tmp_path / "tight", memory=1e-5))
    assert plenty.frame.equals(tight.frame)
    assert max(tight.tally.reads.values()) > 1


@pytest.mark.parametrize("how", [{"jobs": 2}, {"threads": 2}])
def test_several_processes_or_threads_give_the_same_rows(run_dir, settings, tmp_path, how):
    question = Question((Use("cka"), Use("per")), component=Use("ov_circuit"))
    alone = analyze([(run_dir, question)], settings)
    shared = analyze([(run_dir, question)], replace(settings, out=tmp_path / "shared", **how))
    assert alone.frame.equals(shared.frame)
    assert shared.tally.reads == alone.tally.reads


def test_all_pairs_of_steps(run_dir, settings):
    frame = analyze([(run_dir, replace(CKA, pairs="steps", sites=("attn.v",), layers=Selection("0")))], settings).frame
    table = frame.pivot_table(index="step", columns="target_step", values="value").to_numpy()
    assert table.shape == (5, 5)
    np.testing.assert_allclose(np.diag(table), 1.0)
    np.testing.assert_allclose(table, table.T)


def test_layers_against_layers_within_and_across_checkpoints(run_dir, settings):
    within = analyze([(run_dir, replace(CKA, pairs="layers", sites=("attn.o",)))], settings).frame
    assert len(within) == 5 * 2 * 2
    assert (within["step"] == within["target_step"]).all()
    same = within["layer"] == within["target_layer"]
    np.testing.assert_allclose(within.loc[same, "value"], 1.0)
    assert [json.loads(params)["target_layer"] for params in within["params"]] == list(within["target_layer"])
    across = replace(CKA, pairs="layers", sites=("attn.o",), target=Target("last"))
    frame = analyze([(run_dir, across)], settings).frame
    assert set(frame["target_step"]) == {8} and len(frame) == 20
    cell = frame[(frame["step"] == 2) & (frame["layer"] == 0) & (frame["target_layer"] == 1)].iloc[0]
    store = open_store(run_dir)
    x = store.read(2, "val", "activations", "layers.0.attn.o")
    y = store.read(8, "val", "activations", "layers.1.attn.o")
    assert cell["value"] == pytest.approx(direct_cka(x, y), rel=1e-10)


def test_models_of_different_size_are_compared_by_metrics_that_allow_it(runs, settings):
    small = make_run(runs, "small")
    wide = make_run(runs, "wide", spec=SPEC.model_copy(update={"d_model": 24, "n_layers": 3}), steps=(0, 8))
    outcome = analyze([(small, replace(CKA, target=Target("last", str(wide))))], settings)
    assert set(outcome.frame["target_run"]) == {"wide"} and set(outcome.frame["target_step"]) == {8}
    assert len(outcome.frame) == 5 * 6
    layers = analyze([(wide, replace(CKA, target=Target("last", str(small)), pairs="layers"))], settings).frame
    assert len(layers) == 2 * 3 * 3 * 2
    with pytest.raises(UsageError, match="metric 'cosine' compares matrices row by row"):
        analyze([(small, Question((Use("cosine"),), data="weights", target=Target("last", str(wide))))], settings)


def test_layers_that_the_other_model_does_not_have_are_counted(runs, settings):
    small = make_run(runs, "small", steps=(0, 8))
    deep = make_run(runs, "deep", spec=SPEC.model_copy(update={"n_layers": 3}), steps=(0, 8))
    outcome = analyze([(deep, replace(CKA, target=Target("last", str(small))))], settings)
    assert len(outcome.frame) == 2 * 6
    assert any("run 'small' has no layer 2" in reason for reason in outcome.skipped)


def test_heads_that_the_other_model_does_not_have_are_counted(runs, settings):
    few = make_run(runs, "few", steps=(0, 8))
    many = make_run(runs, "many", spec=SPEC.model_copy(update={"n_heads": 8, "n_kv_heads": 4}), steps=(0, 8))
    question = replace(CKA, component=Use("ov_circuit"), target=Target("same", str(few)))
    outcome = analyze([(many, question)], settings)
    assert len(outcome.frame) == 2 * 2 * (1 + 4)
    assert outcome.skipped["run 'few' has no head 7 of attn.ov to compare with"] == 4


def test_chance_can_be_random_matrices(run_dir, settings):
    question = Question((Use("cosine"),), data="weights", null="random_init", draws=9)
    frame = analyze([(run_dir, question)], settings).frame
    assert (frame["null_mean"].abs() < 0.5).all() and (frame["null_p"] >= 0.1).all()


def test_seeds_are_compared_at_the_same_steps(runs, settings):
    seeds = [make_run(runs, f"seed{seed}", seed=seed, steps=(0, 4, 8)) for seed in (1, 2, 3)]
    frame = analyze(between_runs([resolve(seed) for seed in seeds], CKA), settings).frame
    assert set(zip(frame["run"], frame["target_run"], strict=True)) == {
        ("seed1", "seed2"),
        ("seed1", "seed3"),
        ("seed2", "seed3"),
    }
    assert (frame["step"] == frame["target_step"]).all()
    with pytest.raises(UsageError, match="at least two"):
        between_runs([resolve(seeds[0])], CKA)


def test_runs_without_a_step_in_common_are_refused(runs, settings):
    a, b = make_run(runs, "a", steps=(0, 2)), make_run(runs, "b", steps=(1, 3))
    with pytest.raises(DataError, match=r"run 'a' and run 'b' have no step in common: run 'b' has steps 1 and 3"):
        analyze([(a, replace(CKA, target=Target.parse(str(b))))], settings)


def test_prev_compares_with_the_checkpoint_before(run_dir, settings):
    outcome = analyze([(run_dir, replace(CKA, target=Target("prev"), steps=Selection("0,2-8")))], settings)
    pairs = set(zip(outcome.frame["step"], outcome.frame["target_step"], strict=True))
    assert pairs == {(2, 1), (4, 2), (8, 4)}
    assert any("step 0 of run 'demo' has no earlier checkpoint" in reason for reason in outcome.skipped)


def test_activations_of_different_samples_are_refused(runs, settings):
    run = make_run(runs)
    with pytest.raises(SamplesError, match=r"train activations of step 0 of run 'demo' and of step 8 are of different"):
        analyze([(run, replace(CKA, split="train"))], settings)
    other = make_run(runs, "other", val_digest="other rows")
    with pytest.raises(SamplesError, match="capture both on the same rows and positions"):
        analyze([(run, replace(CKA, target=Target("last", str(other))))], settings)


def test_gradients_of_different_batches_may_be_compared(run_dir, settings):
    frame = analyze([(run_dir, Question((Use("cosine"),), data="gradients", split="train"))], settings).frame
    np.testing.assert_allclose(frame.loc[frame["step"] == 8, "value"], 1.0)


def test_steps_without_captures_are_skipped_and_counted(runs, settings):
    run = make_run(runs, lacking={2: ("val",), 8: ("val",)})
    outcome = analyze([(run, CKA)], settings)
    assert sorted(set(outcome.frame["step"])) == [0, 1, 4]
    assert set(outcome.frame["target_step"]) == {4}
    assert outcome.skipped["step 2 of run 'demo' has no val activations"] == 6
    with pytest.raises(DataError, match="target step 8 of run 'demo' has no val activations"):
        analyze([(run, replace(CKA, target=Target(8)))], settings)


def test_a_nan_in_a_capture_is_a_row_with_a_reason(runs, settings):
    run = make_run(runs, poison=(2, "layers.1.attn.v"))
    frame = analyze([(run, CKA)], settings).frame
    bad = frame[frame["value"].isna()]
    assert list(zip(bad["step"], bad["site"], bad["layer"], strict=True)) == [(2, "attn.v", 1)]
    assert "not finite" in bad["reason"].iloc[0]


def test_two_norms_do_not_overwrite_each_other(run_dir, settings):
    kinds = ("frobenius", "nuclear", "spectral", "max_abs")
    for kind in kinds:
        analyze([(run_dir, Question((Use.of("norm", {"kind": kind}),), data="weights", split=None))], settings)
    table = analyze([(run_dir, CKA)], settings)
    directory = next(iter(table.directories.values()))
    import pandas as pd

    rows = pd.read_parquet(directory / "rows.parquet")
    assert len(rows) == 4 * 30 + 30
    assert not rows.duplicated(list(KEY)).any()
    recorded = {json.loads(params).get("kind") for params in rows.loc[rows["metric"] == "norm", "params"]}
    assert recorded == set(kinds)
    assert len(pd.read_csv(directory / "rows.csv")) == len(rows)


def test_what_is_there_is_not_computed_again(run_dir, settings):
    first = analyze([(run_dir, CKA)], settings)
    again = analyze([(run_dir, Question((Use("cka"), Use("rsa"))))], settings)
    assert (first.computed, first.reused) == (30, 0)
    assert (again.computed, again.reused) == (30, 30)
    assert set(again.frame["metric"]) == {"cka", "rsa"}
    third = analyze([(run_dir, CKA)], settings)
    assert (third.computed, sum(third.tally.reads.values())) == (0, 0)
    assert third.frame.equals(first.frame)
    assert analyze([(run_dir, CKA)], replace(settings, fresh=True)).computed == 30


def test_what_depends_on_a_changed_checkpoint_is_computed_again(runs, settings):
    run = make_run(runs)
    before = analyze([(run, CKA)], settings)
    other = make_run(runs.parent / "elsewhere", "demo", seed=43)
    step = layout.checkpoint_dir(2)
    manifest = json.loads((other / step / layout.MANIFEST).read_text())
    shutil.rmtree(run / step)
    shutil.copytree(other / step, run / step)
    manifest["run_id"] = json.loads((run / layout.RUN_MANIFEST).read_text())["id"]
    (run / step / layout.MANIFEST).write_text(json.dumps(manifest))
    list_manifest(run, 2)
    after = analyze([(run, CKA)], settings)
    assert (after.computed, after.reused) == (6, 24)
    assert len(after.frame) == len(before.frame)
    changed = before.frame["step"] == 2
    assert not np.allclose(before.frame.loc[changed, "value"], after.frame.loc[changed, "value"])


class _Stop(Silence):
    def __init__(self, after: int) -> None:
        self.left = after

    def advanced(self, tasks: int) -> None:
        self.left -= tasks
        if self.left < 0:
            raise KeyboardInterrupt


def test_an_interrupted_analysis_goes_on_where_it_stopped(run_dir, settings):
    with pytest.raises(KeyboardInterrupt):
        analyze([(run_dir, CKA)], settings, _Stop(after=9))
    rest = analyze([(run_dir, CKA)], settings)
    assert (rest.reused, rest.computed) == (10, 20)
    assert len(rest.frame) == 30


def test_parts_that_a_killed_analysis_left_behind_are_taken_in(run_dir, settings, monkeypatch):
    from pico_analyze.table.store import PARTS, ROWS, RowStore

    monkeypatch.setattr(RowStore, "merge", lambda _: None)
    first = analyze([(run_dir, CKA)], settings)
    directory = next(iter(first.directories.values()))
    assert list((directory / PARTS).iterdir()) and not (directory / ROWS).exists()
    monkeypatch.undo()
    assert analyze([(run_dir, CKA)], settings).computed == 0
    assert (directory / ROWS).exists() and not list((directory / PARTS).iterdir())


def test_analyses_that_run_at_once_share_a_table(run_dir, settings):
    names = ("cka", "rsa", "svcca", "procrustes", "mutual_knn", "mean_cca")
    with ThreadPoolExecutor(len(names)) as pool:
        asked = [[(run_dir, Question((Use(name),)))] for name in names]
        outcomes = list(pool.map(lambda one: analyze(one, settings), asked))
    assert [len(outcome.frame) for outcome in outcomes] == [30] * len(names)
    import pandas as pd

    rows = pd.read_parquet(settings.out / "demo" / "rows.parquet")
    assert rows.groupby("metric").size().to_dict() == dict.fromkeys(names, 30)


def test_runs_of_one_name_do_not_share_a_table(runs, settings):
    a, b = make_run(runs / "x", "demo"), make_run(runs / "y", "demo", seed=9)
    first, second = analyze([(a, CKA)], settings), analyze([(b, CKA)], settings)
    assert second.computed == 30
    assert set(first.directories.values()).isdisjoint(second.directories.values())
    assert any("belongs to another run called 'demo'" in warning for warning in second.tally.warnings)
    assert analyze([(a, CKA)], settings).reused == 30


def test_a_run_made_anew_in_the_same_place_takes_over_the_name(runs, settings):
    run = make_run(runs, seed=1)
    before = analyze([(run, CKA)], settings).frame
    shutil.rmtree(run)
    after = analyze([(make_run(runs, seed=2), CKA)], settings)
    assert after.computed == 30 and next(iter(after.directories.values())) == settings.out / "demo"
    aside = [path for path in settings.out.iterdir() if path.name.startswith("demo-")]
    import pandas as pd

    assert len(aside) == 1
    old, new = (pd.read_parquet(path / "rows.parquet")["value"] for path in (aside[0], settings.out / "demo"))
    assert len(new) == 30 and list(old) == list(before["value"]) and list(old) != list(new)


def test_provenance_names_run_manifest_and_versions(run_dir, settings):
    row = analyze([(run_dir, CKA)], settings).frame.iloc[0]
    facts = json.loads(row["provenance"])
    info = open_store(run_dir).steps()
    assert facts["manifest_sha256"] == info[0].digest
    assert facts["target"]["manifest_sha256"] == info[-1].digest
    assert facts["kind"] == "pico" and facts["pico_analyze"]


def test_intervals_and_chance_are_in_the_row_and_in_its_params(run_dir, settings):
    question = replace(CKA, bootstrap=20, null="permutation", draws=19, seed=3, sites=("attn.o",))
    frame = analyze([(run_dir, question)], settings).frame
    early = frame[frame["step"] == 0]
    assert (frame["ci_low"] <= frame["ci_high"]).all()
    assert (frame.loc[frame["step"] == 8, "null_p"] == 1 / 20).all()
    assert (early["null_mean"] < frame.loc[frame["step"] == 8, "value"].iloc[0]).all()
    params = json.loads(frame["params"].iloc[0])
    assert (params["bootstrap"], params["null"], params["draws"], params["seed"]) == (20, "permutation", 19, 3)
    again = analyze([(run_dir, question)], replace(settings, fresh=True)).frame
    assert again.equals(frame)


def test_what_is_resampled_and_permuted_are_the_rows_that_were_captured(run_dir, settings):
    question = replace(
        CKA, bootstrap=20, null="permutation", draws=19, seed=3, sites=("attn.o",), layers=Selection("1")
    )
    frame = analyze([(run_dir, question)], settings).frame
    store = open_store(run_dir)
    row = frame[frame["step"] == 2].iloc[0]
    pair = [activations(store.read(step, "val", "activations", "layers.1.attn.o")) for step in (2, 8)]
    cka = METRICS.get("cka")
    interval = uncertainty.bootstrap(cka, pair, {}, 20, 3, positions=len(POSITIONS))
    chance = uncertainty.null(cka, pair, {}, "permutation", 19, 3, positions=len(POSITIONS))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval["ci_low"], interval["ci_high"]), rel=1e-12)
    assert (row["null_mean"], row["null_p"]) == pytest.approx((chance["null_mean"], chance["null_p"]), rel=1e-12)
    assert json.loads(row["extra"])["bootstrap_rows"] == N_ROWS
    of_positions = uncertainty.bootstrap(cka, pair, {}, 20, 3)
    assert row["ci_low"] != pytest.approx(of_positions["ci_low"])


def test_of_a_store_that_cannot_tell_rows_each_sample_is_one_and_that_is_said(run_dir, settings, monkeypatch):
    monkeypatch.setattr("pico_analyze.engine.compute.CountsPositions", type("Other", (), {}))
    done = analyze([(run_dir, replace(CKA, bootstrap=10, sites=("attn.o",), steps=Selection("2")))], settings)
    assert {json.loads(text)["bootstrap_rows"] for text in done.frame["extra"]} == {N}
    (warning,) = [text for text in done.tally.warnings if "one row of tokens" in text]
    assert warning.startswith("run 'demo' does not say which samples are of one row of tokens: each is taken for a row")


def test_why_there_is_no_interval_stands_in_the_row(run_dir, settings, monkeypatch):
    monkeypatch.setattr(LocalStore, "positions", lambda *_: N)
    question = replace(CKA, bootstrap=10, null="permutation", sites=("attn.o",), steps=Selection("2"))
    frame = analyze([(run_dir, question)], settings).frame
    assert frame["ci_low"].isna().all() and frame["null_p"].isna().all() and frame["value"].notna().all()
    extra = json.loads(frame["extra"].iloc[0])
    assert extra["ci_reason"].startswith("all samples are of one row, and rows are what varies")
    assert extra["null_reason"].startswith("all samples are of one row, which has no other order")


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (
            Question((Use.of("norm", {"kind": "max_abs"}),), bootstrap=50),
            "metric 'norm' is here the largest entry, of whose error resamples tell nothing: leave --bootstrap out",
        ),
        (Question((Use("ckaa"),)), "did you mean 'cka'"),
        (Question((Use("cka"),), component=Use("ov_circiut")), "did you mean 'ov_circuit'"),
        (Question((Use("rsa"),), data="weights"), "metric 'rsa' is not defined for weights"),
        (Question((Use("cka"),), component=Use("qk_circuit")), "component 'qk_circuit' has no activations"),
        (Question((Use("per"),), target=Target(3)), "metric 'per' describes one checkpoint: --target goes with"),
        (Question((Use("per"),), pairs="steps"), "--pairs steps goes with comparisons"),
        (Question((Use("cosine"),), data="weights", bootstrap=50), "weights have none, only activations do"),
        (Question((Use("cosine"),), data="weights", null="permutation"), "use --null random_init"),
        (Question((Use("per"),), null="permutation"), "a permutation leaves it as it is"),
        (Question((Use.of("cka", {"kernl": "rbf"}),)), "did you mean 'kernel'"),
        (Question((Use("cka"),), layers=Selection("2")), "layer 2 does not exist: this model has layers 0 to 1"),
        (
            Question((Use("cka"),), steps=Selection("3")),
            r"step 3 does not exist: run 'demo' has steps 0, 1, 2, 4 and 8",
        ),
        (Question((Use("cka"),), target=Target(3)), r"target step 3 does not exist: run 'demo' has steps 0, 1, 2, 4"),
        (Question((Use("cka"),), sites=("attn.w",)), "'attn.w' is not a site; did you mean"),
        (Question((Use("cka"),), sites=("attn.q",)), "there are attn.v, attn.o, mlp.down"),
        (Question((Use("cka"),), sites=("layers.7.attn.v",)), "is not among the val activations of run 'demo'"),
        (Question((Use("cka"),), component=Use("ov_circuit"), sites=("attn.v",)), "chooses its own sites"),
    ],
)
def test_questions_that_make_no_sense_for_the_run_are_refused_at_once(run_dir, settings, question, says):
    with pytest.raises(UsageError, match=says):
        analyze([(run_dir, question)], settings)
    assert not (settings.out / "demo" / "rows.parquet").exists()


def test_a_component_whose_tensors_no_checkpoint_holds_says_what_there_is(runs, settings):
    run = make_run(runs, captured=("attn.o",))
    with pytest.raises(
        DataError, match=r"'ov_circuit' needs activations at layers\.0\.attn\.v.*holds weights at embed"
    ):
        analyze([(run, Question((Use("cka"),), component=Use("ov_circuit")))], settings)


def test_weights_of_every_site_can_be_asked_for(run_dir, settings):
    captured = analyze([(run_dir, Question((Use("norm"),), data="weights"))], settings).frame
    assert set(captured["site"]) == {"attn.v", "attn.o", "mlp.down"}
    every = Question((Use("norm"),), data="weights", sites=("embed", "norm.final", "attn.q"))
    frame = analyze([(run_dir, every)], settings).frame
    assert set(frame["site"]) == {"embed", "norm.final", "attn.q"}
    assert frame.loc[frame["site"] == "embed", "layer"].isna().all()


def test_an_output_directory_that_cannot_be_made_is_a_storage_error(run_dir, tmp_path):
    from pico_analyze.errors import StorageError

    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another --out"):
        analyze([(run_dir, CKA)], Settings(out=Path(tmp_path / "file")))


def test_a_damaged_table_is_named(run_dir, settings):
    directory = next(iter(analyze([(run_dir, CKA)], settings).directories.values()))
    (directory / "rows.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"rows\.parquet: it is not as it was written"):
        analyze([(run_dir, CKA)], settings)


def test_a_run_that_is_named_twice_is_one_run(run_dir, settings):
    outcome = analyze([(run_dir, CKA), (str(run_dir), CKA)], settings)
    assert (outcome.computed, len(outcome.frame)) == (30, 30)
    assert sum(outcome.tally.reads.values()) == 30
