"""The same words on the command line, as keyword arguments and in a study file ask the same questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pico_analyze
from pico_analyze import api
from pico_analyze.cli import app as command_line
from pico_analyze.engine import pipeline
from pico_analyze.errors import PicoAnalyzeError, UsageError
from pico_analyze.questions.builder import asked, default_data, measurement, questions
from pico_analyze.questions.question import Selection, Target, Use
from pico_analyze.questions.study import Study, parse
from pico_analyze.questions.study_schema import Measurement, validated


class Asked(Exception):
    """Carries what was asked out of a command or a function, in place of carrying it out."""

    def __init__(self, pairs):
        super().__init__(f"{len(pairs)} questions")
        self.pairs = pairs


@pytest.fixture
def caught(monkeypatch, runs):
    """The questions that a call leads to; the directories a and b are there and need not be runs."""
    for name in ("a", "b"):
        (runs / name).mkdir()

    def stop(pairs, *_):
        raise Asked(list(pairs))

    monkeypatch.setattr(api, "analyze", stop)
    monkeypatch.setattr(pipeline, "analyze", stop)

    def call(function, *arguments, **words):
        try:
            function(*arguments, **words)
        except Asked as found:
            return found.pairs
        except PicoAnalyzeError as error:
            return type(error), str(error)
        raise AssertionError("nothing was asked")

    return call


PARAMS = {
    "cka": {"debiased": st.booleans(), "kernel": st.sampled_from(["linear", "rbf"]), "bandwidth": st.floats(0.1, 9)},
    "svcca": {"variance": st.floats(0.1, 1.0)},
    "norm": {"kind": st.sampled_from(["nuclear", "spectral", "frob"])},
    "gini": {"corrected": st.booleans()},
    "per": {},
    "subspace_overlap": {"k": st.integers(0, 9), "side": st.sampled_from(["left", "right"])},
}
numbers = st.one_of(
    st.sampled_from(["all", "0,8", "2-16", "0-100:10", "first,last"]), st.integers(0, 200), st.lists(st.integers(0, 9))
)


@st.composite
def written(draw):
    """Words as a person writes them: names, and values as plain YAML has them."""
    metrics = draw(st.lists(st.sampled_from(sorted(PARAMS)), min_size=1, max_size=3, unique=True))
    optional = {
        "component": st.lists(st.sampled_from(["simple", "ov_circuit", "mlp", "resid"]), min_size=1, unique=True),
        "data": st.lists(st.sampled_from(["weights", "activations", "gradients"]), min_size=1, unique=True),
        "split": st.lists(st.sampled_from(["train", "val"]), min_size=1, unique=True),
        "sites": st.lists(st.sampled_from(["attn.v", "attn.o", "layers.0.mlp.up"]), min_size=1, unique=True),
        "layers": numbers.filter(lambda value: value != []),
        "heads": st.booleans(),
        "steps": numbers.filter(lambda value: value != []),
        "target": st.sampled_from(["last", "first", "prev", 8, "a", "b@last", "runs/b@4", "lst", "hf://o/n@b"]),
        "pairs": st.sampled_from(["target", "steps", "layers"]),
        "between_runs": st.booleans(),
        "bootstrap": st.sampled_from([0, 5, 20, 200]),
        "null": st.sampled_from(["permutation", "random_init"]),
        "draws": st.sampled_from([1, 30, 100]),
        "seed": st.integers(0, 3),
    }
    words = draw(st.fixed_dictionaries({}, optional=optional))
    words["metric_params"] = {
        f"{metric}.{name}": draw(values)
        for metric in metrics
        for name, values in PARAMS[metric].items()
        if draw(st.booleans())
    }
    return metrics, draw(st.sampled_from([["a"], ["a", "b"], ["runs/a", "b@4"]])), words


def as_options(words):
    names = {"sites": "site"}
    for name, value in words.items():
        option = f"--{names.get(name, name).replace('_', '-')}"
        if name == "metric_params":
            for key, parameter in value.items():
                yield from ("--metric-param", f"{key}={parameter}")
        elif name == "heads":
            yield "--heads" if value else "--no-heads"
        elif isinstance(value, bool):
            yield from [option] if value else []
        elif isinstance(value, list) and name in ("layers", "steps"):
            yield from (option, ",".join(map(str, value)))
        elif isinstance(value, list):
            for one in value:
                yield from (option, one)
        else:
            yield from (option, str(value))


def as_study(metrics, runs, words):
    names = {"component": "components", "split": "splits"}
    entry = {names.get(name, name): value for name, value in words.items() if name not in ("metric_params", "seed")}
    entry["metrics"] = [
        {
            "name": metric,
            "params": {
                key.partition(".")[2]: value
                for key, value in words["metric_params"].items()
                if key.partition(".")[0] == metric
            },
        }
        for metric in metrics
    ]
    return {"runs": runs, "seed": words.get("seed", 0), "measurements": [entry]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written())
def test_equal_words_ask_equal_questions_in_three_ways(caught, case):
    metrics, runs, words = case
    of_function = caught(pico_analyze.compute, metrics, runs, **words)
    command = ["compute", *metrics, *runs, *as_options(words)]
    of_command = caught(command_line.app, command, standalone_mode=False)
    Path("study.yaml").write_text(yaml.safe_dump(as_study(metrics, runs, words)))
    of_study = caught(pico_analyze.study, "study.yaml")
    assert of_function == of_command == of_study


def test_a_number_by_itself_a_list_and_a_text_select_the_same():
    for one, several, text in ((8, [8], "8"), (np.int64(8), np.array([8]), " 8 ")):
        found = {questions(measurement("cka", steps=chosen))[0].steps for chosen in (one, several, text)}
        assert found == {Selection("8")}
    assert questions(measurement("cka", layers=range(3)))[0].layers == Selection("0,1,2")
    assert questions(validated(Measurement, {"metrics": "cka", "layers": 0}))[0].layers == Selection("0")
    with pytest.raises(UsageError, match="steps"):
        validated(Measurement, {"metrics": "cka", "steps": True})


def test_commas_and_lists_name_the_same():
    plain = measurement("per", component=["simple", "mlp"], data=["weights", "gradients"], sites=["attn.v", "attn.o"])
    assert plain == measurement("per", component="simple,mlp", data="weights, gradients", sites="attn.v,attn.o")
    written = {"metrics": "per", "components": ["simple", "mlp"], "data": "weights,gradients", "sites": "attn.v,attn.o"}
    assert validated(Measurement, written).data == plain.data
    assert questions(validated(Measurement, written)) == questions(plain)


def test_each_parameter_goes_to_the_metrics_that_have_it_with_its_type():
    (question,) = questions(measurement(["cka", "svcca"], metric_params={"variance": "0.5", "cka.debiased": "yes"}))
    assert question.metrics == (Use.of("cka", {"debiased": True}), Use.of("svcca", {"variance": 0.5}))
    both = questions(measurement(["svcca", "pwcca"], metric_params=[("variance", 0.5), ("pwcca.variance", 1)]))
    assert [dict(use.params)["variance"] for use in both[0].metrics] == [0.5, 1.0]


def test_an_interval_is_asked_for_where_there_are_samples_whatever_the_order():
    for metrics in (["cka", "per"], ["per", "cka"]):
        found = {q.data: q.bootstrap for q in questions(measurement(metrics, bootstrap=50))}
        assert found == {"activations": 50, "weights": 0}
    of_data = questions(measurement("per", data="weights,gradients,activations", bootstrap=50))
    assert [q.bootstrap for q in of_data] == [0, 0, 50]


def test_an_interval_without_any_samples_is_refused(run_dir, pico):
    for metrics in (["per"], ["per", "norm"]):
        answer = pico("compute", *metrics, run_dir, "--bootstrap", "50")
        assert answer.code == 2
        assert "a bootstrap resamples samples: weights have none, only activations do" in answer.error


def test_a_target_goes_to_comparisons_and_is_refused_without_any(run_dir):
    found = {q.data: q.target for q in questions(measurement(["cka", "per"], target="first"))}
    assert found == {"activations": Target("first"), "weights": None}
    with pytest.raises(UsageError, match="describes one checkpoint: --target goes with comparisons"):
        pico_analyze.compute("per", run_dir, target="first")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"metrics": []}, "name a metric, such as cka"),
        ({"metrics": "ckaa"}, "no metric is called 'ckaa'; did you mean 'cka'"),
        ({"component": "simpel"}, "no component is called 'simpel'; did you mean 'simple'"),
        ({"data": "activation"}, "data 'activation' does not exist; did you mean 'activations'"),
        ({"split": "valid"}, "split 'valid' does not exist; did you mean 'val'"),
        ({"pairs": "step"}, "pairs 'step' does not exist; did you mean 'steps'"),
        ({"null": "permutations"}, "null 'permutations' does not exist; did you mean 'permutation'"),
        ({"bootstrap": "many"}, "bootstrap='many': Input should be a valid integer"),
        ({"bootstrap": 3}, "bootstrap=3 is out of range"),
        ({"draws": 0}, "draws=0: Input should be greater than 0"),
        ({"heads": "some"}, "heads='some'"),
        ({"layers": -1}, "layers"),
        ({"metric_params": {"kernl": "rbf"}}, "no metric here has a parameter 'kernl'; did you mean 'kernel'"),
        ({"metric_params": {"kernel": "rbff"}}, "kernel=rbff is not one of linear, rbf; did you mean 'rbf'"),
        ({"metric_params": {"norm.kind": "max"}}, "--metric-param 'norm.kind=max': metric 'norm' is not asked for"),
        ({"component_params": {"form": "head"}}, "no component here has a parameter 'form'"),
        ({"target": "lats"}, "target 'lats' is not one; did you mean 'last'"),
        ({"target": "prev", "between_runs": True}, "at least two"),
        ({"metrics": "rankme", "component": "qk_circuit", "data": None}, "have no kind of data in common"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(run_dir, words, says):
    with pytest.raises(UsageError) as error:
        asked(measurement(**{"metrics": "cka"} | words), [run_dir])
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_study_asks_its_measurements_in_order(run_dir):
    config = parse({"measurements": [{"metrics": "per", "steps": 4}, {"metrics": "cka"}], "steps": "last"}, where="x")
    pairs = Study(config).asked([run_dir])
    assert [(run, question.metrics[0].name, question.steps.text) for run, question in pairs] == [
        (str(run_dir), "per", "4"),
        (str(run_dir), "cka", "last"),
    ]


def test_the_default_data_suits_metric_and_component():
    from pico_analyze.components.spec import COMPONENTS
    from pico_analyze.metrics.spec import METRICS

    pairs = {("cka", "simple"): "activations", ("norm", "simple"): "weights", ("norm", "resid"): "activations"}
    for (metric, component), data in pairs.items():
        assert default_data(METRICS.get(metric), COMPONENTS.get(component)) == data
