"""Scripts for clusters, and jobs through submitit: what they hold, and what one of them does when it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pico_train.config.suites import Suite, load_suite
from pico_train.errors import ConfigError, UsageError
from pico_train.suite import devices, record, scripts, submitting
from pico_train.suite.scripts import Wishes


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return made(tmp_path)


def made(tmp_path: Path, **base: Any) -> Suite:
    file = tmp_path / "the sizes.yaml"
    content = {"name": "sizes", "base": base, "axes": {"size": ["tiny", "small"], "seed": [1, 2]}}
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_suite(file, out=tmp_path / "out")


def test_the_job_array_has_a_task_for_each_member_and_is_told_before_its_time_is_up(
    tmp_path: Path, suite: Suite
) -> None:
    wishes = Wishes(90, 2, 4, 8, 64, "a100", "lab", 3, ("constraint=big mem", "exclude=n7"))
    text = scripts.slurm(suite, tmp_path / "the sizes.yaml", wishes)
    for line in (
        *("--array=0-3%3", "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=8"),
        *("--time=01:30:00", "--mem=64G", "--signal=USR1@120", "--requeue", "--partition=a100", "--account=lab"),
        "--exclude=n7",
    ):
        assert f"#SBATCH {line}\n" in text
    assert '#SBATCH --constraint="big mem"' in text


def test_a_script_runs_the_member_of_its_task(tmp_path: Path, suite: Suite) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    path = tmp_path / "bin"
    path.mkdir()
    (path / "srun").write_text(f'#!{bash}\nprintf "%s\\n" "$@"\n')
    (path / "torchrun").write_text(f'#!{bash}\necho "${{@: -1}}"; [ "${{@: -1}}" != tiny-seed2 ]\n')
    for program in path.iterdir():
        program.chmod(0o755)
    environment = {"PATH": f"{path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "2"}

    def run(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([bash, "-c", text], env=environment, capture_output=True, text=True, check=False)

    found = run(scripts.slurm(suite, tmp_path / "the sizes.yaml", Wishes()))
    assert found.stdout.splitlines()[:4] == ["pico-train", "suite", "run", str(tmp_path / "the sizes.yaml")]
    assert found.stdout.splitlines()[-2:] == ["--member", "small-seed1"]
    found = run(scripts.torchrun(suite, tmp_path / "the sizes.yaml", Wishes(gpus=2)))
    assert found.stdout.split() == ["tiny-seed1", "tiny-seed2", "small-seed1", "small-seed2"]  # one failed in between
    assert (found.returncode, found.stderr) == (1, "failed: tiny-seed2\n")
    several = scripts.torchrun(suite, tmp_path / "s.yaml", Wishes(gpus=2, nodes=2))
    assert "MASTER_ADDR: parameter null or not set" in run(several).stderr  # says what it needs


def test_members_that_do_not_fit_are_told_before_anything_is_submitted(tmp_path: Path) -> None:
    suite = made(tmp_path, training={"batch_size": 6})
    with pytest.raises(ConfigError, match="tiny-seed1: its batch of 6 rows does not divide over 4 processes"):
        scripts.slurm(suite, tmp_path / "x", Wishes(gpus=4))
    suite = made(tmp_path, distributed={"devices": 2})
    with pytest.raises(ConfigError, match="is set to 2 devices on 1 nodes, and the job has 4 on 1"):
        scripts.torchrun(suite, tmp_path / "x", Wishes(gpus=4))
    for word in ("constraint", "a b=c", "x=1\n#SBATCH --uid=0"):
        with pytest.raises(UsageError, match="write it as sbatch has it"):
            scripts.pairs([word])


def test_submitting_without_slurm_is_one_sentence(
    tmp_path: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, _ = record.begin(suite)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"there is no SLURM on this machine \(no sbatch\): .* suite script slurm"):
        submitting.submit(begun, begun.members, Wishes())
    with pytest.raises(UsageError, match="submit trains each member on one node"):
        submitting.submit(begun, begun.members, Wishes(nodes=2), cluster="local")


def test_a_task_goes_on_where_it_stands_when_submitit_asks_for_it() -> None:
    from submitit.helpers import DelayedSubmission

    task = submitting.Task("runs/sizes", "tiny-seed1")
    again = task.checkpoint()
    assert isinstance(again, DelayedSubmission) and again.function is task


def test_what_runs_beside_each_other_shares_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert devices.places(1, on_cpu=False) == [{}]  # one has all of them
    assert devices.places(2, on_cpu=False) == [{"CUDA_VISIBLE_DEVICES": "4,5"}, {"CUDA_VISIBLE_DEVICES": "6,7"}]
    with pytest.raises(ConfigError, match="there are 4 GPUs here, and each member needs one: at most --parallel 4"):
        devices.places(5, on_cpu=False)
    monkeypatch.setattr(devices, "cores", lambda: 8)
    assert devices.places(3, on_cpu=True) == [{"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}] * 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # somebody has decided it
    assert devices.places(2, on_cpu=True) == [{}, {}]


def test_a_member_s_process_is_no_rank_of_the_job_it_is_started_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    found = devices.own_environment()
    assert not {name for name in found if name.startswith(("SLURM", "TORCHELASTIC"))}
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} & found.keys()
    assert "PATH" in found
