"""The documentation site, as far as it can be checked without building it: pages, links, outputs, and its checks."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from pico_conformance.command_lines import ROOT

BUILDING = ROOT / "docs" / "building"


@pytest.fixture(autouse=True)
def building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BUILDING), *sys.path])


def test_every_link_of_every_page_leads_somewhere() -> None:
    import sources
    from links import Links

    named = sources.pages()
    links = Links(ROOT, sources.REPOSITORY, named, lambda *_: None)
    for source in named:
        path = ROOT / source
        text = _as_a_page(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
        links.rewritten(source, text)


def _as_a_page(notebook: Path) -> str:
    import notebooks

    return notebooks.page(notebook, ["" for _ in notebooks.cells(notebook)])


def test_every_document_is_a_page() -> None:
    import sources

    folders = (
        "docs/pages",
        "docs/decisions",
        "pico-train/docs",
        "pico-analyze/docs",
        "pico-train",
        "pico-analyze",
        "shared-schema",
    )
    folders += (".github",)
    found = [path for folder in folders for kind in ("*.md", "*.ipynb") for path in (ROOT / folder).glob(kind)]
    documents = {path.relative_to(ROOT).as_posix() for path in found}
    templates = {".github/PULL_REQUEST_TEMPLATE.md"}
    assert documents - templates - set(sources.pages()) == set()


def test_every_page_is_in_the_menu_once() -> None:
    import generated
    import sources

    menu = re.findall(r"([\w./-]+\.md)$", (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    made = [f"reference/python/{name}" for name in generated.interface()] + ["reference/schemas.md"]
    assert sorted(menu) == sorted([*sources.pages().values(), *made])


def test_the_interface_is_what_the_packages_name() -> None:
    import generated

    import pico_analyze
    import pico_train

    pages = generated.interface()
    assert "::: pico_analyze.metrics.kernel_alignment.cka\n" in pages["pico_analyze.metrics.md"]
    for module in (pico_train, pico_analyze):
        shown = {path.rpartition(".")[2] for path in re.findall(r"^::: (\S+)$", pages[f"{module.__name__}.md"], re.M)}
        assert shown == set(module.__all__) - {"__version__", "metrics"}


@pytest.mark.parametrize(
    ("target", "there"),
    [
        ("configuration.md", "../reference/configuration.md"),
        ("configuration.md#training", "../reference/configuration.md#training"),
        ("../BENCHMARKS.md", "../explanation/train-speed.md"),
        ("https://github.com/pico-lm/pico/blob/main/pico-analyze/docs/report.md", "report.md"),
        ("../src/pico_train/run.py", "https://github.com/pico-lm/pico/blob/main/pico-train/src/pico_train/run.py"),
        ("../tests", "https://github.com/pico-lm/pico/tree/main/pico-train/tests"),
        ("../../pico-analyze/docs/first_look.ipynb", "notebook.md"),
        ("../../.github/media/demo.png", "../media/demo.png"),
        ("https://arxiv.org/abs/2203.03466", "https://arxiv.org/abs/2203.03466"),
        ("#sweeps", "#sweeps"),
    ],
)
def test_a_link_leads_to_the_page_that_its_file_became(target: str, there: str) -> None:
    import sources
    from links import Links

    kept: list[str] = []
    links = Links(ROOT, sources.REPOSITORY, sources.pages(), lambda _file, path: kept.append(path))
    assert links.rewritten("pico-train/docs/data.md", f"a [b]({target}) c") == f"a [b]({there}) c"
    assert kept == (["media/demo.png"] if target.endswith(".png") else [])


def test_a_link_that_leads_nowhere_is_named_and_code_is_left_alone() -> None:
    import sources
    from links import Links

    links = Links(ROOT, sources.REPOSITORY, sources.pages())
    with pytest.raises(ValueError, match=r"data\.md:3: none\.md leads to pico-train/docs/none\.md"):
        links.rewritten("pico-train/docs/data.md", "a\n\n[b](none.md)")
    code = "````text\n```\n[b](none.md)\n````\n"
    assert links.rewritten("pico-train/docs/data.md", code) == code


def test_what_a_block_printed_stands_below_it() -> None:
    from assemble import with_outputs

    page = "```sh\na\n```\n\n<!-- output: 2 lines -->\n\n```python\nb\n```\n\n<!-- output -->\n"
    shown = with_outputs(page, ["1\n2\n3\n", "4\n"])
    assert "```\n\n```text\n1\n2\n…\n```\n\n```python" in shown
    assert shown.endswith("```text\n4\n```\n")
    with pytest.raises(ValueError, match="2 blocks, but 1 were run"):
        with_outputs(page, ["1\n"])


def test_a_page_is_run_again_when_code_changes_and_not_for_its_prose(tmp_path: Path) -> None:
    import running

    for package in running.PACKAGES:
        (tmp_path / package / "src").mkdir(parents=True)
    module, page = tmp_path / "pico-train" / "src" / "a.py", tmp_path / "page.md"
    module.write_text("x = 1\n")
    page.write_text("Text\n\n```sh\npico-train run\n```\n")
    first = running.digest(tmp_path, [page])
    page.write_text("Other text\n\n```sh\npico-train run\n```\n")
    assert running.digest(tmp_path, [page]) == first
    module.write_text("x = 2\n")
    assert running.digest(tmp_path, [page]) != first


def _notebook(path: Path, *codes: str, prose: str = "# A look\n\nText.") -> Path:
    written = v4.new_notebook(cells=[v4.new_markdown_cell(prose), *(v4.new_code_cell(code) for code in codes)])
    nbformat.write(written, path)
    return path


def test_a_notebook_is_run_again_when_its_cells_change_and_not_for_its_prose(tmp_path: Path) -> None:
    import running

    first = running.digest(tmp_path, [_notebook(tmp_path / "a.ipynb", "1")])
    assert running.digest(tmp_path, [_notebook(tmp_path / "a.ipynb", "1", prose="Other.")]) == first
    assert running.digest(tmp_path, [_notebook(tmp_path / "a.ipynb", "2")]) != first


def test_what_a_cell_shows_stands_below_it_after_a_page_was_run_in_the_same_folder(tmp_path: Path) -> None:
    import notebooks
    import running

    before, place = tmp_path / "page.md", tmp_path / "made"
    before.write_text("```python\nopen('made', 'w').write('x')\n```\n")
    table = '<div>\n<style scoped>\n  a {}\n\n</style>\n\n<table border="1" class="dataframe">\n</table></div>'
    codes = (
        "import sys\nfrom IPython.display import HTML, Image\nx = 20",
        "print(open('made').read())\nprint('wait', file=sys.stderr)\nx + 1",
        f"HTML({table!r})",
        f"Image({b'picture'!r}, format='png')",
    )
    notebook = _notebook(tmp_path / "a.ipynb", *codes)
    said = running.run([before, notebook], place)
    assert said["a.ipynb"] == [
        "",
        "",
        "```text\nx\n```\n\n```text\n21\n```",
        '<div class="shown">\n<div>\n<table>\n</table></div>\n</div>',
        "![What the cell above draws](analysis/a/4-0.png)",
    ]
    assert (place / "analysis" / "a" / "4-0.png").read_bytes() == b"picture"
    page = notebooks.page(notebook, said["a.ipynb"])
    assert page.startswith('# A look\n\nText.\n\nThis page is <a href="a.ipynb" download>a notebook</a>')
    assert f"```python\n{codes[1]}\n```\n\n```text\nx\n```" in page and page.endswith("4-0.png)\n")


def test_a_cell_that_fails_is_named(tmp_path: Path) -> None:
    import running

    with pytest.raises(RuntimeError, match=r"a\.ipynb: (.|\n)*ZeroDivisionError"):
        running.run([_notebook(tmp_path / "a.ipynb", "1 / 0")], tmp_path / "made")


def test_blocks_share_a_folder_and_names_and_one_that_fails_is_named(tmp_path: Path) -> None:
    import running

    page, place = tmp_path / "page.md", tmp_path / "made"
    page.write_text("```python\nx = 20\n```\n\n```python\nopen('y', 'w').close()\nprint(x + 1)\n```\n")
    assert running.run([page], place) == {"page.md": ["", "21\n"]}
    assert (place / "y").is_file()
    page.write_text("```python\n1 / 0\n```\n")
    assert running.run([page], place) == {"page.md": ["", "21\n"]}  # kept: the folder's name would be another
    with pytest.raises(RuntimeError, match=r"page\.md:2:\n(.|\n)*ZeroDivisionError"):
        running.run([page], tmp_path / "other")


def test_faults_of_a_site_are_found(tmp_path: Path) -> None:
    from check import faults

    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="sub/page.html#there">a</a><a href="sub/page.html#gone">b</a><a href="none.html">c</a>'
        '<a href="https://example.org">d</a><a href="sub/page.html#step=8">e</a>'
        '<script src="https://example.org/x.js"></script><img src="//example.org/x.png">'
        '<img src="data:image/png;base64,">'
    )
    (tmp_path / "sub" / "page.html").write_text('<h2 id="there">x</h2><a href="../index.html">y</a>')
    (tmp_path / "a.css").write_text("@import 'https://example.org/a.css'; b { src: url(fonts/x.woff2) }")
    assert list(faults(tmp_path)) == [
        "index.html: loads https://example.org/x.js",
        "index.html: loads //example.org/x.png",
        "index.html: sub/page.html#gone: there is no such place on that page",
        "index.html: none.html leads to nothing",
        "a.css: loads https://example.org/a.css",
    ]


def test_a_list_that_mkdocs_does_not_see_is_a_fault(tmp_path: Path) -> None:
    from check import misread

    pages, site = tmp_path / "pages", tmp_path / "site"
    pages.mkdir()
    site.mkdir()
    (pages / "a.md").write_text("Text\n- one\n- two\n")
    (site / "a.html").write_text("<article><p>Text - one - two</p></article>")
    assert list(misread(site, pages)) == [
        "a.md: 0 of <li>, but CommonMark has 2: put blank lines around lists and blocks"
    ]
    (site / "a.html").write_text("<article><p>Text</p><ul><li>one</li><li>two</li></ul></article>")
    assert list(misread(site, pages)) == []
