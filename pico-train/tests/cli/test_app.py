"""The command line, as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pico_train.cli.app import app, main
from pico_train.cli.console import command_line_fault


def call(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pico_train", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def call_here(
    *words: str, cwd: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported everything already."""
    patch.chdir(cwd)
    patch.setattr("sys.argv", ["pico-train", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return subprocess.CompletedProcess(words, int(ended.value.code or 0), said.out, said.err)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "--preset", "demmo"], 2, "did you mean 'demo'"),
        (["run", "--set", "training.max_step=3"], 2, "did you mean 'max_steps'"),
        (["run", "--set", "model.d_model=126"], 2, "choose d_model=128"),
        (["run", "nowhere.yaml"], 2, "nowhere.yaml: cannot be read"),
        (["presets", "--format", "tabel"], 2, "--format 'tabel' is none: there are table, json; did you mean 'table'"),
        (["verify", "nowhere"], 3, "nowhere is not a run"),
        (["generate", "nowhere"], 3, "nowhere is not a run"),
    ],
)
def test_a_mistake_is_one_sentence_on_stderr(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    says: str,
) -> None:
    by_itself = words[0] in ("presets", "verify")  # one that reads the command line, one that does the work
    done = (
        call(*words, cwd=tmp_path) if by_itself else call_here(*words, cwd=tmp_path, patch=monkeypatch, capsys=capsys)
    )
    assert done.returncode == code
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_help_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pico_train.cli.app import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = ('torch', 'numpy', 'transformers', 'datasets')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for command in ("run", "config", "presets", "plan", "generate", "verify", "inspect", "publish", "import", "data"):
        assert command in done.stdout


def test_presets_and_configurations_print_as_json(tmp_path: Path) -> None:
    presets = json.loads(call("presets", "--format", "json", cwd=tmp_path).stdout)
    assert [row["preset"] for row in presets] == ["demo", "induction", "tiny", "small", "medium", "large", "xl"]
    shown = json.loads(call("config", "show", "--preset", "tiny", "--format", "json", cwd=tmp_path).stdout)
    assert shown["model"]["d_model"] == 96


def test_every_setting_is_explained(tmp_path: Path) -> None:
    said = call("config", "show", "--explain", cwd=tmp_path).stdout
    assert "training.optimizer.lr = 0.003" in said
    assert "Peak learning rate." in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["presets", "--format", "xml"], "--format 'xml' is none: there are table, json"),
        (
            ["data", "prepare", "x", "--on-bad-record", "skipp"],
            "--on-bad-record 'skipp' is none: there are refuse, skip; did you mean 'skip'",
        ),
        (["verify"], "Missing argument 'RUN[@STEP]'"),
    ],
)
def test_what_typer_cannot_parse_is_said_in_our_words(words: list[str], says: str) -> None:
    with pytest.raises(Exception) as caught:
        app(words, standalone_mode=False)
    assert command_line_fault(caught.value) == says
    assert command_line_fault(ValueError("another error")) is None
