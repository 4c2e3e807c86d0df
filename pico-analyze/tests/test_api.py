import re
from pathlib import Path

import pytest
import yaml
from synthetic import SPEC, make_run

import pico_analyze
from pico_analyze.errors import DataError, UsageError
from pico_analyze.questions.study import parse

README = Path(__file__).parents[1] / "README.md"


def test_the_public_surface_is_what_it_says():
    assert sorted(pico_analyze.__all__) == [
        "__version__",
        "compute",
        "open_run",
        "read_rows",
        "run_study",
        "summarise",
    ]
    assert all(getattr(pico_analyze, name) for name in pico_analyze.__all__)
    with pytest.raises(AttributeError, match="no attribute 'cka'"):
        _ = pico_analyze.cka


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


def test_every_command_of_the_readme_works(runs, pico):
    for name in ("demo", "small", "a", "b", "c"):
        make_run(runs, name, seed=len(name), steps=(0, 8, 100))
    make_run(runs, "large", spec=SPEC.model_copy(update={"d_model": 24}), steps=(0, 8, 100))
    commands = re.findall(r"`pico-analyze ([^`]+)`", README.read_text().partition("## What it reads")[0])
    commands = [command for command in commands if "…" not in command and not command.startswith("run ")]
    assert len(commands) > 14
    for command in commands:
        words = command.split()
        words += [] if words[0] in ("list", "metrics", "components") else ["--format", "json"]
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
    frame = pico_analyze.compute(["cka", "rsa"], run, layers=[0], steps=[0, 8], sites=["attn.v"])
    assert len(frame) == 4
    assert pico_analyze.read_rows("analysis/demo").equals(frame)
    summary = pico_analyze.summarise(frame[frame["metric"] == "cka"], tau=0.5)
    assert list(summary["convergence_step"]) == [8]
    with pytest.raises(DataError, match=r"it has no rows\.parquet"):
        pico_analyze.read_rows("elsewhere")


def test_parameters_and_targets_reach_the_rows(runs):
    a, b = make_run(runs, "a"), make_run(runs, "b", seed=5)
    frame = pico_analyze.compute("cka", a, target=f"{b}@last", metric_params={"debiased": True})
    assert set(frame["target_run"]) == {"b"} and frame["params"].str.contains('"debiased": true').all()
    pairs = pico_analyze.compute("cka", [a, b], among_runs=True)
    assert set(zip(pairs["run"], pairs["target_run"], strict=True)) == {("a", "b")}
    norms = pico_analyze.compute("norm", a, component="ov_circuit", component_params={"form": "head"}, heads=False)
    assert set(norms["data"]) == {"weights"} and norms["head"].isna().all()
    with pytest.raises(UsageError, match="did you mean 'cka'"):
        pico_analyze.compute("cak", a)


def test_a_run_can_be_opened_and_a_tensor_read(run_dir):
    store = pico_analyze.open_run(run_dir)
    assert store.read(8, "val", "activations", "layers.0.attn.v").shape == (96, 8)


def test_a_study_gives_a_dataframe(runs):
    make_run(runs)
    Path("s.yaml").write_text("measurements:\n  - metrics: [cka]\n")
    assert len(pico_analyze.run_study("s.yaml")) == 30
