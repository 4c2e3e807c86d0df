"""How work is cut, and what a row's digest stands for."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.engine.plan import Plan, extend
from pico_analyze.engine.tasks import Shard, batched, cut, tensors_of, without
from pico_analyze.errors import UsageError
from pico_analyze.questions.question import Question, Selection, Target, Use
from pico_analyze.stores.opening import open_store

OV = Use("ov_circuit", ())
STUDY = (
    Question((Use("cka"),), component=OV),
    Question((Use("per"), Use("gini")), component=OV, data="weights", split=None),
    Question((Use("norm"),), component=OV, data="gradients"),
)


def planned(run: Path, *questions: Question) -> Plan:
    plan, store = Plan(), open_store(run)
    for question in questions:
        extend(plan, question, store)
    return plan


def digests(plan: Plan) -> set[str]:
    return {digest for job in plan.jobs for digest in job.digests}


def places(task, plan):
    """Sites, whatever the step, that a task reads."""
    return {key[2:] for job in task.jobs for side in job.sides for key in tensors_of(job, side, plan.questions)}


def test_a_task_is_all_that_is_asked_of_one_checkpoint_and_the_tensors_that_belong_together(run_dir):
    plan = planned(run_dir, *STUDY)
    tasks = cut(plan.jobs, plan.questions)
    assert len(tasks) == 5 * 2  # steps x layers
    assert sum(len(task.jobs) for task in tasks) == len(plan.jobs)
    for task in tasks:
        assert len({(job.x.store, job.x.step) for job in task.jobs}) == 1
        assert len({job.question for job in task.jobs}) == 3  # neither a task per metric nor per head
    layers = [places(task, plan) for task in tasks]
    assert all(a == b or not a & b for a in layers for b in layers)


def test_jobs_that_share_no_tensor_are_in_different_tasks(run_dir):
    plan = planned(run_dir, Question((Use("cka"),)))
    assert len(cut(plan.jobs, plan.questions)) == 5 * 2 * 3  # steps x layers x captured sites


@given(count=st.integers(1, 40))
def test_shards_are_a_partition_into_stretches_of_nearly_equal_length(count):
    tasks = list(range(23))
    shares = [list(Shard(index, count).of(tasks)) for index in range(1, count + 1)]  # type: ignore[arg-type]
    assert [task for share in shares for task in share] == tasks
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["1", "a/b", "1/4/2", "-1/4", ""])
def test_what_is_not_written_as_a_shard_is_refused(text):
    with pytest.raises(UsageError, match="is not of the form I/N"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0"])
def test_a_shard_that_there_is_not_is_refused(text):
    with pytest.raises(UsageError, match=r"there is no shard \d of \d"):
        Shard.parse(text)


@given(workers=st.integers(1, 40), at_most=st.one_of(st.none(), st.integers(1, 8)))
def test_batches_keep_the_order_and_what_shares_tensors_together(run_dir, workers, at_most):
    plan = planned(run_dir, *STUDY)
    tasks = cut(plan.jobs, plan.questions)
    batches = batched(tasks, plan.questions, workers=workers, at_most=at_most)
    assert [task for batch in batches for task in batch] == tasks
    assert len(batches) >= min(workers, len(tasks))
    assert at_most is None or max(map(len, batches)) <= at_most
    for batch in batches:
        assert len({frozenset(places(task, plan)) for task in batch}) == 1
    if workers <= 2 and at_most is None:
        assert len(batches) == 2  # a layer each: nothing is read twice


def test_what_is_known_is_left_out_metric_by_metric(run_dir):
    plan = planned(run_dir, *STUDY)
    tasks = cut(plan.jobs, plan.questions)
    per = {d for job in plan.jobs for use, d in zip(job.metrics, job.digests, strict=True) if use.name == "per"}
    left = without(tasks, per)
    assert {d for task in left for job in task.jobs for d in job.digests} == digests(plan) - per
    assert without(tasks, digests(plan)) == []
    assert without(tasks, set()) == tasks


CHANGES: dict[str, tuple[Question, Question]] = {
    "metrics": (Question((Use.of("cka", {"kernel": "rbf"}),)), Question((Use("cka"),))),
    "component": (
        Question((Use("per"),), component=Use.of("ov_circuit", {"form": "head"}), data="weights"),
        Question((Use("per"),), component=OV, data="weights"),
    ),
    "data": (Question((Use("norm"),), data="weights"), Question((Use("norm"),), data="gradients")),
    "split": (Question((Use("norm"),), data="gradients"), Question((Use("norm"),), data="gradients", split="train")),
    "heads": (Question((Use("per"),), OV, "weights"), Question((Use("per"),), OV, "weights", heads=False)),
    "target": (Question((Use("cka"),), target=Target("first")), Question((Use("cka"),), target=Target("last"))),
    "pairs": (
        Question((Use("cka"),), target=Target("same"), pairs="layers"),
        Question((Use("cka"),), target=Target("same")),
    ),
    "bootstrap": (Question((Use("cka"),), bootstrap=20), Question((Use("cka"),), bootstrap=21)),
    "null": (Question((Use("cka"),), null="permutation"), Question((Use("cka"),), null="random_init")),
    "draws": (Question((Use("cka"),), null="permutation", draws=9), Question((Use("cka"),), null="permutation")),
    "seed": (Question((Use("cka"),), bootstrap=20, seed=1), Question((Use("cka"),), bootstrap=20)),
}
"""For each field that changes a value, two questions that differ in it alone."""
CHOICES = {
    "sites": ("attn.v",),
    "layers": Selection("1"),
    "steps": Selection("0,4"),
}
"""Fields that choose rows, and change none of those that they choose."""


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_a_field_that_changes_values_changes_every_digest(run_dir, field):
    one, other = CHANGES[field]
    differ = {f.name for f in dataclasses.fields(Question) if getattr(one, f.name) != getattr(other, f.name)}
    assert differ == {field}
    mine, yours = digests(planned(run_dir, one)), digests(planned(run_dir, other))
    assert mine and yours and mine.isdisjoint(yours)


@pytest.mark.parametrize("field", sorted(CHOICES))
def test_a_field_that_chooses_rows_changes_none_of_them(run_dir, field):
    everything = Question((Use("cka"),))
    assert digests(planned(run_dir, replace(everything, **{field: CHOICES[field]}))) < digests(
        planned(run_dir, everything)
    )


def test_no_field_of_a_question_is_forgotten_here():
    assert {field.name for field in dataclasses.fields(Question)} == {*CHANGES, *CHOICES}
