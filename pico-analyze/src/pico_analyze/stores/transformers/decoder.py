"""What the configuration of a model and the names of its tensors come to: geometry, sites, and what is at none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pico_analyze.errors import DataError, UsageError
from pico_analyze.stores.base import ReadOptions, WithoutSite
from pico_analyze.stores.safetensors import FLOATS
from pico_analyze.stores.sites import TENSOR, MatrixSite, nameable
from pico_analyze.stores.transformers.architectures import (
    Found,
    Source,
    architecture_of,
    why_unknown,
)
from pico_analyze.stores.transformers.cuts import WHOLE
from pico_analyze.stores.transformers.geometry import unknown_spec
from pico_analyze.stores.transformers.gguf_architectures import OF_GGUF
from pico_analyze.stores.transformers.parts import decoder_config
from pico_schema import layout
from pico_schema.tensor_header import TensorEntry

_BUFFERS = ("bias", "inv_freq", "mask", "absmax", "quant_map", "scale", "scales", "zeros")
"""How names end of what is no matrix, whatever its dimensions."""
_PACKED = ("qweight", "qzeros", "weight_packed", "blocks", "g_idx")
"""How names end of packed integers and of what belongs to them."""


def run_suffix(options: ReadOptions) -> str:
    """What the name of a run ends with where one tower of a model was chosen: each has a table of its own.

    Raises:
        UsageError: no tensor's name could begin so.
    """
    prefix = options.prefix
    if prefix and not re.fullmatch(r"[A-Za-z0-9_.-]{1,150}", prefix):
        raise UsageError(f"prefix {prefix[:100]!r} is no beginning of a name: names are letters, digits and _ . -")
    return f"+{prefix.rstrip('.')}" if prefix else ""


class Decoder:
    """A model of other makers: one decoder of it, if there are several towers.

    Args:
        config: The content of its `config.json`.
        tensors: The names of its tensors, each with its entry in a header.
        options: Which tower, and whose names, in place of what the configuration says.
        where: The model's path, for messages.

    Raises:
        DataError: the configuration describes no decoder, or two tensors are there for one site.
        UsageError: an architecture was chosen that is not known.
    """

    def __init__(
        self, config: Mapping[str, Any], tensors: Mapping[str, TensorEntry], options: ReadOptions, *, where: str
    ) -> None:
        self._tensors = tensors
        decoder, parts = decoder_config(config)
        method = config.get("quantization_config", decoder.get("quantization_config"))
        name = method.get("quant_method") if isinstance(method, dict) else None
        self._method = name[:40] if isinstance(name, str) else None
        self.architecture = architecture_of(decoder, options.architecture, OF_GGUF)
        if self.architecture is not None and options.architecture in self.architecture.types:
            decoder = {**decoder, "model_type": options.architecture}
        if self.architecture is None:
            self.unknown: str | None = why_unknown(decoder, OF_GGUF, where=where)
            layers = [MatrixSite.parse(f"{TENSOR}{tensor}").layer or 0 for tensor in tensors if nameable(tensor)]
            self.spec = unknown_spec(max(layers, default=0) + 1)
            self.found = Found({})
            return
        self.unknown = None
        self.spec = self.architecture.spec(decoder, where=f"{where}/{layout.MODEL_CONFIG}")
        self._check_experts(where)
        unreadable = {tensor for tensor, entry in tensors.items() if entry.dtype not in FLOATS}
        self.found = self.architecture.found(
            tensors, self.spec, prefix=options.prefix, parts=parts, unreadable=unreadable, where=where
        )
        if not (self.found.sites or self.found.quantized):
            raise DataError(
                f"{where}: none of its {len(tensors)} tensors has a name that those of "
                f"{str(decoder.get('model_type'))[:100]!r} have: name its matrices with --architecture or --tensor"
            )

    def _check_experts(self, where: str) -> None:
        """Refuse a tensor of all experts that does not hold as many as the configuration counts."""
        for name, entry in self._tensors.items():
            if self.architecture is not None and self.architecture.holds_all_experts(name):
                held = entry.shape[0] if entry.shape else 0
                counted = self.spec.n_experts or 0
                above = len(entry.shape) == 2 and counted and not held % counted  # one above the next
                if held != counted and not above:
                    raise DataError(
                        f"{where}: tensor {name[:200]!r} holds {held} experts, and {layout.MODEL_CONFIG} counts "
                        f"{counted or 'none'}: they are not of one model"
                    )

    def source(self, site: str) -> Source | None:
        """Where the matrix of a site, or of a tensor's own name, is; None if there is none."""
        if site.startswith(TENSOR):
            name = site.removeprefix(TENSOR)
            return Source(name, WHOLE) if name in self._tensors else None
        return self.found.sites.get(site)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """The names of all whole matrices and vectors of floating-point numbers."""
        return tuple(
            f"{TENSOR}{name}"
            for name, entry in self._tensors.items()
            if nameable(name) and entry.dtype in FLOATS and len(entry.shape) in (1, 2)
        )

    @cached_property
    def without_site(self) -> WithoutSite:
        """What is at no site."""
        used = {source.tensor for source in self.found.sites.values()} | set(self.found.quantized)
        matrices, others = list[str](), list[str]()
        quantized = list(self.found.quantized)
        for name, entry in self._tensors.items():
            if name in used:
                continue
            module, _, last = name.rpartition(".")
            if last in _PACKED:
                (quantized if last not in ("qzeros", "g_idx") else others).append(name)
            elif len(entry.shape) < 2 or last.endswith(_BUFFERS) or _is_norm(module, last):
                others.append(name)
            else:
                matrices.append(name)
        return WithoutSite(
            matrices=tuple(matrices),
            quantized=tuple(dict.fromkeys(quantized)),
            method=self._method,
            others=tuple(others),
            missing=self.found.missing,
            unknown=self.unknown,
        )


def _is_norm(module: str, last: str) -> bool:
    """Whether a name is that of a norm, which is a matrix where each head has one of its own."""
    own = module.rpartition(".")[2]
    return last == "weight" and ("norm" in own or own.startswith("ln_"))
