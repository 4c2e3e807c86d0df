"""Bounds of a safetensors header: the last that is read, the first that is refused, and how much is read of a file."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from pico_schema import TensorHeaderError
from pico_schema.tensor_header import TensorHeader, read_header

DATA = b"12345678"
X = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def with_header(header: object, body: bytes = DATA) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + body


def parse(content: bytes, **bounds: int) -> TensorHeader:
    return read_header(lambda offset, length: content[offset : offset + length], len(content), where="memory", **bounds)


def refused(content: bytes, says: str, **bounds: int) -> None:
    with pytest.raises(TensorHeaderError) as caught:
        parse(content, **bounds)
    assert str(caught.value).startswith(f"memory: {says}")


def test_the_shortest_text_that_is_looked_at_has_eight_bytes() -> None:
    refused(b"\0" * 7, "7 bytes is too short for a safetensors file")
    refused(b"\0" * 8, "the header is not valid JSON")  # of no bytes
    assert parse(with_header({}, b"")) == TensorHeader({}, {})


def test_a_name_has_at_most_two_thousand_characters() -> None:
    assert set(parse(with_header({"ü" * 2000: X})).tensors) == {"ü" * 2000}
    refused(with_header({"ü" * 2001: X}), f"the header's entry for tensor '{'ü' * 200}' does not fit")


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"shape": [1] * 7 + [2]}, True),
        ({"shape": [1] * 8 + [2]}, False),
        ({"shape": [-1, -1, 2]}, False),  # of which the product would fit
        ({"shape": [2, True]}, False),
        ({"data_offsets": [0]}, False),
        ({"data_offsets": []}, False),
        ({"data_offsets": [0, 8, 8]}, False),
    ],
)
def test_a_shape_has_up_to_eight_natural_numbers_and_offsets_are_two(changes: dict[str, Any], fits: bool) -> None:
    content = with_header({"x": X | changes})
    if fits:
        assert list(parse(content).tensors["x"].shape) == changes["shape"]
    else:
        refused(content, "the header's entry for tensor 'x' does not fit")


def test_a_dimension_of_an_empty_tensor_is_at_most_two_to_the_62() -> None:
    empty = X | {"data_offsets": [0, 0]}
    assert parse(with_header({"x": empty | {"shape": [0, 2**62]}}, b"")).tensors["x"].shape == (0, 2**62)
    refused(with_header({"x": empty | {"shape": [0, 2**62 + 1]}}, b""), "the header's entry for tensor 'x'")


@pytest.mark.parametrize(("more", "reads"), [(-1, 1), (0, 1), (1, 2)])
def test_a_second_read_is_of_what_the_first_did_not_give(more: int, reads: int) -> None:
    """Of 16 KiB; a header that ends with them needs no other."""
    raw = json.dumps({"x": X}).encode().ljust(16_384 - 8 + more)
    content = with_header(raw)
    seen: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        seen.append((offset, length))
        return content[offset : offset + length]

    entry = read_header(read, len(content), where="memory").tensors["x"]
    assert content[entry.offset : entry.offset + entry.nbytes] == DATA
    assert seen == [(0, 16_384), (16_384, more)][:reads]


def test_the_bound_of_a_header_is_its_length() -> None:
    content = with_header({"x": X})
    length = len(content) - 8 - len(DATA)
    assert "x" in parse(content, max_header=length).tensors
    refused(content, f"the header claims {length} bytes", max_header=length - 1)


def test_a_header_has_at_most_a_hundred_thousand_tensors() -> None:
    entries = [b'"%d":0' % i for i in range(100_001)]
    refused(with_header(b"{" + b",".join(entries[:-1]) + b"}"), "the header's entry for tensor '0' does not fit")
    refused(with_header(b"{" + b",".join(entries) + b"}"), "the header is not an object of at most 100000 tensors")


def test_as_many_brackets_and_commas_are_read_as_so_many_tensors_of_eight_dimensions_have() -> None:
    one = json.dumps({"x": X | {"shape": [1] * 7 + [2]}})[1:-1] + ", "
    marks = 100_000 * sum(map(one.count, ",[{"))
    refused(with_header(b"," * marks + b" "), "the header is not valid JSON")
    refused(with_header(b"," * (marks + 1)), "the header holds more values than 100000 tensors have")
    inside = json.dumps({"__metadata__": {"a": "," * (marks + 1)}, "x": X}).encode()
    assert set(parse(with_header(inside)).tensors) == {"x"}


def test_of_what_is_wrong_with_the_json_the_beginning_is_shown() -> None:
    with pytest.raises(TensorHeaderError) as caught:
        parse(with_header(b'{"' + b"\\ud83d" * 300 + b'": 1}'))
    assert str(caught.value).startswith(r"memory: the header is not valid JSON (text '\ud83d\ud83d")
    assert len(str(caught.value)) < 400
