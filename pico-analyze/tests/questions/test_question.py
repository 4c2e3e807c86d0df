import pytest

from pico_analyze.errors import UsageError
from pico_analyze.questions.question import Question, Selection, Target, Use

STEPS = [0, 1, 2, 4, 8, 16, 100, 200]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", STEPS),
        ("0,8", [0, 8]),
        ("8,0,8", [0, 8]),
        ("first,last", [0, 200]),
        ("2-16", [2, 4, 8, 16]),
        ("2..16", [2, 4, 8, 16]),
        ("0-200:100", [0, 100, 200]),
        ("1, 100-150 ,last", [1, 100, 200]),
    ],
)
def test_a_selection_picks_what_it_names(text, chosen):
    assert Selection(text).pick(STEPS, what="step", of="run 'x'") == chosen


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3", r"step 3 does not exist: run 'x' has steps 0, 1, 2, 4, 8, 16, 100 and 200"),
        ("17-99", r"no step lies in 17-99: run 'x' has steps"),
        ("soon", r"'soon' is not a step: give numbers, ranges such as 0-16, first, last or all"),
        ("", r"no step is selected by ''"),
        ("-1", r"'-1' is not a step"),
    ],
)
def test_a_selection_that_cannot_be_names_what_exists(text, says):
    with pytest.raises(UsageError, match=says):
        Selection(text).pick(STEPS, what="step", of="run 'x'")


def test_contiguous_layers_are_named_as_a_range():
    with pytest.raises(UsageError, match=r"layer 14 does not exist: this model has layers 0 to 11"):
        Selection("14").pick(range(12), what="layer", of="this model")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("last", Target("last")),
        ("prev", Target("prev")),
        ("128", Target(128)),
        ("runs/b", Target("same", "runs/b")),
        ("runs/b@last", Target("last", "runs/b")),
        ("runs/b@128", Target(128, "runs/b")),
        ("hf://org/name@branch", Target("same", "hf://org/name@branch")),
        ("hf://org/name@branch@64", Target(64, "hf://org/name@branch")),
        ("hf://org/name@branch:step-128", Target("same", "hf://org/name@branch:step-128")),
    ],
)
def test_targets_are_steps_runs_and_steps_of_runs(text, target):
    assert Target.parse(text) == target


def test_a_misspelt_target_names_the_nearest():
    with pytest.raises(UsageError, match=r"target 'lats' is not one; did you mean 'last'\?"):
        Target.parse("lats")


def test_prev_of_another_run_is_refused():
    with pytest.raises(UsageError, match="prev is a step of the run itself"):
        Target.parse("runs/b@prev")


def test_parameters_given_in_another_order_are_the_same_question():
    assert Use.of("cka", {"a": 1, "b": 2}) == Use.of("cka", {"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"split": "vall"}, r"split 'vall' is not one; did you mean 'val'\?"),
        ({"bootstrap": 3}, "bootstrap=3 is out of range"),
        ({"draws": 0}, "draws=0 is out of range"),
    ],
)
def test_impossible_questions_are_refused(wrong, says):
    with pytest.raises(UsageError, match=says):
        Question((Use("cka"),), **wrong)
