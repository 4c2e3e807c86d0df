"""kill -9 in mid-upload, publishers side by side, and what must never be written anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pico_conformance import Fault, Hub
from pico_conformance.runs import write_run
from pico_schema import layout
from pico_train.config import PublishConfig
from pico_train.publish.command import publish_run

REPO = "tester/model"
QUICK = PublishConfig(
    repo=REPO, timeout=5.0, retry_wait=0.05, retry_wait_max=0.5, slowest_upload=0.05, commits_per_hour=100_000
)
UPLOAD = {"lfs": "PUT /_lfs/put/", "xet": "POST /v1/xorbs/"}
TRAINER = """
import sys, time
from pathlib import Path
from pico_train.config import PublishConfig
from pico_train.publish import start_publisher
publisher = start_publisher(Path(sys.argv[1]), PublishConfig.model_validate_json(sys.argv[2]))
publisher.enqueue(0)
print("started", flush=True)
time.sleep(120)
"""


def titles(hub: Hub, branch: str = "demo") -> list[str]:
    repository = hub.repository("models", REPO)
    return [row["title"] for row in repository.log(repository.resolve(branch))][::-1][1:]


def wait_until(true: object, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("hub_mode", ["lfs", "xet"])
@pytest.mark.parametrize("victim", ["trainer", "worker"])
def test_a_kill_in_mid_upload_changes_nothing_and_the_next_run_finishes(
    hub: Hub, hub_mode: str, victim: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path, steps=(0,), max_steps=9)
    hub.faults.add(Fault(UPLOAD[hub_mode], "hang", delay=6.0, times=2))
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(run), QUICK.model_dump_json()], stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: hub.log.count(UPLOAD[hub_mode]))
        (worker,) = psutil.Process(trainer.pid).children()
        (trainer if victim == "trainer" else worker).send_signal(signal.SIGKILL)
        wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 5)
        assert titles(hub) == [], "no commit is visible"
        if victim == "worker":
            wait_until(lambda: titles(hub) == ["demo step 0"])  # a new worker took its place
            trainer.kill()
        hub.faults.clear()
        assert publish_run(run, QUICK).exit_code == 0
        assert titles(hub) == ["demo step 0"], "exactly one commit"
    finally:
        trainer.kill()
        trainer.wait()


@pytest.mark.parametrize("hub_mode", ["lfs", "xet"])
def test_four_publishers_with_conflicts_lose_nothing(hub: Hub, tmp_path: Path) -> None:
    """The same run, copied to four machines, published by all at once, while others commit to the branch too."""
    original = write_run(tmp_path / "0", steps=(0, 1, 2, 3))
    for machine in range(1, 4):
        shutil.copytree(tmp_path / "0", tmp_path / str(machine))
    hub.faults.add(
        Fault("POST .*/commit/demo", status=412, times=2),
        Fault("POST .*/commit/demo", "race", skip=1, times=2),
        Fault("POST .*/commit/demo", status=412, skip=2, times=2),
    )
    command = [
        sys.executable,
        "-m",
        "pico_train",
        "publish",
        "--max-attempts",
        "40",
        "--format",
        "json",
        "--repo",
        REPO,
    ]
    config = json.dumps(QUICK.model_dump(mode="json"))
    for machine in range(4):
        _set_publish(tmp_path / str(machine) / "demo", config)
    running = [
        subprocess.Popen([*command, str(tmp_path / str(machine) / "demo")], stdout=subprocess.PIPE, text=True)
        for machine in range(4)
    ]
    answers = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert all(row["state"] == "done" for answer in answers for row in json.loads(answer))
    mine = [title for title in titles(hub) if title.startswith("demo step")]
    assert sorted(mine) == [f"demo step {step}" for step in (0, 1, 2, 3)], "one commit for each step"
    assert sum("somebody else" in title for title in titles(hub)) == 2, "and the others' commits are kept"
    repository = hub.repository("models", REPO)
    parents = repository.git("log", "--format=%P", "demo").decode().split("\n")
    assert all(len(line.split()) <= 1 for line in parents), "a line, without merges"
    index = json.loads(repository.blob(repository.find(repository.resolve("demo"), layout.REVISIONS)["oid"]))
    assert [row["step"] for row in index["revisions"]] == [0, 1, 2, 3]
    assert len(repository.refs("refs/tags/")) == 4
    assert (original / layout.RUN_MANIFEST).is_file()


def _set_publish(run: Path, config: str) -> None:
    path = run / layout.RUN_MANIFEST
    document = json.loads(path.read_bytes())
    document["config"]["publish"] = json.loads(config)
    path.write_text(json.dumps(document))


CANARY = "hf_CanaryCanaryCanaryCanaryCanaryCa"


@pytest.mark.parametrize("hub_mode", ["lfs", "xet"])
def test_secrets_are_written_nowhere(hub: Hub, hub_mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DEBUG everywhere, failures of every sort; then every file, log, answer and commit is searched."""
    hub.tokens = {CANARY: "write"}
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setenv("HF_DEBUG", "1")
    for name in ("PICO_LOG_LEVEL", "RUST_LOG", "HF_HUB_VERBOSITY"):
        monkeypatch.setenv(name, "debug")
    run = write_run(tmp_path / "runs", steps=(0, 1))
    config = QUICK.model_dump(mode="json")
    _set_publish(run, json.dumps(config))
    signed = UPLOAD[hub_mode] + "|POST /v./shards|POST /_lfs/verify|xet-write-token"
    hub.faults.add(
        Fault(signed, status=500),
        Fault(signed, "truncate"),
        Fault(signed, "drop"),
        Fault(signed, status=400),
        Fault("POST .*/commit/", status=500),
    )
    command = [sys.executable, "-m", "pico_train", "publish", "--max-attempts", "40", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    log = (run / "publish" / "worker.log").read_text()
    assert "preupload" in log and len(log) > 10_000, "the log is a talkative one"
    repository = hub.repository("models", REPO)
    commits = repository.git("log", "--all", "--format=%B%an%ae").decode()
    objects = repository.git("cat-file", "--batch-all-objects", "--batch", "--buffer").decode(errors="replace")
    written = {"stdout": done.stdout, "stderr": done.stderr, "commits": commits, "git": objects}
    for path in tmp_path.rglob("*"):
        if path.is_file():
            written[str(path)] = path.read_bytes().decode(errors="replace")
    secrets = [CANARY, "xet_" + hub.sign("xet"), *_signatures(hub)]
    for where, text in written.items():
        for secret in secrets:
            assert secret not in text, f"{secret[:12]}… stands in {where}"


def _signatures(hub: Hub) -> list[str]:
    """Signatures of every address that the Hub signed."""
    what = [request.path.removeprefix("/_lfs/") for request in hub.log.matching("/_lfs/")]
    what += [request.path.removeprefix("/v1/get/") for request in hub.log.matching("/v1/get/")]
    return [hub.sign(one) for one in what]


def test_the_parents_death_ends_the_worker(hub: Hub, tmp_path: Path) -> None:
    """Also where another child of the trainer still holds the pipe open, as a forked data loader does."""
    run = write_run(tmp_path, steps=(0,), max_steps=9)
    code = TRAINER.replace("time.sleep(120)", "import os; os.fork(); time.sleep(600)")
    trainer = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(run), QUICK.model_dump_json()],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: hub.log.count("POST .*/tag/"))
        children = psutil.Process(trainer.pid).children()
        worker = next(child for child in children if "pico_train.publish.worker" in child.cmdline())
        trainer.kill()
        trainer.wait()
        wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 5)
    finally:
        os.killpg(trainer.pid, signal.SIGKILL)  # its forked child, which would hold the pipe for ten minutes
