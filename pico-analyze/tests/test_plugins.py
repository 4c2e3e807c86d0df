"""The example plug-in of PLUGINS.md, installed and used from the command line; and plug-ins that are broken."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pandas
import pytest
import synthetic

from pico_analyze import registry
from pico_analyze.components.spec import COMPONENTS, ComponentSpec
from pico_analyze.errors import NotARunError, PluginError, UsageError
from pico_analyze.metrics.spec import METRICS, MetricSpec
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.spec import STORES, StoreSpec
from pico_schema.digests import sha256_file

HERE = Path(__file__).parent
SOURCE = HERE / "plugin"


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A directory with the plug-in installed in it by pip, to be put on the path; without network."""
    target = tmp_path_factory.mktemp("site-packages")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(SOURCE)], check=True, timeout=120)
    return target


def cli(installed, *arguments, cwd=None):
    environment = os.environ | {"PYTHONPATH": str(installed), "NO_COLOR": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", "from pico_analyze.cli.app import main; main()", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_a_plugin_is_listed_and_has_a_page(installed):
    listed = cli(installed, "metrics")
    assert listed.returncode == 0, listed.stderr
    assert "spectral_gap" in listed.stdout and "cka" in listed.stdout
    page = cli(installed, "metrics", "spectral_gap")
    assert "how far the largest singular value stands out" in " ".join(page.stdout.split())
    assert "attention_output" in cli(installed, "components").stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic.make_run(tmp_path_factory.mktemp("plugins") / "runs")


def test_a_plugin_computes_from_the_command_line(installed, run, tmp_path):
    done = cli(
        installed,
        *("compute", "spectral_gap", "gini", str(run), "--component", "attention_output", "--data", "weights"),
        *("--metric-param", "power=2", "--format", "json", "--out", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout) if row["metric"] == "spectral_gap"]
    assert len(rows) == len(synthetic.STEPS) * synthetic.SPEC.n_layers * synthetic.SPEC.n_heads
    assert all(0 <= row["value"] <= 1 for row in rows)


def test_heads_without_a_whole_are_shown_one_by_one(installed, run, tmp_path):
    """The table says of each head what the rows say of it; no head stands for its layer."""
    done = cli(
        installed,
        *("compute", "spectral_gap", str(run), "--component", "attention_output", "--data", "weights"),
        *("--out", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    rows = pandas.read_csv(tmp_path / "out" / "demo" / "rows.csv", float_precision="round_trip")
    expected = {(row.layer, row.step, row.head): f"{row.value:.4f}" for row in rows.itertuples()}
    lines = done.stdout.splitlines()
    assert "head by head" in lines[0]
    shown = {}
    for line in lines[1:]:
        corner = re.match(r"\s+layer (\d+): step((?:\s+head \d+)+)$", line)
        if corner:
            layer, heads = int(corner[1]), [int(head) for head in re.findall(r"head (\d+)", corner[2])]
        else:
            step, *values = line.split()
            shown |= {(layer, int(step), head): value for head, value in zip(heads, values, strict=True)}
    assert shown == expected
    assert len(set(expected.values())) > len(expected) / 2  # heads do differ


def test_dynamics_summarises_each_head_where_there_is_no_whole(installed, run, tmp_path):
    """`dynamics` asks for wholes alone unless told otherwise."""
    done = cli(
        installed,
        *("dynamics", "spectral_gap", str(run), "--component", "attention_output", "--data", "weights"),
        *("--format", "json", "--out", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    found = {(row["layer"], row["head"]): row["last"] for row in json.loads(done.stdout)}
    rows = pandas.read_csv(tmp_path / "out" / "demo" / "rows.csv", float_precision="round_trip")
    last = rows[rows["step"] == synthetic.STEPS[-1]]
    assert found == {(row.layer, row.head): row.value for row in last.itertuples()}
    assert len(found) == synthetic.SPEC.n_layers * synthetic.SPEC.n_heads


@pytest.fixture
def npz_run(run, tmp_path):
    """The weights of two layers' values at two steps, as the example's kind of run."""
    folder = tmp_path / "runs" / "arrays"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(synthetic.SPEC.model_dump_json())
    store = open_store(run)
    for step in (0, 8):
        sites = [f"layers.{layer}.attn.v" for layer in range(2)]
        np.savez(folder / f"step-{step}.npz", **{site: store.read(step, None, "weights", site) for site in sites})
    return folder


def test_a_kind_of_run_of_a_plugin_is_listed_announced_and_read(installed, npz_run, tmp_path):
    listed = cli(installed, "list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "arrays (npz, runs/arrays): 2 checkpoints" in listed.stdout
    done = cli(installed, "compute", "norm", "--data", "weights", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "arrays: a folder of .npz files (runs/arrays), 2 checkpoints" in done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 4
    for row in rows:
        with np.load(npz_run / f"step-{row['step']}.npz") as arrays:
            norm = np.linalg.norm(arrays[f"layers.{row['layer']}.{row['site']}"].astype(np.float64))
        assert row["value"] == pytest.approx(norm, rel=1e-12)
        facts, name = json.loads(row["provenance"]), f"step-{row['step']}.npz"
        assert facts["kind"] == "npz" and facts["inputs"] == {name: sha256_file(npz_run / name)}


def test_a_place_that_is_no_run_says_what_all_kinds_looked_for(installed, tmp_path):
    (tmp_path / "thing").mkdir()
    done = cli(installed, "list", str(tmp_path / "thing"))
    assert done.returncode == 3
    assert "run.json (Pico)" in done.stderr and "model.json with step-*.npz (npz)" in done.stderr


def test_the_metric_of_a_plugin_is_a_function_of_arrays(installed):
    code = (
        "from pico_analyze.metrics import spectral_gap as f; print(f([[3, 0], [0, 1.5]]), f([[2, 0], [0, 1]], power=2))"
    )
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "0.5 0.75", done.stderr


def test_plugins_md_shows_the_package_that_is_tested():
    text = (HERE.parent / "PLUGINS.md").read_text()
    for file in (SOURCE / "pyproject.toml", *(SOURCE / "src" / "pico_analyze_example").glob("[a-z]*.py")):
        assert file.read_text() in text, file.name


@pytest.mark.parametrize("spec", [MetricSpec, ComponentSpec, StoreSpec])
def test_plugins_md_says_what_every_attribute_does(spec):
    text = (HERE.parent / "PLUGINS.md").read_text()
    section = text[text.index(f"| attribute of `{spec.__name__}`") :].split("\n\n")[0]
    named = {name for line in section.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named == {field.name for field in dataclasses.fields(spec)}


@pytest.fixture
def entry_points(monkeypatch):
    """Entry points of the test's own beside the built-in ones."""

    def add(specs=METRICS, **points):
        real = registry.entry_points

        def found(*, group):
            extra = [EntryPoint(name, value, group) for name, value in points.items()]
            return [*real(group=group), *(p for p in extra if group == specs.group)]

        monkeypatch.setattr(registry, "entry_points", found)
        specs.refresh()

    yield add
    monkeypatch.undo()
    METRICS.refresh()
    STORES.refresh()


def test_a_plugin_that_does_not_load_hides_no_other(entry_points):
    entry_points(broken="no_such_module:METRIC")
    assert {"broken", "cka"} <= set(METRICS.names())
    assert METRICS.get("cka").name == "cka"
    with pytest.raises(PluginError, match=r"'broken'.*no_such_module.*ModuleNotFoundError"):
        METRICS.get("broken")
    found = list(METRICS.each())
    assert sum(isinstance(one, PluginError) for one in found) == 1
    assert len(found) == len(METRICS.names())


@pytest.mark.parametrize(
    ("value", "message"),
    [("math:pi", "is a float, not a MetricSpec"), ("pico_analyze.metrics.kernel_alignment:CKA", "calls itself 'cka'")],
)
def test_an_entry_point_that_is_not_what_it_says_is_refused(entry_points, value, message):
    entry_points(odd=value)
    with pytest.raises(PluginError, match=message):
        METRICS.get("odd")


def test_a_name_that_two_packages_claim_is_refused(entry_points):
    entry_points(cka="pico_analyze.metrics.sparsity:GINI")
    with pytest.raises(PluginError, match=r"'cka' is claimed by .* and .*: uninstall one"):
        METRICS.get("cka")
    assert METRICS.get("gini").name == "gini"


def test_an_environment_without_entry_points_says_what_to_do(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda **_: [])
    with pytest.raises(PluginError, match=r"no metric is known at all.*install it again"):
        registry.Registry(METRICS.group, MetricSpec).names()


class Thing:
    """A run of the tests' own: enough of a store to be opened."""

    kind, run, location = "thing", "it", "there"


THING = StoreSpec("thing", "a thing", "thing.txt", lambda place: Path(place, "thing.txt").exists(), lambda *_: Thing())
ODD = dataclasses.replace(THING, name="odd")
FALLING = dataclasses.replace(THING, name="falling", recognises=lambda place: {}[place], order=1)
LACKING = dataclasses.replace(THING, name="lacking", open=lambda *_: __import__("no_such_package"), install="pip it")
FIRST = dataclasses.replace(THING, name="first", recognises=bool, order=-1, open=lambda *_: Thing())


def test_a_broken_kind_of_run_hides_no_other_and_is_told_where_nothing_is_found(entry_points, run, tmp_path):
    entry_points(STORES, broken="no_such_module:STORE", falling=f"{__name__}:FALLING")
    assert open_store(run).kind == "pico"
    with pytest.raises(NotARunError, match=r"left out: .*'broken'.*does not load") as caught:
        open_store(tmp_path)
    assert "left out: store 'falling' fails at" in str(caught.value) and "KeyError" in str(caught.value)


def test_a_kind_of_run_that_calls_its_stores_otherwise_is_refused(entry_points, tmp_path):
    entry_points(STORES, odd=f"{__name__}:ODD")
    (tmp_path / "thing.txt").touch()
    with pytest.raises(PluginError, match="'odd' gives runs of kind 'thing'"):
        open_store(tmp_path)


def test_a_kind_of_run_that_lacks_a_package_says_what_to_install(entry_points, tmp_path):
    entry_points(STORES, lacking=f"{__name__}:LACKING")
    (tmp_path / "thing.txt").touch()
    with pytest.raises(PluginError, match="a thing, and reading it needs no_such_package: pip it"):
        open_store(tmp_path)


def test_the_kind_of_the_lowest_order_has_a_place(entry_points, run):
    assert open_store(run).kind == "pico"
    entry_points(STORES, first=f"{__name__}:FIRST")
    with pytest.raises(PluginError, match="'first' gives"):
        open_store(run)


def test_opening_a_local_run_imports_neither_the_hub_client_nor_the_tables_of_transformers(run):
    code = (
        f"import sys; from pico_analyze.stores.opening import open_store; open_store({str(run)!r}).steps(); "
        "print([m for m in sys.modules if m.startswith(('huggingface_hub', 'pico_analyze.stores.hub.client', "
        "'pico_analyze.stores.transformers.architectures', 'pico_analyze.stores.pico_v1.store', 'torch'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dataclasses.replace(METRICS.get("gini"), bounds=(1.0, 0.0)), "bounds .* are not a low and a high"),
        (lambda: dataclasses.replace(COMPONENTS.get("mlp"), has_whole=False), "neither heads nor a whole"),
        (
            lambda: dataclasses.replace(COMPONENTS.get("mlp"), absent=COMPONENTS.get("ov_circuit").absent),
            "no parameter 'form'",
        ),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_listing_names_loads_nothing():
    code = (
        "import sys; from pico_analyze.metrics.spec import METRICS; METRICS.names(); "
        "loaded = {m for m in sys.modules if m.startswith('pico_analyze.metrics.')}; "
        "print(sorted(m for m in loaded if m.rpartition('.')[2] not in ('spec', 'resampling')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'condition_number'"):
        METRICS.get("conditon_number")
    with pytest.raises(UsageError, match="did you mean 'ov_circuit'"):
        COMPONENTS.get("ov_circut")


def test_every_built_in_has_a_complete_page():
    for metric in METRICS.each():
        for field in ("definition", "range", "best", "cost", "reference"):
            assert getattr(metric, field), (metric.name, field)
        assert metric.accepts and all(param.help for param in metric.params.values())
        assert (metric.similar is not None) == (metric.kind == "pair")
        assert (metric.fn.__doc__ and "Undefined" in metric.fn.__doc__) or metric.name in (
            "norm",
            "near_zero_fraction",
            "rsa",
        )
    for component in COMPONENTS.each():
        assert component.definition and all(param.help for param in component.params.values())


def test_the_built_in_names_are_these():
    singles = (
        "norm condition_number effective_rank per stable_rank participation_ratio rankme power_law_alpha "
        "gradient_noise anisotropy intrinsic_dimension dead_fraction dense_fraction massive_activations"
    )
    elementwise = "gini hoyer near_zero_fraction kurtosis"
    pairs = "cka svcca pwcca mean_cca procrustes rsa mutual_knn cosine relative_change subspace_overlap"
    assert METRICS.names() == sorted(f"{singles} {elementwise} {pairs}".split())
    components = "simple ov_circuit qk_circuit mlp embedding unembedding resid neurons head_outputs"
    assert COMPONENTS.names() == sorted(components.split())
    assert STORES.names() == ["fsspec", "hub", "pico", "pico-v1", "transformers"]
