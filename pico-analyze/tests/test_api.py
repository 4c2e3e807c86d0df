import ast
import doctest
import inspect
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow
import pytest
import yaml
from pyarrow.parquet import read_table
from synthetic import SPEC, STEPS, make_run

import pico_analyze
from pico_analyze.errors import DataError, UsageError
from pico_analyze.questions.study import parse
from pico_analyze.table.rows_file import content_of

README = Path(__file__).parents[1] / "README.md"


def test_the_three_lines_of_the_readme_give_a_dataframe(runs):
    make_run(runs)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    code = next(block for block in blocks if "compute(" in block)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) == 3
    names: dict = {}
    exec(code, names)
    table = names["table"]
    assert list(table.index) == [0, 1, 2, 4, 8]
    assert table.loc[8].to_numpy() == pytest.approx(1)


def test_the_metrics_of_the_readme_are_functions_of_arrays():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    names: dict = {}
    exec(next(block for block in blocks if "cka(" in block), names)
    assert abs(names["similarity"]) < 0.1 and 25 < names["rank"] < 32


def test_every_command_of_the_readme_works(runs, pico):
    for name in ("demo", "small", "a", "b", "c"):
        make_run(runs, name, seed=len(name), steps=(0, 8, 100))
    make_run(runs, "large", spec=SPEC.model_copy(update={"d_model": 24}), steps=(0, 8, 100))
    commands = re.findall(r"`pico-analyze ([^`]+)`", README.read_text().partition("## What it reads")[0])
    # Studies and figures are of files and tables of their own: the conformance suite runs those of the pages.
    commands = [command for command in commands if "…" not in command and command.split()[0] not in ("run", "plot")]
    assert len(commands) > 14
    for command in commands:
        words = command.split()
        words += [] if words[0] in ("list", "metrics", "components", "report") else ["--format", "json"]
        words += ["--no-plot"] if words[0] == "compute" else []
        answer = pico(*(["compute", "cka", *words[words.index("--bootstrap") :]] if "200" in words else words))
        assert answer.code == 0, (command, answer.err)
    options = re.findall(r"`(--[a-z-]+ [^`]+)`", README.read_text())
    allowed = [
        option for option in options if option.split()[1][0].isdigit() or option.startswith(("--site", "--format"))
    ]
    for option in allowed:
        assert pico("compute", "per", "small", "--data", "gradients", "--no-plot", *option.split()).code == 0, option


def test_the_study_of_the_readme_is_one():
    (study,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.S)
    assert len(parse(yaml.safe_load(study), where="README").measurements) == 2


def test_what_was_computed_can_be_read_again(runs):
    run = make_run(runs)
    frame = pico_analyze.compute(
        ["cka", "rsa"], run, layers=[0], steps=[0, 8], sites=["attn.v"], out="analysis", threads=1
    )
    assert len(frame) == 4
    assert pico_analyze.read_rows("analysis/demo").equals(frame)
    assert pico_analyze.read_rows("analysis/demo/rows.parquet").equals(frame)
    summary = pico_analyze.summarise(frame[frame["metric"] == "cka"], tau=0.5)
    assert list(summary["convergence_step"]) == [8]
    with pytest.raises(DataError, match=r"it has no rows\.parquet"):
        pico_analyze.read_rows("elsewhere")


def files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_without_out_nothing_is_written_and_nothing_computed_before_is_used(runs, pico, monkeypatch, tmp_path):
    make_run(runs)
    Path("s.yaml").write_text("out: here\nmeasurements:\n  - metrics: [cka]\n")
    assert pico("compute", "cka", "--no-plot").code == 0
    table = Path("analysis/demo/rows.parquet")
    rows = read_table(table)
    values = pyarrow.array([0.5] * len(rows))
    changed = rows.set_column(rows.schema.get_field_index("value"), "value", values)
    table.write_bytes(content_of(changed, compression="none"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = files(tmp_path)
    frames = [pico_analyze.compute("cka"), pico_analyze.study("s.yaml")]
    assert len(pico_analyze.dynamics("cka")) == 6
    assert all(frame["value"].max() > 0.99 for frame in frames)
    assert files(tmp_path) == before
    assert set(pico_analyze.compute("cka", out="analysis")["value"]) == {0.5}  # with out, what is there is used
    assert pico_analyze.compute("cka", out="analysis", fresh=True)["value"].max() > 0.99


def test_parameters_and_targets_reach_the_rows(runs):
    a, b = make_run(runs, "a"), make_run(runs, "b", seed=5)
    frame = pico_analyze.compute("cka", a, target=f"{b}@last", metric_params={"debiased": True})
    assert set(frame["target_run"]) == {"b"} and frame["params"].str.contains('"debiased": true').all()
    pairs = pico_analyze.compute("cka", [a, b], between_runs=True)
    assert set(zip(pairs["run"], pairs["target_run"], strict=True)) == {("a", "b")}
    norms = pico_analyze.compute("norm", a, component="ov_circuit", component_params={"form": "head"}, heads=False)
    assert set(norms["data"]) == {"weights"} and norms["head"].isna().all()
    with pytest.raises(UsageError, match="did you mean 'cka'"):
        pico_analyze.compute("cak", a)


def test_metrics_of_different_data_are_computed_in_one_call(run_dir):
    frame = pico_analyze.compute(["cka", "per"], run_dir, steps="last", bootstrap=20)
    assert set(zip(frame["metric"], frame["data"], strict=True)) == {("cka", "activations"), ("per", "weights")}
    assert (frame["ci_low"].notna() == (frame["metric"] == "cka")).all()


def test_dynamics_are_those_of_the_command(runs, pico):
    make_run(runs)
    words = ("--tau", "0.75", "--evaluation", "val_loss", "--format", "json")
    told = json.loads(pico("dynamics", "cka", *words).out)
    written = Path("analysis/demo/dynamics.csv").read_bytes()
    summary = pico_analyze.dynamics("cka", tau=0.75, evaluation="val_loss", out="other")
    assert Path("other/demo/dynamics.csv").read_bytes() == written
    numbers = ["layer", "first", "last", "convergence_step", "fastest_rate", "r2", "rho"]
    assert summary[numbers].to_dict("list") == {name: [row[name] for row in told] for name in numbers}
    with pytest.raises(DataError, match="has no evaluation 'loss'"):
        pico_analyze.dynamics("cka", evaluation="loss", out="never")
    assert not Path("never").exists()


def test_a_run_can_be_opened_and_a_tensor_read(run_dir):
    store = pico_analyze.open_run(run_dir)
    assert store.read(8, "val", "activations", "layers.0.attn.v").shape == (96, 8)
    assert [info.step for info in store.steps()] == list(STEPS)


def test_one_checkpoint_of_a_run_can_be_opened(runs):
    run = make_run(runs)
    for name in ("demo@4", "runs/demo@step-4", run / "checkpoints" / "step-00000004"):
        store = pico_analyze.open_run(name)
        assert [info.step for info in store.steps()] == [4] and list(store.evaluations()) == [4]
        assert store.run == "demo" and store.unusable() == ()
        assert pico_analyze.open_run(store.location).steps() == store.steps()
    assert [info.step for info in pico_analyze.open_run("demo@last").steps()] == [8]
    with pytest.raises(UsageError, match=r"step 3 does not exist: run 'demo' has the steps 0, 1, 2, 4, 8"):
        pico_analyze.open_run("demo@3")


def test_a_study_gives_a_dataframe(runs):
    make_run(runs, "a")
    make_run(runs, "b")
    Path("s.yaml").write_text("runs: a@last\nmeasurements:\n  - metrics: [cka]\n")
    assert set(pico_analyze.study("s.yaml")["step"]) == {8}
    frame = pico_analyze.study("s.yaml", ["a", "b"], out="here")
    assert set(frame["run"]) == {"a", "b"} and Path("here/b/rows.csv").is_file()


@pytest.mark.parametrize("name", ["compute", "study", "dynamics", "open_run", "read_rows", "summarise"])
def test_the_example_of_each_function_is_true_and_its_parts_are_described(runs, name):
    make_run(runs)
    function = getattr(pico_analyze, name)
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(function, name)
    assert example.examples
    failed, tried = doctest.DocTestRunner().run(example)
    assert (failed, tried) == (0, len(example.examples))
    text = inspect.getdoc(function)
    for part in ("Args:", "Returns:", "Raises:"):
        assert part in text
    for parameter in inspect.signature(function).parameters:
        assert f"\n    {parameter}: " in text, parameter


PLURAL = {"site": "sites", "tensor": "tensors", "metric_param": "metric_params", "component_param": "component_params"}
"""Options that are repeated on the command line and given once, as a list or a mapping, in Python."""
SHOWN = {"figure", "form", "plot", "tables", "wandb", "wandb_project"}
"""What is about showing and sending, which functions do not do."""


@pytest.mark.parametrize(("function", "command"), [("compute", "compute"), ("study", "run"), ("dynamics", "dynamics")])
def test_the_functions_have_the_words_of_the_commands(function, command):
    import typer.main

    from pico_analyze.cli.app import app

    parameters = typer.main.get_command(app).commands[command].params
    words = {PLURAL.get(name, name) for name in (parameter.name for parameter in parameters)} - SHOWN
    if "words" in words:
        words = words - {"words"} | {"metrics", "runs"}
    signature = inspect.signature(getattr(pico_analyze, function))
    assert set(signature.parameters) == words
    defaults = {PLURAL.get(parameter.name, parameter.name): parameter.default for parameter in parameters}
    for name, parameter in signature.parameters.items():
        if name in ("metrics", "runs", "file", "out"):
            continue
        of_command = defaults[name]
        plain = of_command() if callable(of_command) else of_command
        plain = plain[0] if isinstance(plain, list) else plain
        assert parameter.default == plain, name


def test_importing_the_package_imports_nothing_heavy_and_its_names_are_seen():
    code = (
        "import sys, pico_analyze; names = dir(pico_analyze); "
        "heavy = [m for m in ('numpy', 'pandas', 'scipy', 'pyarrow', 'pydantic', 'typer') if m in sys.modules]; "
        "print(heavy, set(pico_analyze.__all__) <= set(names)); print(callable(pico_analyze.compute))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[] True", "True"]
    with pytest.raises(AttributeError, match="no attribute 'cka'"):
        _ = pico_analyze.cka


def test_no_library_function_imports_the_command_line():
    package = Path(pico_analyze.__file__).parent
    modules = [path for path in package.rglob("*.py") if package / "cli" not in path.parents]
    modules.remove(package / "__main__.py")  # which is the command line's beginning
    assert len(modules) > 50
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in names if name.startswith(("pico_analyze.cli", "typer", "rich"))]
            assert not found, f"{path} imports {found}"
