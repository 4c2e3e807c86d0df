"""A row of the table, from a job and its result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pico_analyze.plan import Job
from pico_analyze.question import Question, Use
from pico_analyze.spec import Labelled, Result
from pico_analyze.stores.base import StepInfo, Store
from pico_analyze.table import Row, as_json
from pico_analyze.version import __version__
from pico_schema import __version__ as schema_version

_OWN_COLUMNS = ("ci_low", "ci_high", "null_mean", "null_p")


def make_row(
    stores: Sequence[Store],
    question: Question,
    job: Job,
    use: Use,
    unit: str,
    x: Labelled,
    y: Labelled | None,
    result: Result,
) -> Row:
    """The row of one value."""
    store, info = stores[job.x.store], _info(stores[job.x.store], job.x.step)
    target = None if job.y is None else stores[job.y.store]
    between_layers = y is not None and question.pairs == "layers"
    extra = {name: value for name, value in result.extra.items() if name not in _OWN_COLUMNS}
    return {
        "run": store.run,
        "step": job.x.step,
        "tokens_seen": info.tokens_seen,
        "split": question.split,
        "data": question.data,
        "component": question.component.name,
        "site": x.site,
        "layer": x.layer,
        "head": x.head,
        "metric": use.name,
        "params": as_json(parameters(question, use) | ({"target_layer": y.layer} if between_layers and y else {})),
        "target_run": target.run if target is not None else None,
        "target_step": job.y.step if job.y is not None else None,
        "value": float(result.value),
        "reason": result.reason,
        "n_samples": x.matrix.shape[0] if x.matrix.samples else None,
        "target_layer": y.layer if between_layers and y else None,
        "n_features": x.matrix.shape[1],
        **{name: result.extra.get(name) for name in _OWN_COLUMNS},
        "extra": as_json({name: _number(value) for name, value in extra.items()}) if extra else None,
        "provenance": _provenance(store, job.x.step, target, job.y.step if job.y is not None else None),
        "unit": unit,
    }


def parameters(question: Question, use: Use) -> dict[str, object]:
    """What a row's `params` hold: the metric's and the component's parameters, and what was asked about uncertainty.

    A parameter that both have is the metric's; the component's then carries the component's name.
    """
    params: dict[str, object] = dict(use.params)
    for name, value in question.component.params:
        params[f"{question.component.name}.{name}" if name in params else name] = value
    return params | question.uncertainty()


def _number(value: float) -> float | str:
    """A number that JSON can hold; others as text."""
    number = float(value)
    return number if np.isfinite(number) else str(number)


def _info(store: Store, step: int) -> StepInfo:
    return next(info for info in store.steps() if info.step == step)


def _provenance(store: Store, step: int, target: Store | None, target_step: int | None) -> str:
    facts: dict[str, object] = {"pico_analyze": __version__, "pico_schema": schema_version, "kind": store.kind}
    facts |= store.provenance(step)
    if target is not None and target_step is not None:
        facts["target"] = {"kind": target.kind} | dict(target.provenance(target_step))
    return as_json(facts)
