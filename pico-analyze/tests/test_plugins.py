"""The example plug-in of PLUGINS.md, installed and used from the command line; and plug-ins that are broken."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pico_analyze import registry
from pico_analyze.components.spec import COMPONENTS
from pico_analyze.errors import PluginError, UsageError
from pico_analyze.metrics.spec import METRICS

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


def test_a_plugin_computes_from_the_command_line(installed, tmp_path):
    import synthetic

    run = synthetic.make_run(tmp_path / "runs" / "demo")
    done = cli(
        installed,
        *("compute", "spectral_gap", "gini", str(run), "--component", "attention_output", "--data", "weights"),
        *("--metric-param", "power=2", "--format", "json", "--out", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    rows = [row for row in (rows["rows"] if isinstance(rows, dict) else rows) if row["metric"] == "spectral_gap"]
    assert len(rows) == len(synthetic.STEPS) * synthetic.SPEC.n_layers * synthetic.SPEC.n_heads
    assert all(0 <= row["value"] <= 1 for row in rows)


def test_plugins_md_shows_the_package_that_is_tested():
    text = (HERE.parent / "PLUGINS.md").read_text()
    assert (SOURCE / "pyproject.toml").read_text() in text
    assert (SOURCE / "src" / "pico_analyze_spectral_gap" / "__init__.py").read_text() in text


@pytest.fixture
def entry_points(monkeypatch):
    """Entry points of the test's own beside the built-in ones."""

    def add(**points):
        real = registry.entry_points

        def found(*, group):
            extra = [EntryPoint(name, value, group) for name, value in points.items()]
            return [*real(group=group), *(p for p in extra if group == METRICS.group)]

        monkeypatch.setattr(registry, "entry_points", found)
        METRICS.refresh()

    yield add
    monkeypatch.undo()
    METRICS.refresh()


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


def test_listing_names_loads_nothing():
    code = (
        "import sys; from pico_analyze.metrics.spec import METRICS; METRICS.names(); "
        "print([m for m in sys.modules if m.startswith('pico_analyze.metrics.') and not m.endswith('.spec')])"
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
    singles = "norm condition_number effective_rank per stable_rank participation_ratio rankme power_law_alpha"
    elementwise = "gini hoyer near_zero_fraction kurtosis"
    pairs = "cka svcca pwcca mean_cca procrustes rsa mutual_knn cosine relative_change subspace_overlap gradient_noise"
    assert METRICS.names() == sorted(f"{singles} {elementwise} {pairs}".split())
    components = "simple ov_circuit qk_circuit mlp embedding unembedding resid"
    assert COMPONENTS.names() == sorted(components.split())
