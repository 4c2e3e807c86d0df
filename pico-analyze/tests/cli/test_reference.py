from pathlib import Path

import pytest

from pico_analyze.cli import reference
from pico_analyze.metrics.spec import METRICS, MetricSpec

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
