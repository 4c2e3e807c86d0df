"""The same words mean the same run wherever they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from synthetic import make_run

import pico_analyze
from pico_analyze.errors import NotARunError, UsageError
from pico_analyze.questions.builder import asked, measurement
from pico_analyze.questions.question import Selection, Target
from pico_analyze.stores.run_names import RunName, resolve

FORMS = {
    "m1": ("runs/m1", None),
    "m1@last": ("runs/m1", "last"),
    "m1@128": ("runs/m1", 128),
    "m1@step-128": ("runs/m1", 128),
    "runs/m1": ("runs/m1", None),
    "runs/m1@first": ("runs/m1", "first"),
    "runs/m1/checkpoints/step-00000128": ("runs/m1", 128),
    "runs/m1/checkpoints/step-00000128@128": ("runs/m1", 128),
    "v1/checkpoints/step_64": ("v1", 64),
    "hf://org/name@branch": ("hf://org/name@branch", None),
    "hf://org/name@branch@64": ("hf://org/name@branch", 64),
    "hf://org/name@last": ("hf://org/name", "last"),
    "hf://org/name@branch:step-128": ("hf://org/name@branch:step-128", None),
}


@pytest.fixture
def m1(runs):
    make_run(runs, "m1", steps=(0, 64, 128))
    Path("v1/checkpoints/step_64").mkdir(parents=True)
    return runs / "m1"


@pytest.mark.usefixtures("m1")
@pytest.mark.parametrize("text", FORMS)
def test_each_form_means_a_run_and_perhaps_a_step(text):
    assert resolve(text) == RunName(*FORMS[text], text)


def test_a_path_object_and_an_absolute_path_are_names_too(m1):
    assert resolve(m1) == RunName(str(m1), None, str(m1))
    assert resolve(f"{m1}@64") == RunName(str(m1), 64, f"{m1}@64")


def test_within_the_checkpoints_a_directory_still_means_its_run(m1, monkeypatch):
    monkeypatch.chdir(m1 / "checkpoints")
    found = resolve("step-00000128")
    assert (Path(found.location), found.step) == (m1.resolve(), 128)


@pytest.mark.usefixtures("m1")
def test_a_run_is_preferred_to_a_directory_of_the_same_name_that_is_none():
    Path("m1").mkdir()
    assert resolve("m1").location == "runs/m1"
    make_run(Path(), "m1")
    assert resolve("m1").location == "m1"


@pytest.mark.usefixtures("m1")
def test_a_directory_whose_name_looks_like_a_step_is_that_directory():
    make_run(Path(), "m1").rename("m1@64")
    assert resolve("m1@64") == RunName("m1@64", None, "m1@64")


@pytest.mark.usefixtures("m1")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("m2", r"m2: there is no such path; did you mean 'm1'\? \(runs under runs: m1\)"),
        ("m2@last", r"m2: there is no such path; did you mean 'm1'\?"),
        ("runs/n1", r"runs/n1: there is no such path; did you mean 'm1'\? \(runs under runs: m1\)"),
        ("elsewhere/m1", r"elsewhere/m1: there is no such path \(there is no run under elsewhere\)"),
        ("m1@soon", r"m1@soon: after the @ of a run stands a step: m1@128, m1@first or m1@last"),
    ],
)
def test_a_name_that_means_nothing_names_the_nearest_and_what_exists(text, says):
    with pytest.raises(NotARunError, match=says):
        resolve(text)


@pytest.mark.usefixtures("m1")
def test_a_checkpoint_is_not_another_step():
    with pytest.raises(UsageError, match="this directory is step 128: leave @64 out"):
        resolve("runs/m1/checkpoints/step-00000128@64")


LOCAL = [text for text in FORMS if not text.startswith(("hf://", "v1"))]


@pytest.mark.parametrize("text", LOCAL)
def test_arguments_targets_studies_and_functions_mean_the_same_run(m1, pico, text):
    make_run(m1.parent, "other", steps=(0, 64, 128), seed=3)
    location, step = FORMS[text]
    steps = {0, 64, 128} if step is None else {{"first": 0, "last": 128}.get(step, step)}
    plain = ("--no-plot", "--format", "json")

    def rows(*words):
        answer = pico(*words)
        assert answer.code == 0, answer.err
        return json.loads(answer.out)

    assert {row["step"] for row in rows("compute", "gini", text, *plain)} == steps
    assert {row["step"] for row in rows("list", text, "--format", "json")} == steps
    (summary,) = rows("dynamics", "gini", text, "--site", "attn.v", "--layers", "0", "--format", "json")
    assert summary["n_steps"] == len(steps)
    Path("s.yaml").write_text(yaml.safe_dump({"measurements": [{"metrics": "gini"}]}))
    assert {row["step"] for row in rows("run", "s.yaml", text, *plain)} == steps
    Path("s.yaml").write_text(yaml.safe_dump({"runs": [text], "measurements": [{"metrics": "gini"}]}))
    assert set(pico_analyze.study("s.yaml")["step"]) == steps
    assert set(pico_analyze.compute("gini", text)["step"]) == steps
    assert {info.step for info in pico_analyze.open_run(text).steps()} == steps
    compared = rows("compute", "cka", "other", "--target", text, *plain)
    assert {(row["target_run"], row["target_step"]) for row in compared} == {("m1", number) for number in steps}
    targets = {question.target for _, question in asked(measurement("cka", target=text), ["other"])}
    assert targets == {Target("same" if step is None else step, location)}


def test_the_steps_of_names_count_when_runs_are_compared(m1):
    make_run(m1.parent, "other")
    ((run, question),) = asked(measurement("cka", between_runs=True), ["m1@64", "other@last"])
    assert (run, question.steps, question.target) == ("runs/m1", Selection("64"), Target("last", "runs/other"))


@pytest.mark.usefixtures("m1")
def test_a_step_given_twice_is_refused(pico):
    answer = pico("compute", "gini", "m1@64", "--steps", "0")
    assert answer.code == 2
    assert "m1@64 names a step, and so does steps 0: give one of the two" in answer.error
    answer = pico("compute", "cka", "m1", "--target", "runs/m1/checkpoints/step-00000064@first")
    assert answer.code == 2 and "is step 64 already: leave @first out" in answer.error


@pytest.mark.usefixtures("m1")
def test_a_step_that_the_run_does_not_have_is_named(pico):
    for words in (("compute", "gini", "m1@65"), ("list", "m1@65")):
        answer = pico(*words)
        assert answer.code == 2 and "step 65 does not exist: run 'm1' has" in answer.error


def test_a_run_whose_name_resembles_a_target_is_that_run(m1):
    make_run(m1.parent, "lats")
    ((_, question),) = asked(measurement("cka", target="lats"), ["m1"])
    assert question.target == Target("same", "runs/lats")


@pytest.mark.usefixtures("m1")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("compute", "gini", "m2"), 2, "no metric is called 'm2'; did you mean the run 'm1'?"),
        (("compute", "gini", "m2@last"), 3, "m2: there is no such path; did you mean 'm1'?"),
        (("compute", "gini", "./m2"), 3, "m2: there is no such path"),
        (("compute", "cka", "--target", "runs/m2"), 3, "runs/m2: there is no such path; did you mean 'm1'?"),
        (("list", "m2"), 3, "m2: there is no such path; did you mean 'm1'? (runs under runs: m1)"),
    ],
)
def test_an_unknown_run_is_one_sentence_and_the_right_exit_code(pico, words, code, says):
    answer = pico(*words)
    assert (answer.code, says in answer.error) == (code, True), answer.error
