"""Analyses in wandb, read back from the offline run's file with wandb's own reader (`wandb leet inspect`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pico_analyze.errors import UsageError
from pico_analyze.output.wandb import MAX_CURVES, curves, log_analysis

pytest.importorskip("wandb", reason="the wandb extra is not installed")

FRAME = pd.DataFrame(
    {
        "run": "demo",
        "step": [0, 1, 0, 1],
        "metric": "cka",
        "component": "simple",
        "site": "attn.v",
        "layer": [0, 0, 1, 1],
        "head": pd.array([None, None, 2, 2], dtype="Int64"),
        "params": "{}",
        "value": [0.25, 1.0, float("nan"), 0.5],
        "reason": [None, None, "zero matrix", None],
    }
)
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)  # one pixel


def read_back(directory: Path) -> list[dict[str, Any]]:
    (path,) = directory.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_table_figures_and_curves_are_in_the_offline_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    figure = tmp_path / "cka-val.png"
    figure.write_bytes(PNG)
    where = log_analysis(FRAME, [figure], name="cka of demo", directory=tmp_path)
    assert where is not None
    rows = read_back(where)
    (run,) = [row["run"] for row in rows if row["type"] == "run"]
    assert (run["display_name"], run["job_type"]) == ("cka of demo", "analysis")
    items = [row["history"]["item"] for row in rows if row["type"] == "history"]
    assert items[0]["analysis._type"] == "table-file"
    assert items[0]["figures/cka-val._type"] == "image-file"
    table = json.loads((where / "files" / items[0]["analysis.path"]).read_text())
    assert table["columns"] == list(FRAME.columns)
    assert table["data"][0][:6] == ["demo", 0, "cka", "simple", "attn.v", 0]
    assert table["data"][2][-2:] == [None, "zero matrix"], "what is undefined keeps its reason"
    assert (where / "files" / items[0]["figures/cka-val.path"]).read_bytes() == PNG
    first, second = items[1:]
    assert first["step"] == 0 and first["cka/simple/attn.v/layer 0"] == 0.25
    assert second["step"] == 1 and second["cka/simple/attn.v/layer 1/head 2"] == 0.5


def test_curves_leave_out_what_is_undefined_and_are_bounded() -> None:
    assert curves(FRAME) == [
        (0, {"cka/simple/attn.v/layer 0": 0.25}),
        (1, {"cka/simple/attn.v/layer 0": 1.0, "cka/simple/attn.v/layer 1/head 2": 0.5}),
    ]
    many = pd.DataFrame({"step": 0, "metric": "norm", "layer": range(1000), "value": 1.0})
    ((_, values),) = curves(many)
    assert len(values) == MAX_CURVES


def test_without_wandb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"pip install 'pico-analyze\[wandb\]'"):
        log_analysis(FRAME, [], name="x")
