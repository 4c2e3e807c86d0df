"""What is one is told of as one."""

import re

from synthetic import make_run

from pico_analyze.counting import counted


def test_a_number_goes_with_its_noun():
    assert [counted(n, "row") for n in (0, 1, 2, 2048)] == ["0 rows", "1 row", "2 rows", "2048 rows"]
    assert [counted(n, "matrix", "matrices") for n in (1, 2)] == ["1 matrix", "2 matrices"]


def test_an_analysis_of_one_matrix_is_told_of_in_the_singular(runs, pico):
    make_run(runs, steps=(0,), poison=(0, "layers.1.attn.v"))
    one = ("--layers", "1", "--site", "attn.v", "--no-plot")
    first, again = pico("compute", "norm", "--data", "activations", *one), pico("list")
    assert "undefined: 1 row: 1 entry is not finite" in first.err
    assert re.search(r"^1 row \(1 new, [0-9.]+ s\) in ", first.err, re.M)
    assert "demo: a run of Pico (" in first.err and "1 checkpoint" in first.err and "1 checkpoint" in again.out
    assert re.findall(r"(?<![\d.,])\b1 (?!is\b|has\b|was\b)\w+s\b", first.err + again.out + first.out) == []
