import json
from pathlib import Path

import pytest
import yaml
from synthetic import make_run

from pico_analyze.errors import UsageError
from pico_analyze.questions.question import Selection, Use
from pico_analyze.questions.study import load_study, parse, studies
from pico_analyze.questions.study_v1 import translate

STUDY = {
    "name": "ov",
    "measurements": [
        {"metrics": ["cka"], "components": ["ov_circuit"], "bootstrap": 20},
        {
            "metrics": ["per", {"name": "norm", "params": {"kind": "nuclear"}}],
            "components": [{"name": "ov_circuit", "params": {"form": "head"}}, "simple"],
            "data": ["weights", "gradients"],
            "layers": [0],
        },
        {"metrics": "cka", "pairs": "layers", "sites": "attn.v", "steps": "last"},
    ],
}

V1 = """
analysis_name: "pico-decoder-demo-1-analysis"
metrics:
  - metric_name: cka
    target_checkpoint: 8
    data_split: "val"
    components:
      - component_name: ov_circuit
        data_type: "activations"
        layer_suffixes:
          output_layer: "attention.o_proj"
          value_layer: "attention.v_proj"
        layers: [0, 1]
  - metric_name: per
    data_split: "train"
    components:
      - component_name: simple
        data_type: "gradients"
        layer_suffixes: "swiglu.w_2"
        layers: [0, 1]
  - metric_name: norm
    data_split: "val"
    norm_type: "Frobenius"
    components:
      - component_name: ov_circuit
        data_type: "weights"
        layer_suffixes:
          output_layer: "attention.o_proj"
          value_layer: "attention.v_proj"
        layers: [0, 1]
steps:
  start: 0
  end: 8
  step: 4
monitoring:
  output_dir: "analysis_results"
  save_to_wandb: true
  wandb:
    entity: "pico-lm"
    project: "pico-demo"
  save_to_picolabs: false
  pico_report:
    lab_hash: ""
"""


def test_a_study_is_carried_out_in_one_pass(runs, pico):
    make_run(runs)
    Path("study.yaml").write_text(yaml.safe_dump(STUDY))
    answer = pico("run", "study.yaml", "--format", "json", "--no-plot")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    metrics = [row["metric"] for row in rows]
    assert metrics.count("norm") == 5 * (2 * 1 + 2 * 3) + 5 * 4 * 2  # simple: 3 sites; circuits: whole, and 4 heads
    circuits = [row for row in rows if row["component"] == "ov_circuit" and row["metric"] == "cka"]
    assert circuits and all(row["ci_low"] <= row["ci_high"] for row in circuits)
    assert {row["step"] for row in rows if row["target_layer"] is not None} == {8}
    again = pico("run", "study.yaml", "--no-plot")
    assert "(0 new" in again.err


def test_runs_on_the_command_line_stand_in_place_of_those_in_the_file(runs, pico):
    make_run(runs, "a")
    make_run(runs, "b")
    Path("study.yaml").write_text(yaml.safe_dump(STUDY | {"runs": ["runs/a"], "measurements": [{"metrics": ["cka"]}]}))
    assert {row["run"] for row in json.loads(pico("run", "study.yaml", "--format", "json").out)} == {"a"}
    rows = json.loads(pico("run", "study.yaml", "runs/a", "runs/b", "--format", "json", "--no-plot").out)
    assert {row["run"] for row in rows} == {"a", "b"}


def test_seeds_are_compared_in_a_study(runs, pico):
    for seed in (1, 2):
        make_run(runs, f"s{seed}", seed=seed)
    study = {"runs": ["runs/s1", "runs/s2"], "measurements": [{"metrics": ["cka"], "between_runs": True}]}
    Path("study.yaml").write_text(yaml.safe_dump(study))
    rows = json.loads(pico("run", "study.yaml", "--format", "json", "--no-plot").out)
    assert {(row["run"], row["target_run"]) for row in rows} == {("s1", "s2")}


ONE = "measurements:\n  - metrics: [gini]\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"measurments": []}, "unknown key measurments; did you mean 'measurements'?"),
        ({"measurements": [{"metrics": ["cka"], "componets": ["simple"]}]}, "did you mean 'components'?"),
        ({"measurements": [{"metrics": [{"name": "cka", "param": {}}]}]}, "unknown key measurements.0.metrics.0.param"),
        ({"measurements": [{"metrics": []}]}, "measurements.0.metrics="),
        ({"measurements": [{"metrics": ["cka"], "data": ["weight"]}]}, "measurements.0.data"),
        ({"measurements": [{"components": ["simple"]}]}, "the key measurements.0.metrics is missing"),
        ({"measurements": [{"metrics": ["cka"], "bootstrap": "many"}]}, "measurements.0.bootstrap='many'"),
        ({"steps": [-1]}, "steps"),
    ],
)
def test_a_key_or_value_that_cannot_be_is_named(change, says):
    with pytest.raises(UsageError, match=r"study\.yaml: ") as error:
        parse(STUDY | change, where="study.yaml")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: [", "line 1: not valid YAML"),
        ("- 1", "a study is a mapping"),
        ("", "a study is a mapping with the key measurements, found nothing"),
        ("name: x", "measurements is missing"),
        ("name: x\nname: y\n", "line 2: the key 'name' stands twice (first in line 1)"),
        ("name: x\nseed: true\n" + ONE, "line 2: seed=True: Input should be a valid integer"),
        ("name: 1e5\n" + ONE, "line 1: name=100000.0: Input should be a valid string: quote it if it is text"),
        ("seed: '5'\n" + ONE, "line 1: seed='5'"),
        ("seed: 1.9\n" + ONE, "line 1: seed=1.9"),
        ("seed: 1e30\n" + ONE, "line 1: seed=1e+30"),
        ("steps: [0, true]\n" + ONE, "line 1: steps"),
        ("x: 1\n" + ONE, "line 1: unknown key x"),
        (ONE + "  - metrics: [cka]\n    bootstrap: 7e12345\n", "line 4: 7e12345 is too large for a number"),
        (ONE + "  - metrics: [cka]\n    bootstrap: many\n", "line 4: measurements.1.bootstrap='many'"),
        ("a: !!python/name:os.system ''", "line 1: the tag !!python/name:os.system"),
        ("[" * 1000, "more than 32 mappings and lists"),
    ],
)
def test_a_file_that_is_no_study_is_refused(pico, content, says):
    Path("study.yaml").write_text(content)
    answer = pico("run", "study.yaml")
    assert (answer.code, says in answer.error) == (2, True)


def test_a_study_of_1_0_is_accepted_and_each_mapping_told(runs, pico):
    make_run(runs)
    Path("v1.yaml").write_text(V1)
    answer = pico("run", "v1.yaml", "--format", "json", "--no-plot")
    assert answer.code == 0, answer.err
    for told in (
        "a study of pico-analyze 1.0",
        "analysis_name → name",
        "steps {start: 0, end: 8, step: 4} → steps 0-8:4",
        "monitoring.output_dir → out analysis_results",
        "monitoring.save_to_wandb → nothing is sent by itself",
        "data_split → splits",
        "target_checkpoint 8 → target 8",
        "layer_suffixes of ov_circuit → the circuit's own sites, attn.v and attn.o",
        "layer_suffixes swiglu.w_2 → sites mlp.down",
        "norm_type Frobenius → norm, params kind=frobenius",
        "ov_circuit, weights → ov_circuit, params form=head",
    ):
        assert told in answer.err
    rows = json.loads(answer.out)
    assert {row["step"] for row in rows} == {0, 4, 8}
    assert {(row["metric"], row["split"], row["site"]) for row in rows} == {
        ("cka", "val", "attn.ov"),
        ("per", "train", "mlp.down"),
        ("norm", None, "attn.ov"),
    }
    assert Path("analysis_results/demo/rows.parquet").is_file()


@pytest.mark.parametrize(
    ("metric", "params"),
    [
        ("gini", {"corrected": False}),
        ("condition_number", {"over": "all", "centre": "no"}),
        ("per", {"centre": "no"}),
        ("pwcca", {"variant": "pico1"}),
    ],
)
def test_metrics_that_1_0_defined_otherwise_are_asked_for_as_it_had_them(metric, params):
    raw = yaml.safe_load(V1)
    raw["metrics"] = [raw["metrics"][1] | {"metric_name": metric}]
    translated, notes = translate(raw, where="v1.yaml")
    assert translated["measurements"][0]["metrics"] == [{"name": metric, "params": params}]
    assert any(note.startswith(f"  {metric} → {metric}, params") for note in notes)


def test_a_list_of_steps_of_1_0_is_taken_as_it_is(tmp_path):
    content = yaml.safe_load(V1) | {"steps": [0, 8]}
    (tmp_path / "v1.yaml").write_text(yaml.safe_dump(content))
    study, _ = load_study(tmp_path / "v1.yaml")
    questions = [question for _, question in study.asked([tmp_path])]
    assert {question.steps for question in questions} == {Selection("0,8")}
    assert questions[0].metrics == (Use("cka"),)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("norm_type", "norm_tpye", "unknown key norm_tpye; did you mean 'norm_type'?"),
        ("Frobenius", "L7", "norm_type 'L7' is not one of"),
        ("swiglu.w_2", "swiglu.w_9", "layer_suffixes 'swiglu.w_9' is no site"),
        ('value_layer: "attention.v_proj"', 'value_layer: "attention.k_proj"', "is not attn.v, as ov_circuit has it"),
        ("analysis_name", "analysis_nam", "unknown key analysis_nam"),
        ("  end: 8", "  ende: 8", "unknown key ende; did you mean 'end'?"),
        ("monitoring:", "monitorings:", "unknown key monitorings"),
        ("  end: 8", "  end: 8.5", "steps needs whole numbers"),
        ("  end: 8", "  end: true", "steps needs whole numbers"),
        ('"pico-decoder-demo-1-analysis"', "1e5", "analysis_name=100000.0: text was expected"),
        ("  - metric_name: per", "  - metric_name: per\n    metric_name: gini", "the key 'metric_name' stands twice"),
    ],
)
def test_a_mistake_in_a_study_of_1_0_is_named(tmp_path, old, new, says):
    (tmp_path / "v1.yaml").write_text(V1.replace(old, new, 1))
    with pytest.raises(UsageError) as error:
        load_study(tmp_path / "v1.yaml")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("monitoring", "says"),
    [
        ("{save_to_wandb: 'false'}", "monitoring.save_to_wandb='false': true or false was expected"),
        ("{save_to_wandb: true, wandb: [x]}", "monitoring.wandb: a mapping was expected"),
        ("{output_dir: 5}", "output_dir=5: text was expected"),
    ],
)
def test_monitoring_of_1_0_is_taken_as_it_is_written(tmp_path, monitoring, says):
    (tmp_path / "v1.yaml").write_text(V1.split("monitoring:")[0] + f"monitoring: {monitoring}\n")
    with pytest.raises(UsageError) as error:
        load_study(tmp_path / "v1.yaml")
    assert says in str(error.value)


def test_a_parameter_beyond_every_float_is_refused(tmp_path):
    huge = "9" * 350
    (tmp_path / "s.yaml").write_text(f"measurements: [{{metrics: [{{name: mutual_knn, params: {{k: {huge}}}}}]}}]\n")
    study, _ = load_study(tmp_path / "s.yaml")
    with pytest.raises(UsageError, match="is not a whole number"):
        study.asked([tmp_path])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"probes": "inductoin"}, r"no probe is called 'inductoin'; did you mean 'induction'\?"),
        ({"probes": ["llc"]}, "llc asks before it begins: measure it with `pico-analyze behave`"),
        ({"probes": {"names": "induction", "params": {"token": "seen"}}}, "no probe here has a parameter 'token'"),
        ({"probes": {"names": "induction", "row": 3}}, r"unknown key probes\.row; did you mean 'rows'\?"),
        ({"probes": "attention", "transition": {"metric": "copying"}}, "copying is no metric of the study's probes"),
        ({"transition": {"metric": "copying"}}, "none, for no probe is named"),
        ({"probes": "induction", "transition": {"metric": "copying", "least": -1}}, r"transition\.least=-1"),
    ],
)
def test_probes_and_transitions_that_do_not_exist_are_refused(more: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse({"measurements": [{"metrics": ["per"]}]} | more, where="s.yaml")


def test_the_studies_of_the_package_are_sound_and_found_by_name(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert studies() == ["induction", "overview"]
    with pytest.raises(UsageError, match="it is made for a run by its size: `pico-analyze run overview RUN`"):
        load_study(Path("overview"))
    for name in ["induction"]:
        study, notes = load_study(Path(name))
        assert study.name == name and notes == []
    with pytest.raises(UsageError, match="no study of this name; did you mean 'induction'"):
        load_study(Path("inductoin"))
    (tmp_path / "induction").write_text("measurements: [{metrics: [per]}]")
    assert load_study(Path("induction"))[0].config.probes is None, "a file of that name is the file"
