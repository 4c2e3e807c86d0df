"""The header of a GGUF file: which tensors are where, and the numbers of the model, known without reading a tensor.

The layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): ``GGUF``, a version, two counts; keys with
values, among them the whole tokenizer; for each tensor a name, dimensions (the last axis first), a type and an offset;
the tensors' bytes. It is foreign input: counts, lengths, depths and offsets are checked against bounds and against the
file's size before anything of that size is allocated. Numbers that are not quantized are read as they lie there, those
that are (`Q4_K`) are named and not read.
"""

from __future__ import annotations

import json
import struct
from math import prod
from typing import Any

from pico_schema import TensorHeaderError
from pico_schema.tensor_header import (
    DTYPE_SIZES,
    FIRST_READ,
    MAX_DIMENSIONS,
    MAX_NAME,
    MAX_TENSORS,
    ReadRange,
    TensorEntry,
    TensorHeader,
)

MAGIC = b"GGUF"
TOLD = "told"
"""Where the metadata has what the file says of its model, as JSON; see `stores.pickled.unpickle`."""
_VERSIONS = (2, 3)
_STRETCH = 1 << 20
_DEPTH = 3
_LONGEST = 64
"""So many entries of a list of numbers are kept, where it has no more."""
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_TYPES = {0: "F32", 1: "F16", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16"}
"""What ggml numbers its types: those of one number an element."""
_QUANTIZED = (
    {2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K"}
    | {14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S"}
    | {22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4"}
)
_ASKED = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
    "num_experts": "expert_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
}
"""What `config.json` calls a number → what GGUF does, behind the name of the architecture."""


def read_gguf_header(read: ReadRange, size: int, *, where: str, max_header: int) -> TensorHeader:
    """The header of a GGUF file of `size` bytes.

    Args:
        read: Gives bytes of the file; its exceptions pass through.
        size: The file's size in bytes.
        where: The file's path or address, for messages.
        max_header: Largest header to accept, in bytes.

    Raises:
        TensorHeaderError: not a header, or it claims more than the file holds or the bounds allow.
    """
    header = _Header(read, size, where, max_header)
    header.take(4)
    version = header.number("I")
    if version not in _VERSIONS:
        turned = int.from_bytes(int(version).to_bytes(4, "little"), "big") in _VERSIONS
        what = "its numbers are big-endian" if turned else f"it is GGUF of version {version}"
        raise header.wrong(f"{what}, and versions 2 and 3, little-endian, are read: convert it anew with llama.cpp")
    n_tensors, n_pairs = header.count(MAX_TENSORS, "tensors"), header.count(MAX_TENSORS, "values")
    values: dict[str, Any] = {}
    for _ in range(n_pairs):
        key = header.text(MAX_NAME)
        values[key] = header.value(int(header.number("I")), _DEPTH)
    described = [_described(header) for _ in range(n_tensors)]
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise header.wrong(f"an alignment of {str(alignment)[:40]} bytes is none")
    begin = -(-header.at // alignment) * alignment
    tensors = _placed(header, described, begin)
    return TensorHeader({TOLD: json.dumps({"config": _config(values, tensors)})}, tensors)


class _Header:
    """The bytes of a header, one after the other."""

    def __init__(self, read: ReadRange, size: int, where: str, most: int) -> None:
        self._read, self.size, self._where, self._most = read, size, where, most
        self._window, self._begin, self.at = b"", 0, 0

    def wrong(self, what: str) -> TensorHeaderError:
        return TensorHeaderError(f"{self._where}: not a GGUF file that can be read: {what}")

    def take(self, length: int) -> bytes:
        """The next bytes."""
        if length > self.size - self.at:
            raise self.wrong("it ends within its header: the file is truncated or damaged")
        if self.at + length > self._most:
            raise self.wrong(f"its header has more than the {self._most} bytes that are read of one")
        end = self.at + length
        if end > self._begin + len(self._window):
            usual = FIRST_READ if self.at == 0 else _STRETCH
            self._begin, stretch = self.at, min(max(length, usual), self.size - self.at)
            self._window = bytes(self._read(self.at, stretch))
            if len(self._window) != stretch:
                raise self.wrong("it ends within its header: the file is truncated or damaged")
        found = self._window[self.at - self._begin : end - self._begin]
        self.at = end
        return found

    def number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def count(self, most: int, what: str) -> int:
        found = int(self.number("Q"))
        if found > most:
            raise self.wrong(f"it claims {found:,} {what}, and at most {most:,} make sense")
        return found

    def text(self, most: int) -> str:
        length = int(self.number("Q"))
        if length > most:
            raise self.wrong(f"a name of {length:,} bytes is none")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int, depth: int) -> Any:
        """A value: a number, a text (kept where it is short), a list of few numbers; None for what is not needed."""
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _TEXT:
            length = int(self.number("Q"))
            found = self.take(length)
            return found.decode("utf-8", "replace") if length <= MAX_NAME else None
        if kind != _LIST or not depth:
            raise self.wrong(f"a value is of type {kind}, which is none" if depth else "its values are nested too deep")
        inner, length = int(self.number("I")), int(self.number("Q"))
        if inner in _NUMBERS:
            width = struct.calcsize(f"<{_NUMBERS[inner]}")
            if length > (self.size - self.at) // width:
                raise self.wrong(f"a list claims {length:,} numbers, more than the file holds")
            content = self.take(length * width)
            return list(struct.unpack(f"<{length}{_NUMBERS[inner]}", content)) if length <= _LONGEST else None
        if length > (self.size - self.at) // 4:
            raise self.wrong(f"a list claims {length:,} entries, more than the file holds")
        for _ in range(length):
            self.value(inner, depth - 1)
        return length


_Described = tuple[str, tuple[int, ...], int, int]


def _described(header: _Header) -> _Described:
    """Name, shape, type and offset of a tensor, as the header says them."""
    name, n_axes = header.text(MAX_NAME), int(header.number("I"))
    if n_axes > MAX_DIMENSIONS:
        raise header.wrong(f"tensor {name[:200]!r} has {n_axes} dimensions")
    shape = tuple(reversed([int(header.number("Q")) for _ in range(n_axes)]))
    return name, shape, int(header.number("I")), int(header.number("Q"))


def _placed(header: _Header, described: list[_Described], begin: int) -> dict[str, TensorEntry]:
    """Tensors by name, each within the file and none within another."""
    found: dict[str, TensorEntry] = {}
    offsets = sorted({offset for *_, offset in described})
    after = dict(zip(offsets, [*offsets[1:], header.size - begin], strict=True)) if offsets else {}
    if len(offsets) != len(described):
        raise header.wrong("two of its tensors lie at one place")
    for name, shape, kind, offset in described:
        dtype, room = _TYPES.get(kind), after[offset] - offset
        nbytes = room if dtype is None else prod(shape) * DTYPE_SIZES[dtype]
        if offset < 0 or room < 0 or nbytes > room:
            raise header.wrong(f"tensor {name[:200]!r} reaches beyond its place: the file is truncated or damaged")
        if name in found:
            raise header.wrong(f"tensor {name[:200]!r} is there twice")
        found[name] = TensorEntry(dtype or _QUANTIZED.get(kind, f"type {kind}"), shape, begin + offset, nbytes)
    return found


def _config(values: dict[str, Any], tensors: dict[str, TensorEntry]) -> dict[str, Any]:
    """What `config.json` would say of the model, under the names that it has there."""
    kind = str(values.get("general.architecture", "unknown"))[:60]
    asked = {name: values.get(f"{kind}.{key}") for name, key in _ASKED.items()}
    config: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    embed = tensors.get("token_embd.weight")
    if embed is not None and embed.shape:
        config.setdefault("vocab_size", embed.shape[0])
    packed = sorted({entry.dtype for entry in tensors.values()} - set(_TYPES.values()))
    if packed:
        config["quantization_config"] = {"quant_method": f"gguf {', '.join(packed)}"[:40]}
    return config | {"model_type": f"gguf_{kind}", "tie_word_embeddings": "output.weight" not in tensors}
