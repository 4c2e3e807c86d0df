"""What a question means for a run: jobs, what is skipped and what cannot be checked. Nothing is read or computed."""

from dataclasses import dataclass, field, replace

import pytest

from pico_analyze.components.spec import COMPONENTS, Unit
from pico_analyze.engine import plan as module
from pico_analyze.engine import versions
from pico_analyze.engine.plan import Plan, extend, resolve
from pico_analyze.engine.tasks import Side
from pico_analyze.errors import UsageError
from pico_analyze.metrics.spec import METRICS
from pico_analyze.questions.question import Question, Selection, Target, Use
from pico_analyze.stores.base import SplitInfo, StepInfo
from pico_schema import ModelSpec

SITES = ("layers.0.attn.v", "layers.1.attn.v")
CKA, GINI = Question((Use("cka"),)), Question((Use("gini"),))
MAX_ABS = Use.of("norm", {"kind": "max_abs"})
UNITS = [Unit(0, "attn.v"), Unit(1, "attn.v")]


@dataclass
class Described:
    """A run that says what it holds, and nothing more."""

    run: str
    numbers: tuple[int, ...] = (0, 4, 8)
    samples: str | None = "the same"
    lacking: dict[int, tuple[str, ...]] = field(default_factory=dict)
    kind: str = "described"

    @property
    def location(self):
        return self.run

    def steps(self):
        return tuple(self._step(number) for number in self.numbers)

    def _step(self, step):
        held = tuple(site for site in SITES if site not in self.lacking.get(step, ()))
        splits = {"val": SplitInfo(held, held, 96, self.samples)}
        return StepInfo(step, f"{self.run} {step}", weights=SITES, splits=splits)

    def unusable(self):
        return ()

    def spec(self, _step):
        return ModelSpec(vocab_size=64, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=32)


def planned(question, store, target_store=None):
    plan = Plan()
    extend(plan, question, store, target_store)
    return plan


def test_each_unit_of_each_step_is_measured_and_then_compared_with_its_target():
    plan = planned(Question((Use("cka"), Use("gini"), Use("rsa"))), Described("a"))
    singles, pairs = plan.jobs[:6], plan.jobs[6:]
    places = [(step, unit) for step in (0, 4, 8) for unit in UNITS]
    assert [(job.x, job.y) for job in singles] == [(Side(0, step, unit), None) for step, unit in places]
    assert [(job.x, job.y) for job in pairs] == [(Side(0, step, unit), Side(0, 8, unit)) for step, unit in places]
    assert {tuple(use.name for use in job.metrics) for job in singles} == {("gini",)}
    assert {tuple(use.name for use in job.metrics) for job in pairs} == {("cka", "rsa")}
    assert {len(job.digests) for job in singles} == {1} and {len(job.digests) for job in pairs} == {2}
    every = [digest for job in plan.jobs for digest in job.digests]
    assert len(set(every)) == len(every) == 6 + 12


def test_runs_and_questions_are_numbered_as_they_come_and_a_run_once():
    a, b, c = Described("a"), Described("b"), Described("b")
    plan = Plan()
    extend(plan, GINI, a)
    extend(plan, replace(CKA, target=Target("same", "b")), b, a)
    extend(plan, replace(CKA, target=Target("same", "b")), a, c)  # another object: it may be another run
    assert [id(store) for store in plan.stores] == [id(a), id(b), id(c)]
    assert [question.metrics[0].name for question in plan.questions] == ["gini", "cka", "cka"]
    found = {(job.question, job.x.store, job.y and job.y.store) for job in plan.jobs}
    assert found == {(0, 0, None), (1, 1, 0), (2, 0, 2)}


def test_all_steps_and_layers_of_another_run_are_there_to_be_compared_with():
    """Those of this one are chosen."""
    question = replace(CKA, steps=Selection("4"), layers=Selection("1"), pairs="layers", target=Target("last", "b"))
    plan = planned(question, Described("a"), Described("b", numbers=(1, 2)))
    assert [(job.x, job.y) for job in plan.jobs] == [(Side(0, 4, UNITS[1]), Side(1, 2, unit)) for unit in UNITS]


def test_what_a_step_lacks_is_skipped_and_counted():
    store = Described("a", lacking={4: SITES[1:], 0: SITES})
    plan = planned(Question((Use("gini"),)), store)
    assert [(job.x.step, job.x.unit) for job in plan.jobs] == [(4, UNITS[0]), (8, UNITS[0]), (8, UNITS[1])]
    assert plan.skipped == {
        "step 0 of run 'a' has no val activations": 2,
        "step 4 of run 'a' has no activations at layers.1.attn.v": 1,
    }


UNVERIFIED = "whether run 'a' and run 'b' captured the same samples cannot be verified"


@pytest.mark.parametrize(
    ("change", "here", "there", "warned"),
    [
        ({}, None, "the same", 1),
        ({}, "the same", None, 1),
        ({}, None, None, 1),
        ({}, "the same", "the same", 0),
        ({"data": "gradients", "metrics": (Use("cosine"),)}, None, None, 0),  # gradients have no samples
        ({"data": "weights", "metrics": (Use("cosine"),)}, None, None, 0),
        ({"metrics": (Use("gini"), Use("cka"), Use("rsa"))}, None, None, 1),  # once per question
    ],
)
def test_a_comparison_of_activations_that_may_be_of_other_samples_is_warned_of(change, here, there, warned):
    plan, runs = Plan(), (Described("a", samples=here), Described("b", samples=there))
    for times in (1, 2):
        extend(plan, replace(CKA, target=Target("same", "b"), **change), *runs)
        assert plan.warnings.total() == times * warned
    assert all(warning.startswith(UNVERIFIED) for warning in plan.warnings) and len(plan.warnings) == warned


@pytest.mark.parametrize("question", [CKA, GINI, Question((Use("gini"), Use("cka")))])
def test_a_run_that_is_compared_with_itself_needs_no_digests_of_samples(question):
    assert planned(question, Described("a", samples=None)).warnings == {}


def test_metrics_of_one_matrix_need_none_although_another_run_is_there():
    assert planned(GINI, Described("a", samples=None), Described("b", samples=None)).warnings == {}


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (
            Question((Use("gini"), Use("per")), target=Target(3)),
            "metric 'gini' describes one checkpoint: --target goes",
        ),
        (Question((Use("per"),), pairs="layers"), "metric 'per' describes one checkpoint: --pairs layers goes with"),
        (Question((Use("cka"),), data="weights", split=None), "metric 'cka' is not defined for weights"),
        (Question((Use("cka"),), component=Use("qk_circuit")), "component 'qk_circuit' has no activations: it has"),
        (Question((Use("cosine"),), data="gradients", bootstrap=10), "gradients have none, only activations do"),
        (Question((Use("cosine"),), data="gradients", null="permutation"), "gradients have none; use --null random"),
        (Question((Use("cka"), Use("per")), null="permutation"), "metric 'per' describes one matrix: a permutation"),
        (
            Question((Use("gini"), MAX_ABS), bootstrap=10),
            "metric 'norm' is here .*, of whose error resamples tell nothing",
        ),
        (Question((MAX_ABS,), data="gradients", bootstrap=10), "gradients have none, only activations do"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(question, says):
    with pytest.raises(UsageError, match=says):
        resolve(question)


@pytest.mark.parametrize(
    "question",
    [
        Question((Use("gini"), Use("cosine")), target=Target(3), pairs="layers", data="weights"),
        Question((Use("cka"),), bootstrap=10, null="permutation"),
        Question((Use("gini"),), bootstrap=10, null="random_init"),
        Question((Use("cosine"),), data="weights", null="random_init"),
        Question((Use("gini"),), data="weights"),
        Question((MAX_ABS,)),
        Question((MAX_ABS,), data="weights"),
    ],
)
def test_combinations_that_mean_something_are_not(question):
    assert [use.name for use in resolve(question).metrics] == [use.name for use in question.metrics]


def test_every_parameter_is_filled_in_and_weights_belong_to_no_split():
    question = resolve(Question((Use.of("cka", {"kernel": "rbf"}),), component=Use("ov_circuit"), split="train"))
    assert {"kernel": "rbf", "debiased": False}.items() <= dict(question.metrics[0].params).items()
    assert "form" in dict(question.component.params) and question.split == "train"
    for data, split in (("weights", None), ("gradients", "train")):
        assert resolve(Question((Use("gini"),), data=data, split="train")).split == split


@pytest.mark.parametrize("has_whole", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_heads_are_computed_where_they_are_asked_for_or_there_is_nothing_else(monkeypatch, has_whole, asked):
    component = replace(COMPONENTS.get("ov_circuit"), has_whole=has_whole)
    monkeypatch.setitem(COMPONENTS._loaded, "ov_circuit", component)
    question = Question((Use("gini"),), component=Use("ov_circuit"), heads=asked)
    assert resolve(question).heads == (asked or not has_whole)


REMEMBERED = {
    "one matrix": (Question((Use("gini"), Use("per")), data="weights"), ["d4d5db1e120e9c09", "58584a853bd42c01"]),
    "its target": (CKA, ["eb99311d03f48862"]),
    "another run": (replace(CKA, target=Target("last", "b")), ["6ae71bb9e7fe987f"]),
    "layers": (replace(CKA, pairs="layers"), ["3da18281ac7cd268"]),
    "chance": (Question((Use("cosine"),), data="gradients", null="random_init", draws=9, seed=1), ["3a17d381e4e732c3"]),
}


@pytest.mark.parametrize("asked", REMEMBERED)
def test_digests_stay_what_they_are_so_that_rows_of_before_are_not_computed_again(monkeypatch, asked):
    """Of the same question, of the same content, by the same version."""
    monkeypatch.setattr(module, "code_version", lambda _: "3.1.4")
    question, expected = REMEMBERED[asked]
    question = replace(question, steps=Selection("4"), layers=Selection("1"))
    plan = planned(question, Described("a"), Described("b") if question.target else None)
    assert [digest for job in plan.jobs for digest in job.digests] == expected


def test_a_metric_whose_values_changed_has_another_version_than_its_package():
    package = versions.package_version("pico_analyze")
    spec = METRICS.get("norm")
    assert versions.code_version(spec) == versions.code_version(COMPONENTS.get("simple")) == package
    assert versions.code_version(replace(spec, revision=1)) == f"{package}, revision 1"
    changed = ("condition_number", "effective_rank", "mean_cca", "participation_ratio", "per", "power_law_alpha")
    for name in (*changed, "pwcca", "rankme", "stable_rank", "subspace_overlap", "svcca"):
        assert METRICS.get(name).revision >= 1, name  # numerical rank follows the stored type since
