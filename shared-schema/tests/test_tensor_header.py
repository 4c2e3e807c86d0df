"""Headers of safetensors files: what is accepted lies inside the file; what is hostile is refused before it costs."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_schema import TensorHeaderError
from pico_schema.tensor_header import (
    DTYPE_SIZES,
    FIRST_READ,
    MAX_HEADER,
    MAX_NAME,
    TensorEntry,
    TensorHeader,
    read_file_header,
    read_header,
)


def with_header(header: object, body: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + body


def parse(content: bytes, **bounds: int) -> TensorHeader:
    return read_header(lambda offset, length: content[offset : offset + length], len(content), where="memory", **bounds)


def entry(begin: int, end: int, dtype: str = "F32", shape: list[int] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def test_names_types_shapes_places_and_metadata_are_read() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry(8, 20),
        "a": entry(0, 8, "BF16", [2, 2]),
        "none": entry(20, 20, shape=[0, 7]),
        "one": entry(20, 24, shape=[]),
    }
    content = with_header(header, bytes(24))
    start = len(content) - 24
    assert parse(content) == TensorHeader(
        {"format": "pt"},
        {
            "b": TensorEntry("F32", (3,), start + 8, 12),
            "a": TensorEntry("BF16", (2, 2), start, 8),
            "none": TensorEntry("F32", (0, 7), start + 20, 0),
            "one": TensorEntry("F32", (), start + 20, 4),
        },
    )


def test_a_file_of_nothing_is_a_file() -> None:
    assert parse(with_header({})) == TensorHeader({}, {})


def test_it_reads_what_the_library_writes(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    save_file = pytest.importorskip("safetensors.numpy").save_file
    arrays = {f"layers.{i}.{'x' * 60}": numpy.full((3, i), i, numpy.float32) for i in range(300)}
    path = tmp_path / "x.safetensors"
    save_file(arrays | {"ids": numpy.arange(5)}, path, metadata={"step": "3"})
    header, content = read_file_header(path), path.read_bytes()
    assert header.metadata == {"step": "3"} and header.tensors["ids"].dtype == "I64"
    for name, array in arrays.items():
        found = header.tensors[name]
        assert found.shape == array.shape
        assert content[found.offset : found.offset + found.nbytes] == array.tobytes()


@pytest.mark.parametrize(("n_tensors", "n_reads"), [(1, 1), (1000, 2)])
def test_a_remote_header_takes_one_request_or_two_where_it_is_long(n_tensors: int, n_reads: int) -> None:
    content = with_header({f"tensor {i}": entry(4 * i, 4 * i + 4) for i in range(n_tensors)}, bytes(4 * n_tensors))
    reads: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> memoryview:
        reads.append((offset, length))
        return memoryview(content)[offset : offset + length]

    assert len(read_header(read, len(content), where="x").tensors) == n_tensors
    header_end = len(content) - 4 * n_tensors
    assert reads == [(0, min(FIRST_READ, len(content))), (FIRST_READ, header_end - FIRST_READ)][:n_reads]


X = entry(0, 8)
DATA = b"12345678"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "too short"),
        (b"\0" * 7, "too short"),
        (struct.pack("<Q", 2**63) + b"{}", "header claims 9223372036854775808 bytes"),
        (struct.pack("<Q", MAX_HEADER + 1) + b"{}", "header claims"),
        (struct.pack("<Q", 3) + b"{}", "header claims"),
        (with_header(b"not json"), "not valid JSON"),
        (with_header(b"\xff{}"), "not valid JSON"),
        (with_header(b"[" * 100_000), "not valid JSON"),
        (with_header([1]), "not an object"),
        (with_header({"x": 3}), "entry for tensor 'x'"),
        (with_header({"x": X}, b"1234"), "entry for tensor 'x'"),
        (with_header({"x": X | {"shape": [3]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"shape": [-2]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"shape": [2.0]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"shape": [2**61, 2**61]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"shape": [True, 2]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"shape": [1] * 9 + [2]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"shape": None}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"data_offsets": [8, 0]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"data_offsets": [-8, 0]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"data_offsets": [0, 8, 8]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"dtype": "PICKLE"}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"dtype": ["F32"]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x" * (MAX_NAME + 1): X}, DATA), "entry for tensor 'xxx"),
        (with_header({"__metadata__": 7, "x": X}, DATA), "metadata is not an object"),
        (with_header({"__metadata__": {"a": ["b"]}, "x": X}, DATA), "metadata is not an object of texts"),
        (with_header({"__metadata__": {"a": "b" * 5, "c": 7}, "x": X}, DATA), "metadata is not an object of texts"),
        (with_header({"x": X | {"dtype": {"F32": 1}}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"shape": [2**63]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"shape": [2**64]}}, DATA), "beyond 64 bits"),
        (with_header({"x": X | {"data_offsets": [0, 2**63]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"data_offsets": [2**64 - 8, 2**64]}}, DATA), "beyond 64 bits"),
        (with_header({"x": X | {"shape": [float("inf")]}}, DATA), "not finite"),
        (with_header({"x": X | {"shape": [1], "data_offsets": [0, 8]}}, DATA), "entry for tensor 'x'"),
        (with_header({"x": X | {"dtype": "BF16"}}, DATA), "entry for tensor 'x'"),
        (with_header({"\ud83d": X}, DATA), "half a surrogate pair"),
        (with_header({"__metadata__": {"\ud83d": "a"}, "x": X}, DATA), "half a surrogate pair"),
        (with_header(b'{"x":' + json.dumps(X).encode() + b',"x":' + json.dumps(X).encode() + b"}", DATA), "twice"),
        (with_header(b'{"x":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', DATA), "twice"),
        (with_header(b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "nested too deeply"),
        (with_header({"x": X, "y": X}, DATA), "overlap or leave holes"),
        (with_header({"x": X, "y": entry(4, 12)}, bytes(12)), "overlap or leave holes"),
        (with_header({"x": X, "y": entry(12, 16)}, bytes(16)), "overlap or leave holes"),
        (with_header({"x": entry(4, 8)}, DATA), "overlap or leave holes"),
        (with_header({"x": X}, DATA + b"more"), "overlap or leave holes"),
        (with_header({}, b"more"), "overlap or leave holes"),
    ],
)
def test_a_damaged_or_hostile_header_is_refused_in_a_sentence(content: bytes, says: str) -> None:
    with pytest.raises(TensorHeaderError, match=f"^memory: .*{says}"):
        parse(content)


def test_a_reader_may_set_a_smaller_bound() -> None:
    content = with_header({"x": X}, DATA)
    with pytest.raises(TensorHeaderError, match="header claims"):
        parse(content, max_header=20)
    assert "x" in parse(content, max_header=100).tensors


def test_a_source_that_gives_too_little_is_noticed() -> None:
    content = with_header({"x": X}, DATA)
    with pytest.raises(TensorHeaderError, match="ends early"):
        read_header(lambda offset, length: content[offset : offset + length - 1], len(content), where="x")


def test_exceptions_of_the_source_pass_through() -> None:
    def read(offset: int, length: int) -> bytes:
        raise ConnectionError(f"{offset}, {length}")

    with pytest.raises(ConnectionError, match="0, 100"):
        read_header(read, 100, where="x")


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file_header(tmp_path / "none")


def test_more_tensors_than_any_model_has_are_refused() -> None:
    header = b"{" + b",".join(b'"%d":0' % i for i in range(200_000)) + b"}"
    with pytest.raises(TensorHeaderError, match="at most 100000 tensors"):
        parse(with_header(header))


@pytest.mark.parametrize("piece", [b"{},", b"[],", b"0,", b'"",'], ids=["objects", "lists", "numbers", "strings"])
def test_a_header_of_millions_of_values_is_refused_before_they_are_made(piece: bytes) -> None:
    content = with_header(b'{"x":[' + piece * 3_000_000 + b"0]}")
    tracemalloc.start()
    with pytest.raises(TensorHeaderError, match="more values"):
        parse(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * len(content)  # parsed, three million empty objects take 192 MB


@pytest.mark.parametrize("text", [b'"' + b'\\"' * 1_000_000, b'{"' + b"\\" * 2_000_001, b'"' * 2_000_001])
def test_strings_without_an_end_cost_no_more_than_others(text: bytes) -> None:
    with pytest.raises(TensorHeaderError, match="not valid JSON"):
        parse(with_header(text))


def test_commas_and_brackets_inside_names_and_metadata_are_text() -> None:
    content = with_header({"__metadata__": {"rows": "[1, 2], {3}," * 1_000_000}, 'a "[,': X}, DATA)
    assert set(parse(content).tensors) == {'a "[,'}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_an_error_or_a_header(content: bytes) -> None:
    try:
        header = parse(content)
    except TensorHeaderError:
        return
    assert all(item.offset + item.nbytes <= len(content) for item in header.tensors.values())


any_number = st.integers(-1, 70)
any_entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPE_SIZES, "F1"]),
        "shape": st.lists(st.integers(-1, 4), max_size=3),
        "data_offsets": st.lists(any_number, min_size=2, max_size=2),
    }
)


@given(st.dictionaries(st.text(max_size=3), any_entry, max_size=3), st.integers(0, 70))
def test_what_is_accepted_covers_the_file_once(tensors: dict[str, Any], n_bytes: int) -> None:
    content = with_header(tensors, bytes(n_bytes))
    try:
        header = parse(content)
    except TensorHeaderError:
        return
    covered = [at for item in header.tensors.values() for at in range(item.offset, item.offset + item.nbytes)]
    assert sorted(covered) == list(range(len(content) - n_bytes, len(content)))


@st.composite
def valid_files(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """A header whose tensors lie one after the other, listed in any order, and the bytes that they take."""
    tensors, end = {}, 0
    for i, (dtype, shape) in enumerate(
        draw(st.lists(st.tuples(st.sampled_from([*DTYPE_SIZES]), st.lists(st.integers(0, 3), max_size=3)), max_size=5))
    ):
        begin, n = end, 1
        for side in shape:
            n *= side
        end += n * DTYPE_SIZES[dtype]
        tensors[f"t{i}"] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    order = draw(st.permutations(list(tensors)))
    return {name: tensors[name] for name in order}, end


@given(valid_files())
def test_every_file_without_gaps_is_accepted(file: tuple[dict[str, Any], int]) -> None:
    tensors, n_bytes = file
    header = parse(with_header(tensors, bytes(n_bytes)))
    assert {name: (e.dtype, list(e.shape), e.nbytes) for name, e in header.tensors.items()} == {
        name: (e["dtype"], e["shape"], e["data_offsets"][1] - e["data_offsets"][0]) for name, e in tensors.items()
    }


@given(
    st.one_of(
        st.builds(lambda file, more: (file[0], max(0, file[1] + more)), valid_files(), st.integers(-1, 1)),
        st.tuples(st.dictionaries(st.text(max_size=3), any_entry, max_size=3), st.integers(0, 70)),
    )
)
def test_it_accepts_what_the_library_itself_accepts(file: tuple[dict[str, Any], int]) -> None:
    """The format's own implementation (in Rust) is the oracle."""
    library = pytest.importorskip("safetensors")
    tensors, n_bytes = file
    content = with_header(tensors, bytes(n_bytes))
    try:
        theirs = {name: tuple(view["shape"]) for name, view in library.deserialize(content)}
    except library.SafetensorError:
        with pytest.raises(TensorHeaderError):
            parse(content)
    else:
        assert {name: entry.shape for name, entry in parse(content).tensors.items()} == theirs
