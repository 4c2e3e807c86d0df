"""What a notebook shows of runs, checkpoints, findings and figures: tables in which every text is text."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import pytest
from synthetic import make_run

import pico_analyze
from pico_analyze.output.findings import Finding, Findings
from pico_analyze.stores.base import StepInfo, Unusable
from pico_analyze.stores.shown import Shown


class Read(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):  # noqa: ARG002
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_a_run_is_a_table_with_a_line_for_each_checkpoint(run_dir):
    found = Read(pico_analyze.open_run(run_dir)._repr_html_())
    assert found.tags.count("tr") == 1 + 5 and "captured" in found.texts
    assert "val: attn.v attn.o mlp.down" in " ".join(found.texts)
    assert any(text.startswith("demo · pico · ") and text.endswith("5 checkpoints") for text in found.texts)


def test_a_checkpoint_says_what_it_holds(run_dir):
    page = Read(pico_analyze.open_run(run_dir).steps()[-1]._repr_html_())
    assert "step 8" in page.texts and "val activations of 6 sites" in page.texts


class Hostile(Shown):
    run, kind, location = "<img src=x onerror=alert(1)>", "pico", "runs/</table><script>"

    def steps(self):
        return tuple(StepInfo(step, "d") for step in range(100))

    def unusable(self):
        return (Unusable("<b>", None, "</p><script>"),)


def test_names_are_shown_as_text_and_many_checkpoints_are_cut_in_the_middle():
    found = Read(Hostile()._repr_html_())
    assert set(found.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    assert "not usable: <b>: </p><script>" in found.texts
    assert found.tags.count("tr") == 1 + 41 and "… 60 more …" in found.texts and "99" in found.texts


def test_findings_are_a_list_with_their_caveats_as_text():
    found = Read(Findings([Finding("<i>a</i> rises", "not <b>why</b>")])._repr_html_())
    assert found.tags == ["ul", "li", "br", "small"] and found.texts == ["<i>a</i> rises", "not <b>why</b>"]


def test_a_figure_is_a_picture_and_pyplot_knows_none(run_dir):
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_fignums()
    rows = pico_analyze.compute("norm", run_dir, data="weights", sites="attn.v")
    assert isinstance(rows, pd.DataFrame)
    figure = pico_analyze.figure(rows)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == before


def test_a_run_that_is_damaged_is_shown_with_what_is_wrong(tmp_path):
    run = make_run(tmp_path, "hurt")
    (run / "checkpoints" / "step-00000004" / "manifest.json").write_text("{}")
    page = " ".join(Read(pico_analyze.open_run(run)._repr_html_()).texts)
    assert "4 checkpoints" in page and "not usable: step-00000004" in page
