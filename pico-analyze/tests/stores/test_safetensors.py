import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save
from synthetic import bfloat16, safetensors_bytes

from pico_analyze.errors import DataError
from pico_analyze.matrices.matrix import Dense
from pico_analyze.stored import in_rows, stored_type
from pico_analyze.stores.safetensors import TensorFile
from pico_schema.tensor_header import FIRST_READ, MAX_HEADER


def from_bytes(content: bytes) -> TensorFile:
    return TensorFile(lambda offset, length: content[offset : offset + length], len(content), where="memory")


def with_header(header: object, body: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + body


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=st.floats(-8, 8, width=32))
)
def test_a_tensor_comes_back_as_it_was_saved(array):
    file = from_bytes(save({"other": np.ones(3, np.float32), "it": array}))
    np.testing.assert_array_equal(file.read("it"), array)


@given(
    hnp.arrays(np.float16, hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=st.floats(-8, 8, width=16))
)
def test_rows_come_in_one_range_whatever_the_axes_before_the_last(array):
    asked = []
    content = save({"other": np.ones(3, np.float32), "it": array})

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return content[offset : offset + length]

    file = TensorFile(read, len(content), where="memory")
    rows = array.reshape(-1, array.shape[-1])
    asked.clear()
    np.testing.assert_array_equal(file.read_rows("it", len(rows) // 2, 1), rows[len(rows) // 2 :][:1])
    assert asked == [2 * array.shape[-1]]
    with pytest.raises(DataError, match=f"has {len(rows)} rows: there are no 2 from row {len(rows) - 1}"):
        file.read_rows("it", len(rows) - 1, 2)


def test_bfloat16_is_widened_by_its_bits():
    values = np.array([1.0, -2.5, 3.1415927, 1e-30, 65504.0], np.float32)
    read = from_bytes(safetensors_bytes({"x": values}, bf16=True)).read("x")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read.view(np.uint32), bfloat16(values).astype(np.uint32) << 16)
    np.testing.assert_allclose(read, values, rtol=2**-7)


def test_what_is_read_knows_the_type_it_was_stored_in():
    values = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    half = from_bytes(safetensors_bytes({"x": values}, bf16=True))
    for read in (half.read("x"), half.read("x", 1)[None], half.read_rows("x", 2, 3)):
        for view in (read, read.T, read[:, :1], read.reshape(-1, 1), in_rows(read.T)):
            assert stored_type(view) == "bfloat16" and view.dtype == np.float32
        assert Dense(read).stored == "bfloat16" and type(Dense(read).array) is np.ndarray
    others = from_bytes(save({kind: values.astype(kind) for kind in ("float16", "float32", "float64")}))
    for kind in ("float16", "float32", "float64"):
        assert stored_type(others.read(kind)) == kind
    assert type(others.read("float32")) is np.ndarray  # nothing to be told that its own type does not tell


@pytest.mark.parametrize("n", [255, 256, 9000])
def test_what_was_widened_before_it_was_written_is_known_by_its_digits(n):
    values = np.random.default_rng(1).standard_normal(n).astype(np.float32)
    half = (bfloat16(values).astype(np.uint32) << 16).view(np.float32)
    tensors = {"bfloat16": half, "float16": values.astype(np.float16).astype(np.float32), "float32": values}
    wide = {f"wide {name}": array.astype(np.float64) for name, array in tensors.items()}
    double = np.random.default_rng(2).standard_normal(n)
    file = from_bytes(save({**tensors, **wide, "double": double}))
    for name in tensors:
        assert stored_type(file.read(name)) == (name if n >= 256 else "float32")
        assert stored_type(file.read(f"wide {name}")) == (name if n >= 256 else "float64")
    assert stored_type(file.read("double")) == "float64"
    last = half.copy()
    last[-1] = np.nextafter(last[-1], np.float32(9))  # one number is enough to tell
    assert stored_type(from_bytes(save({"x": last})).read("x")) == "float32"


def test_half_precision_is_widened_and_double_stays():
    file = from_bytes(save({"half": np.ones(2, np.float16), "double": np.ones(2, np.float64)}))
    assert file.read("half").dtype == np.float32
    assert file.read("double").dtype == np.float64


def test_one_tensor_is_read_by_range(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({"big": np.zeros((1000, 100), np.float32), "small": np.arange(6, dtype=np.float32)}))
    reads: list[tuple[int, int]] = []
    content = path.read_bytes()

    def read(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return content[offset : offset + length]

    file = TensorFile(read, len(content), where="x")
    file.read("small")
    assert reads == [(0, FIRST_READ), (file.tensors["small"].offset, 24)]  # of 400 kB
    np.testing.assert_array_equal(TensorFile.open(path).read("small"), np.arange(6))


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "too short"),
        (b"\0" * 7, "too short"),
        (struct.pack("<Q", 2**63) + b"{}", "header claims"),
        (struct.pack("<Q", MAX_HEADER + 1) + b"{}", "header claims"),
        (with_header(b"not json"), "not valid JSON"),
        (with_header(b"[" * 100_000), "not valid JSON"),
        (with_header([1]), "not an object"),
        (with_header({"x": 3}), "entry for tensor 'x'"),
        (with_header({"x": ENTRY}, b"1234"), "entry for tensor 'x'"),
        (with_header({"x": ENTRY | {"shape": [3]}}, b"12345678"), "entry for tensor 'x'"),
        (with_header({"x": ENTRY | {"shape": [-2]}}, b"12345678"), "entry for tensor 'x'"),
        (with_header({"x": ENTRY | {"shape": [2**61, 2**61]}}, b"12345678"), "entry for tensor 'x'"),
        (with_header({"x": ENTRY | {"shape": [True, 2]}}, b"12345678"), "entry for tensor 'x'"),
        (with_header({"x": ENTRY | {"shape": [1] * 9 + [2]}}, b"12345678"), "entry for tensor 'x'"),
        (with_header({"x": ENTRY | {"data_offsets": [8, 0]}}, b"12345678"), "entry for tensor 'x'"),
        (with_header({"x": ENTRY | {"data_offsets": [-8, 0]}}, b"12345678"), "entry for tensor 'x'"),
        (with_header({"x": ENTRY | {"dtype": "PICKLE"}}, b"12345678"), "entry for tensor 'x'"),
        (with_header({"__metadata__": 7, "x": ENTRY}, b"12345678"), "metadata is not an object"),
    ],
)
def test_a_hostile_header_is_refused_before_anything_is_allocated(content, says):
    with pytest.raises(DataError, match=says):
        from_bytes(content)


def test_a_header_with_a_million_tensors_is_refused():
    header = b"{" + b",".join(b'"%d":0' % i for i in range(200_000)) + b"}"
    with pytest.raises(DataError, match="at most 100000 tensors"):
        from_bytes(with_header(header))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_an_error_or_tensors_inside_the_file(content):
    try:
        tensors = from_bytes(content).tensors
    except DataError:
        return
    assert all(info.offset + info.nbytes <= len(content) for info in tensors.values())


def test_a_file_that_was_cut_says_so(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({"x": np.ones(100, np.float32)}))
    file = TensorFile.open(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="truncated"):
        file.read("x")


def test_tensors_that_are_not_numbers_and_missing_ones_are_named():
    file = from_bytes(save({"ids": np.arange(3)}))
    with pytest.raises(DataError, match=r"'ids' is of type I64"):
        file.read("ids")
    with pytest.raises(DataError, match=r"no tensor 'x'"):
        file.read("x")
