"""Probes while a run trains: what the other process is told, what becomes of it, and that the run is the same.

The process is a small one of the tests' own here; with pico-analyze itself it is run in `shared-schema/conformance`.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
from support.tiny import config
from support.training_runs import as_text, what_a_step_holds

from pico_schema import documents
from pico_train import probing
from pico_train.config import layers
from pico_train.errors import ConfigError, NonFiniteError
from pico_train.reporter import Reporter
from pico_train.run import train

STEPS = [0, 6, 12, 14]
"""Of the evaluation of `support.tiny`."""
LISTENS = """
import pathlib, sys
if sys.argv[1] == "probes":
    sys.exit(0)
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(exist_ok=True)
(out / "argv").write_text(" ".join(sys.argv[1:]))
told = []
for line in sys.stdin:
    step = int(line)
    assert (pathlib.Path(sys.argv[2]) / "checkpoints" / f"step-{step:08d}" / "manifest.json").is_file(), step
    told.append(step)
    (out / "told").write_text(repr(told))
print("something before", file=sys.stderr)
print("4 steps probed", file=sys.stderr)
"""
DEAF = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(__file__).with_name("up").touch()
time.sleep(600)
"""


def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    (tmp_path / "command.py").write_text(code)
    monkeypatch.setattr(probing, "_COMMAND", (sys.executable, str(tmp_path / "command.py")))
    monkeypatch.setattr(probing, "find_spec", lambda _: object())


class Said(Reporter):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_each_sealed_step_of_the_evaluation_is_told_and_the_run_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: Path
) -> None:
    command(monkeypatch, tmp_path, LISTENS)
    more = {"evaluation__probes": ["induction", "attention"], "evaluation__probes_out": str(tmp_path / "table")}
    said = Said()
    train(config(tmp_path / "with", text, **more), reporter=said)
    train(config(tmp_path / "without", text), reporter=Said())
    assert (tmp_path / "table" / "told").read_text() == repr(STEPS)
    words = (tmp_path / "table" / "argv").read_text()
    assert words.startswith(f"behave {tmp_path / 'with' / 'tiny'} --steps - --probe induction,attention --out")
    assert "probes: 4 steps probed" in said.lines
    for step in (0, 3, 6, 9, 12, 14):
        there = [what_a_step_holds(tmp_path / name / "tiny", step) for name in ("with", "without")]
        assert as_text(there[0]) == as_text(there[1]), step


def test_a_resume_tells_of_what_is_sealed_already(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: Path) -> None:
    """Also where the run had begun without probes, or with others."""
    train(config(tmp_path, text, training__max_steps=9), reporter=Said())
    command(monkeypatch, tmp_path, LISTENS)
    more = {"evaluation__probes": ["induction"], "evaluation__probes_out": str(tmp_path / "table")}
    train(config(tmp_path, text, **more), reporter=Said())
    assert (tmp_path / "table" / "told").read_text() == repr(STEPS)
    entries = documents.read_run(tmp_path / "tiny").checkpoints
    assert [entry.step for entry in entries] == [0, 3, 6, 9, 12, 14]


def test_probes_that_fail_are_told_of_and_the_run_ends_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: Path
) -> None:
    """It dies at once: all that it is told afterwards goes nowhere."""
    broken = "import sys\nif sys.argv[1] == 'probes': sys.exit(0)\nsys.exit('error: the disk is full')"
    command(monkeypatch, tmp_path, broken)
    said = Said()
    done = train(config(tmp_path, text, evaluation__probes=["induction"]), reporter=said)
    assert done is not None and done.steps == 14
    (line,) = [line for line in said.lines if "probes" in line]
    assert line == (
        f"warning: probes failed (the disk is full): `pico-analyze behave {tmp_path / 'tiny'} --out analysis` goes on "
        "from there"
    )


def test_a_run_that_fails_waits_for_no_probes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: Path) -> None:
    command(
        monkeypatch,
        tmp_path,
        "import sys, time\nif sys.argv[1] == 'probes': sys.exit(0)\ntime.sleep(600)",
    )
    said, begun = Said(), time.monotonic()
    with pytest.raises(NonFiniteError):
        train(
            config(
                tmp_path, text, evaluation__probes=["induction"], training__optimizer__lr=1e3, training__grad_clip=0
            ),
            reporter=said,
        )
    assert time.monotonic() - begun < 300
    assert any(line.startswith("probes: stopped; `pico-analyze behave") for line in said.lines)


def test_what_does_not_end_when_it_is_told_to_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command(monkeypatch, tmp_path, DEAF)
    one = probing.Probing(tmp_path, ["induction"], "analysis")
    while not (tmp_path / "up").exists():
        time.sleep(0.02)
    begun = time.monotonic()
    assert one.close(wait=False).startswith("probes: stopped; `pico-analyze behave")
    assert probing._SECONDS <= time.monotonic() - begun < 60
    assert one._process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit(\"error: no probe is called 'x'; did you mean 'y'?\")", r"no probe is called 'x'; did"),
        ("import sys; sys.exit(3)", "pico-analyze does not start"),
    ],
)
def test_what_pico_analyze_does_not_know_ends_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: Path, code: str, says: str
) -> None:
    command(monkeypatch, tmp_path, code)
    with pytest.raises(ConfigError, match=says):
        train(config(tmp_path / "runs", text, evaluation__probes=["x"]), reporter=Said())
    assert not (tmp_path / "runs").exists()


def test_without_pico_analyze_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match=r"^evaluation\.probes=\['induction'\] .* pip install 'pico-analyze\[torch\]'"
    ):
        probing.check(["induction"])
    with pytest.raises(ConfigError, match="is no name of a probe"):
        monkeypatch.setattr(probing, "find_spec", lambda _: object())
        probing.check(["--help"])
    probing.check([])


def test_no_run_probes_unless_it_is_asked_to() -> None:
    assert all(layers.load_config(preset=name).evaluation.probes == () for name in layers.presets())
