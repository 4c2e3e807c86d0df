"""Files of figures: names, formats, the CSV beside, the command inside; and the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import get_args

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from figure_rows import lines_of
from matplotlib.testing.compare import compare_images
from packaging.version import Version
from PIL import Image
from synthetic import make_run
from typer.testing import CliRunner

import pico_analyze
from pico_analyze.cli.app import app
from pico_analyze.cli.plot import AxisOption, KindOption, WidthOption
from pico_analyze.errors import DataError, UsageError
from pico_analyze.output.figures.request import KINDS, Axis, Request, Selected, Width, stem
from pico_analyze.output.figures.saving import save
from pico_analyze.stores.training_log import logged_losses

GOLDEN = Path(__file__).parent / "golden"
DRAWN_WITH = Version("3.11")
FIGURES = {
    "lines": (lines_of(layers=4, ci_low=0.5, ci_high=2.5), Request()),
    "heads": (lines_of(layers=4, heads=range(4)), Request(kind="heads", width="column")),
}


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    run = make_run(root, steps=(0, 1, 2, 4, 8))
    (run / "metrics.jsonl").write_text('{"step": 0, "loss": 8.5}\n{"step": 4, "loss": 6.5}\n{"step": 8, "lo')
    pico_analyze.compute("cka", run, out=root / "analysis")
    pico_analyze.compute("norm", run, data="weights", out=root / "analysis")
    pico_analyze.compute("effective_rank", run, component="ov_circuit", data="weights", out=root / "analysis")
    return run, root / "analysis"


def plot(*words: object):
    return CliRunner().invoke(app, ["plot", *map(str, words)], standalone_mode=False)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_figure_is_written_with_its_values_and_the_command_that_makes_it_again(analyzed, tmp_path, ending):
    run, analyses = analyzed
    out = tmp_path / f"figure.{ending}"
    words = [run, "--analyses", analyses, "--metric", "cka", "--site", "attn.v"]
    done = plot(*words, "--out", out)
    assert done.exception is None, done.exception
    assert done.stdout.splitlines() == [str(out), str(out.with_suffix(".csv"))]
    first = out.read_bytes()
    again = shlex.join(["pico-analyze", "plot", *map(str, words), "--out", str(out)])
    inside = Image.open(out).text["Comment"] if ending == "png" else first.decode("latin-1")
    assert again in inside
    table = pd.read_csv(out.with_suffix(".csv"), float_precision="round_trip")
    rows = pico_analyze.read_rows(analyses / run.name)
    kept = rows[(rows["metric"] == "cka") & (rows["site"] == "attn.v")].sort_values(["layer", "step"])
    np.testing.assert_array_equal(table["value"], kept["value"])
    assert plot(*words, "--out", out).exception is None
    assert out.read_bytes() == first  # equal figures are equal files


def test_two_selections_never_have_one_name(analyzed):
    run, analyses = analyzed
    words = ["--analyses", analyses, "--metric", "cka"]
    choices = [[], ["--layers", "0"], ["--layers", "1"], ["--steps", "0,8"], ["--site", "attn.v"], ["--x", "tokens"]]
    choices += [["--hue", "site", "--facet", "layer"], ["--width", "page"], ["--kind", "beside"]]
    names = {plot(run, *words, *more).stdout.splitlines()[0] for more in choices}
    assert len(names) == len(choices)
    assert all(Path(name).parent == analyses / "figures" for name in names)


def test_pictures_of_an_analysis_are_not_replaced_by_those_of_other_layers(analyzed, tmp_path):
    run, _ = analyzed
    for layers in ("0", "1"):
        words = ["compute", "cka", str(run), "--layers", layers, "--site", "attn.v", "--out", str(tmp_path)]
        assert CliRunner().invoke(app, words, standalone_mode=False).exception is None
    names = sorted(path.name for path in (tmp_path / run.name).glob("*.png"))
    assert names == [f"cka-simple-attn.v-val-activations-to-8-layers={layer}.png" for layer in (0, 1)]


def test_every_kind_is_drawn_from_the_command_line(analyzed, tmp_path):
    run, analyses = analyzed
    for kind, more in {
        "losses": [],
        "spectra": ["--site", "attn.v", "--layers", "0"],
        "heads": ["--metric", "effective_rank"],
        "small": ["--metric", "effective_rank"],
        "beside": ["--metric", "norm", "--site", "attn.o"],
    }.items():
        done = plot(run, "--kind", kind, *more, "--analyses", analyses, "--out", tmp_path / f"{kind}.png")
        assert done.exception is None, (kind, done.exception)
        assert len(pd.read_csv(tmp_path / f"{kind}.csv")) > 1
    losses = pd.read_csv(tmp_path / "losses.csv").query("split == 'train'").set_index("x")["value"]
    assert (losses[0], losses[4]) == (8.5, 6.5)  # the log's, which has more than the checkpoints
    spectra = pd.read_csv(tmp_path / "spectra.csv")
    weight = pico_analyze.open_run(run).read(8, None, "weights", "layers.0.attn.v").astype(np.float64)
    expected = np.linalg.svd(weight, compute_uv=False)
    np.testing.assert_allclose(spectra.loc[spectra["step"] == 8, "singular_value"], expected, rtol=1e-10)


def test_a_table_is_a_source_too(analyzed, tmp_path):
    run, analyses = analyzed
    for source in (analyses / run.name, analyses / run.name / "rows.parquet"):
        done = plot(source, "--metric", "norm", "--out", tmp_path / "norm.svg")
        assert done.exception is None, done.exception
    assert plot(analyses / run.name, "--kind", "losses", "--out", tmp_path / "l.png").exception is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.jpg"], "x.jpg: the name of a figure ends with .png, .svg or .pdf"),
        (["--out", "x"], "x: the name of a figure ends with .png, .svg or .pdf"),
        (["--metric", "pwcca"], "no row has metric 'pwcca'"),
        ([], "the table answers 3 questions"),
        (["--kind", "spectra", "--site", "attn.x"], "no weight has the site 'attn.x'"),
        (["--param", "kernel"], "--param 'kernel' is not of the form k=v"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(analyzed, words, message):
    run, analyses = analyzed
    done = plot(run, "--analyses", analyses, *words)
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)


def test_a_run_that_was_not_analyzed_says_what_makes_a_table(analyzed, tmp_path):
    run, _ = analyzed
    done = plot(run, "--analyses", tmp_path)
    assert "nothing was computed of" in str(done.exception) and "pico-analyze compute cka" in str(done.exception)


def test_a_full_disk_leaves_no_half_picture(tmp_path, monkeypatch):
    mpl.use("Agg")
    drawn = pico_analyze.figure(lines_of())
    out = tmp_path / "figure.png"
    out.write_bytes(b"the one before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pico_analyze.output.figures.saving.replace_file", full)
    with pytest.raises(pico_analyze.errors.StorageError, match="No space left on device"):
        save(drawn, lines_of(), out, "pico-analyze plot", "screen")
    assert out.read_bytes() == b"the one before"


def test_long_selections_keep_names_apart_and_short():
    words = [f"layers.{n}.mlp.down" for n in range(40)]
    a, b = stem("run", *words, "a"), stem("run", *words, "b")
    assert a != b and max(len(a), len(b)) <= 150
    assert "/" not in stem("../../x y", "<img src=x onerror=alert(1)>") and stem("..") == ""


def test_selected_and_request_are_read_back_from_their_options():
    selected = Selected(("cka",), site=("attn.v",), layers="0-2", params={"kernel": "rbf"})
    request = Request(hue="run", x="tokens", width="page")
    assert selected.options() == ["--metric", "cka", "--site", "attn.v", "--layers", "0-2", "--param", "kernel=rbf"]
    assert request.options() == ["--hue", "run", "--x", "tokens", "--width", "page"]


def test_the_command_line_offers_what_there_is():
    offered = (KindOption, AxisOption, WidthOption)
    assert [tuple(option.value for option in kind) for kind in offered] == [
        KINDS,
        get_args(Axis),
        get_args(Width),
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_look_as_they_were_looked_at(name, tmp_path):
    """Against pictures that a person has seen; `python tests/output/figures/test_files.py` makes them anew."""
    if Version(mpl.__version__) < DRAWN_WITH:
        pytest.skip(f"the pictures were drawn by matplotlib {DRAWN_WITH}, this one sets text elsewhere")
    made = tmp_path / f"{name}.png"
    make(name, made)
    assert compare_images(str(GOLDEN / f"{name}.png"), str(made), tol=12) is None


def make(name: str, path: Path) -> None:
    mpl.use("Agg")
    frame, request = FIGURES[name]
    pico_analyze.figure(frame, request.kind, width=request.width).savefig(path, dpi=80)


def test_a_log_is_read_to_its_last_whole_line_and_refused_where_it_is_damaged(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": NaN}\n{"note": 1}\n{"step": 3, "loss": 2')
    assert logged_losses(tmp_path) == {1: 2.5}
    log.write_text('{"step": 1, "loss": 2.5}\n{"step": 2,, "loss": 1}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl: line 2: .*`pico-train verify` says what is lost"):
        logged_losses(tmp_path)
    log.unlink()
    assert logged_losses(tmp_path) == {}


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for one in FIGURES:
        make(one, GOLDEN / f"{one}.png")
