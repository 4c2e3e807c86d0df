"""Every snippet of every document is run as it stands, in order; those that cannot be say why, and are checked.

One directory per document, in which a run of the documents' name `demo` was made by the documents' own command; the
Hub is the loopback one. What is made smaller for it, and how, is in `pico_conformance.notebook`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from pico_conformance import Hub
from pico_conformance.answers import HubError
from pico_conformance.command_lines import ROOT, check, check_mention, commands
from pico_conformance.documents import Snippet, inline_commands, snippets
from pico_conformance.notebook import Notebook
from pico_conformance.published import put_run
from pico_conformance.pythia import put_pythia

PACKAGES = ("shared-schema", "pico-train", "pico-analyze")
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "shared-schema/conformance/README.md",
        *(path for package in PACKAGES for path in (ROOT / package).glob("*.md")),
        *(path for package in PACKAGES for path in (ROOT / package / "docs").glob("*.md")),
        *(path for folder in ("docs/pages", "docs/decisions", ".github") for path in (ROOT / folder).glob("*.md")),
    ]
)
DOCUMENTS.remove(ROOT / ".github/CONTRIBUTING.md")  # its blocks are changes to the repository: test_recipes.py
_VARIABLE = re.compile(r"\$[A-Z_]+")
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
IN_TWO_GROUPS = [
    pytest.param(path, id=name, marks=pytest.mark.xdist_group(f"documents-{n % 2}"))
    for n, (path, name) in enumerate(zip(DOCUMENTS, NAMES, strict=True))
]
"""Those of a group share a trained run."""


@pytest.fixture(scope="module")
def environment(session_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where caches and the Hub are. Set here too: the processes that are forked later import the client with it."""
    home = tmp_path_factory.mktemp("home")
    found = {
        **session_hub.environment(home / "hf", xet=False),
        "PICO_CACHE": str(home / "cache"),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        yield found


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some modules of the standard library: the demo's text, but less of it."""
    folder = tmp_path_factory.mktemp("text")
    for path in sorted(Path(shutil.__file__).parent.glob("[a-d]*.py"))[:40]:
        shutil.copy(path, folder / f"{path.stem}.txt")
    return folder


@pytest.fixture(scope="module")
def demo(environment: dict[str, str], text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that `pico-train run` makes."""
    place = tmp_path_factory.mktemp("demo")
    Notebook(place, environment, text).command(["pico-train", "run"])
    return place / "runs" / "demo"


@pytest.fixture
def notebook(demo: Path, environment: dict[str, str], text: Path, tmp_path: Path) -> Iterator[Notebook]:
    """A directory with a copy of the run, and texts of one's own."""
    shutil.copytree(demo, tmp_path / "runs" / "demo", copy_function=_link)
    shutil.copytree(text, tmp_path / "my" / "texts")
    found = Notebook(tmp_path, environment, text)
    yield found
    found.close()


def _link(source: str, target: str) -> None:
    """Sealed files are never written in place, logs and locks are."""
    if "checkpoints" in Path(source).parts:
        Path(target).hardlink_to(source)
    else:
        shutil.copy2(source, target)


@pytest.fixture
def repository(document: Path, demo: Path, session_hub: Hub) -> None:
    """org/name on the Hub: with the run where a document reads it, else yet to be made; lookalikes of Pythia."""
    with contextlib.suppress(HubError):
        session_hub.remove("models", "org/name")
    code = "".join(snippet.code for snippet in snippets(document))
    if "hf://org/name" in code:
        put_run(session_hub, demo, "org/name")
    for name in sorted(set(re.findall(r"hf://(EleutherAI/[\w.-]*\w)", code))):
        with contextlib.suppress(HubError):
            session_hub.remove("models", name)
        put_pythia(session_hub, name)


@pytest.mark.xdist_group("documents-0")
@pytest.mark.parametrize("path", sorted((ROOT / "pico-analyze" / "docs").glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_of_jupyter_shows_what_it_showed_when_it_was_written(path: Path, notebook: Notebook) -> None:
    written = nbformat.read(path, as_version=4)
    before = _shown(written)
    place = {"metadata": {"path": str(notebook.place)}}
    done = NotebookClient(written, timeout=280, kernel_name="python3", resources=place).execute()
    assert _shown(done) == before
    assert sum("image/png" in kinds for cell in before for kinds in cell) >= 2


def _shown(written: nbformat.NotebookNode) -> list[list[list[str]]]:
    """What each cell showed, as kinds: text, a table, a picture."""
    return [[sorted(shown.get("data", {})) for shown in cell.get("outputs", [])] for cell in written.cells]


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("document", IN_TWO_GROUPS)
def test_every_snippet_runs(document: Path, notebook: Notebook) -> None:
    for snippet in snippets(document):
        try:
            _run(snippet, notebook)
        except (ValueError, AssertionError) as error:
            raise AssertionError(f"{snippet.where}: {error}") from None


def _run(snippet: Snippet, notebook: Notebook) -> None:
    match snippet.language:
        case "sh":
            for words in commands(_VARIABLE.sub("1", snippet.code) if snippet.reason else snippet.code):
                check(words)
                if snippet.reason is None and words[:2] != ["pip", "install"]:  # what it installs is installed
                    notebook.command(words)
        case "python" if snippet.reason is not None:
            compile(snippet.code, snippet.where, "exec")
        case "python" if "def test_" in snippet.code:
            (notebook.place / "test_snippet.py").write_text(snippet.code, encoding="utf-8")
            assert "passed" in notebook.command(["python", "-m", "pytest", "-q", "test_snippet.py"])
        case "python":
            notebook.python(snippet.code, snippet.where)
        case "yaml":
            _load(snippet, notebook)


def _load(snippet: Snippet, notebook: Notebook) -> None:
    """A study is kept, since commands of the document ask for it; pico-train's are configurations that it takes.

    Whatever else there is belongs to other programs.
    """
    name = re.search(r"^# (\S+\.yaml)", snippet.code)
    study = "measurements:" in snippet.code
    file = notebook.place / (name[1] if name else "study.yaml" if study else "settings.yaml")
    file.write_text(snippet.code, encoding="utf-8")
    if study:
        from pico_analyze.questions.study import load_study

        assert load_study(file)[0].name
    elif "\naxes:" in snippet.code:
        notebook.command(["pico-train", "suite", "plan", file.name])
    elif snippet.document.is_relative_to(ROOT / "pico-train"):
        notebook.command(["pico-train", "config", "show", file.name])
    else:
        assert isinstance(yaml.safe_load(snippet.code), dict)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_command_within_a_sentence_is_one(document: Path) -> None:
    for line, text in inline_commands(document):
        try:
            check_mention(text)
        except ValueError as error:
            raise AssertionError(f"{document}:{line}: `{text}`: {error}") from None


def test_what_is_wrong_in_a_document_is_noticed() -> None:
    for line in (
        "ls",
        "make everything",
        "pico-analyze compute cka --layerz 3",
        "pico-train data show demo --step first-one",
        "pico-train publish",
        "pico-train rum",
        "pico-train run --preset middle",
        "pico-train run --set training.max_steps=-1",
        "pico-train run --set training.max_stepz=8",
        "pico-train run --sett a=b",
        "pip install 'pico-analyze[tensorflow]'",
        "pip install pico-trane",
        "python benchmarks/none.py",
        "torchrun -m pico_train rum",
    ):
        with pytest.raises(ValueError, match=r"\w"):
            for words in commands(line):
                check(words)
    for mention in (
        "pico-train rum",
        "--set training.max_stepz=N",
        "pico-train run [--sett a.b=c]",
        "pico-train foo RUN",
    ):
        with pytest.raises(ValueError, match=r"\w"):
            check_mention(mention)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```\npico-train run\n```\n", "a block of no language"),
        ("Text\n\n    pico-train run\n", "indented code"),
        ("<!-- not run: it is long -->\n\nText\n", "would not be run anyway"),
        ("<!-- not run: it is long -->\n```text\na\n```\n", "would not be run anyway"),
    ],
)
def test_no_block_is_passed_over_in_silence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(ValueError, match=message):
        snippets(tmp_path / "page.md")


def test_a_reason_belongs_to_the_block_below_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- not run: needs\n two GPUs -->\n```sh\na\n```\n\n```python\nb\n```\n")
    assert [(s.line, s.language, s.reason) for s in snippets(page)] == [
        (6, "sh", "needs two GPUs"),
        (10, "python", None),
    ]
