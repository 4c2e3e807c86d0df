"""A row of the table, from a job and its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.stores.base import NamesInputs
from pico_analyze.stores.lineage import membership_facts
from pico_analyze.table.columns import Row, as_json
from pico_analyze.version import __version__
from pico_schema import __version__ as schema_version

if TYPE_CHECKING:
    from pico_analyze.components.spec import Labelled
    from pico_analyze.engine.tasks import Job, Side, TensorKey
    from pico_analyze.metrics.spec import Result
    from pico_analyze.questions.question import Question, Use
    from pico_analyze.stores.base import Store

_OWN_COLUMNS = ("ci_low", "ci_high", "null_mean", "null_p")


class RowMaker:
    """Makes rows of values of some runs; what many rows share is written once.

    Args:
        stores: The runs.
        tensors: Every tensor that one side of a job of a question, by its number, is made of.
    """

    def __init__(self, stores: Sequence[Store], tensors: Callable[[int, Side], Sequence[TensorKey]]) -> None:
        self._stores, self._tensors = stores, tensors
        self._infos = [{info.step: info for info in store.steps()} for store in stores]
        self._params: dict[tuple[int, Use, int | None], str] = {}
        self._provenances: dict[tuple[int, Side, Side | None], str] = {}
        self._texts: dict[str, str] = {}
        self._memberships: dict[int, dict[str, object]] = {}

    def row(
        self, question: Question, job: Job, use: Use, digest: str, x: Labelled, y: Labelled | None, result: Result
    ) -> Row:
        """The row of one value."""
        store, info = self._stores[job.x.store], self._infos[job.x.store][job.x.step]
        target = None if job.y is None else self._stores[job.y.store]
        target_layer = y.layer if y is not None and question.pairs == "layers" else None
        extra = {name: _number(value) for name, value in result.extra.items() if name not in _OWN_COLUMNS}
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
            "params": self._parameters(question, job, use, target_layer),
            "target_run": target.run if target is not None else None,
            "target_step": job.y.step if job.y is not None else None,
            "value": float(result.value),
            "reason": result.reason,
            "n_samples": x.matrix.shape[0] if x.matrix.samples else None,
            "target_layer": target_layer,
            "n_features": x.matrix.shape[1],
            **{name: result.extra.get(name) for name in _OWN_COLUMNS},
            "extra": as_json(extra) if extra else None,
            "provenance": self._provenance(job),
            "digest": digest,
        }

    def _parameters(self, question: Question, job: Job, use: Use, target_layer: int | None) -> str:
        key = job.question, use, target_layer
        if key not in self._params:
            between = {} if target_layer is None else {"target_layer": target_layer}
            self._params[key] = as_json(row_parameters(question, use) | between)
        return self._params[key]

    def _provenance(self, job: Job) -> str:
        key = job.question, job.x, job.y
        if key not in self._provenances:
            facts: dict[str, object] = {"pico_analyze": __version__, "pico_schema": schema_version}
            facts |= self._facts(job.question, job.x)
            if job.y is not None:
                facts["target"] = self._facts(job.question, job.y)
            text = as_json(facts)
            self._provenances[key] = self._texts.setdefault(text, text)
        return self._provenances[key]

    def _facts(self, question: int, side: Side) -> dict[str, object]:
        """Where one side of a value comes from, with the digests of the files that it was made of."""
        store = self._stores[side.store]
        facts: dict[str, object] = {"kind": store.kind, **store.provenance(side.step)}
        if side.store not in self._memberships:
            self._memberships[side.store] = membership_facts(store)
        facts |= self._memberships[side.store]
        inputs, unchecked = dict[str, str](), dict[str, dict[str, str]]()
        for _, step, split, data, site in self._tensors(question, side):
            named = store.inputs(step, split, data, site) if isinstance(store, NamesInputs) else None
            if named is None:
                return facts | {"unchecked": "this kind of run does not say what it reads"}
            for one in named:
                inputs[one.file] = one.sha256
                if one.unchecked:
                    unchecked.setdefault(one.file, {}).update(one.unchecked)
        facts["inputs"] = inputs
        return facts | ({"unchecked": unchecked} if unchecked else {})


def row_parameters(question: Question, use: Use) -> dict[str, object]:
    """What a row's `params` hold: the metric's and the component's parameters, and what was asked about uncertainty.

    A parameter that both have is the metric's; the component's then carries the component's name.
    """
    params: dict[str, object] = dict(use.params)
    for name, value in question.component.params:
        params[f"{question.component.name}.{name}" if name in params else name] = value
    return params | question.uncertainty()


def _number(value: float | str) -> float | str:
    """A number that JSON can hold; others, and names, as text."""
    if isinstance(value, str):
        return value
    number = float(value)
    return number if np.isfinite(number) else str(number)
