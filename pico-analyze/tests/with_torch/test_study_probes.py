"""Studies that hold probes, shards of probing, and steps that come one by one."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

import pico_analyze
from pico_analyze.cli.app import app
from pico_analyze.errors import UsageError
from pico_analyze.probes.induction import SEQUENCES, repeated_tokens

V = 40
STEPS = (0, 5, 10, 20)
STUDY = """
name: small
probes: {names: [induction], data: rows.jsonl}
measurements: [{metrics: [effective_rank], data: [weights], sites: [attn.o]}]
transition: {metric: prefix_matching, least: 0}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    for step in STEPS:
        torch.manual_seed(step)
        model = transformers.LlamaForCausalLM(config)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.05 * step)
        model.save_pretrained(place / "m" / f"checkpoint-{step}")
    ids = np.random.default_rng(0).integers(10, 30, (6, 25))
    (place / "rows.jsonl").write_text("\n".join(json.dumps({"input_ids": row.tolist()}) for row in ids))
    (place / "small.yaml").write_text(STUDY)
    return place


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, str]:
    capsys.readouterr()
    app([str(word) for word in words], standalone_mode=False)
    return tuple(capsys.readouterr())


def test_a_study_tells_its_measurements_against_the_change_of_a_probe(here: Path, capsys) -> None:
    said, told = call(capsys, "run", "small.yaml", "m", "--out", here)
    directory = here / "m"
    text = (directory / "study-small.txt").read_text().rstrip("\n")
    assert said.rstrip("\n").endswith(text)
    assert text.startswith("m: prefix_matching of layer 0, head ")
    assert "effective_rank, steps " in text and "in_context_score" in text
    assert "prefix_matching · probe induction" in said or "prefix_matching" in said.split(text)[0]
    assert {"study-small.png", "behaviour-induction.png"} <= {path.name for path in directory.glob("*.png")}
    assert "study-small.png" in told
    table = pd.read_parquet(directory / "rows.parquet")
    assert {"behaviour", "weights"} == set(table["data"])
    known = table[table["metric"] == "prefix_matching"].pivot_table(index="step", columns="head", values="value")
    head = (known - known.loc[0]).abs().max().idxmax()
    assert f"layer 0, head {int(head)} goes from" in text.splitlines()[0], "the head that changes most"
    rows = json.loads(call(capsys, "run", "small.yaml", "m", "--out", here, "--format", "json", "--no-plot")[0])
    assert len(rows) == len(table), "all that there is, computed once"
    frame = pico_analyze.study("small.yaml", "m")
    assert sorted(frame["value"].dropna()) == pytest.approx(sorted(table["value"].dropna()), rel=1e-6)


def test_shards_bring_together_what_one_call_gives(here: Path) -> None:
    asked = {"data": "rows.jsonl", "probes": "induction,output_distance,token_losses", "target": "first"}
    whole = pico_analyze.behave("m", **asked, out=here / "whole")
    parts = [pico_analyze.behave("m", **asked, out=here / "parts", shard=f"{i}/3") for i in (1, 2, 3)]
    assert sorted(step for part in parts for step in part["step"].unique()) == list(STEPS)
    assert not (here / "parts" / "m" / "rows.parquet").exists(), "parts are brought together by a call without a shard"
    again = pico_analyze.behave("m", **asked, out=here / "parts")
    columns = ["step", "metric", "layer", "head", "params", "value", "target_step"]
    pd.testing.assert_frame_equal(whole[columns], again[columns])
    with pytest.raises(UsageError, match="a shard without a directory"):
        pico_analyze.behave("m", **asked, shard="1/2")
    with pytest.raises(UsageError, match="there is no shard 3 of 2"):
        pico_analyze.behave("m", **asked, out=here, shard="3/2")


def test_steps_come_from_standard_input(here: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["behave", "m", "--data", "rows.jsonl", "--probe", "induction,token_losses", "--no-plot"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("5\n\n0\n5\n20\n"))
    said, _ = call(capsys, *words, "--out", here / "came", "--steps", "-", "--format", "json")
    asked, _ = call(capsys, *words, "--out", here / "asked", "--steps", "0,5,20", "--format", "json")
    drop = {"provenance"}
    one, other = (
        [{k: v for k, v in row.items() if k not in drop} for row in json.loads(text)] for text in (said, asked)
    )
    assert one == other
    assert {row["step"] for row in one if row["metric"] == "forgotten"} == {5, 20}, "told at the end"


@pytest.mark.parametrize(
    ("lines", "more", "says"),
    [
        ("5\nfive\n", [], "'five' is no step: give one a line"),
        ("9" * 30, [], "is no step"),
        ("", [], "standard input named no step"),
        ("7\n", [], "step 7 does not exist"),
        ("5\n", ["--shard", "1/2"], "--steps - and --shard exclude each other"),
    ],
)
def test_what_is_no_step_is_said(here: Path, monkeypatch, lines: str, more: list[str], says: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    words = ["behave", "m", "--data", "rows.jsonl", "--probe", "induction", "--out", str(here), "--steps", "-", *more]
    with pytest.raises(UsageError, match=says):
        app(words, standalone_mode=False)


@pytest.mark.usefixtures("here")
def test_random_tokens_are_drawn_from_those_seen() -> None:
    """Against attention of transformers on the same tokens: 10 to 29 alone are in the rows."""
    asked = {"data": "rows.jsonl", "probes": "induction", "steps": "20"}
    frame = pico_analyze.behave("m", **asked, probe_params={"tokens": "seen"})
    rows = frame[frame["metric"] == "prefix_matching"].sort_values("head")
    assert json.loads(rows["params"].iloc[0])["tokens"] == "seen"
    ids = repeated_tokens(np.arange(10, 30), 16, SEQUENCES, 0)
    assert ids.min() >= 10 and ids.max() < 30
    model = transformers.LlamaForCausalLM.from_pretrained("m/checkpoint-20", attn_implementation="eager").eval()
    with torch.no_grad():
        (attention,) = model(torch.tensor(ids), output_attentions=True).attentions
    expected = attention[:, :, 16:].diagonal(1, -2, -1).double().mean((0, 2))
    assert rows["value"].to_numpy(float) == pytest.approx(expected.numpy(), abs=1e-6)
    usual = pico_analyze.behave("m", **asked)
    assert "tokens" not in json.loads(usual[usual["metric"] == "prefix_matching"]["params"].iloc[0])


def test_what_curvature_costs_is_told_before_it_begins(here: Path) -> None:
    words = [sys.executable, "-m", "pico_analyze", "behave", "m", "--data", "rows.jsonl", "--probe", "curvature"]
    done = subprocess.run([*words, "--out", str(here)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert (
        last.startswith("error: curvature at 4 steps take about") and "--yes begins it, and so does --budget " in last
    )
