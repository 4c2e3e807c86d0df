"""Metrics as functions of arrays: `from pico_analyze.metrics import cka`."""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import pico_analyze
from pico_analyze import metrics
from pico_analyze.errors import DataError, PluginError, UsageError
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.spec import METRICS, MetricSpec, Result

NAMES = [name for name in metrics.__all__ if name not in ("Result", "activations")]
RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((60, 12)), RNG.standard_normal((60, 12))
PARTS = np.array([[2, 5, 1], [2, 6, 2], [2, 5.5, 1], [2, 6.5, 2], [8, 4.25, 0]])
"""Rows, squared norm and squared distance of four parts of a batch, and the batch's."""
SECTION = re.compile(r"^(Args|Returns|Raises|References):$", re.M)


def matrices(spec: MetricSpec) -> tuple[np.ndarray, ...]:
    if spec.accepts == {"noise"}:
        return (PARTS,)
    return (X,) if spec.kind == "single" else (X, Y + X)


def test_every_built_in_metric_is_in_the_namespace_and_seen_there():
    built_in = {spec.name for spec in METRICS.each() if not isinstance(spec, PluginError) and _is_ours(spec)}
    assert set(NAMES) == built_in and len(NAMES) == 28
    assert set(metrics.__all__) <= set(dir(metrics))
    starred: dict[str, object] = {}
    exec("from pico_analyze.metrics import *", starred)
    assert set(metrics.__all__) <= set(starred)
    source = inspect.getsource(metrics)
    imported = set(re.findall(r"^    from pico_analyze\.metrics\.\w+ import (\w+) as \1$", source, re.M))
    assert imported == built_in, "metrics/__init__.py: a line for each metric, for type checkers and editors"


def _is_ours(spec: MetricSpec) -> bool:
    return spec.fn.__module__.startswith("pico_analyze.metrics.")


@pytest.mark.parametrize("name", NAMES)
def test_a_function_gives_what_the_registry_gives(name):
    function, spec = getattr(metrics, name), METRICS.get(name)
    result, expected = function(*matrices(spec)), spec(*matrices(spec))
    assert result == expected and isinstance(result, Result)
    assert (result.reason, result.extra, result.warning) == (expected.reason, expected.extra, expected.warning)
    assert math.isfinite(result)
    as_lists = function(*(matrix.tolist() for matrix in matrices(spec)))
    assert as_lists == result
    assert function(*map(Dense, matrices(spec))) == result


@pytest.mark.parametrize("name", NAMES)
def test_the_signature_is_that_of_the_spec_and_of_the_function_on_matrices(name):
    function, spec = getattr(metrics, name), METRICS.get(name)
    inside = inspect.signature(spec.fn).parameters
    shown = inspect.signature(function).parameters
    n = 1 if spec.kind == "single" else 2
    assert [p.kind for p in list(shown.values())[:n]] == [inspect.Parameter.POSITIONAL_ONLY] * n
    assert list(shown)[:n] == (["matrix"] if n == 1 else ["x", "y"])
    options = list(shown.values())[n:]
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)
    assert {option.name: option.default for option in options} == {k: p.default for k, p in spec.params.items()}
    assert list(shown)[n:] == list(spec.params) and list(inside) == list(shown)
    hints = inspect.get_annotations(spec.fn, eval_str=True)
    for key, param in spec.params.items():
        if param.choices:
            assert get_args(hints[key]) == param.choices
        else:
            assert hints[key] is type(param.default)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_a_function_has_all_its_sections(name):
    function, spec = getattr(metrics, name), METRICS.get(name)
    text = inspect.getdoc(function)
    assert text is not None and SECTION.findall(text) == ["Args", "Returns", "Raises", "References"]
    parts = dict(zip(SECTION.findall(text), SECTION.split(text)[2::2], strict=True))
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^    {parameter}: \S", parts["Args"], re.M), parameter
    assert "(N, P)" in parts["Args"]
    assert "Undefined (NaN)" in " ".join(parts["Returns"].split())
    for year in re.findall(r"\b(?:19|20)\d\d\b", spec.reference):
        assert year in parts["References"], year
    shown = pydoc.plain(pydoc.render_doc(function))
    assert f"\n{name}(" in shown and "ArrayLike | Matrix" in shown and "References:" in shown


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_parameter_is_the_same_error_as_on_the_command_line(name, run_dir, pico, tmp_path):
    function, spec = getattr(metrics, name), METRICS.get(name)
    with pytest.raises(UsageError, match=f"metric '{name}' has no parameter 'nonsense'"):
        function(*matrices(spec), nonsense=1)
    for key, param in spec.params.items():
        wrong = "nonsense" if not isinstance(param.default, float) else "much"
        with pytest.raises(UsageError) as error:
            function(*matrices(spec), **{key: wrong})
        data = next(data for data in ("activations", "gradients", "weights", "noise") if data in spec.accepts)
        words = ("compute", name, run_dir, "--data", data, "-p", f"{key}={wrong}", "--out", tmp_path)
        assert pico(*words).error == f"error: {error.value}"


def test_a_missing_or_superfluous_matrix_and_what_is_none_are_refused():
    with pytest.raises(UsageError, match="compares two matrices: give a second one"):
        metrics.cka(X)
    with pytest.raises(UsageError, match="describes one matrix, not a pair"):
        metrics.gini(X, Y)
    with pytest.raises(UsageError, match="one has 60 rows and the other 50"):
        metrics.cka(X, Y[:50])
    for wrong in (np.zeros((2, 2, 2)), [["a"]], [[1, 2], [3]], X.astype(complex)):
        with pytest.raises(DataError, match="is not a matrix of real numbers"):
            metrics.gini(wrong)


def test_arrays_are_centred_over_their_rows_where_the_literature_does():
    """Direct formulas on centred arrays, written down independently; the arrays are far from centred."""
    x, y = X + 3.0, (X + Y) * 2 - 5.0
    xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
    cka = np.linalg.norm(xc.T @ yc) ** 2 / (np.linalg.norm(xc.T @ xc) * np.linalg.norm(yc.T @ yc))
    assert metrics.cka(x, y) == pytest.approx(cka, rel=1e-12)
    nuclear = np.linalg.norm(xc.T @ yc / np.linalg.norm(xc) / np.linalg.norm(yc), "nuc")
    assert metrics.procrustes(x, y) == pytest.approx(2 - 2 * nuclear, rel=1e-9)
    q, r = np.linalg.qr(xc)[0], np.linalg.qr(yc)[0]
    rho = np.linalg.svd(q.T @ r, compute_uv=False)
    assert metrics.mean_cca(x, y) == pytest.approx(rho.mean(), rel=1e-9)


@pytest.mark.parametrize("name", ["participation_ratio", "power_law_alpha", "subspace_overlap"])
def test_activations_says_that_rows_are_samples(name):
    function, spec = getattr(metrics, name), METRICS.get(name)
    shifted = tuple(matrix + 3.0 for matrix in matrices(spec))
    centred = tuple(matrix - matrix.mean(axis=0) for matrix in matrices(spec))
    assert function(*map(metrics.activations, shifted)) == pytest.approx(function(*centred), rel=1e-9)
    assert function(*shifted) != pytest.approx(function(*centred), rel=1e-3)


def test_a_result_is_a_number_with_what_belongs_to_it():
    result = metrics.cka(X, X)
    assert isinstance(result, float) and result == pytest.approx(1) and result > 0.5 and result + 1 == pytest.approx(2)
    assert f"{result:.2f}" == "1.00" and json.loads(json.dumps([result])) == pytest.approx([1.0])
    assert np.array([result, result]).dtype == np.float64 and np.mean([result, result]) == pytest.approx(1)
    assert type(result.value) is float and type(float(result)) is float
    assert {"n", "d", "d_target"} <= set(result.extra) and result.reason is None
    few = metrics.cka(X[:20], Y[:20])
    assert "n < 5d" in few.warning and few.extra["debiased"] < few
    nothing = metrics.cka(X[:1], X[:1])
    assert math.isnan(nothing) and nothing.reason == "1 sample is too few: this needs 3"
    for one in (result, few, nothing):
        for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):  # noqa: S301 - it was made here
            assert repr(other) == repr(one) and isinstance(other, Result)


def test_a_result_shows_what_belongs_to_it():
    assert repr(Result(0.25)) == "Result(0.25)" and str(Result(0.25)) == "0.25"
    assert repr(Result(0.25, None, {"rank": 3.0}, "few")) == "Result(0.25, rank=3, warning='few')"
    assert repr(Result.undefined("no", n=1.0)) == "Result(nan, n=1, reason='no')"


def test_the_namespace_imports_a_family_when_it_is_asked_for():
    code = (
        "import sys; from pico_analyze.metrics import norm; import pico_analyze; "
        "families = [m for m in sys.modules if m.startswith('pico_analyze.metrics.')]; "
        "print(sorted(families), 'scipy.stats' in sys.modules, pico_analyze.metrics.norm is norm)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "['pico_analyze.metrics.norms', 'pico_analyze.metrics.resampling', 'pico_analyze.metrics.spec'] False True"
    )


def test_a_name_that_is_no_metric_names_the_nearest():
    with pytest.raises(AttributeError, match="no attribute 'ckaa'; did you mean 'cka'"):
        _ = metrics.ckaa
    with pytest.raises(ImportError):
        exec("from pico_analyze.metrics import ckaa")


def test_the_metric_of_a_plug_in_is_a_function_too(monkeypatch):
    def halved(matrix, share: float = 0.5):
        """Half of something."""
        return Result(share * matrix.shape[0])

    from pico_analyze.parameters import Param

    spec = MetricSpec("halved", "single", halved, "d", "r", "b", "c", "f", params={"share": Param(0.5, "h")})
    monkeypatch.setitem(METRICS.__dict__, "names", lambda: ["halved"])
    monkeypatch.setitem(METRICS.__dict__, "get", lambda _: spec)
    assert metrics.halved([[1.0], [2.0]]) == 1.0 and metrics.halved([[1.0], [2.0]], share=1) == 2.0
    assert str(inspect.signature(metrics.halved)) == "(matrix: 'ArrayLike | Matrix', /, *, share: 'float' = 0.5)"
    with pytest.raises(UsageError, match="metric 'halved' has no parameter 'shore'; did you mean 'share'"):
        metrics.halved([[1.0]], shore=1)


SCRIPT = """
import numpy as np

import pico_analyze
from pico_analyze.metrics import Result, activations, {names}

x = np.zeros((4, 3))
result: Result = cka(x, [[1.0, 2.0]] * 4, debiased=True, kernel="rbf")
value: float = gini(x) + norm(activations(x), kind="nuclear")
frame = pico_analyze.compute("cka", "runs/demo", layers=[0], between_runs=False, out=None)
steps = [info.step for info in pico_analyze.open_run("demo@last").steps()]
frames = [pico_analyze.study("s.yaml"), pico_analyze.dynamics("cka", tau=0.5), pico_analyze.read_rows("analysis/demo")]
reveal_type(pico_analyze.metrics.mutual_knn)
"""
MISTAKES = {
    'cka(x, y, kernel="rbff")': "arg-type",
    "cka(x, y, kernl=1)": "call-arg",
    "cka(x)": "call-arg",
    "gini(x, y)": "call-arg",
    'pico_analyze.compute("cka", among_runs=True)': "call-arg",
    "pico_analyze.nothing": "attr-defined",
}


def test_type_checkers_see_the_functions_with_their_parameters(tmp_path):
    lines = [SCRIPT.format(names=", ".join(NAMES)), "y = x", *MISTAKES]
    (tmp_path / "script.py").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", tmp_path / "cache"]
    flags = ["--config-file", "/dev/null", "script.py"]
    package = Path(pico_analyze.__file__).parents[1]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, cwd=tmp_path, env=_environment(package))
    told = [line for line in done.stdout.splitlines() if line.startswith("script.py")]
    revealed = [line for line in told if "Revealed type" in line]
    assert len(revealed) == 1 and "k: int =" in revealed[0] and "distance: " in revealed[0]
    errors = [re.fullmatch(r"script\.py:(\d+): error: .*\[([a-z-]+)\]", line) for line in told if "error:" in line]
    by_line = dict(match.groups() for match in reversed(errors))
    first = len("\n".join(lines).splitlines()) - len(MISTAKES) + 1
    assert by_line == {str(first + n): code for n, code in enumerate(MISTAKES.values())}, done.stdout


def _environment(package: Path) -> dict[str, str]:
    import os

    import pico_schema

    return os.environ | {"MYPYPATH": f"{package}:{Path(pico_schema.__file__).parents[1]}"}
