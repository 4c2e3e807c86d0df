"""Damaged runs, through every command: the campaign in small, and that its oracle would notice.

`make fuzz` runs 2,000 mutations through all commands; here are 40, through four each. PICO_FUZZ_SEED begins elsewhere.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pico_train")
pytest.importorskip("pico_analyze")

from pico_conformance.fuzz import oracle
from pico_conformance.fuzz.commands import COMMANDS, Answer
from pico_conformance.fuzz.mutations import Mutation, mutate
from pico_schema import documents, verify_checkpoint

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WEIGHTS = next(command for command in COMMANDS if command.name == "weights")
BITS = Mutation("bits", "golden/checkpoints/step-00000001/model.safetensors")
TABLE = (
    "step,split,data,component,site,layer,head,metric,params,target_step,target_layer,value,reason\n"
    "1,,weights,simple,embed,,,norm,{},,,"
)


def test_forty_damaged_runs_give_one_sentence_or_the_values_of_the_whole_run() -> None:
    """In an interpreter of its own, whose processes are forked before any thread began."""
    seed = os.environ.get("PICO_FUZZ_SEED", "0")
    words = ["--mutations", "40", "--commands", "4", "--seed", seed, "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "pico_conformance.fuzz", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 mutations" in done.stdout and "0 failures" in done.stdout


def test_a_seed_does_the_same_each_time(tmp_path: Path) -> None:
    kinds = set()
    for seed in range(40):
        done = []
        for copy in ("a", "b"):
            folder = tmp_path / f"{copy}{seed}"
            shutil.copytree(GOLDEN / "1.1", folder)
            done.append(mutate(folder, random.Random(seed)))
        assert done[0] == done[1]
        kinds.add(done[0].kind)
    assert len(kinds) >= 8


def test_what_is_sealed_again_is_sound_by_its_digests(tmp_path: Path) -> None:
    """So that content reaches the readers that digests would have kept it from."""
    sealed = 0
    for seed in range(60):
        folder = tmp_path / str(seed)
        shutil.copytree(GOLDEN / "1.1", folder)
        mutation = mutate(folder, random.Random(seed))
        if not mutation.sealed or "checkpoints" not in mutation.path or mutation.path.endswith("manifest.json"):
            continue
        sealed += 1
        checkpoint = folder.joinpath(*Path(mutation.path).parts[:3])
        assert verify_checkpoint(checkpoint) == []
        assert documents.read_run(folder / "golden").checkpoints
    assert sealed >= 3


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(0, TABLE + "2.5,\n", ""), "1 values changed in silence"),
        (Answer(0, TABLE.splitlines()[0] + "\n", ""), "1 values changed in silence"),
        (Answer(None, "", "", raised="Traceback\nKeyError: 'x'"), "an exception left the command: KeyError"),
        (Answer(0, "", "", hung=True), "did not end"),
        (Answer(5, "", "error: odd"), "exit code 5"),
        (Answer(3, "", ""), "exit code 3 without a word"),
        (Answer(1, "", "error: KeyError: 'x' (set PICO_DEBUG=1 for the traceback)"), "an error without a sentence"),
        (Answer(3, "", "Traceback (most recent call last):\n  x\nKeyError"), "a traceback: KeyError"),
    ],
)
def test_the_oracle_notices(answer: Answer, says: str) -> None:
    assert WEIGHTS.values is not None
    reference = WEIGHTS.values(TABLE + "1.5,\n")
    assert [fault for fault in oracle.faults(WEIGHTS, answer, reference, BITS) if says in fault]


@pytest.mark.parametrize(
    ("answer", "mutation"),
    [
        (Answer(0, TABLE + "1.5,\n", ""), BITS),
        (Answer(0, TABLE + "2.5,\n", "warning: step 1 is left out\n"), BITS),
        (Answer(0, TABLE + "2.5,\n", ""), Mutation("value", BITS.path, sealed=True)),
        (Answer(3, "", "error: the file is damaged\n"), BITS),
    ],
)
def test_the_oracle_accepts_what_was_said_and_what_is_another_run(answer: Answer, mutation: Mutation) -> None:
    assert WEIGHTS.values is not None
    assert oracle.faults(WEIGHTS, answer, WEIGHTS.values(TABLE + "1.5,\n"), mutation) == []
