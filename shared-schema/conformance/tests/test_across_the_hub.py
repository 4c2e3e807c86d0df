"""Train in one environment, publishing step by step to the loopback Hub; analyze in another, from there.

By default both are this interpreter's; the suite across environments names two others. Real HTTP, both storage modes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pico_conformance import Hub
from pico_conformance.published import put_run
from pico_schema import layout, read_checkpoint, read_run

TRAIN = os.environ.get("PICO_TRAIN_PYTHON", sys.executable)
ANALYZE = os.environ.get("PICO_ANALYZE_PYTHON", sys.executable)
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
REPO = "tester/tiny"
SETTINGS = {
    "model.d_model": 32,
    "model.d_ff": 64,
    "model.n_layers": 2,
    "data.seq_len": 64,
    "training.batch_size": 8,
    "training.max_steps": 8,
    "training.schedule.warmup_steps": 2,
    "publish.timeout": 10,
    "publish.retry_wait": 0.1,
}
STEPS = [0, 1, 2, 4, 8]


def call(python: str, name: str, *words: str | Path, cwd: Path, **environment: str) -> str:
    command = [str(Path(python).parent / name), *map(str, words)]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr if name == "pico-train" else done.stdout


def rows(*words: str | Path, cwd: Path, **environment: str) -> list[dict[str, Any]]:
    """What `pico-analyze` prints as JSON."""
    said = call(ANALYZE, "pico-analyze", *words, "--format", "json", cwd=cwd, **environment)
    return list(json.loads(said))


MODES = [pytest.param(mode, marks=pytest.mark.xdist_group(f"across-{mode}")) for mode in ("lfs", "xet")]


ONE_MODE = pytest.mark.parametrize("published", MODES[:1], indirect=True)
"""For what does not depend on how files are stored."""


@pytest.fixture(scope="module", params=MODES)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run trained and published at once: (hub, environment, run directory)."""
    root = tmp_path_factory.mktemp(f"across-{request.param}")
    with Hub(root / "hub", xet=request.param == "xet", part_size=1 << 20) as hub:
        environment = hub.environment(root / "home")
        words = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
        said = call(
            TRAIN, "pico-train", "run", "--name", "tiny", "--out", root / "runs", "--set", f"publish.repo={REPO}",
            *words, cwd=root, **environment,
        )  # fmt: skip
        assert f"{len(STEPS)} published to {REPO}" in said
        yield hub, environment, root / "runs" / "tiny"


def test_each_checkpoint_is_a_commit_and_a_tag(published: tuple[Hub, dict[str, str], Path]) -> None:
    hub, _, run = published
    repository = hub.repository("models", REPO)
    log = repository.log(repository.resolve("tiny"))[::-1][1:]
    assert [row["title"] for row in log] == [f"tiny step {step}" for step in STEPS]
    assert {tag["name"]: tag["targetCommit"] for tag in repository.refs("refs/tags/")} == {
        f"tiny-step-{step}": row["id"] for step, row in zip(STEPS, log, strict=True)
    }
    assert repository.log(repository.resolve("main"))[0]["title"] == "main: tiny step 8"
    assert [entry.step for entry in read_run(run).checkpoints] == STEPS


@pytest.mark.parametrize(
    "question",
    [
        ["cka"],
        ["cosine", "--data", "weights", "--target", "first"],
        ["per", "norm", "--component", "ov_circuit", "--data", "weights"],
        ["gini", "--data", "gradients", "--split", "train"],
    ],
    ids=" ".join,
)
def test_rows_from_the_hub_are_the_local_rows(
    published: tuple[Hub, dict[str, str], Path], tmp_path: Path, question: list[str]
) -> None:
    hub, environment, run = published
    here = rows("compute", *question, run, "--no-plot", cwd=tmp_path)
    cache = ["--cache-dir", tmp_path / "cache"]
    mark = hub.log.mark()
    there = rows("compute", *question, f"hf://{REPO}@tiny", "--no-plot", *cache, cwd=tmp_path, **environment)
    assert len(there) == len(here) > 10
    compared = [(_known(a), _known(b)) for a, b in zip(here, there, strict=True)]
    assert all(a == b for a, b in compared), next((a, b) for a, b in compared if a != b)
    asked = [(request.path, request.range) for request in hub.log.matching("/_cdn/", since=mark)]
    assert len(set(asked)) == len(asked), "nothing is read twice"
    assert hub.log.count("training_state", since=mark) == 0


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what says where it came from; NaN as text, since NaN is not NaN."""
    provenance = ("repo", "commit", "run_id", "manifest_sha256", "provenance", "source", "location", "store")
    return {
        key: "nan" if isinstance(value, float) and math.isnan(value) else value
        for key, value in row.items()
        if not key.startswith(provenance) and not key.startswith("target_commit")
    }


@ONE_MODE
def test_offline_gives_the_same_rows_without_a_request(
    published: tuple[Hub, dict[str, str], Path], tmp_path: Path
) -> None:
    hub, environment, _ = published
    words = ["compute", "cka", f"hf://{REPO}@tiny", "--no-plot", "--cache-dir", tmp_path / "cache"]
    online = rows(*words, "--out", tmp_path / "a", cwd=tmp_path, **environment)
    mark = hub.log.mark()
    offline = rows(*words, "--out", tmp_path / "b", "--offline", cwd=tmp_path, **environment)
    assert offline == online
    assert hub.log.count(since=mark) == 0


@ONE_MODE
def test_the_list_and_one_step_by_name(published: tuple[Hub, dict[str, str], Path], tmp_path: Path) -> None:
    _, environment, run = published
    cache = ["--cache-dir", tmp_path / "cache"]
    here = rows("list", run, cwd=tmp_path)
    there = rows("list", f"hf://{REPO}@tiny", *cache, cwd=tmp_path, **environment)
    assert [row["step"] for row in there] == [row["step"] for row in here] == STEPS
    one = rows(
        "compute", "norm", "--data", "weights", f"hf://{REPO}@tiny:step-4", "--no-plot", *cache,
        cwd=tmp_path, **environment,
    )  # fmt: skip
    assert {row["step"] for row in one} == {4}


@ONE_MODE
def test_the_commit_is_in_every_row(published: tuple[Hub, dict[str, str], Path], tmp_path: Path) -> None:
    hub, environment, _ = published
    found = rows(
        "compute", "norm", "--data", "weights", f"hf://{REPO}@tiny", "--no-plot", "--cache-dir", tmp_path / "cache",
        cwd=tmp_path, **environment,
    )  # fmt: skip
    repository = hub.repository("models", REPO)
    for row in found:
        assert repository.resolve(f"tiny-step-{row['step']}") in json.dumps(row)


SAMPLES = """
import sys, pico_analyze
for address in sys.argv[1:3]:
    run = pico_analyze.open_run(address)
    for step in (0, 8):
        for split in ("train", "val"):
            samples = run.samples(step, split)
            assert len(samples) == len(run.read(step, split, "activations", "layers.1.attn.v")) > 0
            print(step, split, samples.to_json(orient="values"))
"""


def test_the_tokens_of_activations_are_those_of_the_local_run(
    published: tuple[Hub, dict[str, str], Path], tmp_path: Path
) -> None:
    _, environment, run = published
    words = [ANALYZE, "-c", SAMPLES, str(run), f"hf://{REPO}@tiny"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 8 and lines[:4] == lines[4:]
    assert lines[1].removeprefix("0 ") == lines[3].removeprefix("8 "), "validation rows are the same at every step"
    assert lines[0].removeprefix("0 ") != lines[2].removeprefix("8 ")


@ONE_MODE
def test_the_tag_loads_as_a_plain_llama_model(published: tuple[Hub, dict[str, str], Path]) -> None:
    """As the card says, in the environment that has transformers."""
    _, environment, run = published
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"m = AutoModelForCausalLM.from_pretrained({REPO!r}, revision='tiny-step-4')\n"
        f"l = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        f"t = AutoTokenizer.from_pretrained({REPO!r}, revision='tiny-step-4')\n"
        "assert type(m).__name__ == 'LlamaForCausalLM' and len(t('def')['input_ids'])\n"
        "assert all(torch.equal(a, b) for a, b in zip(m.parameters(), l.parameters()))\n"
    )
    checkpoint = run / layout.checkpoint_dir(4)
    done = subprocess.run(
        [TRAIN, "-c", code, str(checkpoint)], env=os.environ | environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_run_made_offline_is_published_afterwards(
    published: tuple[Hub, dict[str, str], Path], tmp_path: Path
) -> None:
    """`pico-train publish RUN --repo …`: chosen steps, a dry run, then all; equal to what training published."""
    hub, environment, run = published
    words = ["publish", run, "--repo", "tester/again", "--format", "json"]
    planned = call(TRAIN, "pico-train", *words, "--dry-run", cwd=tmp_path, **environment)
    assert "tiny-step-8" in planned
    call(TRAIN, "pico-train", *words, "--steps", "0,4", cwd=tmp_path, **environment)
    call(TRAIN, "pico-train", *words, cwd=tmp_path, **environment)
    first, again = hub.repository("models", REPO), hub.repository("models", "tester/again")
    for step in STEPS:
        tag, sealed = f"tiny-step-{step}", read_checkpoint(run / layout.checkpoint_dir(step)).files
        wanted = {row["path"]: row["oid"] for row in first.tree(first.resolve(tag)) if row["path"] in sealed}
        got = {row["path"]: row["oid"] for row in again.tree(again.resolve(tag)) if row["path"] in sealed}
        assert wanted == got and wanted.keys() == sealed.keys()


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir()))
def test_a_golden_run_of_each_schema_version_is_read_from_the_hub(
    make_hub: Callable[..., Hub], version: str, tmp_path: Path
) -> None:
    hub, run = make_hub(), GOLDEN / version / "golden"
    put_run(hub, run, "tester/golden")
    environment = hub.environment(tmp_path / "home")
    here = rows("compute", "cka", run, "--no-plot", "--out", tmp_path / "a", cwd=tmp_path)
    address = f"hf://tester/golden@{read_run(run).name}"
    words = ["--no-plot", "--out", tmp_path / "b", "--cache-dir", tmp_path / "cache"]
    there = rows("compute", "cka", address, *words, cwd=tmp_path, **environment)
    assert [_known(row) for row in there] == [_known(row) for row in here]
    assert here
