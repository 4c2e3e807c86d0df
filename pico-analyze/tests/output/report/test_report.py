"""`pico-analyze report`: a page of runs and tables, what it says where something is wrong, and the page of a run that
still trains."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from figure_rows import lines_of
from synthetic import make_run

import pico_analyze
from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Settings
from pico_analyze.errors import StorageError
from pico_analyze.output.report.batches import batches
from pico_analyze.output.report.cubes import AXES
from pico_analyze.output.report.document import Shown, document
from pico_analyze.output.report.live import LiveServer
from pico_analyze.output.report.logs import lines, thin
from pico_analyze.questions.builder import questions
from pico_analyze.questions.overview import overview
from pico_analyze.reports import Asked, Means, made
from pico_analyze.stores.opening import open_store
from pico_analyze.table.arrays_file import write_arrays
from pico_schema import Evaluation, Producer, documents, layout

LOG = (
    '{"step": 0, "loss": 8.5, "lr": 0.001, "grad_norm": 2.5, "note": "x"}\n'
    '{"step": 4, "loss": 6.5, "lr": 1e999, "val_loss": 7.0}\n{"step": 8, "lo'
)


def document_in(path: Path) -> dict[str, Any]:
    """The document of a page, as its reader gets it."""
    block = re.search(r'id="document"[^>]*>(.*?)</script>', path.read_text(encoding="utf-8"), re.S)
    assert block is not None
    found: dict[str, Any] = json.loads(block[1])
    return found


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    run = make_run(root / "runs")
    (run / "metrics.jsonl").write_text(LOG)
    pico_analyze.report(run, out=root / "first.html", analyses=root / "analysis", threads=1)
    return root


def test_a_run_is_measured_and_shown(analyzed: Path) -> None:
    """Its card, what it logged, a cube each metric, and the commands that make the rows again."""
    document = document_in(analyzed / "first.html")
    [run] = document["runs"]
    asked = sorted((cube["metric"], cube["component"], cube["data"]) for cube in document["cubes"])
    assert asked == [
        ("cka", "simple", "activations"),
        ("effective_rank", "ov_circuit", "weights"),
        ("effective_rank", "simple", "activations"),
        ("effective_rank", "simple", "weights"),
        ("norm", "simple", "gradients"),
        ("norm", "simple", "weights"),
    ]
    assert dict(dict(run["facts"])["architecture"])["n_layers"] == "2"
    assert dict(dict(run["facts"])["made by"])["producer"] == "pico-train 2.0.0"
    panels = {(line["panel"], line["name"]): line for line in run["lines"]}
    assert panels["loss", "train"]["values"][:1] == [8.5]
    assert all(np.isfinite(panels["learning rate", ""]["values"]))  # 1e999 is left out
    assert panels["gradient norm", ""]["values"] == [2.5]
    assert [one["step"] for one in run["checkpoints"]] == [0, 1, 2, 4, 8]
    commands = " ".join(run["commands"])
    assert "pico-analyze compute cka" in commands and "--component ov_circuit" in commands
    assert document["command"].startswith("pico-analyze report ")


def test_the_values_are_those_of_the_table(analyzed: Path) -> None:
    import base64

    document, rows = document_in(analyzed / "first.html"), pico_analyze.read_rows(analyzed / "analysis" / "demo")
    assert sum(len(cube["axes"]["step"]) > 0 for cube in document["cubes"]) == 6
    for cube in document["cubes"]:
        axes = cube["axes"]
        shape = [len(names) for names in axes.values()]
        text = cube["arrays"].get("table") or cube["arrays"]["value"]
        array = np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)
        mine = rows
        for name in ("metric", "component", "data"):
            mine = mine[mine[name] == cube[name]]
        assert int(np.isfinite(array).sum()) == int(mine["value"].notna().sum())
        for row in mine.sample(min(len(mine), 25), random_state=0).to_dict("records"):
            found = [None if pd.isna(row[axis]) else row[axis] for axis in AXES[:-1]]
            place = tuple(axis.index(name) for axis, name in zip(axes.values(), [*found, None], strict=True))
            assert array[place] == np.float32(row["value"])


def test_the_commands_of_a_page_compute_its_rows_again(analyzed: Path, tmp_path: Path, pico) -> None:
    import shlex

    [run] = document_in(analyzed / "first.html")["runs"]
    for command in run["commands"]:
        words = shlex.split(command)[1:]
        words[words.index("--out") + 1] = str(tmp_path / "again")
        answer = pico(*words, "--no-plot", "--threads", "1")
        assert answer.code == 0, answer.err
    first, again = (pico_analyze.read_rows(folder / "demo") for folder in (analyzed / "analysis", tmp_path / "again"))
    assert set(again["digest"]) == set(first["digest"])


def test_a_second_page_computes_nothing_anew_and_is_the_same_file(analyzed: Path) -> None:
    counted: list[int] = []

    def counting(*words: Any) -> Any:
        outcome = analyze(*words)
        counted.append(outcome.new_rows)
        return outcome

    asked = Asked([analyzed / "runs" / "demo"], analyses=analyzed / "analysis", threads=1)
    again = made(replace(asked, means=Means(counting, lambda *_: None)), "again")
    assert counted == [0]
    assert again["cubes"] == document_in(analyzed / "first.html")["cubes"]


def test_tables_are_shown_as_they_are(analyzed: Path, tmp_path: Path, pico) -> None:
    """A folder, a Parquet file, a CSV of it: the same values; the run may be gone."""
    table = analyzed / "analysis" / "demo"
    found = {}
    for name, words in {
        "folder": [table],
        "parquet": ["--table", table / "rows.parquet"],
        "csv": ["--table", table / "rows.csv"],
    }.items():
        answer = pico("report", *words, "--out", tmp_path / f"{name}.html", "--analyses", analyzed / "analysis")
        assert answer.code == 0, answer.err
        found[name] = document_in(tmp_path / f"{name}.html")
    assert found["folder"]["cubes"] == found["parquet"]["cubes"] == found["csv"]["cubes"]
    assert found["folder"]["runs"][0]["facts"] and not found["csv"]["runs"][0]["facts"]
    moved = tmp_path / "gone"
    shutil.copytree(table, moved)
    source = json.loads((moved / "source.json").read_text())
    (moved / "source.json").write_text(json.dumps(source | {"location": str(tmp_path / "nowhere")}))
    answer = pico("report", moved, "--out", tmp_path / "gone.html")
    assert answer.code == 0, answer.err
    assert "the rows alone are shown" in document_in(tmp_path / "gone.html")["notes"][0]


def test_runs_of_one_name_are_told_apart(analyzed: Path, tmp_path: Path) -> None:
    table = analyzed / "analysis" / "demo" / "rows.parquet"
    path = pico_analyze.report(out=tmp_path / "two.html", tables=[table, table])
    document = document_in(path)
    assert [run["name"] for run in document["runs"]] == ["demo", "demo (2)"]
    assert document["cubes"][0]["axes"]["run"] == ["demo", "demo (2)"]


def test_what_a_run_does_not_hold_is_said_and_the_rest_shown(tmp_path: Path) -> None:
    """Weights alone, one step: no comparison, no activations, and a page."""
    run = make_run(tmp_path / "runs", "bare", steps=(3,), splits=())
    path = pico_analyze.report(run, out=tmp_path / "r.html", analyses=tmp_path / "analysis", threads=1)
    assert {cube["data"] for cube in document_in(path)["cubes"]} == {"weights"}
    assert [len(cube["axes"]["step"]) for cube in document_in(path)["cubes"]] == [1, 1, 1]


def test_warnings_stand_on_the_page(tmp_path: Path) -> None:
    """What is left out of a run, and what a measurement skipped."""
    run = make_run(tmp_path / "runs", steps=(0, 1, 2), lacking={1: ("val",)})
    (run / "checkpoints" / ".tmp-step-00000009").mkdir()
    document = document_in(pico_analyze.report(run, out=tmp_path / "r.html", analyses=tmp_path / "a", threads=1))
    assert "unfinished" in document["runs"][0]["warnings"][0]
    assert any("2 of 3 checkpoints hold val activations" in note for note in document["notes"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere"], 3, "nowhere"),
        (["--table", "none.csv"], 3, "there is no such file"),
        (["--table", "bad.csv"], 3, "is not a table of rows"),
        (["--table", "few.csv"], 3, "it has no column 'step'"),
        (["--table", "json.csv"], 3, "is no JSON"),
        (["--study", "nothing.yaml"], 2, "nothing.yaml"),
        (["--table", "few.csv", "--live"], 2, "leave --table out"),
        (["--port", "99999"], 2, "65535"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], code: int, said: str, runs: Path, pico) -> None:
    rows = lines_of(layers=1, steps=(0,))
    rows.assign(params="{").to_csv("json.csv", index=False)
    rows.drop(columns="step").to_csv("few.csv", index=False)
    Path("bad.csv").write_bytes(b"run,step\nm,\xff\xfe\n")
    if words[:2] == ["--study", "nothing.yaml"]:
        make_run(runs, steps=(0, 1))
    answer = pico("report", *words)
    assert answer.code == code, answer.err
    assert said in answer.error
    assert not Path("report.html").exists()


def test_a_folder_is_no_file_and_a_full_disk_leaves_the_old_page(analyzed: Path, tmp_path: Path, pico) -> None:
    table = analyzed / "analysis" / "demo"
    answer = pico("report", table, "--out", tmp_path)
    assert (answer.code, "is a folder" in answer.error) == (2, True)
    (tmp_path / "file").write_text("x")
    answer = pico("report", table, "--out", tmp_path / "file" / "r.html")
    assert (answer.code, "writing failed" in answer.error) == (4, True)


def test_thinned_lines_keep_their_peaks_and_ends() -> None:
    values = np.sin(np.arange(100_000) / 50)
    values[[777, 54_321]] = [9, -9]
    kept = thin(values, 3000)
    assert len(kept) <= 3000
    assert {0, 777, 54_321, 99_999} <= set(kept.tolist())
    assert thin(values[:10], 3000).tolist() == list(range(10))


def test_counts_and_errors_of_results_are_no_lines(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    store = open_store(run)
    values = {"accuracy": 0.5, "accuracy_se": 0.1, "n_pairs": 600, "macro_accuracy": 0.5}
    perplexity = {"bits_per_byte": 1.5, "loss_se": 0.1, "n_bytes": 9, "n_documents": 3, "n_near_duplicates": 0}
    tasks = {"pairs": values, "pairs/n_words": values, "validation": perplexity}
    info = store.steps()[-1]
    evaluation = Evaluation(
        run_id=documents.read_run(run).id,
        step=info.step,
        manifest_sha256=info.digest,
        created="2026-01-01T00:00:00Z",
        producer=Producer(name="test", version="1"),
        tasks=tasks,
    )
    (run / layout.EVALUATIONS).mkdir()
    documents.write(run / layout.evaluation_file(info.step), evaluation)
    assert [line.panel for line in lines(open_store(run)) if line.marks and line.panel != "loss"] == [
        "pairs accuracy",
        "pairs macro_accuracy",
        "pairs/n_words accuracy",
        "pairs/n_words macro_accuracy",
        "validation bits_per_byte",
    ]


def test_a_log_without_checkpoints_is_lines_too(analyzed: Path) -> None:
    store = open_store(analyzed / "runs" / "demo")
    assert {line.panel for line in lines(store)} >= {"loss", "learning rate", "gradient norm"}


def test_losses_of_tokens_belong_to_the_rows_that_were_read(tmp_path: Path) -> None:
    """The digest in a row's parameters says which validation rows a probe read; of others nothing is shaded."""
    import hashlib

    golden = Path(__file__).resolve().parents[4] / "shared-schema/conformance/golden/1.2/golden"
    store: Any = open_store(golden)
    ids = store.validation_rows().ids_NT
    kept = np.ascontiguousarray(ids[[1, 3]], np.int32)  # 2 of 4, evenly spaced
    digest = hashlib.sha256(repr(kept.shape).encode() + kept.tobytes()).hexdigest()[:12]
    losses = np.arange(kept[:, 1:].size, dtype=np.float32).reshape(2, -1)
    write_arrays(tmp_path / "behaviour/token_losses/step-00000004-d.safetensors", {"losses": losses}, "d")
    common = {"run": store.run, "step": [4], "site": "token_losses", "metric": "mean_loss", "digest": "d"}
    frame = pd.DataFrame(common | {"n_samples": 2, "params": json.dumps({"rows": digest})})
    found = batches(store, frame, tmp_path)
    shading = found["losses"][4]
    assert np.isnan(shading[[0, 2]]).all() and np.isnan(shading[:, 0]).all()
    np.testing.assert_array_equal(shading[[1, 3], 1:], losses)
    assert "".join(found["texts"][int(token)] for token in ids[0]) == store.validation_rows().texts[0] or found["texts"]
    other = frame.assign(params=json.dumps({"rows": "another"}))
    assert batches(store, other, tmp_path)["losses"] == {}
    train = [one for one in found["batches"] if one["split"] == "train"]
    np.testing.assert_array_equal(train[0]["ids"], store.batch_rows(0).ids_NT)
    assert found["warnings"] == []
    damaged = tmp_path / "behaviour/token_losses/step-00000004-d.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    found = batches(store, frame, tmp_path)
    assert found["losses"] == {} and [str(damaged) in text for text in found["warnings"]] == [True]
    damaged.unlink()  # taken away, which is allowed
    assert batches(store, frame, tmp_path)["warnings"] == []


def test_what_is_damaged_of_the_rows_stands_on_the_card(analyzed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"texts": {}, "batches": [], "losses": {}, "warnings": ["losses of tokens at step 4 are not shown: why"]}
    monkeypatch.setattr("pico_analyze.output.report.document.batches", lambda *_: told)
    [shown] = document([Shown(store=open_store(analyzed / "runs" / "demo"))], [])["runs"]
    assert shown["warnings"] == told["warnings"]


def get(server: LiveServer, path: str, **headers: str) -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.getheader("ETag")
    connection.close()
    return found


def test_the_live_page_gives_its_newest_document_to_those_who_mean_it() -> None:
    server = LiveServer("127.0.0.1", 0)
    try:
        assert get(server, "/")[0] == 503
        document = {"title": "</script>", "cubes": [], "runs": []}
        assert server.publish(document) and not server.publish(document)
        status, content, tag = get(server, "/")
        assert status == 200 and b"connect-src 'self'" in content and f'data-live="{tag}"'.encode() in content
        assert get(server, "/document", **{"If-None-Match": str(tag)})[0] == 304
        server.publish(document | {"title": "new"})
        status, content, _ = get(server, "/document", **{"If-None-Match": str(tag)})
        assert status == 200 and json.loads(content)["title"] == "new"
        assert get(server, "/../etc/passwd")[0] == 404
        assert get(server, "/", Host="attacker.example")[0] == 403
        with pytest.raises(StorageError, match="cannot be listened on"):
            LiveServer("127.0.0.1", server.port)
    finally:
        server.close()


def test_a_growing_run_is_measured_step_by_step(tmp_path: Path) -> None:
    """A new checkpoint costs its own rows: what was computed before stays."""
    run = make_run(tmp_path / "runs", steps=(0, 1, 2))
    whole, last = (run / "run.json").read_text(), run / "checkpoints" / "step-00000002"
    document = json.loads(whole)
    (run / "run.json").write_text(json.dumps(document | {"checkpoints": document["checkpoints"][:2]}))
    shutil.move(last, tmp_path / "later")
    settings = Settings(out=tmp_path / "analysis", threads=1)

    def measured() -> Any:
        config, _ = overview(open_store(run), growing=True)
        wanted = [question for one in config.measurements for question in questions(one)]
        return analyze([(run, question) for question in wanted], settings)

    assert set(measured().frame["step"]) == {0, 1}
    shutil.move(tmp_path / "later", last)
    (run / "run.json").write_text(whole)
    grown = measured()
    assert grown.new_rows == int((grown.frame["step"] == 2).sum()) > 0
    assert measured().new_rows == 0


def test_the_findings_lead_to_their_panels(analyzed: Path) -> None:
    """Each has words of an address that name a panel, and a place that its axes have."""
    found = made(Asked([analyzed / "runs" / "demo"], analyses=analyzed / "analysis"), "command")
    assert found["findings"], "something stands out in five checkpoints that converge"
    panels = {}
    for cube in found["cubes"]:
        params = f"[{cube['params']}]" if cube["params"] else ""
        panels[f"{cube['metric']}{params}:{cube['component']}:{cube['data']}"] = cube
    for one in found["findings"]:
        assert one["text"].endswith(".") and one["caveat"].endswith(".")
        axes = panels[one["selection"]["metric"]]["axes"]
        for name in ("run", "site", "split", "layer", "head"):
            if name in one["selection"]:
                assert one["selection"][name] in axes[name], one


def test_live_serves_here_alone_and_ends_at_once(analyzed: Path) -> None:
    words = [sys.executable, "-m", "pico_analyze", "report", analyzed / "runs" / "demo", "--live"]
    words += ["--analyses", analyzed / "analysis", "--threads", "1"]
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), process.communicate()
        connection = http.client.HTTPConnection(address.split("/")[2], timeout=60)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)  # it waits for nobody: 0.3 s, on a machine that is not busy
        assert process.returncode == 130
        assert "Traceback" not in told
    finally:
        process.kill()


def test_a_run_is_named_as_everywhere(runs: Path) -> None:
    """``demo`` is runs/demo, and so is no name where it changed last."""
    make_run(runs, "demo")
    named = document_in(pico_analyze.report("demo", threads=1))
    newest = document_in(pico_analyze.report(out="newest.html", threads=1))
    assert len(named["cubes"]) == len(newest["cubes"]) == 6
    assert not [note for document in (named, newest) for note in document["notes"] if "left out" in note]
