import dataclasses

import matplotlib
import numpy as np
import pandas
import pytest
from synthetic import SPEC, make_run

from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Settings
from pico_analyze.metrics.spec import METRICS
from pico_analyze.output import plots
from pico_analyze.questions.question import Question, Use


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    root = tmp_path_factory.mktemp("plots")
    steps = (0, 1, 2, 4, 8, 16, 32)
    run = make_run(root, spec=SPEC.model_copy(update={"n_layers": 3}), steps=steps, lacking={2: ("val",)})
    questions = [
        Question((Use("cka"),), bootstrap=10, null="permutation", draws=5),
        Question((Use("norm"), Use.of("norm", {"kind": "nuclear"})), data="weights"),
        Question((Use("cka"),), pairs="layers"),
        Question((Use("cka"),), pairs="steps", sites=("attn.v",)),
    ]
    return analyze([(run, question) for question in questions], Settings(out=root / "out")).frame


def part(frame, metric, *, layers=False, bootstrap=None):
    rows = frame[(frame["metric"] == metric) & (frame["target_layer"].notna() == layers)]
    if bootstrap is not None:
        rows = rows[rows["params"].str.contains("bootstrap") == bootstrap]
    return rows


def test_every_question_has_a_file_of_its_own(frame, tmp_path):
    written = {path.name for path in plots.draw(frame, tmp_path)}
    assert {name.split("-")[0] for name in written} == {"cka", "norm"}
    assert any("kind=nuclear" in name for name in written) and any("layers-to" in name for name in written)
    assert len(written) == 5
    assert all((tmp_path / name).read_bytes()[:4] == b"\x89PNG" for name in written)


def test_lines_have_a_panel_per_site_a_line_per_layer_and_step_zero_on_a_log_axis(frame):
    matplotlib.use("Agg")
    figure = plots._figure(part(frame, "cka", bootstrap=True))
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["attn.o", "attn.v", "mlp.down"]
    for ax in panels:
        assert ax.get_xscale() == "symlog" and ax.get_xlim()[0] < 0 and ax.get_xlabel() == "step"
        lines = [line for line in ax.lines if str(line.get_label()).startswith("layer")]
        assert [line.get_label() for line in lines] == ["layer 0", "layer 1", "layer 2"]
        np.testing.assert_array_equal(lines[0].get_xdata(), [0, 1, 4, 8, 16, 32])
        assert lines[0].get_ydata()[-1] == pytest.approx(1)
        assert ax.get_ylim() == (-0.02, 1.04)
        assert len(ax.collections) == 3  # a band per layer
    colours = {line.get_color() for line in panels[0].lines if str(line.get_label()).startswith("layer")}
    assert len(colours) == 3
    assert panels[0].get_ylabel() == "cka"


def test_heatmaps_hold_the_values_of_the_table(frame):
    figure = plots._figure(part(frame, "cka", layers=True))
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(images) == 12  # of 18: three sites at six steps
    np.testing.assert_allclose(np.diag(images[0].get_array()), 1.0)
    assert images[0].get_array().shape == (3, 3)
    assert images[0].get_clim() == (0, 1)


def test_a_table_without_values_draws_nothing(frame, tmp_path):
    assert plots.draw(frame.assign(value=float("nan")), tmp_path) == []


def test_names_of_files_are_safe(frame):
    row = part(frame, "norm").assign(params='{"kind": "../../x y"}')
    assert "/" not in plots.file_stem(row) and " " not in plots.file_stem(row)


def heads_only(rows):
    """The same rows, as if each layer had two heads and no whole, the second one of other values."""
    second = rows.assign(head=1, value=rows["value"] / 2)
    both = pandas.concat([rows.assign(head=0), second], ignore_index=True)
    return both.astype({"head": "Int64"}).sort_values(["step", "layer", "head"])


def test_heads_without_a_whole_are_lines_of_their_own(frame):
    rows = heads_only(part(frame, "cka", bootstrap=True))
    figure = plots._figure(rows)
    panel = next(ax for ax in figure.axes if ax.get_title() == "attn.v")
    lines = {line.get_label(): line for line in panel.lines if str(line.get_label()).startswith("layer")}
    assert list(lines) == [f"layer {layer}, head {head}" for layer in range(3) for head in range(2)]
    for label, line in lines.items():
        layer, head = (int(word.split()[1]) for word in label.split(", "))
        mine = rows[(rows["site"] == "attn.v") & (rows["layer"] == layer) & (rows["head"] == head)].sort_values("step")
        np.testing.assert_array_equal(line.get_xdata(), mine["step"])
        np.testing.assert_array_equal(line.get_ydata(), mine["value"])
    assert lines["layer 0, head 0"].get_color() == lines["layer 0, head 1"].get_color()


@pytest.mark.parametrize("layers", [True, False])
def test_heads_without_a_whole_have_heatmaps_of_their_own(frame, layers):
    rows = part(frame, "cka", layers=layers)
    rows = rows[rows["site"] == "attn.v"]
    kind = "layers"
    if not layers:
        kind, rows = "steps", rows[~rows["params"].str.contains("bootstrap")]
    maps = dict(plots._maps(heads_only(rows), kind))
    wholes = dict(plots._maps(rows, kind))
    assert len(maps) == 2 * len(wholes) > 0
    for title, table in wholes.items():
        place, against, target = title.partition(" against ")
        for head, share in ((0, 1.0), (1, 0.5)):
            np.testing.assert_array_equal(maps[f"{place}, head {head}{against}{target}"], table * share)


def test_scales_follow_the_description_of_the_metric(frame, monkeypatch):
    rows = part(frame, "cka", bootstrap=True)
    for bounds, axis, limits, scale in (
        ((-1.0, 1.0), "linear", (-1.04, 1.08), "linear"),
        (None, "log", None, "log"),
        ((0.9, 1.0), "log", None, "log"),  # values lie outside, so that the scale follows them
    ):
        spec = dataclasses.replace(METRICS.get("cka"), bounds=bounds, axis=axis)
        monkeypatch.setattr(METRICS, "get", lambda _, spec=spec: spec)
        panel = plots._figure(rows).axes[0]
        assert panel.get_yscale() == scale
        if limits:
            assert panel.get_ylim() == pytest.approx(limits)
