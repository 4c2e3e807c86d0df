"""Files of every kind, read as documents; and what is said of those that are not what they should be."""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pico_train.data.prepare import lines, opening, records
from pico_train.data.prepare.files import find
from pico_train.data.prepare.hub_text import HubText
from pico_train.data.prepare.inputs import documents
from pico_train.data.prepare.records import BadRecords, TextLayout
from pico_train.errors import DataError, PicoTrainError, StorageError


def texts(path: Path, layout: TextLayout | None = None, bad: BadRecords | None = None) -> list[str]:
    """Texts of the documents below a path; those without text left out, as a corpus leaves them out."""
    found = documents(find([str(path)]).items, layout or TextLayout(), bad)
    return [text for document in found if (text := "".join(document.parts()))]


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue().to_pybytes())


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def test_every_kind_of_text_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.md").write_text("# b")
    (tmp_path / "c.jsonl").write_text('{"text": "c1"}\n\n{"text": "c2", "source": "web"}\n')
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "d"}) + "\n")
    pq.write_table(pa.table({"text": ["e1", "e2"], "source": ["x", None]}), tmp_path / "e.parquet")
    (tmp_path / "f.bin").write_bytes(b"\0")
    (tmp_path / "g.csv").write_text('n,text,source\n1,"g1, with\ntwo lines",here\n2,NA,\n\n')
    (tmp_path / "h.tsv").write_text("text\tn\nh1\t05\n")
    with pa.ipc.new_stream(tmp_path / "i.arrow", pa.schema({"text": pa.large_string()})) as writer:
        writer.write_batch(pa.record_batch({"text": pa.array(["i1"], pa.large_string())}))
    with pa.ipc.new_file(tmp_path / "j.arrow", pa.schema({"text": pa.string()})) as writer:
        writer.write_batch(pa.record_batch({"text": pa.array(["j1"])}))
    (tmp_path / ".hidden.txt").write_text("no")
    found = [
        (document.source, "".join(document.parts()), document.named)
        for document in documents(find([str(tmp_path)]).items, TextLayout())
    ]
    assert found == [
        ("a.txt", "a", False),
        ("b.md", "# b", False),
        ("c.jsonl", "c1", False),
        ("web", "c2", True),
        ("d.jsonl.gz", "d", False),
        ("x", "e1", True),
        ("e.parquet", "e2", False),
        ("here", "g1, with\ntwo lines", True),
        ("g.csv", "NA", False),
        ("h.tsv", "h1", False),
        ("i.arrow", "i1", False),
        ("j.arrow", "j1", False),
    ]


@pytest.mark.parametrize("last", COMPRESSORS)
def test_compressed_files_of_several_parts_are_read_whole(last: str, tmp_path: Path) -> None:
    """As concatenation and parallel compressors leave them; an oracle wrote the text before it was compressed."""
    compress = COMPRESSORS[last]
    lines_of_it = [json.dumps({"text": f"line {number} " + "äöü" * number}) + "\n" for number in range(1000)]
    parts = ["".join(lines_of_it[start : start + 250]).encode() for start in range(0, 1000, 250)]
    (tmp_path / f"a.jsonl{last}").write_bytes(b"".join(map(compress, parts)))
    (tmp_path / f"b.txt{last}").write_bytes(b"".join(map(compress, parts)))
    assert texts(tmp_path / f"a.jsonl{last}") == [json.loads(line)["text"] for line in lines_of_it]
    assert texts(tmp_path / f"b.txt{last}") == [b"".join(parts).decode()]


@pytest.mark.parametrize("last", COMPRESSORS)
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_a_compressed_file_that_is_cut_short_or_damaged_is_one_sentence(last: str, kind: str, tmp_path: Path) -> None:
    content = b"text\n" + b"".join(b'{"text": "line %d"}\n' % number for number in range(5000))
    whole = COMPRESSORS[last](content)
    name = opening.COMPRESSIONS[last]
    path = tmp_path / f"a.{kind}{last}"
    damaged = whole[:2] + bytes([whole[2] ^ 255]) + whole[3:]
    for broken in (b"", whole[: len(whole) // 2], whole[:-3], whole + whole[:20], damaged, b"no such format" * 9):
        path.write_bytes(broken)
        with pytest.raises(
            DataError, match=rf"a\.{kind}{last}: not a whole {name} file \(.*\): fetch it again"
        ) as found:
            texts(path, TextLayout(on_bad_record="skip"))
        assert "\n" not in str(found.value)


def test_text_that_is_not_utf8_is_replaced_where_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\xffb\0c")
    (tmp_path / "b.jsonl").write_bytes(
        b'{"text": "c\xffd", "source": "\\udc00"}\n{"text": "e\\ud83df \\ud83d\\ude00"}\n'
    )
    (tmp_path / "c.csv").write_bytes(b"text\ng\xffh\n")
    column = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"i\xffj")])
    pq.write_table(pa.table({"text": column}), tmp_path / "d.parquet")
    layout = TextLayout(errors="replace")
    assert texts(tmp_path, layout) == ["a\ufffdb\ufffdc", "c\ufffdd", "e\ufffdf \U0001f600", "g\ufffdh", "i\ufffdj"]
    for document in documents(find([str(tmp_path)]).items, layout):
        document.source.encode()  # no half of a pair is left in the source either
    with pytest.raises(DataError, match=r"d\.parquet, row 0: 'text' is not UTF-8 at byte 1: replace what cannot"):
        texts(tmp_path / "d.parquet")


def test_bytes_at_the_seam_of_two_blocks_are_counted_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BLOCK", 8)
    for start in (b"", b"\xef\xbb\xbf"):
        for place in range(20):
            content = start + b"x" * place + "é".encode() + b"y\xffz" + b"w" * 20
            (tmp_path / "a.txt").write_bytes(content)
            with pytest.raises(DataError, match=rf"not UTF-8 at byte {content.index(255)}: convert the file"):
                texts(tmp_path / "a.txt")


DEEP = b"[" * 200_000 + b"]" * 200_000
WRONG = {
    "null": (
        "a.jsonl",
        b'{"text": "ok"}\n{"text": null}\n',
        r"line 2: 'text' holds null, not text .*--on-bad-record skip",
    ),
    "missing": ("a.jsonl", b'{"body": "x"}\n', r"line 1: 'text' holds nothing, not text \(fields: body\)"),
    "number": ("a.jsonl", b'{"text": 5}\n', r"line 1: 'text' holds int, not text"),
    "list": ("a.jsonl", b"[1]\n", r"line 1: a JSON object was expected, found list"),
    "half a line": ("a.jsonl", b'{"text": "ok"}\n{"text": \n', r"line 2: not JSON .*: one JSON object per line"),
    "not UTF-8": ("a.jsonl", b'{"text": "ok"}\n{"text": "\xff"}\n', r"line 2: not UTF-8 at byte 10: convert the file"),
    "half a pair": (
        "a.jsonl",
        b'{"text": "cut \\ud83d"}\n',
        r"line 1: 'text' holds half of a surrogate pair \(\\ud83d, char",
    ),
    "deep": (
        "a.jsonl",
        b'{"text": "ok", "x": ' + DEEP + b"}\n",
        r"line 1: not JSON that can be read \(it is nested too",
    ),
    "deep unclosed": ("a.jsonl", DEEP[:100_000] + b"\n", r"line 1: not JSON that can be read \(it is nested too"),
    "huge number": ("a.jsonl", b'{"n": ' + b"9" * 5000 + b"}\n", r"line 1: not JSON \(Exceeds the limit"),
    "zero byte": ("a.jsonl", b'{"text": "a\0b"}\n', r"line 1: not JSON \(Invalid control character"),
    "UTF-16 lines": (
        "a.jsonl",
        '{"text": "x"}\n'.encode("utf-16"),
        r"line 1: not UTF-8 at byte 0: it looks like UTF-16: con",
    ),
    "UTF-16 bare": (
        "a.jsonl",
        '{"text": "x"}\n'.encode("utf-16-be"),
        r"line 1: not JSON .*: it looks like UTF-16: convert",
    ),
    "null in csv": (
        "a.csv",
        b"n,text\n1,fine\n2\n",
        r"a\.csv, line 3: has 1 fields, the first line 2: see to its commas",
    ),
    "open quote": (
        "a.csv",
        b'text\n"never closed\n',
        r"a\.csv, line 2: not a row of a table \(unexpected end of data\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_record_that_is_no_text_is_refused_with_its_line_or_counted(case: str, tmp_path: Path) -> None:
    name, content, message = WRONG[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        texts(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    bad = BadRecords()
    layout = TextLayout(on_bad_record="skip")
    found = list(documents(find([str(tmp_path)]).items, layout, bad))
    passed_over = [document for document in found if document.reason == "bad_record"]
    assert len(passed_over) == len(bad.places) >= 1
    assert all("".join(document.parts()) in ("ok", "fine") for document in found if document not in passed_over)
    assert all(name in where for where in bad.places)


def test_the_places_of_records_passed_over_stay_few(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null}\n' * 1000 + '{"text": "kept"}\n')
    bad = BadRecords()
    for _ in range(2):  # documents are read more than once
        assert texts(tmp_path, TextLayout(on_bad_record="skip"), bad) == ["kept"]
    assert list(bad.places) == [f"{tmp_path}/a.jsonl, line {number}" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "text".encode("utf-16"), r"a\.txt: not UTF-8 at byte 0: it looks like UTF-16: convert it \(iconv"),
        ("a.txt", "text".encode("utf-16-le"), r"a\.txt: holds a zero byte, byte 1: it looks like UTF-16: convert"),
        ("a.txt", b"text and then\0 a zero", r"a\.txt: holds a zero byte, byte 13: it is no plain text: leave it"),
        ("a.csv", b"text\na\0b\n", r"a\.csv: holds a zero byte in line 2"),
        ("a.csv", b"text\na\xffb\n", r"a\.csv: not UTF-8 at line 2, byte 1"),
        ("a.csv", b"body,n\nx,1\n", r"a\.csv: has no column text \(its columns: body, n\): name the one"),
        ("a.csv", b"", ""),
        ("a.parquet", b"PAR1garbage", r"a\.parquet: not a whole Parquet file \(.*\): it is cut short or damaged"),
        ("a.arrow", b"ARROW1garbage", r"a\.arrow: not a whole Arrow file"),
        ("a.arrow", b"garbage", r"a\.arrow: not a whole Arrow file"),
        ("a.docx", b"x", r"a\.docx: files ending in \.docx cannot be read: these can: \.txt"),
        ("a.tar", b"no archive", r"a\.tar: `datasets` cannot read it"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    if not message:
        assert texts(tmp_path / name) == []
        return
    with pytest.raises(DataError, match=message) as caught:
        texts(tmp_path / name, TextLayout(on_bad_record="skip"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1, 2]), r"column text holds int64, not text: name the one"),
        (pa.array([["a"]]), r"column text holds list<"),
        (pa.array([b"a"]), r"column text holds binary, not text"),
        (pa.array(["a", None]), r"row 1: 'text' holds null, not text"),
        (pa.nulls(1), r"row 0: 'text' holds null, not text"),
    ],
)
def test_columns_that_are_no_text_are_refused(column: pa.Array, message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        texts(tmp_path)


def test_text_in_any_of_arrows_types_is_text(tmp_path: Path) -> None:
    written = 0
    for number, kind in enumerate((pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))):
        try:
            pq.write_table(pa.table({"text": pa.array(["a", "b"]).cast(kind)}), tmp_path / f"{number}.parquet")
            written += 1
        except pa.ArrowNotImplementedError:  # the oldest pyarrow makes no views of texts
            (tmp_path / f"{number}.parquet").unlink(missing_ok=True)
    assert written == (2 if pa.__version__.startswith("17.") else 3)
    assert texts(tmp_path) == ["a", "b"] * written


def test_a_line_without_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is lowered, so that a line of 64 bounds stands for one of 16 GB; it is never in memory as a whole."""
    monkeypatch.setattr(lines, "LONGEST_RECORD", 2**20)
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        for _ in range(64):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"text": "after"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: longer than 1048576 bytes: one JSON object per line"):
        texts(tmp_path)
    tracemalloc.start()
    assert texts(tmp_path, TextLayout(on_bad_record="skip")) == ["before", "after"]
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()
    assert records.LONGEST_RECORD == 256 * 2**20


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    (tmp_path / "a.txt").write_bytes(mark + b"a")
    (tmp_path / "b.jsonl").write_bytes(mark + b'{"text": "b"}\n')
    (tmp_path / "c.csv").write_bytes(mark + b"text\nc\n")
    assert texts(tmp_path) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.zst", "a.csv", "a.parquet"])
@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.EIO, StorageError, r"cannot be read \(Input/output error\): see to its disk"),
        (errno.EACCES, DataError, r"cannot be read \(Permission denied\)"),
        (errno.ENOENT, DataError, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(
    name: str, number: int, error: type[PicoTrainError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    (tmp_path / name).write_bytes(b"x")
    found = find([str(tmp_path)]).items
    failure = OSError(number, os.strerror(number))

    def fail(*_arguments: object, **_named: object) -> None:
        raise failure

    monkeypatch.setattr(Path, "open", fail)
    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(error, match=message):
        list(documents(found, TextLayout()))


def test_addresses_of_hub_datasets() -> None:
    found = HubText.parse("hf://datasets/allenai/c4@main/en/*.json.gz?name=en&split=validation")
    assert (found.repo, found.revision, found.files) == ("allenai/c4", "main", "en/*.json.gz")
    assert (found.name, found.split) == ("en", "validation")
    assert HubText.parse("hf://datasets/a/b").split == "train"
