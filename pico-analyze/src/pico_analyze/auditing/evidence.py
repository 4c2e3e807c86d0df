"""What an audit reads of each checkpoint: names and digests of its files, headers, and some rows of its weights.

Several checkpoints are read at the same time. One that cannot be read is evidence too, and ends nothing; a network or
disk that fails does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, cast

import numpy as np

from pico_analyze.auditing.sampling import FLOATS, Plan, Slice, plan, read_slice
from pico_analyze.errors import DataError
from pico_analyze.stores.base import StepInfo, Store
from pico_analyze.stores.transformers.weight_files import weight_files
from pico_schema.sites import Site

if TYPE_CHECKING:
    from pico_analyze.stores.transformers.files import HasFiles, ModelFiles
    from pico_schema.tensor_header import TensorEntry

AT_ONCE = 16
"""Checkpoints that are read at the same time."""
_PLAIN = re.compile(r"(?:step|checkpoint)[-_ ]?([0-9]{1,15})")
_KINDS = ("attn.o", "mlp.down", "embed")
"""Sites that are read of a store which does not say what its files are."""


@dataclass
class Evidence:
    """What is known of one checkpoint."""

    step: int
    name: str
    """Its directory, branch or tag."""
    tokens: int | None = None
    """Tokens consumed before it, as it says."""
    files: ModelFiles | None = None
    """Its files, where the store has such."""
    digests: dict[str, str | None] = field(default_factory=dict)
    """Files of weights, with what is equal where contents are; None where only reading them would tell."""
    tensors: dict[str, tuple[str, TensorEntry]] = field(default_factory=dict)
    """Tensor → file and header entry."""
    slices: dict[Slice, np.ndarray] = field(default_factory=dict)
    """Rows that were read, as float32."""
    norms: dict[str, np.ndarray] = field(default_factory=dict)
    """Vectors of norms; of step 0 alone."""
    fault: str | None = None
    """Why it cannot be read."""

    @property
    def label(self) -> str:
        """``step 4 (step4-tokens1B)``: the step, with the name where it says more."""
        plain = _PLAIN.fullmatch(self.name)
        return f"step {self.step}" if plain and int(plain[1]) == self.step else f"step {self.step} ({self.name})"

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types of its floating-point weights."""
        return tuple(sorted({entry.dtype for _, entry in self.tensors.values()} & FLOATS))

    def sample(self, group: str) -> str | None:
        """Digest of the rows that were read of one file of weights; None if any is missing."""
        found = [(one.tensor, rows) for one, rows in self.slices.items() if one.group == group]
        if not found:
            return None
        digest = hashlib.sha256()
        for name, rows in sorted(found, key=lambda item: item[0]):
            digest.update(name.encode() + np.ascontiguousarray(rows).tobytes())
        return digest.hexdigest()


def gather(store: Store, advanced: Callable[[int], None]) -> list[Evidence]:
    """The evidence of every complete checkpoint, by ascending step.

    Args:
        store: The run.
        advanced: Is told after each checkpoint that one more is done.

    Raises:
        StorageError: disk or network.
    """
    infos = store.steps()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="audit") as pool:
        found = list(pool.map(partial(_of, store), infos))
        first = next((one for one in found if one.tensors), None)
        if first is not None:
            for _ in pool.map(partial(_read_ranges, plan(first.tensors, len(found))), found):
                advanced(1)
    if first is None:
        for one in found:  # in turn: not every store may be read by several threads
            _read_sites(store, one)
            advanced(1)
    return found


def _of(store: Store, info: StepInfo) -> Evidence:
    """What names, sizes and headers tell."""
    found = Evidence(info.step, f"step{info.step}", info.tokens_seen)
    if not hasattr(store, "files"):  # not by isinstance: a run reduced to one step passes it on
        return found
    try:
        files = cast("HasFiles", store).files(info.step)
        found.files, found.name = files, files.name
        for name in weight_files(files):
            found.digests[name] = files.known_digest(name)
            for tensor, entry in files.peek(name).tensors.items():
                found.tensors[tensor] = name, entry
    except DataError as error:
        found.fault = str(error)
    return found


def _read_ranges(wanted: Plan, one: Evidence) -> None:
    """Rows of some matrices, by range."""
    files = one.files
    if files is None or one.fault is not None:
        return
    try:
        for part in wanted.slices:
            file, entry = one.tensors.get(part.tensor, ("", None))
            if entry is not None and entry.shape and part.first + part.n <= prod(entry.shape[:-1]):
                one.slices[part] = read_slice(files.peek(file), part)
        if one.step == 0:
            for name in wanted.norms:
                if name in one.tensors:
                    one.norms[name] = files.peek(one.tensors[name][0]).read(name)
    except DataError as error:
        one.fault = str(error)


def _read_sites(store: Store, one: Evidence) -> None:
    """The middle layer's matrices, through the store."""
    if one.fault is not None:
        return
    info = next(info for info in store.steps() if info.step == one.step)
    for kind in _KINDS:
        sites = [site for site in info.weights if Site.parse(site).kind == kind]
        if not sites:
            continue
        site = sites[len(sites) // 2]
        try:
            values = store.read(one.step, None, "weights", site)
        except DataError as error:
            one.fault = str(error)
            return
        if values.ndim == 2:
            n = max(1, min(len(values), 2**15 // max(values.shape[1], 1)))
            first = (len(values) - n) // 2
            part = Slice(site, "weights", first, n)
            one.slices[part] = np.array(values[first : first + n], np.float32)
