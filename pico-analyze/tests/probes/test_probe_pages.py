"""Each probe has its page; a name that is none is told the nearest."""

from __future__ import annotations

import csv
import io
import json

import pytest

from pico_analyze.errors import UsageError
from pico_analyze.probes.spec import PROBES, chosen


def test_every_probe_has_a_page_with_all_of_its_metrics(pico) -> None:
    for name, spec in PROBES.items():
        page = pico("probes", name).out
        for word in ("definition", "needs", "cost", "reference", *(one.name for one in spec.metrics)):
            assert f"\n  {word} " in page, (name, word)


def test_the_list_names_all(pico) -> None:
    text = pico("probes").out
    assert all(name in text for name in PROBES)
    assert [one["name"] for one in json.loads(pico("probes", "--format", "json").out)] == list(PROBES)
    assert [one["name"] for one in csv.DictReader(io.StringIO(pico("probes", "--format", "csv").out))] == list(PROBES)


def test_no_metric_is_of_two_probes() -> None:
    names = [metric.name for spec in PROBES.values() for metric in spec.metrics]
    assert len(names) == len(set(names))


def test_a_name_that_is_none_is_told_the_nearest(pico) -> None:
    answer = pico("probes", "inductoin")
    assert answer.code == 2 and "did you mean 'induction'?" in answer.error
    with pytest.raises(UsageError, match="no probe is called 'x'"):
        chosen(["x"])
    assert chosen(["attention", "induction"]) == ("induction", "attention")
    assert chosen([]) == tuple(name for name, spec in PROBES.items() if name not in ("curvature", "llc"))
