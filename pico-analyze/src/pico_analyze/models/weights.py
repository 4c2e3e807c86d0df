"""The weights of a model as a sealed checkpoint holds them: its own tensors under their own names, in one file, and a
map from sites to tensors, or to parts of them.

Nothing is lost and nothing is computed: biases and norms stay, types stay, transformers loads the checkpoint as it did
the model. One file is linked where the file system can, several become one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.models.sealing import TEMPORARY, Stored
from pico_analyze.stores.transformers.cuts import TRANSPOSED, WHOLE
from pico_schema import Site, SiteError, WeightSlice, layout
from pico_schema.tensor_header import DTYPE_SIZES, TensorEntry, read_file_header

if TYPE_CHECKING:
    from pico_analyze.stores.transformers.architectures import Source
    from pico_analyze.stores.transformers.model import Model
    from pico_schema import ModelSpec

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_BESIDE = (layout.MODEL_CONFIG, layout.GENERATION_CONFIG, layout.TOKENIZER, layout.TOKENIZER_CONFIG)
_ALSO = ("special_tokens_map.json", "vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json")


@dataclass(frozen=True)
class Weights:
    """What of a checkpoint is its model."""

    files: Mapping[str, bytes]
    """Configuration and tokenizer."""
    links: Mapping[str, tuple[Path, str]]
    """The file of weights, where it is one: path and digest."""
    tensors: Mapping[str, Stored]
    """All tensors, where they are in several files."""
    facts: Mapping[str, Any]
    """Fields of the manifest."""
    digests: dict[str, str]
    """Digest of each file that was read."""
    left_out: tuple[str, ...]
    """Sites of this package that the contract does not have: experts."""


@contextmanager
def weights_of(model: Model, names: list[str], *, room: Path, copy: bool = False) -> Iterator[Weights]:
    """What a checkpoint made of a model holds; the files that it speaks of are there while the block runs.

    Args:
        model: The model.
        names: Its files of weights.
        room: Directory on the file system where the checkpoint will be.
        copy: Copy a file that could be linked.

    Raises:
        DataError: a file is damaged, or holds what cannot be stored.
    """
    files = model.files
    with TemporaryDirectory(prefix=TEMPORARY, dir=room) as directory:
        root = Path(directory)
        small = [name for name in (*_BESIDE, *_ALSO) if name in files.sizes]
        for name in (*small, *names):
            files.place(name, root / name)
        digests = {name: files.sha256(name) for name in (*small, *names)}
        before = {name: _state(root / name) for name in names}
        maps, left_out = site_maps(model)
        single = names == [layout.WEIGHTS]
        tensors = {} if single else _all_tensors(root, model.weight_map)
        entry = files.tensors(names[0]).tensors
        yield Weights(
            files={name: (root / name).read_bytes() for name in small},
            links={layout.WEIGHTS: (root / layout.WEIGHTS, digests[layout.WEIGHTS])} if single and not copy else {},
            tensors=_all_tensors(root, model.weight_map) if single and copy else tensors,
            facts=maps | {"weights_dtype": stored_dtype(entry)},
            digests=digests,
            left_out=left_out,
        )
        for name in names:
            if _state(root / name) != before[name]:
                raise DataError(f"{files.at(name)}: it was changed meanwhile: let its writer finish")


def _state(path: Path) -> tuple[int, int, int]:
    """What changes when the content of a file does. Not when its inode was changed last, which a new link does."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def stored_dtype(entries: Mapping[str, TensorEntry]) -> str:
    """The type that most numbers are stored in."""
    counts: dict[str, int] = {}
    for one in entries.values():
        counts[one.dtype] = counts.get(one.dtype, 0) + one.nbytes // DTYPE_SIZES[one.dtype]
    return _DTYPES.get(most := max(counts, key=lambda dtype: counts[dtype]), most.lower())


def _all_tensors(root: Path, weight_map: Mapping[str, str]) -> dict[str, Stored]:
    """Tensors of several files, as they are stored; their bytes are read when they are written."""
    headers = {name: read_file_header(root / name) for name in set(weight_map.values())}
    maps = {name: np.memmap(root / name, np.uint8, "r") for name in headers}
    found: dict[str, Stored] = {}
    for tensor, name in weight_map.items():
        one = headers[name].tensors[tensor]
        found[tensor] = one.dtype, one.shape, maps[name][one.offset : one.offset + one.nbytes].data
    return found


def site_maps(model: Model) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields `weights` and `weight_slices` of a manifest, and the sites that have no place in one."""
    whole: dict[str, str] = {}
    parts: dict[str, WeightSlice] = {}
    left_out = []
    for name, source in model.decoder.found.sites.items():
        try:
            Site.parse(name)
        except SiteError:
            left_out.append(name)
            continue
        if source.cut is WHOLE:
            whole[name] = source.tensor
        else:
            entry = model.files.tensors(model.weight_map[source.tensor]).tensors[source.tensor]
            parts[name] = weight_slice(source, entry.shape, model.spec)
    return {"weights": whole, "weight_slices": parts}, tuple(left_out)


def weight_slice(source: Source, shape: tuple[int, ...], spec: ModelSpec) -> WeightSlice:
    """Where in a tensor a cut takes a weight from: found by cutting the numbers of its rows.

    Raises:
        DataError: what the cut takes is not equal parts of equal groups of rows.
    """
    straight, turned = np.arange(shape[0]).reshape(-1, 1), np.arange(shape[-1]).reshape(1, -1)
    transposed = source.cut is TRANSPOSED or "transposed" in source.cut.name
    n_rows = shape[-1] if transposed else shape[0]
    rows = source.cut(turned if transposed else straight, spec).reshape(-1)
    breaks = np.flatnonzero(np.diff(rows) != 1)
    size = int(breaks[0]) + 1 if len(breaks) else len(rows)
    groups = len(rows) // size
    group, rest = divmod(n_rows, groups)
    start = int(rows[0])
    expected = (np.arange(groups)[:, None] * group + start + np.arange(size)).reshape(-1)
    if rest or not np.array_equal(rows, expected):
        raise DataError(f"{source.tensor}: {source.cut.name} cannot be told as a part of a tensor")
    return WeightSlice(tensor=source.tensor, transposed=transposed, groups=groups, start=start, stop=start + size)
