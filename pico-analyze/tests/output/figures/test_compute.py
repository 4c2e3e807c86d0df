"""`compute --figure`: the rows of this question as `plot` draws them, into a file that is checked first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from synthetic import make_run


def test_what_was_computed_is_drawn_and_no_other_rows_of_the_table(runs: Path, pico) -> None:
    make_run(runs, "demo")
    assert pico("compute", "norm", "demo", "--data", "weights", "--no-plot").code == 0
    words = ["compute", "cka", "demo", "--site", "attn.v", "--layers", "1", "--no-plot"]
    answer = pico(*words, "--figure", "cka.svg")
    assert answer.code == 0 and "drawn in cka.svg; its values are in cka.csv" in answer.err
    values = pd.read_csv("cka.csv")
    assert len(values) == 5 and values["value"].between(0, 1 + 1e-9).all()
    assert "pico-analyze plot" in Path("cka.svg").read_text() and "--layers 1" in Path("cka.svg").read_text()
    assert pico("compute", "cka", "demo", "--pairs", "steps", "--site", "attn.v", "--figure", "steps.png").code == 0
    assert Path("steps.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compute", "cka", "demo", "--figure", "cka.gif"], "ends with .png, .svg or .pdf"),
        (["compute", "norm", "gini", "demo", "--data", "weights", "--no-plot", "--figure", "a.png"], "question"),
    ],
)
def test_what_cannot_be_drawn_is_said(runs: Path, pico, words: list[str], says: str) -> None:
    make_run(runs, "demo")
    answer = pico(*words)
    assert answer.code == 2 and says in answer.error
