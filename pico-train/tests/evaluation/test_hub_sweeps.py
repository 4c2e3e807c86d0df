"""Sweeps over what lies on the Hub: a published run, killed and gone on with; a foreign series in one command."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from support.publishing import content as files_of
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch
from typer.testing import CliRunner

from pico_conformance.faults import Fault
from pico_conformance.published import put_files, put_run
from pico_conformance.pythia import put_pythia
from pico_schema import Evaluation, documents, evaluated, layout
from pico_train.cli.app import app
from pico_train.errors import PicoTrainError

REPO, PYTHIA = "tester/model", "EleutherAI/pythia-70m"
TASKS = "validation,order=pairs:{0}/pairs.jsonl,text:{0}/texts.jsonl"


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory) -> Path:
    """A run with checkpoints at 0, 3, 6, 9 and 12, of which nothing but held-out loss was measured on the way."""
    out = tmp_path_factory.mktemp("runs")
    launch(train_until, config(out, text, training__max_steps=12))
    shutil.rmtree(out / "tiny" / layout.EVALUATIONS)
    return out / "tiny"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


def call(*words: str | Path) -> tuple[int, str, str]:
    """The command in this process: exit code, what it prints, and what goes wrong as the sentence that is said."""
    done = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    error = done.exception
    if error is not None and not isinstance(error, SystemExit):
        assert isinstance(error, PicoTrainError), repr(error)
        return error.exit_code, done.output, str(error)
    return done.exit_code, done.stdout, done.stderr


def killed_at(line: str, *words: str | Path) -> list[str]:
    """What the command said before SIGKILL, which it gets when it says what begins so."""
    command = [sys.executable, "-m", "pico_train", "evaluate", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    said = []
    for each in process.stderr:
        said.append(each.strip())
        if each.startswith(line):
            os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, said
    return said


def measured(said: str | list[str]) -> list[str]:
    """Steps and tasks that were measured, as the command tells of them."""
    lines = said.splitlines() if isinstance(said, str) else said
    return [line.partition(": ")[0][5:] + " " + line.split(": ")[1] for line in lines if line.startswith("step ")]


def numbers(tasks: dict) -> dict[tuple[str, str], float]:
    return {(task, name): value for task, of in tasks.items() for name, value in of.items() if name != "task"}


def commits_of_weights(hub, since: int = 0) -> set[str]:
    """Commits of which weights were asked for."""
    rows = hub.log.matching(r"/resolve/.*model\.safetensors", since)
    return {row.path.split("/resolve/")[1].split("/")[0] for row in rows}


ALL = [f"{step} {task}" for step in (0, 3, 6, 9, 12) for task in ("validation", "order", "texts")]


@pytest.fixture
def published(hub, trained) -> str:
    put_run(hub, trained, REPO)
    return f"hf://{REPO}@{layout.branch_name('tiny')}"


def test_a_sweep_over_a_published_run_that_is_killed_goes_on(hub, published, trained, held, tmp_path):
    tasks = TASKS.format(held)
    first = measured(killed_at("step 3: order", published, "--tasks", tasks))
    assert first == ALL[: len(first)] and 5 <= len(first) < len(ALL)
    code, out, said = call(published, "--tasks", tasks, "--format", "json")
    again = measured(said)
    # The kill may come a task after the line that called for it: at most that one is kept without having been told of.
    assert code == 0 and again == ALL[len(ALL) - len(again) :] and len(first) <= len(ALL) - len(again) <= len(first) + 1
    rows = json.loads(out)
    local = shutil.copytree(trained, tmp_path / "local" / "tiny")
    code, out, _ = call(local, "--tasks", tasks, "--format", "json")
    assert code == 0 and [row["step"] for row in rows] == [0, 3, 6, 9, 12]
    for ours, theirs in zip(rows, json.loads(out), strict=True):
        assert numbers(ours["tasks"]) == pytest.approx(numbers(theirs["tasks"]), rel=1e-6, abs=1e-9)
    since = hub.log.mark()
    code, out, said = call(published, "--tasks", tasks)
    assert code == 0 and "0 results measured now" in out and measured(said) == []
    assert not hub.log.count(r"model\.safetensors", since)


def test_results_stay_when_the_branch_goes_on_before_they_were_pushed(hub, published):
    """The same checkpoints at another commit of the branch: they are not measured a second time."""
    code, _, said = call(published, "--tasks", "validation", "--steps", "0,3")
    assert (code, measured(said)) == (0, ["0 validation", "3 validation"])
    put_files(hub, REPO, layout.branch_name("tiny"), {"README.md": b"a card\n"})
    code, out, said = call(published, "--tasks", "validation", "--steps", "0,3,6", "--format", "json")
    assert (code, measured(said)) == (0, ["6 validation"])
    assert [row["tasks"]["validation"]["n_documents"] for row in json.loads(out)] == [4, 4, 4]


def test_only_the_checkpoints_that_are_meant_are_fetched(hub, published):
    code, _, _ = call(published, "--tasks", "validation", "--steps", "6")
    assert code == 0
    assert commits_of_weights(hub) == {hub.repository("models", REPO).resolve(layout.tag_name("tiny", 6))}


# -- models of others


@pytest.fixture
def pythia(hub, tmp_path, monkeypatch) -> str:
    """Three steps of a small GPT-NeoX, each a branch."""
    put_pythia(hub, PYTHIA, steps=(0, 512, 3000))
    monkeypatch.chdir(tmp_path)
    return f"hf://{PYTHIA}"


def log_probability(hub, folder: Path, revision: str, text: str) -> float:
    """Of a text behind its end-of-text token, by transformers, in nats."""
    import transformers
    from tokenizers import Tokenizer

    if not folder.is_dir():
        folder.mkdir()
        for name, content in files_of(hub, revision, PYTHIA).items():
            (folder / name).write_bytes(content)
    model = transformers.GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([[0, *Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids]])
    with torch.no_grad():
        logs = model(ids[:, :-1]).logits[0].double().log_softmax(-1)
    return float(logs[torch.arange(ids.shape[1] - 1), ids[0, 1:]].sum())


def test_a_foreign_series_on_the_hub_is_measured_in_one_command(hub, pythia, held, tmp_path):
    tasks = TASKS.format(held).removeprefix("validation,")
    code, out, said = call(f"{pythia}@step0,step3000", "--tasks", tasks, "--format", "json")
    assert code == 0, said
    rows = json.loads(out)
    assert [row["step"] for row in rows] == [0, 3000]
    assert rows[1]["file"] == "evaluated/EleutherAI--pythia-70m/evaluations/step-00003000.json"
    records = [json.loads(line) for line in (held / "pairs.jsonl").read_text().splitlines()]
    texts = [json.loads(line)["text"] for line in (held / "texts.jsonl").read_text().splitlines()]
    for row in rows:

        def of(text: str, step: int = row["step"]) -> float:
            return log_probability(hub, tmp_path / f"step{step}", f"step{step}", text)

        margins = [of(record["sentence_good"]) - of(record["sentence_bad"]) for record in records]
        assert row["tasks"]["order"]["margin"] == pytest.approx(sum(margins) / 2, rel=1e-5, abs=1e-5)
        short = [text for text in texts if len(text) < 100]  # a token for each character: those that fit the context
        bits = -sum(map(of, short)) / math.log(2) / sum(map(len, short))
        one = held / "short.jsonl"
        one.write_text("\n".join(json.dumps({"text": text}) for text in short))
        code, out, _ = call(f"{pythia}@step{row['step']}", "--tasks", f"text:{one}", "--format", "json")
        assert code == 0 and json.loads(out)[0]["tasks"]["short"]["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    found = documents.read(tmp_path / rows[1]["file"], Evaluation)
    assert found.run_id == evaluated.series_id(pythia) and found.step == 3000
    # The whole series: what is known already is neither measured nor fetched.
    since = hub.log.mark()
    code, _, said = call(pythia, "--tasks", tasks)
    assert code == 0 and measured(said) == ["512 order", "512 texts"]
    assert commits_of_weights(hub, since) == {hub.repository("models", PYTHIA).resolve("step512")}


def test_a_foreign_sweep_that_is_killed_goes_on(pythia, held):
    tasks = TASKS.format(held).removeprefix("validation,")
    every = [f"{step} {task}" for step in (0, 512, 3000) for task in ("order", "texts")]
    first = measured(killed_at("step 512: order", pythia, "--tasks", tasks))
    assert first == every[: len(first)] and 3 <= len(first) < 6
    code, _, said = call(pythia, "--tasks", tasks)
    again = measured(said)
    assert code == 0 and again == every[6 - len(again) :] and len(first) <= 6 - len(again) <= len(first) + 1
    code, out, _ = call(pythia, "--tasks", tasks)
    assert code == 0 and "0 results measured now" in out


def test_a_model_whose_weights_changed_is_measured_anew(hub, pythia, held):
    words = (f"{pythia}@step512", "--tasks", f"order=pairs:{held}/pairs.jsonl")
    assert measured(call(*words)[2]) == ["512 order"]
    put_pythia(hub, PYTHIA, steps=(512,), seed=9)
    assert measured(call(*words)[2]) == ["512 order"]
    put_files(hub, PYTHIA, "step512", {"README.md": b"a card\n"})
    assert measured(call(*words)[2]) == []


def test_a_revision_by_itself_has_results_of_its_own(pythia, held):
    task = f"order=pairs:{held}/pairs.jsonl"
    code, out, _ = call(f"{pythia}@main", "--tasks", task, "--format", "json")
    assert (
        code == 0
        and json.loads(out)[0]["file"] == "evaluated/EleutherAI--pythia-70m-main/evaluations/step-00000000.json"
    )


@pytest.mark.parametrize(
    ("revision", "code", "says"),
    [
        ("step513", 2, "has no branch or tag 'step513'; did you mean 'step512'?: it has"),
        ("step0,main", 2, "@main: the name tells no step: evaluate it by itself"),
        ("step0,step00", 2, "has no branch or tag 'step00'"),
        ("0123456789abcdef", 3, "there is no such revision"),
    ],
)
def test_revisions_that_cannot_be_meant_are_one_sentence(pythia, held, revision, code, says):
    found, out, said = call(f"{pythia}@{revision}", "--tasks", f"pairs:{held}/pairs.jsonl")
    assert (found, says in said + out) == (code, True), said + out


def test_pickled_weights_are_refused_before_they_are_fetched(hub, held):
    put_files(hub, "tester/old", "step1", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    code, _, said = call("hf://tester/old", "--tasks", f"pairs:{held}/pairs.jsonl")
    assert code == 3 and "hf://tester/old@step1: has no config.json beside weights in safetensors" in said
    assert not hub.log.matching(r"tester/old/resolve")


def test_a_file_that_comes_damaged_is_told_of_and_the_others_are_measured(hub, pythia, held):
    hub.faults.add(Fault("GET .*_(cdn|lfs)/", "flip", at=0.9))
    code, _, said = call(pythia, "--tasks", f"order=pairs:{held}/pairs.jsonl")
    assert not hub.faults.pending
    assert (
        code == 3 and "step 0: not measured" in said and "model.safetensors is not the file that the Hub lists" in said
    )
    assert measured([line for line in said.splitlines() if "not measured" not in line]) == ["512 order", "3000 order"]


@pytest.mark.parametrize("order", ["first", "last"])
def test_newer_results_of_another_commit_take_the_place_of_older_ones(hub, published, order):
    """Whichever of the commits is listed first: its name is that of a hash."""
    words = (published, "--tasks", "validation", "--steps", "3", "--format", "json")
    assert call(*words)[0] == 0
    put_files(hub, REPO, layout.branch_name("tiny"), {"README.md": b"a card\n"})
    assert call(*words, "--again")[0] == 0  # at the second commit, later than at the first
    files = sorted(Path(os.environ["PICO_CACHE"]).rglob(f"tiny/{layout.evaluation_file(3)}"))
    assert len(files) == 2
    newest, oldest = files if order == "first" else files[::-1]
    for path, loss, age in ((newest, 1.25, 60), (oldest, 8.75, 3600)):
        found = documents.read(path, Evaluation)
        tasks = {"validation": {**found.tasks["validation"], "loss": loss}}
        when = datetime.now(UTC) - timedelta(seconds=age)
        documents.write(path, found.model_copy(update={"tasks": tasks, "created": when}))
    put_files(hub, REPO, layout.branch_name("tiny"), {"README.md": b"another card\n"})
    code, out, said = call(*words)
    assert (code, measured(said)) == (0, []) and json.loads(out)[0]["tasks"]["validation"]["loss"] == 1.25


def test_a_copy_that_is_cut_off_leaves_no_half_of_a_file(tmp_path, monkeypatch):
    """Where the cache cannot be linked to, files are copied: they have their names once they are whole."""
    from pico_train import hub_runs

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    def half(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:3])
        raise KeyboardInterrupt

    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(hub_runs.os, "link", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(hub_runs.shutil, "copyfile", half)
        with pytest.raises(KeyboardInterrupt):
            hub_runs._place(tmp_path / "fetched", tmp_path / "run", ["model.safetensors"])
    assert not (tmp_path / "run" / "model.safetensors").exists()
    hub_runs._place(tmp_path / "fetched", tmp_path / "run", ["model.safetensors"])
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == b"weights"
