from pathlib import Path

import pytest

from pico_analyze.cli import reference
from pico_analyze.metrics.spec import METRICS, MetricSpec
from pico_analyze.probes.spec import PROBES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_in_the_repository_is_that_of_the_code(name):
    assert (DOCS / name).read_text(encoding="utf-8") == reference.PAGES[name](), "run `make docs`"


def test_every_metric_of_this_package_has_a_formula():
    page = reference.PAGES["metrics.md"]()
    for section in page.split("\n## ")[1:]:
        name = section.partition("\n")[0]
        spec = METRICS.get(name)
        assert isinstance(spec, MetricSpec) and spec.formula, name
        assert section.count("$$") == 2 and f"$$\n{spec.formula}\n$$" in section, name


def test_every_metric_of_every_probe_has_a_formula():
    page = reference.PAGES["probes.md"]()
    for section, probe in zip(page.split("\n## ")[1:], PROBES.values(), strict=True):
        head, *parts = section.split("\n### ")
        assert head.startswith(f"{probe.name}\n") and "$$" not in head
        for part, metric in zip(parts, probe.metrics, strict=True):
            assert part.startswith(f"{metric.name}\n") and metric.formula, metric.name
            assert part.count("$$") == 2 and f"$$\n{metric.formula}\n$$" in part, metric.name


@pytest.mark.parametrize("probe", PROBES.values(), ids=list(PROBES))
def test_braces_of_a_formula_are_closed_and_its_letters_are_those_of_ascii(probe):
    for metric in probe.metrics:
        bare = metric.formula.replace(r"\{", "").replace(r"\}", "")
        assert bare.count("{") == bare.count("}") and metric.formula.isascii(), metric.name
