import io
import json

import pytest
import safetensors.torch
import torch

from pico_train.checkpoint.storage import Disk, HashedFile, write_file
from pico_train.checkpoint.tensorfile import safetensors_chunks


def test_the_safetensors_library_reads_every_type_and_shape(tmp_path):
    tensors = {
        f"{name}/{index}": torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
        for index, shape in enumerate([(3, 5), (7,), (), (0, 4), (1, 2, 3)])
        for name, dtype in {
            "f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16,
            "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8,
            "bool": torch.bool,
        }.items()
    }  # fmt: skip
    tensors["transposed"] = torch.randn(4, 6).T
    tensors["ünïcode"] = torch.randn(2)
    write_file(Disk(), tmp_path / "x.safetensors", safetensors_chunks(tensors, {"format": "pt", "rows": "[1, 2]"}))
    read = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "rows": "[1, 2]"}


def test_the_bytes_are_those_of_the_safetensors_library():
    tensors = {"b": torch.randn(3, 4), "a": torch.randn(5).bfloat16(), "c": torch.arange(3)}
    ours = b"".join(safetensors_chunks(tensors, {"format": "pt"}))
    theirs = safetensors.torch.save(tensors, metadata={"format": "pt"})
    length = int.from_bytes(theirs[:8], "little")
    assert json.loads(ours[8 : 8 + int.from_bytes(ours[:8], "little")]) == json.loads(theirs[8 : 8 + length])
    assert ours[8 + int.from_bytes(ours[:8], "little") :] == theirs[8 + length :]


def test_an_unknown_type_is_an_error():
    with pytest.raises(KeyError, match="complex64"):
        list(safetensors_chunks({"z": torch.zeros(2, dtype=torch.complex64)}, {}))


@pytest.mark.parametrize("buffer", [1, 7, 64, 10_000])
def test_size_and_digest_are_those_of_the_file(tmp_path, buffer):
    import hashlib

    pieces = [bytes(range(256)) * n for n in (1, 0, 3, 2)]
    entry = write_file(Disk(), tmp_path / "file", pieces, buffer=buffer)
    content = (tmp_path / "file").read_bytes()
    assert content == b"".join(pieces)
    assert (entry.size, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_torch_writes_into_a_hashed_file_what_it_would_into_another(tmp_path):
    value = {"a": torch.randn(300), "b": [1, 2.5, None, "x"]}
    file = HashedFile(Disk(), tmp_path / "state", buffer=100)
    torch.save(value, file)
    file.seal()
    buffer = io.BytesIO()
    torch.save(value, buffer)
    assert (tmp_path / "state").read_bytes() == buffer.getvalue()


def test_nothing_is_written_over_a_file_that_exists(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_file(Disk(), tmp_path / "file", [b"new"])
    assert (tmp_path / "file").read_bytes() == b"old"
