from pathlib import Path

import pytest

from pico_analyze.cli import reference

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_in_the_repository_is_that_of_the_code(name):
    assert (DOCS / name).read_text(encoding="utf-8") == reference.PAGES[name](), "run `make docs`"
