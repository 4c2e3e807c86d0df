"""From what a person wrote to questions: the one way for the command line, keyword arguments and study files.

Whatever is written becomes a `Measurement`, which is checked; `questions` makes of it one question per component, kind
of data and split, and `asked` puts these to runs. An option that goes with some of these questions is given to those
and left out of the others; where it goes with none of them, the question stays as it is and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.components.spec import COMPONENTS, ComponentSpec
from pico_analyze.errors import UsageError
from pico_analyze.metrics.spec import METRICS, MetricSpec
from pico_analyze.parameters import Given, shared_out
from pico_analyze.questions.question import NULLS, PAIRS, SPLITS, Question, Selection, Target, Use, choose
from pico_analyze.questions.study_schema import Measurement, Named, Numbers, listed, validated
from pico_analyze.stores.base import DATA, Data
from pico_analyze.stores.run_names import RunName, is_known, resolve, resolve_all
from pico_analyze.stores.sites import TENSOR

if TYPE_CHECKING:
    from pico_analyze.parameters import ParamValue

Words = str | Iterable[str]
"""One name, several, or several in one text with commas between them."""
Chosen = str | int | Iterable[int]
"""Steps or layers: a selection such as ``0,3-5``, one number, or numbers."""
_FIXED: dict[Data, list[str | None]] = {"weights": [None], "noise": ["train"]}
"""The split of data of which there is one: weights have none, and noise is that of the training batch."""


def measurement(
    metrics: Words,
    *,
    component: Words = "simple",
    data: Words | None = None,
    split: Words = "val",
    sites: Words | None = None,
    tensors: Words | None = None,
    layers: Chosen | None = None,
    heads: bool = True,
    steps: Chosen | None = None,
    target: str | int | None = None,
    pairs: str = "target",
    between_runs: bool = False,
    metric_params: Given = (),
    component_params: Given = (),
    bootstrap: int = 0,
    null: str | None = None,
    draws: int = 100,
) -> Measurement:
    """What is written with the words of the command line, as a study's measurement.

    Args:
        metrics: Names of metrics.
        component: Names of components.
        data: Kinds of data; by default what suits each metric.
        split: Splits of activations and gradients.
        sites: Site kinds or names.
        tensors: Globs of names of whole tensors.
        layers: Layers.
        heads: Whether circuits are also computed head by head.
        steps: Steps.
        target: What comparisons compare with.
        pairs: target, steps or layers.
        between_runs: Whether the runs are compared with each other.
        metric_params: Parameters; each goes to the metrics that have it.
        component_params: Parameters; each goes to the components that have it.
        bootstrap: Resamples for an interval.
        null: Distribution that stands for chance.
        draws: Draws from it.

    Raises:
        UsageError: a name, parameter or value that does not exist; the message names the nearest.
    """
    names = list(dict.fromkeys([metrics] if isinstance(metrics, str) else metrics))
    if not names:
        raise UsageError("name a metric, such as cka (`pico-analyze metrics` lists them)")
    specs = [METRICS.get(name) for name in names]
    parts = [COMPONENTS.get(name) for name in listed(component)]
    of_metric = shared_out(metric_params, {spec.name: spec.params for spec in specs}, "metric")
    of_part = shared_out(component_params, {part.name: part.params for part in parts}, "component")
    written = {
        "metrics": [{"name": spec.name, "params": of_metric[spec.name]} for spec in specs],
        "components": [{"name": part.name, "params": of_part[part.name]} for part in parts],
        "data": [choose(kind, DATA, "data") for kind in listed(data or ())] or None,
        "splits": [choose(name, SPLITS, "split") for name in listed(split)],
        "sites": [*listed(sites or ()), *(f"{TENSOR}{glob}" for glob in listed(tensors or ()))] or None,
        "layers": _numbers(layers),
        "heads": heads,
        "steps": _numbers(steps),
        "target": target if target is None or isinstance(target, str) else index(target),
        "pairs": choose(pairs, PAIRS, "pairs"),
        "between_runs": between_runs,
        "bootstrap": bootstrap,
        "null": None if null is None else choose(null, NULLS, "null"),
        "draws": draws,
    }
    return validated(Measurement, written)


def _numbers(chosen: Chosen | None) -> str | list[int] | None:
    """Numbers of any integer type as plain ones; a text as it is."""
    if chosen is None or isinstance(chosen, str):
        return chosen
    return [index(number) for number in chosen] if isinstance(chosen, Iterable) else [index(chosen)]


def questions(measurement: Measurement, *, steps: Numbers = "all", seed: int = 0) -> list[Question]:
    """The questions of a measurement: one per component, kind of data and split.

    Args:
        measurement: What is measured.
        steps: Steps, where the measurement names none.
        seed: Seed of bootstrap and null.

    Raises:
        UsageError: a metric, component or parameter that does not exist, or no kind of data that suits both.
    """
    specs = [(METRICS.get(named.name), named) for named in measurement.metrics]
    paired = any(spec.kind == "pair" for spec, _ in specs)
    target = None if measurement.target is None else _target(str(measurement.target))
    sites = measurement.sites or ()
    kinds = measurement.data
    if kinds is None and sites and all(site.startswith(TENSOR) for site in sites):
        kinds = ["weights"]
    groups = [
        (part, data, of_data)
        for part in measurement.components
        for data, of_data in _by_data(specs, COMPONENTS.get(part.name), kinds).items()
    ]
    sampled = any(data == "activations" for _, data, _ in groups)
    asked = []
    for part, data, of_data in groups:
        # What goes with comparisons, or with samples, is left out of the others: where there are no others, it stays.
        compares = not paired or any(spec.kind == "pair" for spec, _ in of_data)
        resamples = not sampled or data == "activations"
        for split in _FIXED.get(data) or measurement.splits:
            asked.append(
                Question(
                    metrics=tuple(_use(spec, named) for spec, named in of_data),
                    component=_use(COMPONENTS.get(part.name), part),
                    data=data,
                    split=split,
                    sites=None if measurement.sites is None else tuple(measurement.sites),
                    layers=None if measurement.layers is None else _selection(measurement.layers),
                    heads=measurement.heads,
                    steps=_selection(steps if measurement.steps is None else measurement.steps),
                    target=target if compares else None,
                    pairs=measurement.pairs if compares else "target",
                    bootstrap=measurement.bootstrap if resamples else 0,
                    null=measurement.null,
                    draws=measurement.draws,
                    seed=seed,
                )
            )
    return asked


def _by_data(
    specs: Sequence[tuple[MetricSpec, Named]], component: ComponentSpec, data: Sequence[Data] | None
) -> dict[Data, list[tuple[MetricSpec, Named]]]:
    groups: dict[Data, list[tuple[MetricSpec, Named]]] = {}
    for spec, named in specs:
        for kind in data or [default_data(spec, component)]:
            groups.setdefault(kind, []).append((spec, named))
    return groups


def default_data(metric: MetricSpec, component: ComponentSpec) -> Data:
    """Comparisons are of activations where that makes sense, descriptions of one matrix of weights.

    Raises:
        UsageError: metric and component have no kind of data in common.
    """
    order: tuple[Data, ...] = ("weights", "activations", "gradients", "noise")
    if metric.kind == "pair":
        order = ("activations", "weights", "gradients", "noise")
    for data in order:
        if data in metric.accepts and data in component.accepts:
            return data
    raise UsageError(f"metric {metric.name!r} and component {component.name!r} have no kind of data in common")


def _use(spec: MetricSpec | ComponentSpec, named: Named) -> Use:
    """A metric or component with the parameters that are given, each of the type it is declared with."""
    resolved: Mapping[str, ParamValue] = spec.resolve(named.params)
    return Use.of(spec.name, {name: resolved[name] for name in named.params})


def _selection(numbers: Numbers) -> Selection:
    if isinstance(numbers, str):
        return Selection(",".join(part.strip() for part in numbers.split(",")))
    return Selection(",".join(map(str, [numbers] if isinstance(numbers, int) else numbers)))


def _target(text: str) -> Target:
    """A target; a run whose name resembles a word such as last is that run."""
    try:
        return Target.parse(text)
    except UsageError:
        if is_known(text):
            return Target("same", text)
        raise


def asked(
    measurement: Measurement, runs: Sequence[str | Path] = (), *, steps: Numbers = "all", seed: int = 0
) -> list[tuple[str, Question]]:
    """Each run with each question of a measurement, or each pair of runs where they are compared with each other.

    Args:
        measurement: What is measured.
        runs: Names of runs (see `run_names.py`); one with a step asks for that step. Without, the newest under ./runs.
        steps: Steps, where the measurement names none.
        seed: Seed of bootstrap and null.

    Returns:
        Pairs of a path or address and a question. Nothing is opened.

    Raises:
        UsageError: a name, number or combination that does not exist.
        NotARunError: a run that does not exist.
    """
    found = resolve_all(list(runs))
    wanted = [_resolved(question) for question in questions(measurement, steps=steps, seed=seed)]
    if measurement.between_runs:
        return [pair for question in wanted for pair in between_runs(found, question)]
    return [(run.location, _at_step(run, question)) for run in found for question in wanted]


def _resolved(question: Question) -> Question:
    """The question with its target's run found."""
    target = question.target
    if target is None or target.run is None:
        return question
    run = resolve(target.run)
    if run.step is None:
        return replace(question, target=Target(target.step, run.location))
    if target.step not in ("same", run.step):
        raise UsageError(f"target {target}: {target.run} is step {run.step} already: leave @{target.step} out")
    return replace(question, target=Target(run.step, run.location))


def _at_step(run: RunName, question: Question) -> Question:
    """The question about the one step that the run's name gives, if it gives one."""
    if run.step is None:
        return question
    if question.steps != Selection():
        raise UsageError(f"{run.text} names a step, and so does steps {question.steps.text}: give one of the two")
    return replace(question, steps=Selection(str(run.step)))


def between_runs(runs: Sequence[RunName], question: Question) -> list[tuple[str, Question]]:
    """The question for each pair of runs, at the same steps unless names or target say otherwise (seeds, sizes).

    Raises:
        UsageError: fewer than two runs, or a target that names one.
    """
    if len(runs) < 2:
        raise UsageError("comparing runs with each other needs at least two: name them")
    if question.target is not None and question.target.run is not None:
        raise UsageError(f"--target {question.target} names a run: with --between-runs the other runs are the targets")
    step = question.target.step if question.target is not None else "same"
    return [
        (a.location, replace(_at_step(a, question), target=Target(step if b.step is None else b.step, b.location)))
        for a, b in combinations(runs, 2)
    ]
