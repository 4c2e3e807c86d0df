"""What patterns name, in which order, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pico_train.data.prepare.files import find
from pico_train.data.prepare.inputs import documents
from pico_train.data.prepare.records import TextLayout
from pico_train.errors import ConfigError, DataError


def labels(*patterns: Path | str) -> list[str]:
    return [item.label for item in find([str(pattern) for pattern in patterns]).items]  # type: ignore[union-attr]


def test_folders_and_globs_name_files_in_a_fixed_order(text_dir: Path) -> None:
    by_folder = labels(text_dir)
    assert by_folder[:2] == ["books/00.txt", "books/02.txt"]
    assert labels(f"{text_dir}/**/*.txt") == by_folder
    assert len(labels(text_dir, text_dir / "web")) == 40, "nothing twice"
    found = documents(find([str(text_dir)]).items, TextLayout(group_by_folder=True))
    assert {document.source for document in found} == {"books", "web"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nowhere", r"nowhere: no such file or folder"),
        ("*.nothing", r"\*\.nothing: no text there: name files, globs, or folders with files ending in \.txt \.text"),
        ("hf://datasets/only-a-name", r"hf://datasets/only-a-name: not a dataset"),
    ],
)
def test_patterns_that_name_nothing_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find([pattern])


def test_a_folder_gives_all_that_is_text_and_names_the_rest(tmp_path: Path) -> None:
    read = ["a.txt", "b.TEXT", "c.md.xz", "d.json", "e.jsonl.zst", "f.ndjson.bz2", "g.csv", "h.tsv.gz", "i.parquet"]
    for name in [*read, "j.arrow", "notes.docx", "k.parquet.gz", "README", ".hidden.txt"]:
        (tmp_path / name).write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "text.txt").write_text("x")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere.txt")
    found = find([str(tmp_path)])
    assert [item.label for item in found.items] == [*read, "j.arrow"]  # type: ignore[union-attr]
    assert found.left_aside.sentences() == [
        f"left aside 3 files whose ending is not that of text ({tmp_path}/README, {tmp_path}/k.parquet.gz, "
        f"{tmp_path}/notes.docx): name them one by one, or with a glob, to have them read",
        f"left aside 1 path to a pipe, or to nothing ({tmp_path}/broken.txt)",
        "left aside 2 hidden files or folders",
    ]


def test_however_many_files_are_left_aside_the_sentence_stays_short(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for number in range(1234):
        (tmp_path / f"{number:04}.bin").touch()
    (sentence,) = find([str(tmp_path)]).left_aside.sentences()
    assert sentence.startswith("left aside 1,234 files")
    assert "0009.bin and 1,224 more)" in sentence
    assert "0010.bin" not in sentence


def test_what_is_there_is_named_where_nothing_of_it_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.bin").touch()
    with pytest.raises(ConfigError, match=r"no text there, but 1 other file \(.*a\.bin\): name files"):
        find([str(tmp_path)])


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    for folder in ("corpus/own", "elsewhere/deep"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text(folder)
    corpus = tmp_path / "corpus"
    (corpus / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (corpus / "own" / "up").symlink_to(corpus, target_is_directory=True)
    (corpus / "own" / "b.txt").symlink_to(corpus / "own" / "a.txt")
    (corpus / "zzz").symlink_to(tmp_path / "elsewhere" / "deep", target_is_directory=True)
    found = find([str(corpus)])
    assert [item.label for item in found.items] == ["linked/deep/a.txt", "own/a.txt"]  # type: ignore[union-attr]
    (sentence,) = found.left_aside.sentences()
    assert sentence.startswith("left aside 3 paths to what is read already (")
    assert all(f"{corpus}/{name}" in sentence for name in ("own/b.txt", "own/up/", "zzz/"))
    assert labels(f"{corpus}/**/*.txt") == labels(corpus), "a glob follows the same links, each file once"


def test_a_folder_that_a_glob_matches_is_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "sub" / "b.txt").write_text("x")
    found = find([f"{tmp_path}/*"])
    assert len(found.items) == 1
    (sentence,) = found.left_aside.sentences()
    assert sentence.startswith(f"left aside 1 folder that a glob matched ({tmp_path}/sub): name the folder")
    assert len(find([f"{tmp_path}/**/*.txt"]).items) == 2


def test_a_dataset_saved_below_a_folder_is_one_dataset(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["saved"]}).save_to_disk(str(tmp_path / "folder" / "saved"))
    (tmp_path / "folder" / "a.json").write_text('{"text": "line"}\n')
    found = documents(find([str(tmp_path / "folder")]).items, TextLayout())
    assert [(document.source, "".join(document.parts())) for document in found] == [
        ("a.json", "line"),
        ("saved", "saved"),
    ]


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also as root, who may read everything: the answer of the system is put in its place."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.txt").write_text("x")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"closed: cannot be read \(Permission denied\): see to its permissions"):
        find([str(tmp_path)])


def test_a_prepared_corpus_in_a_folder_is_no_text(tmp_path: Path) -> None:
    """As `prepare .` leaves it, whose default --out is in the same folder; unfinished ones, too."""
    (tmp_path / "a.txt").write_text("x")
    for folder, name in (("corpus", "pico-data.json"), ("begun", ".prepare/journal.json")):
        (tmp_path / folder / name).parent.mkdir(parents=True)
        (tmp_path / folder / name).write_text("{}")
        (tmp_path / folder / "train.parquet").write_text("x")
    found = find([str(tmp_path)])
    assert [item.label for item in found.items] == ["a.txt"]  # type: ignore[union-attr]
    expected = f"left aside 2 folders of token rows ({tmp_path}/begun/, {tmp_path}/corpus/)"
    assert found.left_aside.sentences() == [expected]
