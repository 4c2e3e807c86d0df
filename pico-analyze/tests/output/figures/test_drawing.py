"""What is on a figure: panels, lines, bands, maps and legends, checked in matplotlib's own objects."""

from __future__ import annotations

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figure_rows import lines_of, pairs_of_layers, pairs_of_steps
from matplotlib.collections import PolyCollection

from pico_analyze import figure
from pico_analyze.errors import UsageError
from pico_analyze.output.figures import spectra, style
from pico_analyze.output.figures.beside import beside
from pico_analyze.output.figures.losses import Losses, losses
from pico_analyze.output.figures.maps import in_order
from pico_analyze.output.figures.request import Request, Selected
from pico_analyze.output.figures.selection import choose


@pytest.fixture(autouse=True)
def _closed():
    mpl.use("Agg")
    yield
    plt.close("all")


def named_lines(ax):
    return {str(line.get_label()): line for line in ax.lines if not str(line.get_label()).startswith("_")}


def test_lines_have_the_values_of_the_table_and_step_zero_on_a_log_axis():
    [ax] = [ax for ax in figure(lines_of()).axes if ax.lines]
    found = named_lines(ax)
    assert list(found) == ["layer 0", "layer 1", "layer 2"]
    np.testing.assert_allclose(found["layer 1"].get_ydata(), [1.0, 1.001, 1.01, 1.1])
    assert ax.get_xscale() == "symlog" and ax.get_xlim()[0] < 0
    assert ax.get_xlabel() == "step" and ax.get_ylabel() == "effective_rank"


def test_intervals_are_bands_and_the_legend_says_so():
    drawn = figure(lines_of(layers=2, ci_low=0.0, ci_high=2.0))
    assert sum(isinstance(one, PolyCollection) for one in drawn.axes[0].collections) == 2
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["layer 0", "layer 1", "95 % interval"]


def test_many_layers_have_a_scale_in_place_of_names():
    drawn = figure(lines_of(layers=48))
    assert not drawn.legends and drawn.axes[-1].get_ylabel() == "layer"
    colours = {line.get_color() for line in drawn.axes[0].lines if str(line.get_label()).startswith("layer")}
    assert len(colours) == 48


def test_runs_are_told_apart_also_where_there_are_more_than_colours():
    styles = style.categories(20)
    assert len({(colour, str(dashes)) for colour, dashes in styles}) == 20


@pytest.mark.parametrize(("width", "inches"), [("column", 85 / 25.4), ("page", 175 / 25.4)])
@pytest.mark.parametrize("kind", ["lines", "heads", "small"])
def test_print_has_the_width_of_a_column_or_a_page(width, inches, kind):
    frame = lines_of(layers=4, heads=(0, 1, 2))
    assert figure(frame, kind, width=width).get_figwidth() == pytest.approx(inches)


def test_maps_of_heads_are_one_a_step_layers_by_heads():
    drawn = figure(lines_of(layers=4, heads=(None, 0, 1, 2)), "heads")
    images = [ax.images[0] for ax in drawn.axes if ax.images]
    assert [ax.get_title() for ax in drawn.axes if ax.images] == ["step 0", "step 1", "step 10", "step 100"]
    expected = np.arange(4)[:, None] + np.arange(3) / 10 + 0.1
    np.testing.assert_allclose(images[3].get_array(), expected)
    assert all(image.get_clim() == images[0].get_clim() for image in images)


def test_small_multiples_have_a_panel_a_head_on_one_scale():
    drawn = figure(lines_of(layers=12, heads=range(12)), "small")
    panels = [ax for ax in drawn.axes if ax.lines]
    assert len(panels) == 144
    assert len({ax.get_ylim() for ax in panels}) == 1
    np.testing.assert_allclose(panels[13].lines[0].get_ydata(), [1.1, 1.101, 1.11, 1.2])
    with pytest.raises(UsageError, match="25 × 1 panels are more than can be seen"):
        figure(lines_of(layers=25, heads=(0,)), "small")


def test_heads_of_several_sites_or_runs_are_refused():
    frame = pd.concat([lines_of(heads=(0,), run=run) for run in "ab"])
    with pytest.raises(UsageError, match=r"heads of several runs do not fit into one figure \(a, b\): give one run"):
        figure(frame, "heads")
    with pytest.raises(UsageError, match="no row is of a head"):
        figure(lines_of(), "heads")


def test_maps_of_steps_hold_the_table_and_can_be_ordered():
    drawn = figure(pairs_of_steps(), "steps")
    expected = 1 - abs(np.arange(4)[:, None] - np.arange(4)) / 10
    np.testing.assert_allclose(drawn.axes[0].images[0].get_array(), expected)
    assert drawn.axes[0].images[0].get_clim() == (0, 1)
    shuffled = pd.DataFrame(expected)[[2, 0, 3, 1]].loc[[2, 0, 3, 1]]
    order = list(in_order(shuffled).index)
    assert order in ([0, 1, 2, 3], [3, 2, 1, 0])  # neighbours beside each other
    with pytest.raises(UsageError, match="only a map of the same steps on both sides"):
        in_order(pd.DataFrame(expected).replace(1.0, math.nan))


def test_maps_of_layers_are_drawn_of_comparisons_of_layers_only():
    drawn = figure(pairs_of_layers(), "layers")
    np.testing.assert_allclose(np.diag(drawn.axes[0].images[0].get_array()), 1.0)
    with pytest.raises(UsageError, match="no row compares layers: compute with --pairs layers first"):
        figure(lines_of(), "layers")
    with pytest.raises(UsageError, match="these rows compare layers: draw them with --kind layers"):
        figure(pairs_of_layers())


def test_a_figure_without_a_value_says_why_instead_of_an_empty_frame():
    frame = lines_of(value=math.nan, reason="fewer than 2 distinct samples")
    for kind in ("lines", "heads", "small"):
        rows = lines_of(heads=(0,), value=math.nan, reason="too few") if kind != "lines" else frame
        with pytest.raises(UsageError, match=r"no value of effective_rank .* is a number: there is nothing to draw \("):
            figure(rows, kind)


def test_one_step_and_one_layer_are_a_point():
    drawn = figure(lines_of(layers=1, steps=(7,)))
    assert list(drawn.axes[0].lines[0].get_xdata()) == [7]


def test_a_measure_stands_above_results_on_one_axis():
    request = Request(kind="beside")
    results = {"m": {0: {"val_loss": 8.0, "other": 1.0}, 100: {"val_loss": 5.0}}}
    drawn, values = beside(choose(lines_of(), Selected(), request), request, results)
    above, below = drawn.axes[:2]
    assert below.get_ylabel() == "val_loss" and list(below.lines[0].get_ydata()) == [8.0, 5.0]
    assert above.get_xlim() == below.get_xlim()
    assert set(values["panel"]) == {"", "val_loss"}
    with pytest.raises(UsageError, match=r"no result is called 'val_los'; did you mean 'val_loss'\?"):
        beside(choose(lines_of(), Selected(), request), Request(kind="beside", evaluation=("val_los",)), results)
    with pytest.raises(UsageError, match="no results of evaluation are known of m: draw --kind lines"):
        beside(choose(lines_of(), Selected(), request), request, {})


def test_losses_of_runs_train_solid_and_validation_dashed():
    runs = [Losses("a", {0: 8.0, 5: 6.0}, {5: 6.5}, {0: 0, 5: 500}), Losses("b", {5: math.inf}, {5: 7.0}, {5: 500})]
    drawn, values = losses(runs, Request(kind="losses"))
    assert values[["run", "split", "x", "value"]].to_numpy().tolist() == [
        ["a", "train", 0.0, 8.0],
        ["a", "train", 5.0, 6.0],
        ["a", "val", 5.0, 6.5],
        ["b", "val", 5.0, 7.0],
    ]
    assert [line.get_linestyle() for line in drawn.axes[0].lines] == ["-", "--", "--"]
    over_tokens = losses(runs, Request(kind="losses", x="tokens"))[1]
    assert sorted(over_tokens["x"].unique()) == [0, 500]
    with pytest.raises(UsageError, match="no loss is known of c: neither logged nor in a checkpoint"):
        losses([Losses("c")], Request(kind="losses"))


def test_the_density_of_a_spectrum_has_mass_one_and_leaves_rounding_out():
    rng = np.random.default_rng(0)
    values = np.linalg.svd(rng.standard_normal((60, 40)), compute_uv=False)
    grid = np.linspace(-3, 3, 2000)
    assert np.trapezoid(spectra.density(np.log10(values), grid), grid) == pytest.approx(1, abs=1e-6)
    assert np.trapezoid(spectra.density(np.zeros(5), grid), grid) == pytest.approx(1, abs=1e-3)
    held = np.concatenate([values, [values[0] * 1e-9, 0.0, math.nan]])
    np.testing.assert_array_equal(spectra.above_rounding(held), values)


def test_spectra_have_a_ridge_a_step_and_every_singular_value_in_their_table():
    found = {"layers.0.mlp.down": {0: np.array([2.0, 1.0]), 8: np.array([4.0, 0.5]), 9: np.array([0.0, 0.0])}}
    drawn, values = spectra.spectra(found, "m", Request(kind="spectra"))
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["0", "8", "9"]
    assert values["singular_value"].tolist() == [2.0, 1.0, 4.0, 0.5, 0.0, 0.0]
