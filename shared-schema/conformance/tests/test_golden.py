"""Golden runs: what each schema version wrote, every later reader reads. See make_golden.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pico_schema import SCHEMA_VERSION, documents, layout, read_checkpoint, read_run, verify_checkpoint
from pico_schema.digests import sha256_file

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir())
TRAIN = os.environ.get("PICO_TRAIN_PYTHON", sys.executable)
ANALYZE = os.environ.get("PICO_ANALYZE_PYTHON", sys.executable)


def golden(version: str) -> Path:
    return GOLDEN / version / "golden"


def test_the_current_version_has_a_golden_run() -> None:
    assert SCHEMA_VERSION in VERSIONS


def test_a_step_that_the_trainer_sets_aside_is_named_by_the_analysis(tmp_path: Path) -> None:
    """Where it is kept and what its note says is the trainer's to decide: the two have to agree."""
    run = tmp_path / "golden"
    shutil.copytree(golden(SCHEMA_VERSION), run)
    code = (
        "import sys; from pathlib import Path; from pico_train.checkpoint.set_aside import put_step_aside\n"
        "for step in 3, 4: put_step_aside(Path(sys.argv[1]), step, reason=f'because of {step}')"
    )
    subprocess.run([TRAIN, "-c", code, str(run)], check=True)
    command = [ANALYZE, "-c", "from pico_analyze.cli.app import main; main()", "list", str(run)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert listed.splitlines()[-2:] == ["set aside: step 3 (because of 3)", "set aside: step 4 (because of 4)"]
    assert "3 checkpoints" in listed and "incomplete" not in listed


@pytest.mark.parametrize("version", VERSIONS)
def test_its_documents_are_read_and_its_files_are_those_that_were_sealed(version: str) -> None:
    run = read_run(golden(version))
    found = dict(documents.checkpoint_dirs(golden(version)))
    assert [entry.step for entry in run.checkpoints] == sorted(found) == [0, 1, 2, 3, 4]
    for entry in run.checkpoints:
        directory = found[entry.step]
        assert sha256_file(directory / layout.MANIFEST) == entry.manifest_sha256
        manifest = read_checkpoint(directory)
        assert (manifest.run_id, manifest.step, manifest.model) == (run.id, entry.step, run.model)
        assert verify_checkpoint(directory) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_batch_of_a_step_is_shown_whatever_settings_its_version_had(version: str, tmp_path: Path) -> None:
    """The corpus is Python's library, which differs from release to release: then that is what is said."""
    command = [TRAIN, "-c", "from pico_train.__main__ import main; main()", "data", "show", f"{golden(version)}@2"]
    cache = os.environ | {"PICO_CACHE": str(tmp_path)}
    shown = subprocess.run(command, check=False, capture_output=True, text=True, env=cache)
    if shown.returncode:
        assert shown.stderr.startswith("error: the data are not those that the run was begun with")
        assert len(shown.stderr.splitlines()) == 1
    else:
        assert "equal to what was captured" in shown.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_the_trainer_verifies_and_loads_it(version: str, tmp_path: Path) -> None:
    tool = Path(TRAIN).parent / "pico-train"
    said = subprocess.run([tool, "verify", golden(version)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "sound" in said.stdout
    words = [tool, "generate", f"{golden(version)}@step-4", "--prompt", "def ", "--format", "json"]
    text = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert text["step"] == 4 and text["continuation"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_analysis_reads_weights_activations_and_gradients(version: str, tmp_path: Path) -> None:
    tool = Path(ANALYZE).parent / "pico-analyze"
    for data, steps in (("weights", {0, 1, 2, 3, 4}), ("activations", {0, 1, 2, 4}), ("gradients", {0, 1, 2, 4})):
        words = [tool, "compute", "norm", golden(version), "--data", data, "--format", "json", "--out", tmp_path]
        done = subprocess.run([*words, "--no-plot"], capture_output=True, text=True, check=True, cwd=tmp_path)
        rows = json.loads(done.stdout)
        assert {row["step"] for row in rows} == steps
        assert all(row["value"] > 0 for row in rows)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_analysis_names_the_token_of_each_activation(version: str, tmp_path: Path) -> None:
    """Validation rows are stored since 1.1; the batches of captured steps always were."""
    code = """
import json, sys
import pico_analyze
run, found = pico_analyze.open_run(sys.argv[1]), {}
for split in sys.argv[2:]:
    samples = run.samples(4, split)
    assert len(samples) == len(run.read(4, split, "activations", "layers.0.attn.v"))
    found[split] = "".join(samples["token"])
print(json.dumps(found))
"""
    splits = ["train", "val"] if version != "1.0" else ["train"]
    done = subprocess.run(
        [ANALYZE, "-c", code, golden(version), *splits], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found = json.loads(done.stdout)
    assert set(found) == set(splits)
    assert all(" " in text and "Ġ" not in text for text in found.values())


def test_a_golden_run_of_1_0_has_no_validation_rows(tmp_path: Path) -> None:
    code = "import sys, pico_analyze; pico_analyze.open_run(sys.argv[1]).samples(4, 'val')"
    done = subprocess.run(
        [ANALYZE, "-c", code, golden("1.0")], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "made before validation rows were stored: resume it once" in done.stderr
